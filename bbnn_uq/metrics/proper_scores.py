"""Accuracy, and the proper scores of class probabilities: log-likelihood and Brier score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from bbnn_uq._checks import check_choice, check_count
from bbnn_uq._rows import row_blocks
from bbnn_uq.metrics._binning import BINNINGS, bin_sums, label_events
from bbnn_uq.metrics._weighted import (
    Kernel,
    check_classification,
    mean_kernel,
    of_label,
    top_class,
    unweighted,
)

__all__ = [
    "BrierDecomposition",
    "accuracy",
    "accuracy_kernel",
    "brier",
    "brier_decomposition",
    "brier_decomposition_kernel",
    "brier_kernel",
    "nll",
    "nll_kernel",
]


@dataclass(frozen=True)
class BrierDecomposition:
    """Parts of the Brier score, which is reliability - resolution + uncertainty + within_bin.

    Attributes:
        reliability: Squared gap between probability and frequency over bins, in [0, 2]; 0 is best.
        resolution: Spread of the bins' frequencies, in [0, uncertainty]; higher is better.
        uncertainty: Brier score of predicting the label frequencies always, in [0, 1 - 1/C].
        within_bin: What differences inside bins add: their variance, less twice their covariance
            with the outcomes. Negative where the probabilities tell more than their bins do.
    """

    reliability: float
    resolution: float
    uncertainty: float
    within_bin: float


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
        return mean_kernel(-np.log(of_label(probs, labels)))


def brier_kernel(
    probs: Float64[np.ndarray, "inputs classes"], labels: Int64[np.ndarray, "inputs"]
) -> Kernel:
    """Kernel of `brier`."""
    distance = np.empty(len(labels))
    for block in row_blocks(probs):
        errors = probs[block].copy()
        errors[np.arange(len(errors)), labels[block]] -= 1.0
        distance[block] = np.einsum("nc,nc->n", errors, errors)
    return mean_kernel(distance)


def brier_decomposition_kernel(
    probs: Float64[np.ndarray, "inputs classes"],
    labels: Int64[np.ndarray, "inputs"],
    *,
    num_bins: Any = 15,
    binning: Any = "uniform",
) -> Callable[
    [Float64[np.ndarray, "resamples inputs"]], dict[str, Float64[np.ndarray, "resamples"]]
]:
    """Kernel of `brier_decomposition`: each field's name with its values (R,)."""
    num_bins = check_count(num_bins, "num_bins")
    binning = check_choice(binning, "binning", BINNINGS)
    happened = label_events(labels, probs.shape[1])
    score = brier_kernel(probs, labels)

    def kernel(
        weights: Float64[np.ndarray, "resamples inputs"],
    ) -> dict[str, Float64[np.ndarray, "resamples"]]:
        count, total, events = bin_sums(probs, happened, weights, num_bins, binning)
        num_inputs = weights.sum(axis=1)
        frequency = events.sum(axis=2) / num_inputs[:, None]
        size = np.maximum(count, 1.0)  # an empty bin has no part in any sum
        rate = events / size

        def over_bins(
            squares: Float64[np.ndarray, "resamples classes bins"],
        ) -> Float64[np.ndarray, "resamples"]:
            return np.einsum("rcb,rcb->r", count, squares) / num_inputs

        reliability = over_bins((total / size - rate) ** 2)
        resolution = over_bins((rate - frequency[:, :, None]) ** 2)
        uncertainty = np.einsum("rc,rc->r", frequency, 1.0 - frequency)
        return {
            "reliability": reliability,
            "resolution": resolution,
            "uncertainty": uncertainty,
            "within_bin": score(weights) - (reliability - resolution + uncertainty),
        }

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


def brier_decomposition(
    probs: Any, labels: Any, *, num_bins: Any = 15, binning: Any = "uniform"
) -> BrierDecomposition:
    r"""Brier score as reliability - resolution + uncertainty + what happens inside bins.

    .. math:: \underbrace{\sum_{c,b} \frac{n_{cb}}{N} (p_{cb} - y_{cb})^2}_\text{reliability}
              - \underbrace{\sum_{c,b} \frac{n_{cb}}{N} (y_{cb} - y_c)^2}_\text{resolution}
              + \underbrace{\sum_c y_c (1 - y_c)}_\text{uncertainty}
              + \underbrace{\frac{1}{N} \sum_{c,b} \sum_{n \in b} \big( (p_{nc} - p_{cb})^2
              - 2 (p_{nc} - p_{cb}) ([y_n = c] - y_{cb}) \big)}_\text{within bin},

    with :math:`p_{cb}` the mean probability and :math:`y_{cb}` the frequency of class c among the
    :math:`n_{cb}` inputs in bin b of its probability, and :math:`y_c` its frequency among all.
    The sum is `brier`. Where the probabilities in each bin are equal the last part is 0, and the
    first three are Murphy's identity; with fewer bins it takes over from the other parts.

    Source: Murphy 1973; the parts within bins, Stephenson, Coelho and Jolliffe 2008.

    Args:
        probs: Class probabilities (N, C), in [0, 1] and summing to 1 over classes.
        labels: True classes (N,), integers in [0, C).
        num_bins: Number of bins of each class, at least 1.
        binning: ``"uniform"`` or ``"quantile"``, the bins of `classwise_ece`.

    Returns:
        The four parts, summed over classes like `brier`.

    Raises:
        ValueError: If an argument has wrong values or shapes.
        TypeError: If an array holds anything but real numbers, or ``num_bins`` is no integer.

    Example:
        >>> brier_decomposition([[0.75, 0.25], [0.75, 0.25], [0.0, 1.0], [0.0, 1.0]], [0, 1, 1, 1])
        BrierDecomposition(reliability=0.0625, resolution=0.125, uncertainty=0.375, within_bin=0.0)
    """
    probs, labels = check_classification(probs, labels)
    kernel = brier_decomposition_kernel(probs, labels, num_bins=num_bins, binning=binning)
    values = kernel(np.ones((1, len(labels))))
    return BrierDecomposition(**{name: float(value[0]) for name, value in values.items()})
