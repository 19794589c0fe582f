"""Fashion-MNIST: from the Debian package, the user's cache, or one download into the cache."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bbnn_uq._files import atomic_path, writable_folder
from bbnn_uq._progress import progress_bar
from bbnn_uq.data.arrays import ArrayData, open_file, quoted
from bbnn_uq.data.idx import decompress, parse_idx

__all__ = ["fashion_mnist"]


class _File(NamedTuple):
    name: str
    sha256: str
    """Of the decompressed content: Debian's files differ from Zalando's in their gzip headers."""


_FILES = {
    "train": (
        _File(
            "train-images-idx3-ubyte.gz",
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        ),
        _File(
            "train-labels-idx1-ubyte.gz",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        ),
    ),
    "test": (
        _File(
            "t10k-images-idx3-ubyte.gz",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        ),
        _File(
            "t10k-labels-idx1-ubyte.gz",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
}
_CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
_URL = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/"
_TIMEOUT = 30.0  # seconds without an answer
_CHUNK = 2**16


def fashion_mnist(split: str) -> ArrayData:
    """Zalando's 28×28 grey pictures of clothes in ten classes, bytes divided by 255.

    Each file is taken from the Debian package ``dataset-fashion-mnist`` where that is installed,
    else from the folder ``bbnn-uq/fashion-mnist`` of the user's cache (``$XDG_CACHE_HOME`` or
    ``~/.cache``), into which it is otherwise downloaded once. Its content is compared with a
    SHA-256 sum every time, and a damaged copy counts as missing.

    Source: H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST: a Novel Image Dataset for Benchmarking
    Machine Learning Algorithms (2017, arXiv 1708.07747).

    Args:
        split: ``"train"`` (60,000 images) or ``"test"`` (10,000).

    Returns:
        Images of shape (N, 1, 28, 28) in [0, 1] with labels.

    Raises:
        ValueError: a file is not on this machine and cannot be downloaded.
    """
    images, labels = (parse_idx(_content(file), file.name) for file in _FILES[split])
    x = images[:, None] / np.float32(255)
    return ArrayData("fashion-mnist", x, labels.astype(np.int64), 10, _CLASS_NAMES)


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # unset, empty or invalid, by the XDG base directory specification
        base = os.path.expanduser("~/.cache")
    return Path(base, "bbnn-uq", "fashion-mnist")


def _content(file: _File) -> bytes:
    """The verified content of one file, from wherever it can be had."""
    cached = _cache_folder() / file.name
    fault = f"{file.name} is not on this machine"
    for path in (_DEBIAN_FOLDER / file.name, cached):
        if not os.path.exists(path):
            continue
        try:
            with open_file(path) as handle:
                return _verified(handle.read(), file, quoted(path))
        except ValueError as error:
            fault = str(error)
    try:
        writable_folder(cached.parent)  # before a download that nothing could keep
        packed = _download(_URL + file.name)
        content = _verified(packed, file, _URL + file.name)
    except ValueError as error:
        raise ValueError(
            f"fashion-mnist: {fault}, and its download fails ({error}); install the Debian package "
            "dataset-fashion-mnist, or put the four *-ubyte.gz files of "
            f"github.com/zalandoresearch/fashion-mnist into {quoted(cached.parent)}"
        ) from None
    with atomic_path(cached) as temporary:
        temporary.write_bytes(packed)
    return content


def _verified(packed: bytes, file: _File, place: str) -> bytes:
    """The decompressed content, if it is the one that was published."""
    with suppress(ValueError):  # damaged gzip, which is named below
        content = decompress(packed, place)
        if hashlib.sha256(content).hexdigest() == file.sha256:
            return content
    raise ValueError(f"{place} is damaged or another file, by its SHA-256 sum")


def _download(url: str) -> bytes:
    from http.client import HTTPException
    from urllib.request import urlopen

    chunks: list[bytes] = []
    try:
        with urlopen(url, timeout=_TIMEOUT) as response:
            size = int(response.headers.get("Content-Length", 0))
            label = url.rpartition("/")[2].partition("-idx")[0]
            with progress_bar(f"{label}, bytes", size, enabled=True) as advance:
                while chunk := response.read(_CHUNK):
                    chunks.append(chunk)
                    advance(len(chunk), "")
    except (OSError, HTTPException) as error:
        raise ValueError(f"{url} gives {error}") from None
    return b"".join(chunks)
