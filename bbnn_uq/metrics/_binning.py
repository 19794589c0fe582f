"""Bins of weighted probabilities, shared by all numbers that compare them with frequencies.

What is binned is a table of events: one column with the confidence and whether its class was
right, or a column per class with its probability and whether it was the label. Each column has
bins of its own.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.sparse import csr_array

from bbnn_uq._rows import row_blocks

__all__ = ["BINNINGS", "BinSums", "bin_sums", "label_events"]

BINNINGS = ("uniform", "quantile")

# Per resample, column and bin: number of inputs, sum of their probabilities, number of events.
BinSums = tuple[
    Float64[np.ndarray, "resamples columns bins"],
    Float64[np.ndarray, "resamples columns bins"],
    Float64[np.ndarray, "resamples columns bins"],
]


def label_events(
    labels: Int64[np.ndarray, "inputs"], num_classes: int
) -> Bool[np.ndarray, "inputs classes"]:
    """Whether each class is the label: the events that a table of probabilities predicts."""
    return labels[:, None] == np.arange(num_classes)


def bin_sums(
    probs: Float64[np.ndarray, "inputs columns"],
    happened: Bool[np.ndarray, "inputs columns"],
    weights: Float64[np.ndarray, "resamples inputs"],
    num_bins: int,
    binning: str,
) -> BinSums:
    """Count, sum of probabilities and number of events in each of ``num_bins`` bins (a, b].

    Uniform bins have the edges k/B. Quantile bins have as edges the probabilities at which the
    weighted distribution function reaches k/B: they depend on the multiplicities, never split
    inputs of equal probability, and are empty where one such group spans several edges.
    """
    sums = _uniform_sums if binning == "uniform" else _quantile_sums
    count, total, events = np.moveaxis(sums(probs, happened, weights, num_bins), 1, 0)
    return count, total, events


def _uniform_sums(
    probs: Float64[np.ndarray, "inputs columns"],
    happened: Bool[np.ndarray, "inputs columns"],
    weights: Float64[np.ndarray, "resamples inputs"],
    num_bins: int,
) -> Float64[np.ndarray, "resamples 3 columns bins"]:
    """A sparse product: each input adds three numbers per column, however many the bins."""
    num_columns = probs.shape[1]
    inner_edges = np.arange(1, num_bins) / num_bins  # k/B rounded once: 0.3 lies in (0.2, 0.3]
    first_bins = num_bins * np.arange(3 * num_columns, dtype=np.int32).reshape(3, num_columns)
    sums = np.zeros((len(weights), first_bins.size * num_bins))
    for block in row_blocks(np.broadcast_to(probs, (3, *probs.shape)), axis=1):
        rows = probs[block]
        bins = np.searchsorted(inner_edges, rows, side="left")
        if len(weights) == 1:  # a matrix for one product takes longer than the sums themselves
            cells = (bins + first_bins[0]).ravel()
            drawn = weights[0, block, None]
            for channel, values in enumerate((1.0, rows, happened[block])):
                values = np.broadcast_to(drawn * values, rows.shape).ravel()
                sums[0].reshape(3, -1)[channel] += np.bincount(
                    cells, values, minlength=num_columns * num_bins
                )
            continue
        bins = bins.astype(np.int32)[:, None, :] + first_bins
        values = np.stack([np.ones_like(rows), rows, happened[block]], axis=1)
        row_starts = first_bins.size * np.arange(len(rows) + 1, dtype=np.int32)
        matrix = csr_array(
            (values.ravel(), bins.ravel(), row_starts), shape=(len(rows), sums.shape[1])
        )
        sums += weights[:, block] @ matrix
    return sums.reshape(len(weights), 3, num_columns, num_bins)


def _quantile_sums(
    probs: Float64[np.ndarray, "inputs columns"],
    happened: Bool[np.ndarray, "inputs columns"],
    weights: Float64[np.ndarray, "resamples inputs"],
    num_bins: int,
) -> Float64[np.ndarray, "resamples 3 columns bins"]:
    """Sums over stretches of the inputs in order of their probability, column by column."""
    num_resamples, num_inputs = weights.shape
    sums = np.empty((num_resamples, 3, probs.shape[1], num_bins))
    # A last entry of 0 in each row: bins that no input is left for start there.
    drawn, scratch = np.zeros((2, num_resamples, num_inputs + 1))
    row_starts = (num_inputs + 1) * np.arange(num_resamples)[:, None]
    for column in range(probs.shape[1]):
        # Not a stable sort: no bin ends among equals, so their order does not matter.
        order = np.argsort(probs[:, column])
        ordered = probs[order, column]
        np.take(weights, order, axis=1, out=drawn[:, :-1], mode="clip")
        reached = np.cumsum(drawn, axis=1, out=scratch)
        # The whole numbers of inputs that make up a share k/B, free of rounding.
        goals = -(-np.arange(num_bins) * reached[:, -1:] // num_bins)
        edges = np.stack([np.searchsorted(*pair) for pair in zip(reached, goals, strict=True)])
        starts = np.searchsorted(ordered, ordered[edges], side="right")  # after all that are tied
        starts[:, 0] = 0
        sums[:, 0, column] = _sums_from(starts, row_starts, drawn)
        scratch[:, -1] = 0.0
        for channel, values in ((1, ordered), (2, happened[order, column])):
            np.multiply(drawn[:, :-1], values, out=scratch[:, :-1])
            sums[:, channel, column] = _sums_from(starts, row_starts, scratch)
    return sums


def _sums_from(
    starts: Int64[np.ndarray, "resamples bins"],
    row_starts: Int64[np.ndarray, "resamples 1"],
    values: Float64[np.ndarray, "resamples entries"],
) -> Float64[np.ndarray, "resamples bins"]:
    """Sums of each row's values from each start to the next, 0 where that is the same entry."""
    sums = np.add.reduceat(values.ravel(), (starts + row_starts).ravel()).reshape(starts.shape)
    sums[:, :-1][starts[:, 1:] == starts[:, :-1]] = 0.0  # reduceat gives the entry itself there
    return sums
