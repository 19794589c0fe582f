"""Selective prediction: the error rate among the inputs a model is most sure of."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from bbnn_uq.metrics._weighted import (
    Kernel,
    check_classification,
    increments,
    top_class,
    unweighted,
)

__all__ = ["aurc", "aurc_kernel"]


def aurc_kernel(
    probs: Float64[np.ndarray, "inputs classes"], labels: Int64[np.ndarray, "inputs"]
) -> Kernel:
    """Kernel of `aurc`.

    A group of m inputs of equal confidence, e of them wrong, that follows N0 more confident ones
    with E0 errors, adds over all orderings of the group the expectation

        sum_{j=1..m} (E0 + e j/m) / (N0 + j) = e + (E0 - N0 e/m) (H(N0 + m) - H(N0))

    with the harmonic numbers H. An input drawn twice is tied with itself.
    """
    confidence, correct = top_class(probs, labels)
    order = np.argsort(-confidence, kind="stable")
    ordered = confidence[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    wrong = (~correct[order]).astype(np.float64)
    # A resample has as many members as the data, so no harmonic number beyond H(N) is asked for.
    harmonic = np.append(0.0, np.cumsum(1.0 / np.arange(1, len(ordered) + 1)))

    def kernel(
        weights: Float64[np.ndarray, "resamples inputs"],
    ) -> Float64[np.ndarray, "resamples"]:
        ordered_weights = np.take(weights, order, axis=1)
        size = np.add.reduceat(ordered_weights, starts, axis=1)
        errors = np.add.reduceat(ordered_weights * wrong, starts, axis=1)
        size_after, errors_after = np.cumsum(size, axis=1), np.cumsum(errors, axis=1)
        spread = increments(harmonic[size_after.astype(np.intp)])
        rate = errors / np.maximum(size, 1.0)  # of a group that was not drawn: 0, times 0
        before = (errors_after - errors) - (size_after - size) * rate
        total = errors_after[:, -1] + np.einsum("rg,rg->r", before, spread)
        return total / size_after[:, -1]

    return kernel


def aurc(probs: Any, labels: Any) -> float:
    r"""Area under the risk-coverage curve: mean error rate among the n most confident inputs.

    .. math:: \frac{1}{N} \sum_{n=1}^{N} \frac{1}{n} \sum_{i=1}^{n} [\hat y_{(i)} \ne y_{(i)}],

    with inputs in order of falling confidence (largest probability). Among inputs of equal
    confidence it is the expectation over their orderings, so the order of the data never counts.

    Source: Geifman, Uziel and El-Yaniv 2019 (arXiv 1805.08206).

    Args:
        probs: Class probabilities (N, C), in [0, 1] and summing to 1 over classes.
        labels: True classes (N,), integers in [0, C).

    Returns:
        Area, in [0, 1]; lower is better, and the error rate itself when all inputs are tied.

    Raises:
        ValueError: If ``probs`` or ``labels`` have wrong values or shapes.
        TypeError: If either holds anything but real numbers.

    Example:
        >>> round(aurc([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]], [0, 0, 0]), 4)
        0.1111
    """
    probs, labels = check_classification(probs, labels)
    return unweighted(aurc_kernel(probs, labels), len(labels))
