"""Calibration errors over bins: the gap between predicted probability and frequency."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from bbnn_uq._checks import check_choice, check_count
from bbnn_uq.metrics._binning import BINNINGS, BinSums, bin_sums, label_events
from bbnn_uq.metrics._weighted import Kernel, check_classification, top_class, unweighted

__all__ = [
    "check_norm",
    "classwise_ece",
    "classwise_ece_kernel",
    "ece",
    "ece_kernel",
    "norm_of_gaps",
]

_NORMS = ("l1", "l2", "max")


def check_norm(norm: Any, debias: Any = False) -> None:
    """Raise unless the two options of `ece` go together."""
    check_choice(norm, "norm", _NORMS)
    if not isinstance(debias, bool):
        raise TypeError(f"debias must be True or False, got {debias!r}")
    if debias and norm != "l2":
        raise ValueError(
            f"debias is defined for norm='l2' only, got norm={norm!r}; "
            "pass norm='l2' or leave debias=False"
        )


def norm_of_gaps(sums: BinSums, norm: str, debias: bool) -> Float64[np.ndarray, "resamples"]:
    """Norm of the gaps over all bins of all columns, each bin with its share of the inputs."""
    count, total, events = (part.reshape(len(part), -1) for part in sums)
    share = count / count.sum(axis=1, keepdims=True)
    size = np.maximum(count, 1.0)  # an empty bin has the gap 0, and counts 0
    gap = np.abs(events - total) / size
    if norm == "max":
        return gap.max(axis=1)
    if norm == "l1":
        return np.minimum((share * gap).sum(axis=1), 1.0)  # rounded shares may exceed 1 together
    squared = gap**2
    if debias:
        rate = events / size
        variance = rate * (1.0 - rate) / np.maximum(count - 1.0, 1.0)
        squared = np.where(count >= 2.0, squared - variance, 0.0)
    return np.sqrt(np.clip((share * squared).sum(axis=1), 0.0, 1.0))


def ece_kernel(
    probs: Float64[np.ndarray, "inputs classes"],
    labels: Int64[np.ndarray, "inputs"],
    *,
    num_bins: Any = 15,
    binning: Any = "uniform",
    norm: Any = "l1",
    debias: Any = False,
) -> Kernel:
    """Kernel of `ece`; checks the options too, since the bootstrap passes them on."""
    num_bins = check_count(num_bins, "num_bins")
    binning = check_choice(binning, "binning", BINNINGS)
    check_norm(norm, debias)
    confidence, correct = (column[:, None] for column in top_class(probs, labels))
    return lambda weights: norm_of_gaps(
        bin_sums(confidence, correct, weights, num_bins, binning), norm, debias
    )


def classwise_ece_kernel(
    probs: Float64[np.ndarray, "inputs classes"],
    labels: Int64[np.ndarray, "inputs"],
    *,
    num_bins: Any = 15,
    binning: Any = "uniform",
    norm: Any = "l1",
) -> Kernel:
    """Kernel of `classwise_ece`; checks the options too, since the bootstrap passes them on."""
    num_bins = check_count(num_bins, "num_bins")
    binning = check_choice(binning, "binning", BINNINGS)
    norm = check_choice(norm, "norm", _NORMS)
    happened = label_events(labels, probs.shape[1])
    return lambda weights: norm_of_gaps(
        bin_sums(probs, happened, weights, num_bins, binning), norm, debias=False
    )


def ece(
    probs: Any,
    labels: Any,
    *,
    num_bins: Any = 15,
    binning: Any = "uniform",
    norm: Any = "l1",
    debias: Any = False,
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


def classwise_ece(
    probs: Any,
    labels: Any,
    *,
    num_bins: Any = 15,
    binning: Any = "uniform",
    norm: Any = "l1",
) -> float:
    r"""Classwise calibration error: the gap between each class's probability and its frequency.

    .. math:: \text{l1: } \frac{1}{C} \sum_c \sum_b \frac{n_{cb}}{N} |y_{cb} - p_{cb}|, \qquad
              \text{l2: } \Big( \frac{1}{C} \sum_c \sum_b \frac{n_{cb}}{N}
              (y_{cb} - p_{cb})^2 \Big)^{1/2}, \qquad
              \text{max: } \max_{c, b: n_{cb} > 0} |y_{cb} - p_{cb}|,

    with :math:`p_{cb}` the mean probability of class c, and :math:`y_{cb}` the share with label
    c, of the :math:`n_{cb}` inputs whose probability of class c is in bin b of that class. Unlike
    `ece` it looks at every probability, not the largest alone. With many classes most of them
    are near 0, and so is the mean: compare values for the same number of classes only. Bins and
    upward bias are those of `ece`.

    Source: Kull et al. 2019 (arXiv 1910.12656); l2, the marginal calibration error of Kumar,
    Liang and Ma 2019 (arXiv 1909.10155).

    Args:
        probs: Class probabilities (N, C), in [0, 1] and summing to 1 over classes.
        labels: True classes (N,), integers in [0, C).
        num_bins: Number of bins of each class, at least 1.
        binning: ``"uniform"`` for bins of equal width, or ``"quantile"`` for bins of about equal
            numbers of inputs. Quantile bins never split inputs of equal probability, so there may
            be fewer of them.
        norm: ``"l1"``, ``"l2"`` or ``"max"``.

    Returns:
        Calibration error, in [0, 1].

    Raises:
        ValueError: If an argument has wrong values or shapes.
        TypeError: If an array holds anything but real numbers, or ``num_bins`` is no integer.

    Example:
        >>> probs = [[0.75, 0.25, 0.0], [0.75, 0.25, 0.0], [0.0, 0.0, 1.0]]
        >>> round(classwise_ece(probs, [0, 0, 2], num_bins=10), 4)
        0.1111
    """
    probs, labels = check_classification(probs, labels)
    kernel = classwise_ece_kernel(probs, labels, num_bins=num_bins, binning=binning, norm=norm)
    return unweighted(kernel, len(labels))
