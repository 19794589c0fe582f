"""RandomCropFlip against a loop over images, rows and columns, at places read off its results."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from bbnn_uq.augment import RandomCropFlip


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        yield


def located(count: int, height: int, width: int) -> Tensor:
    """Noise, and two channels that say which row and column, from 1, a pixel has."""
    noise = torch.rand(count, 1, height, width)
    rows = torch.arange(1.0, height + 1).view(1, 1, -1, 1).expand(noise.shape)
    columns = torch.arange(1.0, width + 1).view(1, 1, 1, -1).expand(noise.shape)
    return torch.cat([noise, rows, columns], dim=1)


def places(cropped: Tensor, padding: int) -> np.ndarray:
    """Row and column of each crop in the padded image, and whether it is flipped: (N, 3)."""
    found = []
    for image in cropped:
        width = image.shape[2]
        i, j = (int(axis[0]) for axis in torch.nonzero(image[1, :, :-1], as_tuple=True))
        first, second = (int(value) for value in image[2, i, j : j + 2])
        flipped = second < first and (second != 0 or first != width)
        column = width - 1 - j if flipped else j
        found.append((int(image[1, i, j]) - 1 - i + padding, first - 1 - column + padding, flipped))
    return np.array(found, dtype=int)


def crop(image: list, top: int, left: int, flipped: bool, padding: int) -> list:
    """One channel of one image, pixel by pixel, by the formula of the docstring."""
    height, width = len(image), len(image[0])
    result = [[0.0] * width for _ in range(height)]
    for i in range(height):
        for j in range(width):
            row = top + i - padding
            column = left + (width - 1 - j if flipped else j) - padding
            if 0 <= row < height and 0 <= column < width:
                result[i][j] = image[row][column]
    return result


@pytest.mark.parametrize(
    ("padding", "flip", "height", "width"),
    [(4, True, 32, 32), (2, True, 28, 28), (3, False, 9, 12), (2, True, 12, 7), (0, True, 5, 5)],
)
def test_crops_and_flips_of_a_loop(padding: int, flip: bool, height: int, width: int) -> None:
    images = located(12, height, width)
    given = images.clone()
    result = RandomCropFlip(padding, flip)(images)
    assert torch.equal(images, given)
    assert result.shape == images.shape
    assert result.dtype == images.dtype
    assert result.is_contiguous()
    chosen = places(result, padding)
    expected = [
        [crop(channel, *place, padding) for channel in image]
        for image, place in zip(images.tolist(), chosen.tolist(), strict=True)
    ]
    assert result.tolist() == expected
    assert chosen[:, 2].any() == flip
    assert len(np.unique(chosen[:, :2], axis=0)) > 1 or padding == 0


def test_places_and_flips_are_uniform_and_independent() -> None:
    padding, count = 1, 18_000
    chosen = places(RandomCropFlip(padding)(located(count, 4, 4)), padding)
    assert chosen[:, :2].min() == 0
    assert chosen[:, :2].max() == 2
    cells = np.bincount(6 * chosen[:, 0] + 2 * chosen[:, 1] + chosen[:, 2], minlength=18)
    # The 18 outcomes are equally likely: χ² with 17 degrees of freedom, at 1 in 1,000.
    assert stats.chisquare(cells).pvalue > 1e-3
    # Neighbours in a batch agree in 1 of 18 cases, within 4 standard errors.
    agree = (chosen[1:] == chosen[:-1]).all(axis=1).mean()
    assert abs(agree - 1 / 18) < 4 * np.sqrt(17 / 18**2 / (count - 1))


def test_without_padding_and_flip_nothing_changes() -> None:
    images = located(3, 5, 6)
    assert torch.equal(RandomCropFlip(0, flip=False)(images), images)


def test_random_numbers_are_those_of_the_global_stream() -> None:
    images = located(8, 9, 9)
    augment = RandomCropFlip(3)
    state = torch.get_rng_state()
    first, second = augment(images), augment(images)
    assert not torch.equal(first, second)
    torch.set_rng_state(state)
    assert torch.equal(augment(images), first)
    assert torch.equal(augment(images), second)
    torch.set_rng_state(state)
    torch.randint(7, (8, 1)), torch.randint(7, (8, 1)), torch.rand(8, 1)
    assert torch.equal(augment(images), second)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float64, torch.bool])
def test_every_dtype_is_kept(dtype: torch.dtype) -> None:
    images = (located(4, 8, 8) * 30).to(dtype)
    state = torch.get_rng_state()
    result = RandomCropFlip(2)(images)
    torch.set_rng_state(state)
    assert result.dtype == dtype
    assert torch.equal(result.double(), RandomCropFlip(2)(images.double()))


@pytest.mark.parametrize("count", [0, 1])
def test_small_batches(count: int) -> None:
    assert RandomCropFlip()(torch.ones(count, 3, 5, 6)).shape == (count, 3, 5, 6)


def test_memory_order_does_not_matter() -> None:
    images = located(5, 8, 8)
    state = torch.get_rng_state()
    expected = RandomCropFlip(2)(images)
    torch.set_rng_state(state)
    assert torch.equal(RandomCropFlip(2)(images.to(memory_format=torch.channels_last)), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu() -> None:
    images = located(12, 9, 9).cuda()
    result = RandomCropFlip(2)(images)
    assert result.device == images.device
    expected = [
        [crop(channel, *place, 2) for channel in image]
        for image, place in zip(images.tolist(), places(result.cpu(), 2).tolist(), strict=True)
    ]
    assert result.tolist() == expected


def test_repr_says_everything_and_pickling_keeps_it() -> None:
    assert repr(RandomCropFlip()) == "RandomCropFlip(padding=4, flip=True)"
    assert pickle.loads(pickle.dumps(RandomCropFlip(2, flip=False))) == RandomCropFlip(2, False)


@pytest.mark.parametrize("shape", [(3, 32, 32), (5, 64), (2, 1, 3, 8, 8), ()])
def test_other_shapes_than_images(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"^images must have shape \(N, C, H, W\), got \(.*; add"):
        RandomCropFlip()(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(2, 1, 4, 8), (2, 1, 8, 4), (2, 1, 3, 3)])
def test_images_that_a_crop_could_miss(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"images must have more than padding = 4 pixels .* got"):
        RandomCropFlip(4)(torch.ones(shape))
    assert RandomCropFlip(2)(torch.ones(shape)).flatten(1).any(dim=1).all()


def test_what_is_no_tensor() -> None:
    with pytest.raises(TypeError, match=r"images must be a tensor, got ndarray; .*from_numpy"):
        RandomCropFlip()(np.zeros((2, 1, 8, 8), np.float32))


def test_arguments_out_of_their_range() -> None:
    with pytest.raises(ValueError, match="padding must be at least 0, got -1"):
        RandomCropFlip(-1)
    for padding in (1.0, True, "4"):
        with pytest.raises((TypeError, ValueError), match="padding"):
            RandomCropFlip(padding)  # pyright: ignore[reportArgumentType]
    with pytest.raises((TypeError, ValueError), match="flip"):
        RandomCropFlip(4, flip=1)  # pyright: ignore[reportArgumentType]
