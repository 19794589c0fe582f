"""``ArrayData``, a data set of inputs and labels, and the checks that its readers share."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Float32, Int64

from bbnn_uq._checks import check_real
from bbnn_uq._files import as_text

__all__ = [
    "ArrayData",
    "as_slice",
    "check_inputs_form",
    "check_range",
    "checked_inputs",
    "labelled",
    "open_file",
    "quoted",
]

_FINGERPRINT_INPUTS = 64
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False, repr=False)  # generated ones would compare and print arrays
class ArrayData:
    """A data set: inputs and, where they are known, their class numbers.

    Args:
        name: name of the built-in set, or the stem of the user's file.
        x: inputs of shape (N, ...), float32; images are (N, C, H, W), and built-in images lie in
            [0, 1] unless another range was asked for. An array in memory, or, for data that were
            asked for with ``in_memory=False``, a memory-mapped array (of any real dtype) or
            ``LazyInputs``. All of them have ``len(x)``, ``x.shape``, ``x[i]`` and ``x[a:b]``, and
            :func:`bbnn_uq.predict` takes all of them.
        y: class numbers, int64 of shape (N,), each in [0, ``num_classes``); None when unknown.
        num_classes: number of classes; None when ``y`` is None.
        class_names: one name per class; None when unknown.

    Raises:
        ValueError: ``class_names`` does not hold ``num_classes`` names.

    Example:
        >>> data = ArrayData("two", np.zeros((2, 1, 8, 8), np.float32), np.array([0, 1]), 2)
        >>> data.input_shape
        (1, 8, 8)
        >>> data
        ArrayData('two', x of shape (2, 1, 8, 8), 2 classes)
    """

    name: str
    x: Any
    y: Int64[np.ndarray, "inputs"] | None
    num_classes: int | None
    class_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", as_text(self.name))
        if self.class_names is not None and len(self.class_names) != self.num_classes:
            raise ValueError(
                f"class_names of {self.name} holds {len(self.class_names)} names for "
                f"{self.num_classes} classes; give one name per class"
            )

    def __repr__(self) -> str:
        classes = "no labels" if self.y is None else f"{self.num_classes} classes"
        return f"ArrayData({self.name!r}, x of shape {self.x.shape}, {classes})"

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, which is that of ``x`` without its first axis."""
        return self.x.shape[1:]

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that tell these inputs from others.

        The first half of an SHA-256 sum of the shape of ``x`` and of 64 inputs, as float32, at
        evenly spaced places from the first to the last; of all of them where there are fewer. So
        it costs the same for any size, inputs on disk and in memory give the same digits, and a
        change to an input that is not looked at goes unseen.

        Example:
            >>> ArrayData("one", np.ones((1, 2), np.float32), None, None).fingerprint()
            '44b2aedbdc561656'
        """
        size = len(self.x)
        count = min(size, _FINGERPRINT_INPUTS)
        places = [i * (size - 1) // max(count - 1, 1) for i in range(count)]
        digest = hashlib.sha256(repr(tuple(map(int, self.x.shape))).encode())
        for place in places:
            digest.update(np.asarray(self.x[place]).astype("<f4", order="C").tobytes())
        return digest.hexdigest()[:16]


def quoted(path: str | os.PathLike[str]) -> str:
    """The path as it stands in errors: quoting keeps odd file names on one line."""
    return repr(os.fspath(path))


def as_slice(rows: range) -> slice:
    """The slice of an axis that takes these indices, none of which is negative."""
    return slice(rows.start, rows.stop if rows.stop >= 0 else None, rows.step)


def open_file(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file for reading.

    Raises:
        ValueError: it is missing or cannot be read.
    """
    try:
        return Path(path).open("rb")
    except FileNotFoundError:
        raise ValueError(f"there is no file {quoted(path)}; check the path") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{quoted(path)} cannot be read ({reason}); check the path") from None


def check_range(value_range: Any) -> tuple[float, float]:
    """``value_range`` as a pair of floats (low, high) that float32 can hold, low below high."""
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


def labelled(
    name: str,
    x: Any,
    y: np.ndarray | None,
    source: str,
    *,
    class_names: Any = None,
    num_classes: int | None = None,
) -> ArrayData:
    """A data set of checked inputs ``x``, and labels and names that are yet to be checked.

    Unless it is stated, the number of classes is that of the names, else the largest label plus
    one, and at least 2.

    Raises:
        ValueError: ``y`` holds no class numbers, or ones that are too large for the number of
            classes; or ``class_names`` are no strings.
    """
    if y is None:
        return ArrayData(name, x, None, None)
    labels = _checked_labels(np.asarray(y), len(x), source)
    names = None if class_names is None else _checked_names(class_names, source)
    least = int(labels.max()) + 1
    if num_classes is None:
        num_classes = max(least, 2) if names is None else len(names)
    if least > num_classes:
        raise ValueError(
            f"y in {source} goes up to {least - 1}, and there are {num_classes} classes; number "
            "them from 0, and give as many class_names as there are classes"
        )
    return ArrayData(name, x, labels, num_classes, names)


def _checked_names(class_names: Any, source: str) -> tuple[str, ...]:
    names = np.asarray(class_names)
    if names.ndim != 1 or names.dtype.kind not in "UT" or len(names) < 2:
        raise ValueError(
            f"class_names in {source} has shape {names.shape} and dtype {names.dtype}; give a "
            "string for each class, in the order of their numbers"
        )
    return tuple(map(str, names))


def check_inputs_form(dtype: np.dtype, shape: tuple[int, ...], source: str) -> None:
    """Raise the ValueError of what cannot be inputs whatever their values are."""
    if dtype.kind not in "fiub":
        raise ValueError(f"x in {source} has dtype {dtype}; give real numbers")
    if len(shape) < 2:
        raise ValueError(
            f"x in {source} has shape {shape}; give it as (N, ...), one row per input "
            "(x[:, None] for scalar inputs)"
        )
    if 0 in shape:
        raise ValueError(f"x in {source} is empty (shape {shape}); give at least one input")


def checked_inputs(raw: np.ndarray, source: str) -> Float32[np.ndarray, "inputs ..."]:
    """Inputs as a float32 array, where they are finite numbers; ``source`` names them in errors.

    Raises:
        ValueError: they are not, or too large for float32, or of no shape (N, ...).
    """
    check_inputs_form(raw.dtype, raw.shape, source)
    if bad := int(np.count_nonzero(~np.isfinite(raw))):
        raise ValueError(f"x in {source} has {bad} NaN or infinite values; remove or replace them")
    with np.errstate(over="ignore"):  # overflow is reported below, by count
        x = raw.astype(np.float32, order="C", copy=False)
    if bad := int(np.count_nonzero(~np.isfinite(x))):
        raise ValueError(f"x in {source} has {bad} values too large for float32; rescale it")
    return x


def _checked_labels(raw: np.ndarray, num_inputs: int, source: str) -> Int64[np.ndarray, "inputs"]:
    if raw.shape != (num_inputs,):
        raise ValueError(
            f"y in {source} has shape {raw.shape}; give it as ({num_inputs},), "
            f"one class number for each of the {num_inputs} inputs in x"
        )
    if raw.dtype.kind not in "fiub" or not np.array_equal(raw, np.rint(raw)):
        raise ValueError(
            f"y in {source} has dtype {raw.dtype} and no integer class numbers; "
            "give integers 0, 1, …, or leave y out"
        )
    if raw.min() < 0:
        raise ValueError(f"y in {source} goes down to {raw.min()}; number the classes from 0")
    if raw.max() >= 2**31:
        raise ValueError(
            f"y in {source} goes up to {raw.max()}; number the classes 0, 1, … without gaps"
        )
    return raw.astype(np.int64)
