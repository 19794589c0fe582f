"""The ``.npz`` files of predictives: arrays by name, and one JSON text about them."""

from __future__ import annotations

import json
import os
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bbnn_uq._files import atomic_path

__all__ = ["GrowingNpz", "map_npz", "reading_npz", "write_npz"]

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


def _mapped(path: str | os.PathLike[str], file: Any, member: zipfile.ZipInfo) -> np.ndarray:
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError("its arrays are compressed; write it with np.savez")
    file.seek(member.header_offset)
    # The local header repeats the name and may have more extra bytes than the directory's.
    name, extra = struct.unpack("<HH", file.read(30)[26:])
    file.seek(name + extra, os.SEEK_CUR)
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    shape, fortran, dtype = read[version](file)
    if dtype.hasobject:
        raise ValueError(f"{member.filename} holds Python objects")
    if 0 in shape or shape == ():
        return np.frombuffer(file.read(dtype.itemsize), dtype, count=int(shape == ())).reshape(
            shape
        )
    order = "F" if fortran else "C"
    return np.memmap(path, dtype, "r", offset=file.tell(), shape=shape, order=order)


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
        self._pieces: dict[str, tuple[np.dtype, tuple[int, ...]]] = {}

    def __enter__(self) -> GrowingNpz:
        folder = self._path.parent
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(dir=folder, prefix=f".{self._path.name}."))
        return self

    def append(self, arrays: Mapping[str, np.ndarray | None]) -> None:
        """Add rows to each array that is not None; every call names the same ones."""
        for key, array in arrays.items():
            if array is None:
                continue
            dtype, shape = self._pieces.get(key, (array.dtype, (0, *array.shape[1:])))
            assert shape[1:] == array.shape[1:]
            self._pieces[key] = dtype, (shape[0] + len(array), *shape[1:])
            with self._file(key).open("ab") as file:
                file.write(np.ascontiguousarray(array, dtype).data)

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        try:
            if kind is None:
                self._join()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _file(self, key: str) -> Path:
        return self._folder / key.replace("/", "_")

    def _join(self) -> None:
        with (
            atomic_path(self._path) as temporary,
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive,
        ):
            with archive.open("about.npy", "w") as file:
                np.lib.format.write_array(file, np.array(json.dumps(self.about)))
            for key, (dtype, shape) in self._pieces.items():
                header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
                with archive.open(f"{key}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array_header_1_0(file, header)
                    with self._file(key).open("rb") as pieces:
                        shutil.copyfileobj(pieces, file, 2**20)
