"""Data that need no download: scikit-learn's digits and photographs, and uniform noise."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float32

from bbnn_uq.data.arrays import ArrayData

__all__ = ["DIGIT_NAMES", "digits_subset", "noise", "photo_patches"]

DIGIT_NAMES = tuple(map(str, range(10)))

_SEED = 0
_NUM_OOD_INPUTS = 1000
_DEFAULT_SHAPE = (1, 8, 8)
_PHOTOS = ("china.jpg", "flower.jpg")
_LARGEST_STRIDE = 5


def digits_subset(name: str, classes: range, num_classes: int, *, split: str) -> ArrayData:
    """Some classes of scikit-learn's 8×8 handwritten digits, scaled to [0, 1].

    All 1,797 digits are split once, a third of every class going to the test set, and the classes
    are picked afterwards: no digit is in the test split of one set and in the training split of
    another.

    Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits (UCI, 1998), the test
    part, as shipped with scikit-learn.

    Args:
        name: name of the resulting set.
        classes: the digits to keep; they keep their numbers as labels.
        num_classes: number of classes to state.
        split: ``"train"`` or ``"test"``.

    Returns:
        Images of shape (N, 1, 8, 8) with labels.

    Example:
        >>> digits_subset("ones", range(1, 2), 10, split="test").x.shape
        (61, 1, 8, 8)
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = (np.asarray(array) for array in load_digits(return_X_y=True))
    train, test = train_test_split(
        np.arange(len(labels)), test_size=1 / 3, random_state=_SEED, stratify=labels
    )
    rows = np.asarray(train if split == "train" else test)
    rows = rows[np.isin(labels[rows], classes)]
    x = (pixels[rows] / 16.0).reshape(-1, 1, 8, 8).astype(np.float32)
    y = labels[rows].astype(np.int64)
    return ArrayData(name, x, y, num_classes, DIGIT_NAMES[:num_classes])


def photo_patches(
    input_shape: tuple[int, ...] | None, value_range: tuple[float, float] | None
) -> ArrayData:
    """1,000 grey patches of scikit-learn's two sample photographs, at random places and scales.

    Pixel (i, j) of a patch is photo[top + i·stride, left + j·stride] with the photograph, the
    stride in 1 … 5 and the place drawn uniformly; large patches draw from the strides at which
    they fit. Grey is the luma 0.299 R + 0.587 G + 0.114 B. The draws are fixed, and so are the
    pixels up to the JPEG decoder of the installed Pillow.

    Source: weights from ITU-R BT.601; photographs china.jpg and flower.jpg of scikit-learn.

    Args:
        input_shape: (H, W) or (C, H, W), the grey value being repeated over the channels; None
            for (1, 8, 8).
        value_range: (black, white); None for (0, 1).

    Returns:
        Patches without labels.

    Raises:
        ValueError: ``input_shape`` is no image, or one larger than the photographs.

    Example:
        >>> photo_patches((3, 32, 32), None).x.shape
        (1000, 3, 32, 32)
    """
    shape = _DEFAULT_SHAPE if input_shape is None else input_shape
    if len(shape) not in (2, 3):
        raise ValueError(
            f"photo-patches are images (H, W) or (C, H, W), got input_shape {shape}; "
            "use noise, which takes any shape"
        )
    grey = _cut_patches(_grey_photos(), shape[-2], shape[-1])
    if len(shape) == 3:
        grey = np.repeat(grey[:, None], shape[0], axis=1)
    return ArrayData("photo-patches", _rescale(grey, value_range), None, None)


def noise(
    input_shape: tuple[int, ...] | None, value_range: tuple[float, float] | None
) -> ArrayData:
    """1,000 inputs of independent uniform noise.

    Every entry is drawn from the uniform distribution on ``value_range``; the draws are fixed.

    Source: NumPy's PCG64 generator.

    Args:
        input_shape: shape of one input; None for (1, 8, 8).
        value_range: (low, high); None for (0, 1).

    Returns:
        Inputs without labels.

    Example:
        >>> noise((2,), (-1.0, 1.0)).x.shape
        (1000, 2)
    """
    shape = _DEFAULT_SHAPE if input_shape is None else input_shape
    unit = np.random.default_rng(_SEED).random((_NUM_OOD_INPUTS, *shape), dtype=np.float32)
    return ArrayData("noise", _rescale(unit, value_range), None, None)


def _grey_photos() -> Float32[np.ndarray, "photos height width"]:
    """The photographs as luma in [0, 1]."""
    from sklearn.datasets import load_sample_image

    colour = np.stack([load_sample_image(photo) for photo in _PHOTOS]).astype(np.int64)
    thousandths = colour @ np.array([299, 587, 114])  # integers: exact, so white is exactly 1
    return (thousandths / (1000 * 255)).astype(np.float32)


def _cut_patches(
    photos: Float32[np.ndarray, "photos height width"], height: int, width: int
) -> Float32[np.ndarray, "patches rows columns"]:
    """Patches of ``height`` × ``width`` pixels at fixed random photographs, strides and places."""
    _, photo_height, photo_width = photos.shape
    largest = next(
        (
            stride
            for stride in range(_LARGEST_STRIDE, 0, -1)
            if _span(height, stride) <= photo_height and _span(width, stride) <= photo_width
        ),
        None,
    )
    if largest is None:
        raise ValueError(
            f"photo-patches are cut from photographs of {photo_height} × {photo_width} pixels, "
            f"too small for {height} × {width}; use noise, or a .npz file with inputs of that size"
        )
    generator = np.random.default_rng(_SEED)
    photo = generator.integers(len(photos), size=(_NUM_OOD_INPUTS, 1, 1))
    stride = generator.integers(1, largest + 1, size=photo.shape)
    top = generator.integers(photo_height - _span(height, stride) + 1)
    left = generator.integers(photo_width - _span(width, stride) + 1)
    rows = top + stride * np.arange(height)[:, None]
    columns = left + stride * np.arange(width)
    return photos[photo, rows, columns]


def _span(size: int, stride: Any) -> Any:
    """Photo pixels from the first to the last of ``size`` patch pixels."""
    return (size - 1) * stride + 1


def _rescale(
    unit: Float32[np.ndarray, "..."], value_range: tuple[float, float] | None
) -> Float32[np.ndarray, "..."]:
    """Map [0, 1] to ``value_range`` by an affine map."""
    if value_range is None:
        return unit
    low, high = (np.float32(end) for end in value_range)
    scaled = low * (1 - unit) + high * unit  # this form cannot overflow, and is exact at the ends
    return np.clip(scaled, low, high)  # rounding may pass an end by one unit in the last place
