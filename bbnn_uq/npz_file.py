"""The ``.npz`` files of predictives: arrays by name, and one JSON text about them."""

from __future__ import annotations

import json
import math
import mmap
import os
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bbnn_uq._files import atomic_path

__all__ = [
    "PROGRESS",
    "GrowingArrays",
    "GrowingNpz",
    "arrays_of_npz",
    "drop_pages",
    "map_npz",
    "reading_npz",
    "write_npz",
]

PROGRESS = "progress.json"

# NotImplementedError is zipfile's, for a compression or version that it does not know.
_FAULTS = (
    zipfile.BadZipFile, EOFError, KeyError, NotImplementedError, TypeError, ValueError
)  # fmt: skip


def write_npz(
    path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray | None], about: dict[str, Any]
) -> None:
    """Write the arrays that are not None, and JSON values about them, whole or not at all."""
    present: dict[str, Any] = {key: array for key, array in arrays.items() if array is not None}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, about=np.array(json.dumps(about)), **present)


@contextmanager
def reading_npz(
    path: str | os.PathLike[str], writer: str
) -> Iterator[tuple[dict[str, np.ndarray], dict[str, Any]]]:
    """The arrays and what is said about them; faults of the file in the block are named as such.

    Args:
        path: of the file.
        writer: the method that writes such files, for errors.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is truncated, or no file of ``writer``.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> path = Path(tempfile.mkdtemp()) / "two.npz"
        >>> write_npz(path, {"x": np.ones(2), "y": None}, {"seed": 3})
        >>> with reading_npz(path, "write_npz") as (arrays, about):
        ...     list(arrays), about
        (['x'], {'seed': 3})
    """
    try:
        # np.load leaves a file of its own open when the file is damaged; this one closes.
        with open(path, "rb") as handle, np.load(handle, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        yield arrays, json.loads(str(arrays.pop("about")))
    except _FAULTS as error:
        raise ValueError(
            f"{os.fspath(path)!r} is no file that {writer} wrote, or it is truncated"
        ) from error


def map_npz(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of an uncompressed ``.npz`` file, left on disk until they are read.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, compressed, or holds Python objects.

    Example:
        >>> path = Path(tempfile.mkdtemp()) / "inputs.npz"
        >>> np.savez(path, x=np.arange(6.0).reshape(3, 2))
        >>> map_npz(path)["x"][2]
        memmap([4., 5.])
    """
    try:
        with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
            members = [each for each in archive.infolist() if each.filename.endswith(".npy")]
            return {
                each.filename.removesuffix(".npy"): _mapped(path, file, each) for each in members
            }
    except (zipfile.BadZipFile, EOFError, KeyError, struct.error) as error:
        raise ValueError(f"{os.fspath(path)!r} is damaged or is no .npz file: {error}") from error


def arrays_of_npz(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of any ``.npz`` file: left on disk as by :func:`map_npz`, or read if compressed.

    Raises:
        ValueError: it is missing, damaged, no ``.npz`` file, or holds Python objects.
    """
    file = repr(os.fspath(path))
    try:
        return map_npz(path)
    except FileNotFoundError:
        raise ValueError(f"there is no file {file}; check the path") from None
    except ValueError:
        pass  # compressed, perhaps; NumPy can tell
    try:
        with open(path, "rb") as handle:
            archive = np.load(handle, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise ValueError("it holds a single array, as .npy files do; use np.savez")
            return {key: archive[key] for key in archive.files}
    except (*_FAULTS, zlib.error) as error:
        reason = str(error)
        if "allow_pickle" in reason:
            reason = "an array holds Python objects, which are never loaded; save numbers"
        raise ValueError(f"{file} cannot be read as .npz: {reason}") from None


def drop_pages(array: np.ndarray) -> None:
    """Give back the memory of a file that an array maps for reading; nothing is lost by it.

    The system would take it when it needs it, but until then it counts against a process's limits.
    """
    base: Any = array
    while base is not None and not isinstance(base, mmap.mmap):
        # Of a map that can be written to, changes might be lost.
        if isinstance(base, np.memmap) and base.mode != "r":
            return
        base = getattr(base, "base", None)
    if base is not None and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


def _mapped(path: str | os.PathLike[str], file: Any, member: zipfile.ZipInfo) -> np.ndarray:
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError("its arrays are compressed; write it with np.savez")
    file.seek(member.header_offset)
    # The local header repeats the name and may have more extra bytes than the directory's.
    name, extra = struct.unpack("<HH", file.read(30)[26:])
    start = file.seek(name + extra, os.SEEK_CUR)
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    shape, fortran, dtype = read[version](file)
    if dtype.hasobject:
        raise ValueError(f"{member.filename} holds Python objects")
    # Unlike a reader, a map never sees a member's end: it would go on into the next one.
    if file.tell() - start + math.prod(shape) * dtype.itemsize != member.file_size:
        raise ValueError(f"{member.filename} is damaged: its size is not that of its shape")
    if 0 in shape or shape == ():
        return np.frombuffer(file.read(dtype.itemsize), dtype, count=int(shape == ())).reshape(
            shape
        )
    order = "F" if fortran else "C"
    return np.memmap(path, dtype, "r", offset=file.tell(), shape=shape, order=order)


class GrowingArrays:
    """Arrays in a folder that grow along their first axis, and survive what stops the process.

    Each array is a file of raw values; ``progress.json``, replaced after each addition, says how
    many rows are whole, and the rest is cut off on opening. It holds checksums too: of a machine
    that lost its power, the order in which files reached the disk is not known.

    Args:
        folder: made when missing; it goes on from what is there.

    Raises:
        ValueError: what is there is damaged.

    Example:
        >>> folder = Path(tempfile.mkdtemp())
        >>> GrowingArrays(folder).append({"probs": np.zeros((2, 3))}, {"seed": 3})
        >>> again = GrowingArrays(folder)
        >>> again.append({"probs": np.ones((1, 3))}, {"seed": 3})
        >>> again.rows, again.mapped()["probs"].shape, again.about
        (3, (3, 3), {'seed': 3})
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.rows = 0
        self.about: dict[str, Any] = {}
        self._columns: dict[str, dict[str, Any]] = {}
        self.folder.mkdir(parents=True, exist_ok=True)
        if (self.folder / PROGRESS).exists():
            try:
                self._read()
            except (EOFError, OSError, KeyError, TypeError, ValueError) as error:
                raise ValueError(
                    f"what a stopped run left in {str(self.folder)!r} is damaged ({error}); "
                    "delete that folder to start over"
                ) from None

    def append(self, arrays: Mapping[str, np.ndarray | None], about: dict[str, Any]) -> None:
        """Add rows to each array that is not None; every call names the same ones.

        Args:
            arrays: with as many rows each.
            about: JSON values to keep with them, in place of earlier ones.
        """
        present = {key: array for key, array in arrays.items() if array is not None}
        (count,) = {len(array) for array in present.values()}
        columns = {}
        for key, array in present.items():
            whole = {"dtype": array.dtype.str, "shape": list(array.shape[1:]), "crc": 0}
            column = self._columns.get(key, whole)
            assert column["shape"] == whole["shape"]
            rows = np.ascontiguousarray(array, column["dtype"])
            with self._file(key).open("ab") as file:
                file.write(rows.data)
            columns[key] = column | {"crc": zlib.crc32(rows.data, column["crc"])}
        assert not self._columns or columns.keys() == self._columns.keys()
        state = {"rows": self.rows + count, "about": about, "columns": columns}
        with atomic_path(self.folder / PROGRESS) as temporary:
            temporary.write_text(json.dumps(state), encoding="utf-8")
        self.rows, self.about, self._columns = self.rows + count, about, columns

    def mapped(self) -> dict[str, np.ndarray]:
        """The arrays, left on disk until they are read."""
        shapes = {key: (self.rows, *column["shape"]) for key, column in self._columns.items()}
        return {
            key: np.memmap(self._file(key), column["dtype"], "r", shape=shapes[key])
            if 0 not in shapes[key]
            else np.empty(shapes[key], column["dtype"])
            for key, column in self._columns.items()
        }

    def _file(self, key: str) -> Path:
        return self.folder / f"{key.replace('/', '_')}.values"

    def _read(self) -> None:
        state = json.loads((self.folder / PROGRESS).read_text(encoding="utf-8"))
        self.rows, self.about, self._columns = state["rows"], state["about"], state["columns"]
        for key, column in self._columns.items():
            each = np.dtype(column["dtype"]).itemsize * math.prod(column["shape"])
            self._cut(key, self.rows * each, column["crc"])

    def _cut(self, key: str, size: int, checksum: int) -> None:
        """Take away what came after the last whole row, and check the rest."""
        with self._file(key).open("r+b") as file:
            found, left = 0, size
            while left:
                piece = file.read(min(left, 2**20))
                if not piece:
                    raise EOFError(f"{key} is too short")
                found, left = zlib.crc32(piece, found), left - len(piece)
            if found != checksum:
                raise ValueError(f"{key} has changed")
            file.truncate(size)


class GrowingNpz:
    """An ``.npz`` file as of :func:`write_npz` whose arrays come in pieces along the first axis.

    Pieces wait on disk beside the file, which appears when the block ends without an error.

    Args:
        path: of the file.

    Example:
        >>> path = Path(tempfile.mkdtemp()) / "long.npz"
        >>> with GrowingNpz(path) as file:
        ...     for piece in (np.zeros((2, 3)), np.ones((1, 3))):
        ...         file.append({"probs": piece})
        ...     file.about = {"seed": 3}
        >>> with reading_npz(path, "GrowingNpz") as (arrays, about):
        ...     arrays["probs"].shape, about
        ((3, 3), {'seed': 3})
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.about: dict[str, Any] = {}
        self._path = Path(path)

    def __enter__(self) -> GrowingNpz:
        folder = self._path.parent
        folder.mkdir(parents=True, exist_ok=True)
        pieces = tempfile.mkdtemp(dir=folder, prefix=f".{self._path.name}.")
        self._arrays = GrowingArrays(pieces)
        return self

    def append(self, arrays: Mapping[str, np.ndarray | None]) -> None:
        """Add rows to each array that is not None; every call names the same ones."""
        self._arrays.append(arrays, {})

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        try:
            if kind is None:
                write_npz(self._path, self._arrays.mapped(), self.about)
        finally:
            shutil.rmtree(self._arrays.folder, ignore_errors=True)
