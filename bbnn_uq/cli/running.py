"""What surrounds the work of a command: its output folder, its threads."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from bbnn_uq._files import writable_folder
from bbnn_uq.posterior import Posterior, load

__all__ = ["load_posterior", "one_thread", "output_file", "output_folder"]

POSTERIOR = "posterior.safetensors"


def load_posterior(path: Path) -> Posterior:
    """The posterior of a file; a folder's own is not taken for granted, but named."""
    if path.is_dir():
        inside = path / POSTERIOR
        remedy = f"name {str(inside)!r}" if inside.exists() else "name a file that train wrote"
        raise ValueError(f"{str(path)!r} is a folder; {remedy}")
    return load(path)


@contextmanager
def output_file(path: Path) -> Iterator[Path]:
    """An ``.npz`` file whose folder is found writable before any work.

    Raises:
        ValueError: it is a folder or is called otherwise.
    """
    if path.is_dir():
        raise ValueError(
            f"--out {str(path)!r} is a folder; name a file, {str(path / 'predictions.npz')!r}"
        )
    if path.suffix.lower() != ".npz":
        raise ValueError(f"--out {str(path)!r} must end in .npz")
    with output_folder(path.parent):
        yield path


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
