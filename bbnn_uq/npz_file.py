"""The ``.npz`` files of predictives: arrays by name, and one JSON text about them."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from bbnn_uq._files import atomic_path

__all__ = ["reading_npz", "write_npz"]

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
