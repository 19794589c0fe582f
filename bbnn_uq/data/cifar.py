"""CIFAR-10 and CIFAR-100, from the files of their binary version in a folder of the user's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from bbnn_uq._checks import check_choice
from bbnn_uq.data.arrays import ArrayData, open_file, quoted

__all__ = ["cifar10", "cifar100"]

_PAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"
_IMAGE_BYTES = 3 * 32 * 32


class _Format(NamedTuple):
    name: str
    archive: str
    subfolder: str
    files: dict[str, tuple[str, ...]]
    num_classes: tuple[int, ...]
    """Of each label byte before an image; the last is the label that is returned."""
    class_names: str
    """File with the names of the classes, one a line, which the archive brings."""
    pickled: tuple[str, ...]
    """Any of these shows that a folder holds the Python version."""


_CIFAR10 = _Format(
    "cifar-10",
    "cifar-10-binary.tar.gz",
    "cifar-10-batches-bin",
    {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)},
    (10,),
    "batches.meta.txt",
    ("cifar-10-batches-py", "data_batch_1", "test_batch", "batches.meta"),
)
_CIFAR100 = _Format(
    "cifar-100",
    "cifar-100-binary.tar.gz",
    "cifar-100-binary",
    {"train": ("train.bin",), "test": ("test.bin",)},
    (20, 100),
    "fine_label_names.txt",
    ("cifar-100-python", "meta"),
)


def cifar10(folder: str | os.PathLike[str], *, split: str) -> ArrayData:
    """CIFAR-10: 32×32 colour photographs in ten classes, bytes divided by 255.

    The folder holds what ``cifar-10-binary.tar.gz`` unpacks to, or its subfolder
    ``cifar-10-batches-bin`` does: ``data_batch_1.bin`` to ``data_batch_5.bin`` for training and
    ``test_batch.bin``, and ``batches.meta.txt`` where it is there. Each file is a sequence of
    records of 3,073 bytes: the label, then the red, the green and the blue plane, row by row.

    Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009);
    https://www.cs.toronto.edu/~kriz/cifar.html, "CIFAR-10 binary version".

    Args:
        folder: where the files are. Nothing is downloaded or unpacked.
        split: ``"train"`` (50,000 images in the published files, in the order of the files) or
            ``"test"`` (10,000).

    Returns:
        Images of shape (N, 3, 32, 32) in [0, 1] with labels in [0, 10), named ``cifar-10``; class
        names where their file is there.

    Raises:
        ValueError: the split is unknown; the folder or a file is missing; the folder holds the
            Python version; a file is truncated, damaged or foreign. The message names the file,
            the fault and the remedy.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "test_batch.bin").write_bytes(bytes([7] + [255] * 1024 + [0] * 2048))
        >>> data = cifar10(folder, split="test")
        >>> data.x.shape, data.x.mean(axis=(2, 3)).tolist(), data.y.tolist(), data.num_classes
        ((1, 3, 32, 32), [[1.0, 0.0, 0.0]], [7], 10)
    """
    return _read(_CIFAR10, folder, split)


def cifar100(folder: str | os.PathLike[str], *, split: str) -> ArrayData:
    """CIFAR-100: 32×32 colour photographs in a hundred classes, bytes divided by 255.

    The folder holds what ``cifar-100-binary.tar.gz`` unpacks to, or its subfolder
    ``cifar-100-binary`` does: ``train.bin`` and ``test.bin``, and ``fine_label_names.txt``, where
    it is there. Each file is a sequence of records
    of 3,074 bytes: the coarse label, one of 20, which is checked and left out; the fine label;
    then the image as in :func:`cifar10`.

    Source: as for :func:`cifar10`, "CIFAR-100 binary version".

    Args:
        folder: where the files are. Nothing is downloaded or unpacked.
        split: ``"train"`` (50,000 images in the published file) or ``"test"`` (10,000).

    Returns:
        Images of shape (N, 3, 32, 32) in [0, 1] with fine labels in [0, 100), named ``cifar-100``;
        class names where their file is there.

    Raises:
        ValueError: as :func:`cifar10`.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "test.bin").write_bytes(bytes([19, 42] + [51] * 3072))
        >>> data = cifar100(folder, split="test")
        >>> data.x.max().item(), data.y.tolist(), data.num_classes
        (0.20000000298023224, [42], 100)
    """
    return _read(_CIFAR100, folder, split)


def _read(form: _Format, folder: str | os.PathLike[str], split: str) -> ArrayData:
    names = form.files[check_choice(split, "split", form.files)]
    place = _folder_with(names, form, Path(folder))
    records = np.concatenate([_records(place / name, form) for name in names])
    images = records[:, -_IMAGE_BYTES:].reshape(-1, 3, 32, 32) / np.float32(255)
    labels = records[:, -_IMAGE_BYTES - 1].astype(np.int64)
    return ArrayData(form.name, images, labels, form.num_classes[-1], _class_names(place, form))


def _class_names(place: Path, form: _Format) -> tuple[str, ...] | None:
    """The names in the folder, or None where there are none."""
    path = place / form.class_names
    if not os.path.exists(path):
        return None
    with open_file(path) as handle:
        names = handle.read().decode("utf-8", "replace").split()
    if len(names) != form.num_classes[-1]:
        raise ValueError(
            f"{quoted(path)} is damaged or no file of {form.name}: it has {len(names)} names, "
            f"wanted are {form.num_classes[-1]}; {_remedy(form)}"
        )
    return tuple(names)


def _folder_with(names: tuple[str, ...], form: _Format, folder: Path) -> Path:
    """The folder or its subfolder, whichever has the files."""
    if not os.path.isdir(folder):  # False where Path.is_dir would raise, as the next ones
        raise ValueError(f"there is no folder {quoted(folder)}; check the path")
    for place in (folder, folder / form.subfolder):
        missing = [name for name in names if not os.path.exists(place / name)]
        if not missing:
            return place
        if len(missing) < len(names):
            raise ValueError(f"{quoted(place)} lacks {', '.join(missing)}; {_remedy(form)}")
    if any(os.path.exists(folder / name) for name in form.pickled):
        raise ValueError(
            f"{quoted(folder)} holds the Python version of {form.name}, whose files are pickled "
            f"and could run any code when they are read; {_remedy(form)}"
        )
    raise ValueError(f"{quoted(folder)} lacks {', '.join(names)}; {_remedy(form)}")


def _records(path: Path, form: _Format) -> UInt8[np.ndarray, "records bytes"]:
    """The records of one file, their labels checked."""
    size = len(form.num_classes) + _IMAGE_BYTES
    with open_file(path) as handle:
        content = np.frombuffer(handle.read(), np.uint8)
    if len(content) == 0 or len(content) % size:
        raise ValueError(
            f"{quoted(path)} is truncated or no file of {form.name}: it has {len(content)} bytes, "
            f"wanted is a positive whole number of records of {size}; {_remedy(form)}"
        )
    records = content.reshape(-1, size)
    labels = records[:, : len(form.num_classes)]
    wrong = np.argwhere(labels >= np.array(form.num_classes))
    if len(wrong):
        record, column = wrong[0].tolist()
        raise ValueError(
            f"{quoted(path)} is damaged or no file of {form.name}: record {record} has the label "
            f"{labels[record, column]}, wanted is one below {form.num_classes[column]}; "
            f"{_remedy(form)}"
        )
    return records


def _remedy(form: _Format) -> str:
    return f"unpack {form.archive} from {_PAGE} and name the folder {form.subfolder} that it gives"
