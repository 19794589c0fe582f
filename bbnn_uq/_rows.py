"""Work on arrays of many rows: block by block, so that temporaries stay small."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

__all__ = ["LARGE_BLOCKS", "by_rows", "row_blocks"]

_BLOCK_ENTRIES = 2**19  # 4 MB of float64

# Torch splits most operations over threads from 2^15 entries on. With many small blocks, waiting
# for threads took up to twenty times as long as the work where anything else ran on a core. So
# blocks stay below that; or, for a few operations without temporaries, they are large and few.
# max(dim=…), softmax and logsumexp split whatever the size, and do not belong here.
_SERIAL_ENTRIES = 2**15 - 1
LARGE_BLOCKS = 2**23


def row_blocks(
    array: np.ndarray, axis: int = 0, *, entries: int = _BLOCK_ENTRIES
) -> Iterator[slice]:
    """Slices of ``axis`` that cover it in order, of at most so many entries each.

    Example:
        >>> [block.stop for block in row_blocks(np.empty((400_000, 3)))]
        [174762, 349524, 400000]
    """
    num_rows = array.shape[axis]
    rows = max(1, entries * num_rows // max(1, array.size))
    return (slice(start, min(start + rows, num_rows)) for start in range(0, num_rows, rows))


def by_rows(
    function: Callable[[Tensor], tuple[Tensor, ...]],
    array: np.ndarray,
    *,
    entries: int = _SERIAL_ENTRIES,
) -> tuple[np.ndarray, ...]:
    """Results of a torch function of each block of rows, put together again.

    Torch reduces short rows several times as fast as NumPy.

    Args:
        function: from a block (rows, …) to tensors whose first axis is that of the block.
        array: float64 (N, …).
        entries: of a block, at most.

    Example:
        >>> by_rows(lambda block: (block.amax(dim=1),), np.array([[1.0, 2.0], [4.0, 3.0]]))
        (array([2., 4.]),)
    """
    results: tuple[np.ndarray, ...] = ()
    for block in row_blocks(array, entries=entries):
        rows = np.ascontiguousarray(array[block])
        # Torch warns of memory that is read-only, such as that of a mapped file, and refuses
        # negative strides, which an axis of length 1 may have.
        usable = rows.flags.writeable and min(rows.strides) >= 0
        tensor = torch.from_numpy(rows if usable else rows.copy())
        found = [part.numpy() for part in function(tensor)]
        if not results:  # whole from the start: pieces would be scattered over the heap
            results = tuple(np.empty((len(array), *part.shape[1:]), part.dtype) for part in found)
        for result, part in zip(results, found, strict=True):
            result[block] = part
    return results
