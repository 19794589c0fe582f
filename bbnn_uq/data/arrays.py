"""``ArrayData``, a data set in memory, and the reader of a user's ``.npz`` file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float32, Int64
from numpy.lib.npyio import NpzFile

__all__ = ["ArrayData", "open_file", "quoted", "read_npz"]

_HOW_TO_WRITE = "write it with np.savez(path, x=inputs, y=labels)"


@dataclass(frozen=True, eq=False)  # generated equality would compare arrays and raise
class ArrayData:
    """A data set held in memory: inputs and, where they are known, their class numbers.

    Args:
        name: name of the built-in set, or the stem of the user's file.
        x: inputs, float32 of shape (N, ...); images are (N, C, H, W), and built-in images lie
            in [0, 1] unless another range was asked for.
        y: class numbers, int64 of shape (N,), each in [0, ``num_classes``); None when unknown.
        num_classes: number of classes; None when ``y`` is None.

    Example:
        >>> data = ArrayData("two", np.zeros((2, 1, 8, 8), np.float32), np.array([0, 1]), 2)
        >>> data.input_shape
        (1, 8, 8)
    """

    name: str
    x: Float32[np.ndarray, "inputs ..."]
    y: Int64[np.ndarray, "inputs"] | None
    num_classes: int | None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input: that of ``x`` without its first axis."""
        return self.x.shape[1:]


def read_npz(path: str | os.PathLike[str]) -> ArrayData:
    """Read a data set from an ``.npz`` file that holds ``x`` and, where known, ``y``.

    Inputs of any numeric dtype become float32 with their values unchanged (up to rounding to the
    nearest float32): nothing is rescaled, so bytes 0 … 255 stay 0 … 255. The number of classes is
    the largest label plus one, and at least 2. Other arrays in the file are ignored, and pickled
    objects are never loaded.

    Args:
        path: the file, with arrays ``x`` of shape (N, ...) and, optionally, ``y`` of shape (N,)
            holding class numbers 0, 1, ….

    Returns:
        The whole file, named after its stem.

    Raises:
        ValueError: the file is missing, damaged or no ``.npz`` file, or ``x`` or ``y`` is not
            what is described above. The message names the file, the fault and the remedy.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "mine.npz"
        >>> np.savez(path, x=np.array([[0, 255], [128, 3]], np.uint8), y=[0, 2])
        >>> data = read_npz(path)
        >>> data.name, data.x.dtype.name, data.x.max().item(), data.num_classes
        ('mine', 'float32', 255.0, 3)
    """
    raw_x, raw_y = _read_members(path)
    file = quoted(path)
    x = _inputs(raw_x, file)
    y = None if raw_y is None else _labels(raw_y, len(x), file)
    num_classes = None if y is None else max(int(y.max()) + 1, 2)
    return ArrayData(Path(path).stem, x, y, num_classes)


def quoted(path: str | os.PathLike[str]) -> str:
    """The path as it stands in errors: quoting keeps odd file names on one line."""
    return repr(os.fspath(path))


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


def _read_members(path: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray | None]:
    """Arrays ``x`` and ``y`` as they stand in the file; ``y`` is None where it is absent."""
    file = quoted(path)
    # np.load would leave a handle of its own open on a damaged file; this one closes.
    with open_file(path) as handle:
        archive = _open_archive(handle, file)
        if "x" not in archive.files:
            raise ValueError(
                f"{file} has no array 'x', it holds {archive.files}; "
                "rename its inputs to x and its labels, if any, to y"
            )
        x = _member(archive, "x", file)
        return x, _member(archive, "y", file) if "y" in archive.files else None


def _open_archive(handle: BinaryIO, file: str) -> NpzFile:
    try:
        archive = np.load(handle, allow_pickle=False)
    except Exception:  # foreign bytes can provoke any error, and it is always the file's fault
        raise ValueError(f"{file} is damaged or is no .npz file; {_HOW_TO_WRITE}") from None
    if not isinstance(archive, NpzFile):
        raise ValueError(f"{file} holds a single array, as in .npy files; {_HOW_TO_WRITE}")
    return archive


def _member(archive: NpzFile, key: str, file: str) -> np.ndarray:
    try:
        return np.asarray(archive[key])
    except Exception as error:  # as above
        if "Object arrays" in str(error):
            raise ValueError(
                f"{key} in {file} holds Python objects, perhaps rows of unequal length; "
                "save a rectangular array of numbers"
            ) from None
        raise ValueError(f"{key} in {file} is damaged; {_HOW_TO_WRITE}") from None


def _inputs(raw: np.ndarray, file: str) -> np.ndarray:
    if raw.dtype.kind not in "fiub":
        raise ValueError(f"x in {file} has dtype {raw.dtype}; save real numbers")
    if raw.ndim < 2:
        raise ValueError(
            f"x in {file} has shape {raw.shape}; save it as (N, ...), one row per input "
            "(x[:, None] for scalar inputs)"
        )
    if raw.size == 0:
        raise ValueError(f"x in {file} is empty (shape {raw.shape}); save at least one input")
    if bad := int(np.count_nonzero(~np.isfinite(raw))):
        raise ValueError(f"x in {file} has {bad} NaN or infinite values; remove or replace them")
    with np.errstate(over="ignore"):  # overflow is reported below, by count
        x = raw.astype(np.float32, order="C", copy=False)
    if bad := int(np.count_nonzero(~np.isfinite(x))):
        raise ValueError(f"x in {file} has {bad} values too large for float32; rescale it")
    return x


def _labels(raw: np.ndarray, num_inputs: int, file: str) -> np.ndarray:
    if raw.shape != (num_inputs,):
        raise ValueError(
            f"y in {file} has shape {raw.shape}; save it as ({num_inputs},), "
            f"one class number for each of the {num_inputs} inputs in x"
        )
    if raw.dtype.kind not in "fiub" or not np.array_equal(raw, np.rint(raw)):
        raise ValueError(
            f"y in {file} has dtype {raw.dtype} and no integer class numbers; "
            "save integers 0, 1, …, or leave y out"
        )
    if raw.min() < 0:
        raise ValueError(f"y in {file} goes down to {raw.min()}; number the classes from 0")
    if raw.max() >= 2**31:
        raise ValueError(
            f"y in {file} goes up to {raw.max()}; number the classes 0, 1, … without gaps"
        )
    return raw.astype(np.int64)
