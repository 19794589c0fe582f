"""What surrounds the work of a command: its output folder, its threads."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from bbnn_uq._files import writable_folder

__all__ = ["one_thread", "output_folder"]


@contextmanager
def output_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A folder found writable before any work, and left behind only with something in it."""
    folder = Path(path)
    created = [p for p in (folder, *folder.parents) if not p.exists()]
    try:
        writable_folder(folder)
        with tempfile.TemporaryFile(dir=folder):
            pass
        yield folder
    finally:
        for parent in created:
            with suppress(OSError):  # there is something in it, or it was never made
                parent.rmdir()


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread of torch: for tiny tensors faster than several, and the same on every machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
