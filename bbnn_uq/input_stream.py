"""Inputs read in blocks, so that they may be larger than memory."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sized
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from bbnn_uq.inputs import all_inputs, checked_inputs, first_of
from bbnn_uq.npz_file import drop_pages, map_npz

__all__ = ["InputStream"]

READ_AHEAD = 2**26
"""Bytes that are read of a loader to see whether that is all of it."""


class InputStream:
    """The inputs in all forms that people have them, once from beginning to end, in blocks.

    Tensors, arrays and lists are in memory already. A memory-mapped array, the path of a
    ``.npy`` file or of an uncompressed ``.npz`` file with an array ``x``, a Dataset and a
    DataLoader are read when they are needed.

    Args:
        inputs: any of these; labels of Datasets and loaders are dropped.

    Raises:
        TypeError: the inputs are of none of these kinds, or hold no numbers.
        ValueError: there are none, some are NaN or infinite (found when they are read), or a
            file cannot be read.

    Example:
        >>> stream = InputStream(np.arange(10.0).reshape(5, 2))
        >>> stream.length, [len(block) for block in stream.blocks(2)]
        (5, [2, 2, 1])
    """

    def __init__(self, inputs: Any) -> None:
        if isinstance(inputs, (str, os.PathLike)):
            inputs = _mapped(Path(inputs))
        if isinstance(inputs, TensorDataset):
            inputs = inputs.tensors[0]
        self.in_memory = False
        self.length: int | None = None
        self._pieces: Iterator[Tensor]
        if isinstance(inputs, DataLoader):
            self._pieces = (torch.as_tensor(first_of(batch)) for batch in inputs)
            self._read_ahead()
        elif isinstance(inputs, np.memmap):
            if inputs.dtype.kind not in "fiub":
                raise TypeError(f"inputs must be numbers, got an array of {inputs.dtype}")
            self._take(inputs, lambda where: _read_mapped(inputs, where))
        elif isinstance(inputs, Dataset):
            if not isinstance(inputs, Sized):
                raise TypeError("inputs is a Dataset without a length; pass a DataLoader of it")
            if _takes_slices(inputs):
                self._take(inputs, lambda where: torch.as_tensor(inputs[where]))
                return
            self._take(
                inputs,
                lambda where: torch.stack(
                    [torch.as_tensor(first_of(inputs[i])) for i in range(where.start, where.stop)]
                ),
            )
        else:
            self._whole(all_inputs(inputs))

    def _whole(self, x: Tensor) -> None:
        self.in_memory = True
        self._take(x, lambda where: x[where])

    def _take(self, inputs: Sized, read: Any) -> None:
        """Inputs that can be read from anywhere."""
        self.length = len(inputs)
        if self.length == 0:
            raise ValueError("inputs has no inputs; pass at least one")
        self._read = read
        self.first = self._checked(read(slice(0, 1)))

    def _read_ahead(self) -> None:
        """A loader's beginning, or all of it when it is not much."""
        self._read = None
        ahead: list[Tensor] = []
        size = 0
        for piece in self._pieces:
            ahead.append(piece)
            size += piece.nbytes
            if size > READ_AHEAD:
                self._pieces = chain(ahead, self._pieces)
                self.first = self._checked(ahead[0][:1])
                return
        if not ahead:
            raise ValueError("inputs is a DataLoader without batches; pass at least one input")
        self._whole(self._checked(torch.cat(ahead)))

    def blocks(self, size: int, start: int = 0) -> Iterator[Tensor]:
        """The inputs in their order, ``size`` at a time; the last block may have fewer.

        Args:
            size: of a block.
            start: number of the first one; only where :attr:`length` is known.
        """
        if self._read is not None:
            assert self.length is not None
            for first in range(start, self.length, size):
                part = self._read(slice(first, min(first + size, self.length)))
                yield part if self.in_memory else self._checked(part)
            return
        assert start == 0
        held: list[Tensor] = []
        for piece in self._pieces:
            for part in piece.split(size):
                held.append(part)
                while sum(map(len, held)) >= size:
                    joined = torch.cat(held)
                    yield self._checked(joined[:size])
                    held = [joined[size:]] if len(joined) > size else []
        if held:
            yield self._checked(torch.cat(held))

    def bytes_each(self) -> int:
        """Of one input, as it is streamed; nothing where it is in memory already."""
        return 0 if self.in_memory else math.prod(self.first.shape) * self.first.itemsize

    @staticmethod
    def _checked(x: Tensor) -> Tensor:
        return checked_inputs(x.detach().cpu(), "inputs")


def _takes_slices(inputs: Any) -> bool:
    """Whether a Dataset has a shape and gives stacked inputs for a slice, as arrays do."""
    if not isinstance(getattr(inputs, "shape", None), tuple):
        return False
    some = inputs[0:1]
    return isinstance(some, (np.ndarray, Tensor)) and some.shape == (1, *inputs.shape[1:])


def _read_mapped(inputs: np.memmap, where: slice) -> Tensor:
    """A copy of some inputs, so that their pages need not stay with this process."""
    part = torch.from_numpy(np.array(inputs[where]))
    drop_pages(inputs)
    return part


def _mapped(path: Path) -> np.ndarray:
    try:
        if path.suffix == ".npz":
            arrays = map_npz(path)
            if "x" not in arrays:
                raise ValueError(f"{str(path)!r} has no array 'x', it holds {sorted(arrays)}")
            return arrays["x"]
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise ValueError(f"inputs: there is no file {str(path)!r}; check the path") from None
    except (EOFError, OSError, ValueError) as error:
        raise ValueError(f"inputs {str(path)!r} cannot be read as .npy or .npz: {error}") from None
