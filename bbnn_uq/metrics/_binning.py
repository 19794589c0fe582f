"""Confidence bins of weighted data, shared by the calibration errors and the reliability curve."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float64, Int64

__all__ = ["BINNINGS", "BinAssigner", "BinSums", "bin_assigner", "bin_sums"]

BINNINGS = ("uniform", "quantile")

# From multiplicities (R, N) to bin numbers: (R, N), or (1, N) where all resamples share them.
BinAssigner = Callable[[Float64[np.ndarray, "resamples inputs"]], Int64[np.ndarray, "rows inputs"]]
# Per resample and bin: number of inputs, sum of their confidences, number of correct ones.
BinSums = tuple[
    Float64[np.ndarray, "resamples bins"],
    Float64[np.ndarray, "resamples bins"],
    Float64[np.ndarray, "resamples bins"],
]


def bin_assigner(
    confidence: Float64[np.ndarray, "inputs"], num_bins: int, binning: str
) -> BinAssigner:
    """Rule that puts each input into one of ``num_bins`` bins (a, b], some maybe empty.

    Uniform bins have the edges k/B. Quantile bins have as edges the confidences at which the
    weighted distribution function reaches k/B, so they depend on the multiplicities.
    """
    if binning == "uniform":
        edges = np.arange(num_bins + 1) / num_bins  # k/B rounded once: 0.3 lies in (0.2, 0.3]
        # A confidence is at least 1/C, so none falls below the first bin.
        uniform = (np.searchsorted(edges, confidence, side="left") - 1)[None, :]
        return lambda weights: uniform

    order = np.argsort(confidence, kind="stable")
    ordered = confidence[order]
    is_start = np.append(True, ordered[1:] != ordered[:-1])
    starts, group = np.flatnonzero(is_start), np.cumsum(is_start) - 1

    def assign(
        weights: Float64[np.ndarray, "resamples inputs"],
    ) -> Int64[np.ndarray, "rows inputs"]:
        ordered_weights = np.take(weights, order, axis=1)
        cumulative = np.cumsum(ordered_weights, axis=1)
        below = (cumulative - ordered_weights)[:, starts]  # inputs of strictly lower confidence
        # An edge k lies below a group when k/B of all inputs do: the group's bin is their number.
        # Floor division of exact integers, and one number for a whole group of ties.
        rank = np.minimum(num_bins * below // cumulative[:, -1:], num_bins - 1).astype(np.int64)
        ids = np.empty(weights.shape, dtype=np.int64)
        ids[:, order] = rank[:, group]
        return ids

    return assign


def bin_sums(
    ids: Int64[np.ndarray, "rows inputs"],
    weights: Float64[np.ndarray, "resamples inputs"],
    confidence: Float64[np.ndarray, "inputs"],
    correct: Bool[np.ndarray, "inputs"],
    num_bins: int,
) -> BinSums:
    """Number, confidence sum and number correct of each bin of each resample."""
    num_resamples = len(weights)
    cells = (ids + num_bins * np.arange(num_resamples)[:, None]).ravel()

    def add(values: Float64[np.ndarray, "resamples inputs"]) -> Float64[np.ndarray, "rows bins"]:
        sums = np.bincount(cells, weights=values.ravel(), minlength=num_resamples * num_bins)
        return sums.reshape(num_resamples, num_bins)

    return add(weights), add(weights * confidence), add(weights * correct)
