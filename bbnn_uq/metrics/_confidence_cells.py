"""Narrow bins of the distance of a confidence to 1, and the quantile-bin ECE from their counts."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64

from bbnn_uq.metrics.histogram_metrics import Bounded, Cells
from bbnn_uq.metrics.score_histogram import ordered_keys

__all__ = ["NUM_CELLS", "bounded_quantile_ece", "cells_of_counts", "confidence_cells"]

# Of u = 1 - confidence, since that is where a sure model's confidences differ: a cell for 0, then
# cells of relative width 2^-8 from u = 2^-53, the distance of 1 to the float64 below it, up to
# u = 2^-9, and from there on cells as wide as the last of those, 2^-17.
_BITS = 8
_FIRST_KEY = int(ordered_keys(np.array([2.0**-53]), _BITS)[0])
_FIRST_EVEN = 1 + (53 - 9) * 2**_BITS  # the first cell of equal width
_EVEN_SHIFT = _FIRST_EVEN - 2**_BITS
NUM_CELLS = _EVEN_SHIFT + 2**17


def confidence_cells(confidence: Float64[np.ndarray, "inputs"]) -> Int64[np.ndarray, "inputs"]:
    """The cell of each confidence in (0, 1]; those of higher confidence come first.

    Example:
        >>> confidence_cells(np.array([1.0, 1.0 - 2.0**-53, 1.0 - 2.0**-9, 0.5])).tolist()
        [0, 1, 11265, 76545]
    """
    unsure = 1.0 - confidence
    relative = np.maximum(ordered_keys(unsure, _BITS) - (_FIRST_KEY - 1), 0)
    even = (unsure * 2.0**17).astype(np.int64) + _EVEN_SHIFT
    return np.where(relative < _FIRST_EVEN, relative, even)


def _confidence_at_start(cells: Int64[np.ndarray, "cells"]) -> Float64[np.ndarray, "cells"]:
    """The highest confidence of each cell, which is above all of the cells after it."""
    keys = np.maximum(cells + (_FIRST_KEY - 1), 0) << (52 - _BITS)
    even = (cells - _EVEN_SHIFT) / 2.0**17
    unsure = np.where(cells < _FIRST_EVEN, keys.view(np.float64), even)
    return 1.0 - np.where(cells == 0, 0.0, unsure)


def cells_of_counts(counts: Int64[np.ndarray, "2 cells"]) -> Cells:
    """The filled cells of wrong (row 0) and of right inputs, the surest first."""
    filled = np.flatnonzero(counts.any(axis=0))
    return Cells(counts[1, filled], counts[0, filled], filled == 0)


def bounded_quantile_ece(counts: Int64[np.ndarray, "2 cells"], num_bins: int) -> Bounded:
    """Bounds of the l1 ECE with quantile bins from the cells of wrong and right inputs.

    Two things are not known. The mean confidence of a cell's inputs is taken to be its middle. And
    inputs of a cell that an edge of the quantile bins runs through all go to the lowest of the
    bins that they may be in; that some of them belong elsewhere changes the sum of the bins'
    gaps by at most twice the larger of what the right and what the wrong inputs add to a gap.
    """
    filled = np.flatnonzero(counts.any(axis=0))[::-1]  # by rising confidence
    wrong, right = counts[:, filled]
    size = wrong + right
    most_sure = _confidence_at_start(filled)
    # The cell of 1 has no width; that of others ends where the next one starts.
    least_sure = np.where(filled == 0, 1.0, _confidence_at_start(filled + 1))

    num_inputs = int(size.sum())
    below = np.cumsum(size) - size
    # An input's bin is the number of shares k / B of all inputs that lie below it.
    first = num_bins * below // num_inputs
    last = np.where(filled == 0, first, num_bins * (below + size - 1) // num_inputs)
    gaps = np.bincount(first, weights=right - size * (most_sure + least_sure) / 2.0)
    value = float(np.abs(gaps).sum()) / num_inputs

    unplaced = 2.0 * np.maximum(right * (1.0 - least_sure), wrong * most_sure)
    error = size * (most_sure - least_sure) / 2.0 + np.where(first < last, unplaced, 0.0)
    error_share = float(error.sum()) / num_inputs
    return Bounded(value, max(0.0, value - error_share), min(1.0, value + error_share))
