"""``LazyInputs``: inputs that stay where they are until they are indexed."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset

__all__ = ["LazyInputs"]


class LazyInputs(Dataset):
    """Inputs that are read, decoded or computed each time they are indexed.

    A dataset of inputs without labels, which :func:`bbnn_uq.predict` and a ``DataLoader`` take as
    it is. ``x[3]`` is one input and ``x[2:5]`` three of them in one array, both float32;
    ``x[:]`` is everything, in memory.

    Args:
        shape: (N, ...), the shape that all inputs would have as one array.
        read: gives the inputs of a range of indices, stacked, as a float32 array of its own. With
            a function that can be pickled, such as a ``functools.partial`` of one in a module, so
            can the inputs, for workers of a ``DataLoader``.

    Example:
        >>> squares = LazyInputs((4, 1), lambda rows: np.array([[i * i] for i in rows], np.float32))
        >>> len(squares), squares[3], squares[1:3].tolist()
        (4, array([9.], dtype=float32), [[1.0], [4.0]])
    """

    dtype = np.dtype(np.float32)

    def __init__(self, shape: Sequence[int], read: Callable[[range], np.ndarray]) -> None:
        self.shape = tuple(shape)
        self._read = read

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        """One input for an integer, stacked inputs for a slice."""
        rows = range(len(self))
        if isinstance(index, slice):
            chosen = rows[index]
            return self._read(chosen) if chosen else np.empty((0, *self.shape[1:]), np.float32)
        try:
            at = rows[operator.index(index)]
        except TypeError:
            raise TypeError(
                f"inputs are indexed by an integer or a slice, got {type(index).__name__}; "
                "x[:] reads all of them into one array"
            ) from None
        except IndexError:
            raise IndexError(f"index {index} is out of range for {len(self)} inputs") from None
        return self._read(range(at, at + 1))[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        return f"LazyInputs{self.shape}"
