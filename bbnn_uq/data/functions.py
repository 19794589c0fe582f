"""Data that a function of the user's gives: ``package.module:function``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import numpy as np

from bbnn_uq._imports import call_named
from bbnn_uq.data.arrays import ArrayData, check_inputs_form, checked_inputs, labelled
from bbnn_uq.data.npz import left_on_disk

__all__ = ["from_function"]

_Result = TypeVar("_Result")


def from_function(spec: str, offered: dict[str, Any], *, in_memory: bool) -> ArrayData:
    """Call a user's function and make a data set of what it returns.

    Args:
        spec: ``package.module:function``, importable from the current folder or installed. It
            returns inputs, a tuple (inputs, labels), or an :class:`ArrayData`. Inputs are an
            array, a tensor, or anything else that has a length and is indexed by numbers, such as
            a torch Dataset; its items are inputs or pairs (input, label).
        offered: arguments by name; those that the function has are passed.
        in_memory: whether to read all inputs now. Otherwise memory-mapped arrays and what is
            indexed are read when they are needed; labels that come in pairs with inputs, though,
            take one pass through all of them.

    Returns:
        The data, checked as those of a file, and named after the function.

    Raises:
        ValueError: importing or calling it fails, or what it returns is no data.

    Example:
        >>> from_function("sklearn.datasets:load_iris", {}, in_memory=True)
        Traceback (most recent call last):
        ValueError: sklearn.datasets:load_iris returns a Bunch; ...
        >>> shape = {"input_shape": (2,), "value_range": None}
        >>> from_function("bbnn_uq.data.embedded:noise", shape, in_memory=True)
        ArrayData('noise', x of shape (1000, 2), no labels)
    """
    name, source = spec.partition(":")[2], f"the data of {spec}"
    given = _run(lambda: call_named(spec, offered), spec)
    about: dict[str, Any] = {}
    labels = None
    if isinstance(given, ArrayData):
        about = {"num_classes": given.num_classes, "class_names": given.class_names}
        given, labels = given.x, given.y
    elif isinstance(given, tuple) and len(given) == 2:
        given, labels = given
    x, paired = _inputs(given, spec, source, in_memory)
    y = paired if labels is None else _array(labels, spec)
    return labelled(name, x, y, source, **about)


def _inputs(given: Any, spec: str, source: str, in_memory: bool) -> tuple[Any, Any]:
    """Inputs, read or lazy, and the labels that came in pairs with them, if any did."""
    is_array = hasattr(given, "__array__") or isinstance(given, list)
    if is_array and (in_memory or not _has_rows_elsewhere(given)):
        array = _array(given, spec)
        lazily = isinstance(given, np.memmap) and not in_memory
        return (left_on_disk if lazily else checked_inputs)(array, source), None
    if not (hasattr(given, "__len__") and hasattr(given, "__getitem__")) or isinstance(
        given, (dict, str, bytes, tuple)
    ):
        raise ValueError(
            f"{spec} returns a {type(given).__name__}; return inputs (an array, a tensor or "
            "something with a length that is indexed by numbers), a tuple (inputs, labels) or "
            "an ArrayData"
        )
    return _indexed(given, spec, source, in_memory)


def _has_rows_elsewhere(given: Any) -> bool:
    """Whether this is an array of HDF5, Zarr and the like, and none of NumPy, torch or pandas."""
    known = isinstance(given, np.ndarray) or hasattr(given, "detach")
    return hasattr(given, "dtype") and not known


def _indexed(given: Any, spec: str, source: str, in_memory: bool) -> tuple[Any, Any]:
    size = _run(lambda: len(given), spec)
    if size == 0:
        raise ValueError(f"{source} are empty; return at least one input")
    first = _run(lambda: given[0], spec)
    one = _array(_input_of(first), spec)
    check_inputs_form(one.dtype, (size, *one.shape), source)
    labels: list[Any] = []
    if in_memory:
        items = _run(lambda: [given[i] for i in range(size)], spec)
        labels = [item[1] for item in items if _is_pair(item)]
        x = _stacked([_input_of(item) for item in items], one.shape, spec, source)
    else:
        from bbnn_uq.data.lazy import LazyInputs  # late: it loads torch

        if _is_pair(first):  # the inputs are let go, since they may be larger than memory
            labels = _run(lambda: [given[i][1] for i in range(size)], spec)
        x = LazyInputs((size, *one.shape), partial(_read, given, one.shape, spec, source))
    return x, np.asarray([_array(label, spec) for label in labels]) if labels else None


def _read(given: Any, shape: tuple[int, ...], spec: str, source: str, rows: range) -> np.ndarray:
    items = _run(lambda: [_input_of(given[i]) for i in rows], spec)
    where = f"{source}, from input {rows[0]} to {rows[-1]},"
    return _stacked(items, shape, spec, where)


def _stacked(items: list[Any], shape: tuple[int, ...], spec: str, source: str) -> np.ndarray:
    arrays = [_array(item, spec) for item in items]
    for array in arrays:
        if array.shape != shape:
            raise ValueError(
                f"x in {source} has inputs of shapes {shape} and {array.shape}; give all of them "
                "one shape"
            )
    return checked_inputs(np.stack(arrays), source)


def _is_pair(item: Any) -> bool:
    return isinstance(item, tuple) and len(item) == 2


def _input_of(item: Any) -> Any:
    alone = isinstance(item, tuple) and len(item) == 1  # as a TensorDataset of inputs gives it
    return item[0] if alone or _is_pair(item) else item


def _array(values: Any, spec: str) -> np.ndarray:
    """An array of what may be a tensor on any device."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    return _run(lambda: np.asarray(values), spec)


def _run(action: Callable[[], _Result], spec: str) -> _Result:
    """The result of code of the user's, whose errors become one line."""
    try:
        return action()
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(
            f"{spec} gives no data ({reason}); it must be package.module:function, reachable from "
            "here or installed, and the function may take split, input_shape and value_range"
        ) from error
