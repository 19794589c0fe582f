"""Accuracy, and the proper scores of class probabilities: log-likelihood and Brier score."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from bbnn_uq._rows import row_blocks
from bbnn_uq.metrics._weighted import (
    Kernel,
    check_classification,
    mean_kernel,
    top_class,
    unweighted,
)

__all__ = ["accuracy", "accuracy_kernel", "brier", "brier_kernel", "nll", "nll_kernel"]


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
    distance = np.empty(len(labels))
    for block in row_blocks(probs):
        errors = probs[block].copy()
        errors[np.arange(len(errors)), labels[block]] -= 1.0
        distance[block] = np.einsum("nc,nc->n", errors, errors)
    return mean_kernel(distance)


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
