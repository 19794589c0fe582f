"""Metrics as functionals of a weighted empirical distribution.

A resample of N inputs is a row of N multiplicities (how often each input was drawn), and the
data themselves are the row of ones. A metric is therefore written once, as a *kernel* from
multiplicities (R, N) to values (R,): its public function calls the kernel with ones, and the
bootstrap calls the same kernel with many rows at a time.

Multiplicities are held as float64: they stay exact below 2^53 and feed products directly. Sums
over inputs go through einsum: BLAS would split long rows over threads, which is slower here where
threads compete for cores, and gives last digits that depend on their number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from bbnn_uq._checks import check_labels, check_probs
from bbnn_uq._rows import LARGE_BLOCKS, by_rows

__all__ = [
    "Kernel",
    "check_classification",
    "mean_kernel",
    "of_label",
    "row_by_row",
    "top_class",
    "unweighted",
]

Kernel = Callable[
    [Float64[np.ndarray, "resamples inputs"]],
    Float64[np.ndarray, "resamples"],
]


def check_classification(
    probs: Any, labels: Any, name: str = "probs"
) -> tuple[Float64[np.ndarray, "inputs classes"], Int64[np.ndarray, "inputs"]]:
    """Class probabilities (N, C) and the labels (N,) that belong to them."""
    array = check_probs(probs, name)
    num_inputs, num_classes = array.shape
    return array, check_labels(labels, num_inputs=num_inputs, num_classes=num_classes)


def unweighted(kernel: Kernel, num_inputs: int) -> float:
    """The kernel's value for the data as they are: every input once."""
    return float(kernel(np.ones((1, num_inputs)))[0])


def top_class(
    probs: Float64[np.ndarray, "inputs classes"], labels: Int64[np.ndarray, "inputs"]
) -> tuple[Float64[np.ndarray, "inputs"], Bool[np.ndarray, "inputs"]]:
    """Confidence (largest probability) and whether its class, the first on ties, is right."""

    def largest(p: Tensor) -> tuple[Tensor, Tensor]:
        confidence = p.amax(dim=1, keepdim=True)
        reach = p == confidence
        tied = torch.zeros(len(p), dtype=torch.bool)
        if reach.count_nonzero() > len(p):
            tied = reach.sum(dim=1) > 1
        return confidence[:, 0], tied

    confidence, tied = by_rows(largest, probs, entries=LARGE_BLOCKS)
    correct = of_label(probs, labels) == confidence
    doubtful = np.flatnonzero(correct & tied)
    correct[doubtful] = probs[doubtful].argmax(axis=1) == labels[doubtful]
    return confidence, correct


def of_label(
    probs: Float64[np.ndarray, "inputs classes"], labels: Int64[np.ndarray, "inputs"]
) -> Float64[np.ndarray, "inputs"]:
    """Probability of each input's label; twice as fast as indexing with two arrays."""
    return probs.ravel().take(np.arange(0, probs.size, probs.shape[1]) + labels)


def mean_kernel(values: Float64[np.ndarray, "inputs"]) -> Kernel:
    """Kernel of the mean of per-input ``values``, which may hold +inf."""
    infinite = np.isinf(values)
    finite = np.where(infinite, 0.0, values) if infinite.any() else values

    def kernel(
        weights: Float64[np.ndarray, "resamples inputs"],
    ) -> Float64[np.ndarray, "resamples"]:
        mean = np.einsum("rn,n->r", weights, finite) / weights.sum(axis=1)
        # Apart, since an infinite loss that was drawn zero times must not become 0 * inf = NaN.
        return np.where(weights[:, infinite].any(axis=1), np.inf, mean)

    return kernel


def row_by_row(value: Callable[[Float64[np.ndarray, "inputs"]], float]) -> Kernel:
    """Kernel that takes one resample at a time: a row's many temporaries then stay in cache."""

    def kernel(
        weights: Float64[np.ndarray, "resamples inputs"],
    ) -> Float64[np.ndarray, "resamples"]:
        return np.array([value(row) for row in weights])

    return kernel
