"""Files that are whole or absent: written beside their place under another name, then renamed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["as_text", "atomic_path", "writable_folder"]


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``; rename it to ``path`` on success.

    Whatever goes wrong inside the block, Ctrl-C included, leaves ``path`` as it was and no
    temporary file behind. The suffix is kept, since some writers look at it.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with atomic_path(folder / "a.txt") as temporary:
        ...     _ = temporary.write_text("whole")
        >>> [file.name for file in folder.iterdir()]
        ['a.txt']
    """
    target = Path(path)
    writable_folder(target.parent)
    # A name of our own rather than mkstemp's: it is known before there is a file, so that no
    # interrupt can fall between the two; and the file gets what permissions the user's mask says.
    temporary = target.with_name(f".{target.stem[:40]}.{secrets.token_hex(8)}{target.suffix}")
    try:
        yield temporary
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def writable_folder(folder: str | os.PathLike[str]) -> Path:
    """Create ``folder`` if need be and return it.

    Raises:
        ValueError: when it is a file, or cannot be created or written to.
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"cannot create the folder {str(path)!r} ({error.strerror}); choose another place"
        ) from None
    if not os.access(path, os.W_OK):
        raise ValueError(f"the folder {str(path)!r} is not writable; choose another place")
    return path


def as_text(name: str | os.PathLike[str]) -> str:
    """A path as text that any file can hold: bytes that are no characters become ``?``."""
    return os.fspath(name).encode("utf-8", "replace").decode()
