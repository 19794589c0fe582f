"""Calibration errors: the gap between confidence and accuracy."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from bbnn_uq._checks import check_choice, check_count
from bbnn_uq.metrics._binning import BINNINGS, bin_assigner, bin_sums
from bbnn_uq.metrics._weighted import Kernel, check_classification, top_class, unweighted

__all__ = ["ece", "ece_kernel"]


def ece_kernel(
    probs: Float64[np.ndarray, "inputs classes"],
    labels: Int64[np.ndarray, "inputs"],
    *,
    num_bins: Any = 15,
    binning: Any = "uniform",
    norm: Any = "l1",
    debias: bool = False,
) -> Kernel:
    """Kernel of `ece`; checks the options too, since the bootstrap passes them on."""
    num_bins = check_count(num_bins, "num_bins")
    check_choice(norm, "norm", ("l1", "l2", "max"))
    if debias and norm != "l2":
        raise ValueError(
            f"debias is defined for norm='l2' only, got norm={norm!r}; "
            "pass norm='l2' or leave debias=False"
        )
    confidence, correct = top_class(probs, labels)
    assign = bin_assigner(confidence, num_bins, check_choice(binning, "binning", BINNINGS))

    def kernel(
        weights: Float64[np.ndarray, "resamples inputs"],
    ) -> Float64[np.ndarray, "resamples"]:
        count, confidences, hits = bin_sums(assign(weights), weights, confidence, correct, num_bins)
        share = count / count.sum(axis=1, keepdims=True)
        gap = np.abs(hits - confidences) / np.maximum(count, 1.0)  # 0 in an empty bin
        if norm == "l1":
            return (share * gap).sum(axis=1)
        if norm == "max":
            return gap.max(axis=1)
        squared = gap**2
        if debias:
            rate = hits / np.maximum(count, 1.0)
            variance = rate * (1.0 - rate) / np.maximum(count - 1.0, 1.0)
            squared = np.where(count >= 2.0, squared - variance, 0.0)
        return np.sqrt(np.maximum((share * squared).sum(axis=1), 0.0))

    return kernel


def ece(
    probs: Any,
    labels: Any,
    *,
    num_bins: Any = 15,
    binning: Any = "uniform",
    norm: Any = "l1",
    debias: bool = False,
) -> float:
    r"""Expected calibration error: the gap between confidence and accuracy over confidence bins.

    .. math:: \text{l1: } \sum_b \frac{n_b}{N} |a_b - c_b|, \qquad
              \text{l2: } \Big( \sum_b \frac{n_b}{N} (a_b - c_b)^2 \Big)^{1/2}, \qquad
              \text{max: } \max_{b: n_b > 0} |a_b - c_b|,

    with :math:`a_b` the accuracy and :math:`c_b` the mean confidence (largest probability) of the
    :math:`n_b` inputs in bin b. Bins are (a, b], with 0 in the first and 1 in the last. The
    estimate is biased upward: even perfect probabilities score above 0 on finite data.

    ``debias`` subtracts the variance of the bin's accuracy, :math:`a_b (1 - a_b) / (n_b - 1)`,
    from each squared gap, and returns the root of the sum, or 0 where that sum is negative. A bin
    with a single input says nothing about its variance and contributes 0, as in the authors' code.

    Source: Naeini et al. 2015; debiased, Kumar, Liang and Ma 2019 (arXiv 1909.10155).

    Args:
        probs: Class probabilities (N, C), in [0, 1] and summing to 1 over classes.
        labels: True classes (N,), integers in [0, C).
        num_bins: Number of bins, at least 1.
        binning: ``"uniform"`` for bins of equal width, or ``"quantile"`` for bins of about equal
            numbers of inputs. Quantile bins never split inputs of equal confidence, so there may
            be fewer of them.
        norm: ``"l1"``, ``"l2"`` or ``"max"``.
        debias: Whether to subtract the bias; for ``norm="l2"`` only.

    Returns:
        Calibration error, in [0, 1].

    Raises:
        ValueError: If an argument has wrong values or shapes, or ``debias`` meets another norm.
        TypeError: If an array holds anything but real numbers, or ``num_bins`` is no integer.

    Example:
        >>> probs, labels = [[0.75, 0.25], [0.75, 0.25], [0.0, 1.0]], [0, 0, 1]
        >>> round(ece(probs, labels, num_bins=10), 4)
        0.1667
    """
    probs, labels = check_classification(probs, labels)
    kernel = ece_kernel(probs, labels, num_bins=num_bins, binning=binning, norm=norm, debias=debias)
    return unweighted(kernel, len(labels))
