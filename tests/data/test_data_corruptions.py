"""Corruptions, against formulas written out here."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from bbnn_uq.data import CORRUPTIONS, LazyInputs, corrupt, load_data, set_name

EACH = pytest.mark.parametrize("kind", list(CORRUPTIONS))
IMAGES = np.random.default_rng(0).uniform(0.2, 0.8, (9, 3, 8, 10)).astype(np.float32)


def test_five_severities_that_grow() -> None:
    assert set(CORRUPTIONS) == {"rotation", "blur", "noise", "contrast"}
    for kind, amounts in CORRUPTIONS.items():
        assert len(amounts) == 5
        assert list(amounts) == sorted(amounts, reverse=kind == "contrast")
        distances = [np.abs(corrupt(IMAGES, kind, s) - IMAGES).mean() for s in range(1, 6)]
        if kind != "rotation":  # random pixels are as far from any other
            assert distances == sorted(distances)


def test_rotation_is_linear_interpolation_at_turned_places() -> None:
    image = IMAGES[:1]
    framed = np.pad(image[0, 1], 9, constant_values=-0.5)  # what comes in from outside
    for severity, degrees in enumerate((15, 30, 45, 60, 75), 1):
        found = corrupt(image, "rotation", severity, value_range=(-0.5, 0.9))[0, 1]
        cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        for row, column in np.ndindex(8, 10):
            # Counterclockwise, as seen with row 0 on top: what is here came from clockwise of it.
            right, up = column - 4.5, 3.5 - row
            from_right, from_up = cosine * right + sine * up, cosine * up - sine * right
            i, j = 9 + 3.5 - from_up, 9 + 4.5 + from_right
            top, left = int(i), int(j)
            a, b = i - top, j - left
            corners = framed[top : top + 2, left : left + 2]
            wanted = np.array([1 - a, a]) @ corners @ np.array([1 - b, b])
            assert found[row, column] == pytest.approx(wanted, abs=1e-6)


def test_rotation_is_counterclockwise() -> None:
    image = np.zeros((1, 1, 31, 31))
    image[0, 0, 15, 25] = 1  # to the right of the middle
    turned = corrupt(image, "rotation", 5)[0, 0]  # by 75 degrees
    row, column = np.unravel_index(turned.argmax(), turned.shape)
    assert row < 7
    assert 15 < column < 20


def test_blur_is_a_gaussian_that_grows_with_the_image() -> None:
    for size in (28, 56):
        point = np.zeros((1, 1, size, size + 9))
        point[0, 0, size // 2, size // 2] = 1
        for severity, share in enumerate((0.03, 0.06, 0.09, 0.12, 0.15), 1):
            sigma = share * size
            found = corrupt(point, "blur", severity)[0, 0]
            expected = np.zeros(size)
            for step in range(-round(4 * sigma), round(4 * sigma) + 1):
                place = size // 2 + step
                mirrored = min(place, 2 * size - 1 - place) if place >= 0 else -1 - place
                expected[mirrored] += math.exp(-(step**2) / (2 * sigma**2))
            expected /= expected.sum()
            np.testing.assert_allclose(found.sum(axis=1), expected, rtol=1e-5, atol=1e-7)
    flat = corrupt(np.full((1, 2, 8, 8), 0.3), "blur", 5)  # edges lose nothing
    np.testing.assert_allclose(flat, 0.3, rtol=1e-6)


def test_noise_has_the_stated_spread_and_is_clipped() -> None:
    grey = np.full((200, 1, 16, 16), 5.0)
    for severity, share in enumerate((0.08, 0.12, 0.18, 0.26, 0.38), 1):
        wide = corrupt(grey, "noise", severity, value_range=(-1e4, 1e4))
        count = wide.size
        spread = share * 2e4
        kept = wide[np.abs(wide) < 1e4]
        if severity < 3:  # hardly any is clipped
            assert abs(wide.std() / spread - 1) < 4 / math.sqrt(2 * count) + 1e-3
            assert abs(wide.mean() - 5) < 4 * spread / math.sqrt(count)
        assert len(kept) < count or severity < 4
        assert wide.min() >= -1e4
        assert wide.max() <= 1e4
    first = corrupt(grey, "noise", 1, value_range=(-1e4, 1e4), seed=1)
    assert abs(np.corrcoef(first.ravel(), wide.ravel())[0, 1]) < 4 / math.sqrt(first.size)
    again = corrupt(grey[:50], "noise", 1, value_range=(-1e4, 1e4), first_index=50)
    assert abs(np.corrcoef(again.ravel(), wide[:50].ravel())[0, 1]) < 4 / math.sqrt(again.size)


def test_severities_of_noise_share_their_draws() -> None:
    low, high = (corrupt(IMAGES, "noise", s, value_range=(-9, 9)) - IMAGES for s in (1, 2))
    np.testing.assert_allclose(high, low * 1.5, atol=1e-5)


def test_contrast_shrinks_towards_the_mean_of_each_channel() -> None:
    for severity, share in enumerate((0.4, 0.3, 0.2, 0.1, 0.05), 1):
        mean = IMAGES.mean(axis=(2, 3), keepdims=True, dtype=float)
        found = corrupt(IMAGES, "contrast", severity)
        np.testing.assert_allclose(found, mean + share * (IMAGES - mean), atol=1e-6)


@EACH
def test_an_image_gives_the_same_bits_in_any_company(kind: str) -> None:
    whole = corrupt(IMAGES, kind, 4, seed=3)
    assert whole.dtype == np.float32
    for start, stop in ((0, 1), (4, 5), (2, 9), (8, 9)):
        part = corrupt(IMAGES[start:stop], kind, 4, seed=3, first_index=start)
        np.testing.assert_array_equal(part, whole[start:stop])
    turned = corrupt(np.asfortranarray(IMAGES.astype(np.float64)), kind, 4, seed=3)
    np.testing.assert_array_equal(turned, whole)


@EACH
def test_inputs_are_left_alone_and_results_stay_in_range(kind: str) -> None:
    before = IMAGES.copy()
    found = corrupt(IMAGES, kind, 5, value_range=(0.1, 0.7))
    np.testing.assert_array_equal(IMAGES, before)
    assert not np.shares_memory(found, IMAGES)
    assert found.min() >= np.float32(0.1)
    assert found.max() <= np.float32(0.7)


def test_features_get_noise_alone_and_unclipped() -> None:
    x = np.full((4000, 5), 3.0)
    found = corrupt(x, "noise", 2, value_range=(0, 1))
    assert abs((found - 3).std() / 0.12 - 1) < 4 / math.sqrt(2 * found.size)
    assert found.max() > 3.3
    for kind in ("rotation", "blur", "contrast"):
        for shape in ((4, 5), (4, 8, 8), (4, 1, 2, 8, 8)):
            with pytest.raises(ValueError, match=rf"{kind} is for images \(N, C, H, W\), x has"):
                corrupt(np.zeros(shape), kind, 1)


@pytest.mark.parametrize(
    ("change", "error", "part"),
    [
        ({"kind": "blurr"}, ValueError, "kind of corruption must be one of .* mean 'blur'"),
        ({"severity": 0}, ValueError, "severity must be at least 1, got 0"),
        ({"severity": 6}, ValueError, "severity must be an integer from 1 to 5, got 6"),
        ({"severity": 2.5}, TypeError, "severity must be an integer, got 2.5"),
        ({"value_range": (1, 1)}, ValueError, "low < high"),
        ({"value_range": 1}, TypeError, "value_range must be a pair"),
        ({"seed": -1}, ValueError, "seed must be at least 0"),
        ({"first_index": -1}, ValueError, "first_index must be at least 0"),
        ({"x": np.full((1, 1, 8, 8), np.nan)}, ValueError, "x must be finite, got 64 NaN"),
        ({"x": np.ones(3)}, ValueError, r"x must have shape \(N, ...\)"),
        ({"x": "digits"}, TypeError, "x must hold real numbers"),
        ({"x": np.full((1, 1, 8, 8), 255)}, ValueError, "from 255 to 255, far outside value_range"),
        ({"x": np.full((1, 1, 8, 8), -1.1)}, ValueError, "far outside"),
    ],
)
def test_bad_arguments(change: dict, error: type[Exception], part: str) -> None:
    arguments = {"x": np.zeros((1, 1, 8, 8)), "kind": "blur", "severity": 1} | change
    with pytest.raises(error, match=part):
        corrupt(**arguments)


@EACH
def test_a_name_with_a_corruption(kind: str) -> None:
    clean = load_data("digits", split="test")
    data = load_data(f"digits+{kind}@3", split="test", value_range=(-5, 9))  # its own is known
    np.testing.assert_array_equal(data.x, corrupt(clean.x, kind, 3))
    np.testing.assert_array_equal(data.y, clean.y)
    assert data.name == set_name(f"digits+{kind}@3") == f"digits+{kind}@3"
    assert (data.num_classes, data.class_names) == (10, clean.class_names)
    assert data.fingerprint() != clean.fingerprint()


def test_corruptions_in_a_row_come_from_left_to_right_with_noise_of_their_own() -> None:
    data = load_data("digits+blur@2+noise@1+noise@1", split="test")
    expected = corrupt(load_data("digits", split="test").x, "blur", 2)
    expected = corrupt(corrupt(expected, "noise", 1, seed=1), "noise", 1, seed=2)
    np.testing.assert_array_equal(data.x, expected)
    assert data.name == "digits+blur@2+noise@1+noise@1"


@EACH
@pytest.mark.parametrize("ends", [None, (-10, 300)])
def test_files_on_disk_are_corrupted_as_they_are_read(
    tmp_path: Path, kind: str, ends: tuple | None
) -> None:
    path = tmp_path / "a+b" / "mine.npz"
    path.parent.mkdir()
    x = np.random.default_rng(1).integers(3, 256, (1100, 1, 6, 6), np.uint8)
    x[-1, 0, 0] = [1, 255, 9, 9, 9, 9]
    for values in (x, x.astype(np.float32)):
        np.savez(path, x=values, y=np.zeros(len(x), int))
        spec = f"{path}+contrast@1+{kind}@4"
        whole = load_data(spec, split="test", value_range=ends)
        lazy = load_data(spec, split="test", value_range=ends, in_memory=False)
        own = corrupt(x, "contrast", 1, value_range=ends or (1, 255))
        expected = corrupt(own, kind, 4, value_range=ends or (1, 255), seed=1)
        np.testing.assert_array_equal(whole.x, expected)
        assert isinstance(lazy.x, LazyInputs)
        for where in (slice(None), slice(513, 9, -5), slice(1000, 1100), 1099):
            np.testing.assert_array_equal(lazy.x[where], expected[where])
        assert lazy.name == whole.name == f"mine+contrast@1+{kind}@4"
        assert lazy.fingerprint() == whole.fingerprint()


def test_values_that_fit_no_range_are_found_on_disk_too(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    np.savez(path, x=np.full((3, 1, 4, 4), 255, np.uint8))
    lazy = load_data(f"{path}+blur@1", split="test", value_range=(0, 1), in_memory=False).x
    with pytest.raises(ValueError, match="far outside value_range"):
        lazy[0]
    np.savez(path, x=np.full((3, 1, 4, 4), np.nan, np.float32))
    lazy = load_data(f"{path}+blur@1", split="test", value_range=(0, 1), in_memory=False).x
    with pytest.raises(ValueError, match="has 16 NaN or infinite values"):
        lazy[0]
    np.savez(path, x=np.ones((3, 4)))
    with pytest.raises(
        ValueError, match=r"blur is for images .*, mine has shape \(3, 4\); use noise"
    ):
        load_data(f"{path}+blur@1", split="test")


def test_generated_sets_fill_the_range_that_is_asked_for() -> None:
    clean = load_data("noise", split="test", value_range=(-3, 5)).x
    data = load_data("noise+rotation@1", split="test", value_range=(-3, 5))
    np.testing.assert_array_equal(data.x, corrupt(clean, "rotation", 1, value_range=(-3, 5)))
