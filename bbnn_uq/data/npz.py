"""The reader of a user's ``.npz`` file."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib.npyio import NpzFile

from bbnn_uq.data.arrays import (
    ArrayData,
    as_slice,
    check_inputs_form,
    checked_inputs,
    labelled,
    open_file,
    quoted,
)
from bbnn_uq.npz_file import drop_pages, map_npz

__all__ = ["left_on_disk", "read_npz"]

_HOW_TO_WRITE = "write it with np.savez(path, x=inputs, y=labels)"


def read_npz(path: str | os.PathLike[str], *, in_memory: bool = True) -> ArrayData:
    """Read a data set from an ``.npz`` file that holds ``x`` and, where known, ``y``.

    Inputs of any numeric dtype become float32 with their values unchanged (up to rounding to the
    nearest float32): nothing is rescaled, so bytes 0 … 255 stay 0 … 255. The number of classes is
    that of ``class_names``, else the largest label plus one, and at least 2. Other arrays in the
    file are ignored, and pickled objects are never loaded.

    Args:
        path: the file, with arrays ``x`` of shape (N, ...) and, optionally, ``y`` of shape (N,)
            holding class numbers 0, 1, … and ``class_names`` of shape (C,) holding strings.
        in_memory: whether to read all inputs now. Otherwise those of an uncompressed file stay on
            disk: float32 in C order as a memory-mapped array, others as ``LazyInputs`` that
            convert what is read. Values, and the checks of them, come when they are read.

    Returns:
        The whole file, named after its stem.

    Raises:
        ValueError: the file is missing, damaged or no ``.npz`` file, or an array is not
            what is described above. The message names the file, the fault and the remedy.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "mine.npz"
        >>> np.savez(path, x=np.array([[0, 255], [128, 3]], np.uint8), y=[0, 2])
        >>> data = read_npz(path)
        >>> data.name, data.x.dtype.name, data.x.max().item(), data.num_classes
        ('mine', 'float32', 255.0, 3)
    """
    members = None if in_memory else _mapped_members(path)
    source = quoted(path)
    if members is None:
        members = _read_members(path)
        x = checked_inputs(members["x"], source)
    else:
        x = left_on_disk(members["x"], source)
    return labelled(
        Path(path).stem, x, members.get("y"), source, class_names=members.get("class_names")
    )


def _mapped_members(path: str | os.PathLike[str]) -> dict[str, np.ndarray] | None:
    """Arrays left on disk; None where only reading can do, or can tell what is wrong."""
    try:
        members = map_npz(path)
    except Exception:  # foreign bytes can provoke any error
        return None
    return members if isinstance(members.get("x"), np.memmap) else None


def left_on_disk(x: np.ndarray, source: str) -> Any:
    """Mapped inputs as they are where they are float32, else converted as they are read."""
    check_inputs_form(x.dtype, x.shape, source)
    if x.dtype == np.float32 and x.dtype.isnative and x.flags.c_contiguous:
        return x
    from bbnn_uq.data.lazy import LazyInputs  # late: it loads torch

    return LazyInputs(x.shape, partial(_converted, np.asarray(x), source))


def _converted(x: np.ndarray, source: str, rows: range) -> np.ndarray:
    """Some of the inputs, in memory and checked."""
    where = f"{source}, from input {rows[0]} to {rows[-1]},"
    block = np.array(x[as_slice(rows)])  # read once, for all checks
    drop_pages(x)
    return checked_inputs(block, where)


def _read_members(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays that make up a data set, as they stand in the file."""
    file = quoted(path)
    # np.load would leave a handle of its own open on a damaged file; this one closes.
    with open_file(path) as handle:
        archive = _open_archive(handle, file)
        if "x" not in archive.files:
            raise ValueError(
                f"{file} has no array 'x', it holds {archive.files}; "
                "rename its inputs to x and its labels, if any, to y"
            )
        wanted = [key for key in ("x", "y", "class_names") if key in archive.files]
        return {key: _member(archive, key, file) for key in wanted}


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
                "save a rectangular array"
            ) from None
        raise ValueError(f"{key} in {file} is damaged; {_HOW_TO_WRITE}") from None
