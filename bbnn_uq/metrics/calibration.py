"""Quality of class probabilities: accuracy, proper scores, calibration error."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from bbnn_uq._checks import check_choice, check_count
from bbnn_uq.metrics._binning import BINNINGS, bin_assigner, bin_sums
from bbnn_uq.metrics._weighted import (
    Kernel,
    check_classification,
    mean_kernel,
    top_class,
    unweighted,
)

__all__ = [
    "accuracy",
    "accuracy_kernel",
    "brier",
    "brier_kernel",
    "ece",
    "ece_kernel",
    "nll",
    "nll_kernel",
]


def accuracy_kernel(
    probs: Float64[np.ndarray, "inputs classes"], labels: Int64[np.ndarray, "inputs"]
) -> Kernel:
    """Kernel of `accuracy`."""
    return mean_kernel(top_class(probs, labels)[1].astype(np.float64))


def nll_kernel(
    probs: Float64[np.ndarray, "inputs classes"], labels: Int64[np.ndarray, "inputs"]
) -> Kernel:
    """Kernel of `nll`."""
    with np.errstate(divide="ignore"):  # ln 0 = -inf is meant
        return mean_kernel(-np.log(probs[np.arange(len(labels)), labels]))


def brier_kernel(
    probs: Float64[np.ndarray, "inputs classes"], labels: Int64[np.ndarray, "inputs"]
) -> Kernel:
    """Kernel of `brier`."""
    errors = probs.copy()
    errors[np.arange(len(labels)), labels] -= 1.0
    return mean_kernel((errors**2).sum(axis=1))


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


def accuracy(probs: Any, labels: Any) -> float:
    r"""Share of inputs whose most probable class, the first on ties, is the label.

    .. math:: \frac{1}{N} \sum_n [\arg\max_c p_{nc} = y_n].

    Args:
        probs: Class probabilities (N, C), in [0, 1] and summing to 1 over classes.
        labels: True classes (N,), integers in [0, C).

    Returns:
        Accuracy, in [0, 1].

    Raises:
        ValueError: If ``probs`` or ``labels`` have wrong values or shapes.
        TypeError: If either holds anything but real numbers.

    Example:
        >>> accuracy([[0.9, 0.1], [0.4, 0.6], [0.7, 0.3], [0.2, 0.8]], [0, 1, 1, 1])
        0.75
    """
    probs, labels = check_classification(probs, labels)
    return unweighted(accuracy_kernel(probs, labels), len(labels))


def nll(probs: Any, labels: Any) -> float:
    r"""Mean negative log-likelihood of the labels.

    .. math:: -\frac{1}{N} \sum_n \ln p_{n y_n}.

    Probabilities are taken as they are: one label of probability 0 makes the mean infinite.

    Source: Good 1952 (the logarithmic score).

    Args:
        probs: Class probabilities (N, C), in [0, 1] and summing to 1 over classes.
        labels: True classes (N,), integers in [0, C).

    Returns:
        Mean loss in nats, in [0, inf].

    Raises:
        ValueError: If ``probs`` or ``labels`` have wrong values or shapes.
        TypeError: If either holds anything but real numbers.

    Example:
        >>> round(nll([[0.5, 0.5], [1.0, 0.0]], [0, 0]), 4)
        0.3466
    """
    probs, labels = check_classification(probs, labels)
    return unweighted(nll_kernel(probs, labels), len(labels))


def brier(probs: Any, labels: Any) -> float:
    r"""Mean squared distance between the probabilities and the one-hot label.

    .. math:: \frac{1}{N} \sum_n \sum_c (p_{nc} - [y_n = c])^2.

    The sum goes over all classes, so with two classes it is twice the binary Brier score.

    Source: Brier 1950.

    Args:
        probs: Class probabilities (N, C), in [0, 1] and summing to 1 over classes.
        labels: True classes (N,), integers in [0, C).

    Returns:
        Mean score, in [0, 2].

    Raises:
        ValueError: If ``probs`` or ``labels`` have wrong values or shapes.
        TypeError: If either holds anything but real numbers.

    Example:
        >>> brier([[0.5, 0.5], [1.0, 0.0]], [0, 0])
        0.25
    """
    probs, labels = check_classification(probs, labels)
    return unweighted(brier_kernel(probs, labels), len(labels))


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
