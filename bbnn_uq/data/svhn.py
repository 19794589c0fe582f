"""SVHN, house numbers cropped to single digits, from the published files in a folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from bbnn_uq._checks import check_choice
from bbnn_uq.data.arrays import ArrayData, open_file, quoted
from bbnn_uq.data.embedded import DIGIT_NAMES

__all__ = ["svhn"]

_FILES = {"train": "train_32x32.mat", "test": "test_32x32.mat"}
_PAGE = "http://ufldl.stanford.edu/housenumbers/"
_MAGIC = b"MATLAB 5.0 MAT-file"


def svhn(folder: str | os.PathLike[str], *, split: str) -> ArrayData:
    """SVHN: 32×32 colour photographs of digits of house numbers, bytes divided by 255.

    The folder holds ``train_32x32.mat`` and ``test_32x32.mat``, the cropped digits ("Format 2").
    Each is a MATLAB file, version 5, with X (32, 32, 3, N) of bytes by row, column and colour, and
    y (N, 1) in which 10 stands for the digit 0. Of the file only these two arrays of numbers are
    read; reading them runs no code.

    Source: Y. Netzer, T. Wang, A. Coates, A. Bissacco, B. Wu, A. Ng, Reading Digits in Natural
    Images with Unsupervised Feature Learning (2011); http://ufldl.stanford.edu/housenumbers/.

    Args:
        folder: where the files are. Nothing is downloaded.
        split: ``"train"`` (73,257 images in the published file) or ``"test"`` (26,032).

    Returns:
        Images of shape (N, 3, 32, 32) in [0, 1] with labels in [0, 10), each the digit itself,
        named ``svhn``.

    Raises:
        ValueError: the split is unknown; the folder or a file is missing; a file is truncated,
            damaged or foreign. The message names the file, the fault and the remedy.

    Example:
        >>> import scipy.io, tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> images = np.full((32, 32, 3, 2), 255, np.uint8)
        >>> scipy.io.savemat(folder / "test_32x32.mat", {"X": images, "y": [[10], [3]]})
        >>> data = svhn(folder, split="test")
        >>> data.x.shape, data.x.min().item(), data.y.tolist()
        ((2, 3, 32, 32), 1.0, [0, 3])
    """
    name = _FILES[check_choice(split, "split", _FILES)]
    if not os.path.isdir(folder):
        raise ValueError(f"there is no folder {quoted(folder)}; check the path")
    path = Path(folder, name)
    if not os.path.exists(path):
        raise ValueError(f"{quoted(folder)} lacks {name}; {_remedy(name)}")
    images, labels = _arrays(path)
    _check_form(images, labels, path)
    labels = labels.ravel()
    wrong = np.flatnonzero(~np.isin(labels, range(1, 11)))
    if len(wrong):
        raise ValueError(
            f"{_damaged(path)}: image {wrong[0]} has the label {labels[wrong[0]]}, wanted is a "
            f"digit 1 to 9, or 10 for the digit 0; {_remedy(name)}"
        )
    x = np.ascontiguousarray(images.transpose(3, 2, 0, 1)) / np.float32(255)
    return ArrayData("svhn", x, labels.astype(np.int64) % 10, 10, DIGIT_NAMES)


def _arrays(path: Path) -> tuple[Any, Any]:
    """X and y as they stand in the file; None where it has no such thing."""
    from scipy.io import loadmat

    with open_file(path) as handle:
        # Version 7.3 is HDF5, and older ones have no such header.
        if handle.read(len(_MAGIC)) != _MAGIC:
            raise ValueError(f"{_damaged(path)}: no MATLAB 5.0 MAT-file; {_remedy(path.name)}")
        handle.seek(0)
        try:
            content = loadmat(handle, variable_names=("X", "y"))
        except Exception as error:  # foreign bytes can provoke any error
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"{_damaged(path)} ({reason}); {_remedy(path.name)}") from None
    return content.get("X"), content.get("y")


def _check_form(images: Any, labels: Any, path: Path) -> None:
    for key, array, wanted, fits in (
        ("X", images, "(32, 32, 3, N) of uint8", _are_images),
        ("y", labels, "a number for each image", lambda array: _are_numbers(array, images)),
    ):
        if not isinstance(array, np.ndarray) or not fits(array):
            found = f"{array.shape} of {array.dtype}" if isinstance(array, np.ndarray) else "absent"
            raise ValueError(
                f"{_damaged(path)}: {key} is {found}, wanted is {wanted}; {_remedy(path.name)}"
            )


def _are_images(array: np.ndarray) -> bool:
    return (
        array.ndim == 4
        and array.shape[:3] == (32, 32, 3)
        and array.shape[3] > 0
        and array.dtype == np.uint8
    )


def _are_numbers(array: np.ndarray, images: np.ndarray) -> bool:
    return array.dtype.kind in "fiu" and array.size == images.shape[3]


def _damaged(path: Path) -> str:
    return f"{quoted(path)} is damaged or no file of svhn"


def _remedy(name: str) -> str:
    return f"fetch {name} (cropped digits, format 2) from {_PAGE}"
