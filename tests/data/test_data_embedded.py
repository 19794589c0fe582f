from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_sample_images

from bbnn_uq.data import ArrayData, load_data

DIGITS = {"digits": range(10), "digits-low": range(8), "digits-high": range(8, 10)}
SIZES = {
    ("digits", "train"): 1198,
    ("digits", "test"): 599,
    ("digits-low", "train"): 962,
    ("digits-low", "test"): 481,
    ("digits-high", "train"): 236,
    ("digits-high", "test"): 118,
}


def labelled_rows(data: ArrayData) -> set[tuple[float, ...]]:
    """Pixels (0 … 16) and label of every image; load_digits has no two equal images."""
    assert data.y is not None
    rows = np.column_stack([data.x.reshape(len(data.x), -1) * 16, data.y])
    return set(map(tuple, rows.tolist()))


def source_rows(classes: range) -> set[tuple[float, ...]]:
    pixels, labels = load_digits(return_X_y=True)
    keep = np.isin(labels, classes)
    return set(map(tuple, np.column_stack([pixels, labels])[keep].tolist()))


@pytest.mark.parametrize(("name", "split"), SIZES)
def test_digits_shapes_types_and_ranges(name: str, split: str) -> None:
    data = load_data(name, split=split)
    assert data.name == name
    assert data.x.shape == (SIZES[name, split], 1, 8, 8)
    assert data.x.dtype == np.float32
    assert data.x.flags.c_contiguous
    assert data.x.min() == 0.0
    assert data.x.max() == 1.0
    assert data.y is not None
    assert data.y.dtype == np.int64
    assert set(data.y.tolist()) == set(DIGITS[name])
    assert data.num_classes == {"digits": 10, "digits-low": 8, "digits-high": 10}[name]


@pytest.mark.parametrize("name", DIGITS)
def test_splits_are_disjoint_and_cover_the_source(name: str) -> None:
    train = labelled_rows(load_data(name, split="train"))
    test = labelled_rows(load_data(name, split="test"))
    assert len(train) == SIZES[name, "train"]
    assert len(test) == SIZES[name, "test"]
    assert not train & test
    assert train | test == source_rows(DIGITS[name])


@pytest.mark.parametrize("split", ["train", "test"])
def test_low_and_high_restrict_the_one_split_of_all_digits(split: str) -> None:
    whole = labelled_rows(load_data("digits", split=split))
    low = labelled_rows(load_data("digits-low", split=split))
    high = labelled_rows(load_data("digits-high", split=split))
    assert not low & high
    assert low | high == whole


def test_a_third_of_every_class_is_test() -> None:
    test = load_data("digits", split="test").y
    assert test is not None
    available = np.bincount(load_digits().target)
    assert np.abs(np.bincount(test) - available / 3).max() < 1


def exact_grey_photos() -> list[np.ndarray]:
    """The photographs as integers, 255,000 for white, by the ITU-R 601 weights in thousandths."""
    return [
        299 * image[..., 0] + 587 * image[..., 1] + 114 * image[..., 2]
        for image in (np.asarray(image, np.int64) for image in load_sample_images().images)
    ]


def places(photos: list[np.ndarray], patch: np.ndarray) -> set[tuple[int, int, int, int]]:
    """Every (photo, stride, top, left) at which ``patch`` stands, by comparing all of them."""
    height, width = patch.shape
    found = set()
    for number, photo in enumerate(photos):
        for stride in range(1, 6):
            rows = photo.shape[0] - (height - 1) * stride
            columns = photo.shape[1] - (width - 1) * stride
            if rows < 1 or columns < 1:
                continue
            match = np.ones((rows, columns), bool)
            for i in range(height):
                for j in range(width):
                    top, left = i * stride, j * stride
                    match &= photo[top : top + rows, left : left + columns] == patch[i, j]
            found |= {(number, stride, int(y), int(x)) for y, x in np.argwhere(match)}
    return found


def exact(patches: np.ndarray) -> np.ndarray:
    """Patches in [0, 1] as the integers they came from, which float32 tells apart."""
    integers = np.rint(patches.astype(np.float64) * 255_000).astype(np.int64)
    assert np.abs(patches - integers / 255_000).max() < 2.0**-24
    return integers


def test_patches_stand_in_the_photographs() -> None:
    photos, strides, sources = exact_grey_photos(), set(), set()
    patches = exact(load_data("photo-patches", split="test").x[:40, 0])
    for patch in patches:
        found = places(photos, patch)
        assert found
        if len(found) == 1:  # plain sky stands in many places
            ((photo, stride, _, _),) = found
            strides.add(stride)
            sources.add(photo)
    assert strides == {1, 2, 3, 4, 5}
    assert sources == {0, 1}


@pytest.mark.parametrize(
    ("shape", "strides"),
    [((100, 100), {1, 2, 3, 4}), ((200, 30), {1, 2}), ((427, 9), {1}), ((9, 640), {1})],
)
def test_large_patches_use_the_strides_that_fit(shape: tuple[int, int], strides: set[int]) -> None:
    photos, used = exact_grey_photos(), set()
    for patch in exact(load_data("photo-patches", split="test", input_shape=shape).x[:24]):
        found = places(photos, patch[:9, :9])  # a corner tells the place, the rest must follow
        wholes = {
            place: photos[place[0]][place[2] :: place[1], place[3] :: place[1]] for place in found
        }
        fits = [
            place
            for place, whole in wholes.items()
            if np.array_equal(whole[: shape[0], : shape[1]], patch)
        ]
        assert len(fits) == 1
        used.add(fits[0][1])
    assert used == strides


def test_patches_by_default() -> None:
    data = load_data("photo-patches", split="test")
    assert data.name == "photo-patches"
    assert data.x.shape == (1000, 1, 8, 8)
    assert data.x.dtype == np.float32
    assert data.x.min() >= 0.0
    assert data.x.max() <= 1.0
    assert data.x.max() - data.x.min() > 0.9
    assert data.y is None
    assert data.num_classes is None


def test_patches_repeat_grey_over_the_channels() -> None:
    grey = load_data("photo-patches", split="test", input_shape=[12, 20]).x
    colour = load_data("photo-patches", split="test", input_shape=(3, 12, 20)).x
    assert grey.shape == (1000, 12, 20)
    assert colour.shape == (1000, 3, 12, 20)
    assert colour.flags.c_contiguous
    for channel in range(3):
        np.testing.assert_array_equal(colour[:, channel], grey)


def test_white_is_exactly_one() -> None:
    photos = exact_grey_photos()
    assert max(photo.max() for photo in photos) == 255_000
    strips = load_data("photo-patches", split="test", input_shape=(427, 9)).x
    assert strips.max() == 1.0


@pytest.mark.parametrize("shape", [(64,), (1, 1, 8, 8)])
def test_patches_need_an_image_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"photo-patches are images .* use noise"):
        load_data("photo-patches", split="test", input_shape=shape)


@pytest.mark.parametrize("shape", [(428, 8), (3, 8, 641)])
def test_patches_larger_than_the_photographs(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"427 × 640 pixels, too small for .* use noise"):
        load_data("photo-patches", split="test", input_shape=shape)


def test_noise_is_uniform() -> None:
    data = load_data("noise", split="test")
    assert data.name == "noise"
    assert data.x.shape == (1000, 1, 8, 8)
    assert data.x.dtype == np.float32
    assert data.y is None
    assert data.num_classes is None
    assert data.x.min() >= 0.0
    assert data.x.max() <= 1.0
    # Kolmogorov-Smirnov: 1.95 is the 99.9 % point of sqrt(n) times the distance.
    ordered = np.sort(data.x.ravel())
    distance = np.abs(ordered - np.arange(len(ordered)) / len(ordered)).max()
    assert distance * np.sqrt(len(ordered)) < 1.95
    # Independence of inputs: 1000 different ones, and neighbours uncorrelated within 4 SE.
    assert len(np.unique(data.x.reshape(1000, -1), axis=0)) == 1000
    correlation = np.corrcoef(data.x.ravel()[:-1], data.x.ravel()[1:])[0, 1]
    assert abs(correlation) < 4 / np.sqrt(data.x.size)


@pytest.mark.parametrize("shape", [(7,), (2, 3), (3, 32, 32)])
def test_noise_takes_any_shape(shape: tuple[int, ...]) -> None:
    assert load_data("noise", split="test", input_shape=shape).input_shape == shape


@pytest.mark.parametrize("name", ["photo-patches", "noise"])
@pytest.mark.parametrize(
    "ends", [(-1, 1), (0.0, 255.0), (-0.42, 2.82), (-0.029311359, -0.029311357), (-3e38, 3e38)]
)
def test_value_range_is_an_affine_map(name: str, ends: tuple[float, float]) -> None:
    unit = load_data(name, split="test").x.astype(np.float64)
    data = load_data(name, split="test", value_range=list(ends))
    low, high = ends
    assert data.x.dtype == np.float32
    assert data.x.min() >= np.float32(low)
    assert data.x.max() <= np.float32(high)
    scale = max(abs(low), abs(high))
    np.testing.assert_allclose(
        data.x / scale, (low + (high - low) * unit) / scale, atol=3e-7, rtol=0
    )


@pytest.mark.parametrize("name", [*DIGITS, "photo-patches", "noise"])
def test_every_call_gives_the_same_values_in_arrays_of_its_own(name: str) -> None:
    first = load_data(name, split="test")
    before = first.x.copy()
    first.x[:] = -1.0  # what a caller does to its arrays must not reach the next one
    np.random.seed(3)  # noqa: NPY002 (the global stream must not matter)
    second = load_data(name, split="test")
    np.testing.assert_array_equal(second.x, before)
    if first.y is not None:
        np.testing.assert_array_equal(first.y, second.y)
