"""Areas under risk-coverage curves: whether a model is sure of what it gets right.

Inputs are ranked by confidence, the largest probability, or by any score of which higher values
mean less sure, such as the mutual information. Inputs that are tied count by the expectation over
their orderings, so the order of the data never does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from bbnn_uq.metrics._ranking import error_counter
from bbnn_uq.metrics._weighted import Kernel, check_classification, row_by_row, unweighted

__all__ = [
    "augrc",
    "augrc_kernel",
    "aurc",
    "aurc_kernel",
    "excess_aurc",
    "excess_aurc_kernel",
]


def _harmonic_numbers(last: int) -> Float64[np.ndarray, "numbers"]:
    """H(0), …, H(last); a resample has as many members as the data, so N are enough."""
    return np.append(0.0, np.cumsum(1.0 / np.arange(1, last + 1)))


def _area(
    kept: Float64[np.ndarray, "groups"],
    errors: Float64[np.ndarray, "groups"],
    harmonic: Float64[np.ndarray, "numbers"],
) -> float:
    """The AURC from the numbers of inputs and errors down to each distinct confidence.

    A group of m inputs of equal confidence, e of them wrong, that follows N0 more confident ones
    with E0 errors, adds over all orderings of the group the expectation

        sum_{j=1..m} (E0 + e j/m) / (N0 + j) = e + (E0 - N0 e/m) (H(N0 + m) - H(N0))

    with the harmonic numbers H. An input drawn twice is tied with itself.
    """
    size, wrong = np.diff(kept, prepend=0.0), np.diff(errors, prepend=0.0)
    rate = np.divide(wrong, np.maximum(size, 1.0))  # of a group that was not drawn: 0, times 0
    excess = (errors - wrong) - (kept - size) * rate
    spread = np.diff(harmonic[kept.astype(np.intp)], prepend=0.0)
    return (errors[-1] + np.einsum("g,g->", excess, spread)) / kept[-1]


def aurc_kernel(
    probs: Float64[np.ndarray, "inputs classes"],
    labels: Int64[np.ndarray, "inputs"],
    *,
    scores: Any = None,
) -> Kernel:
    """Kernel of `aurc`."""
    _, count = error_counter(probs, labels, scores)
    harmonic = _harmonic_numbers(len(labels))
    return row_by_row(lambda weights: _area(*count(weights), harmonic))


def augrc_kernel(
    probs: Float64[np.ndarray, "inputs classes"],
    labels: Int64[np.ndarray, "inputs"],
    *,
    scores: Any = None,
) -> Kernel:
    """Kernel of `augrc`."""
    _, count = error_counter(probs, labels, scores)

    def area(weights: Float64[np.ndarray, "inputs"]) -> float:
        kept, errors = count(weights)
        under_first = kept[0] * errors[0] / 2.0  # from the origin
        return (under_first + np.trapezoid(errors, kept)) / kept[-1] ** 2

    return row_by_row(area)


def excess_aurc_kernel(
    probs: Float64[np.ndarray, "inputs classes"],
    labels: Int64[np.ndarray, "inputs"],
    *,
    scores: Any = None,
) -> Kernel:
    """Kernel of `excess_aurc`."""
    _, count = error_counter(probs, labels, scores)
    harmonic = _harmonic_numbers(len(labels))

    def excess(weights: Float64[np.ndarray, "inputs"]) -> float:
        kept, errors = count(weights)
        # The best ordering has two groups: all that are right, then all that are wrong.
        sizes = np.array([kept[-1] - errors[-1], kept[-1]])
        least = _area(sizes, np.array([0.0, errors[-1]]), harmonic)
        return max(_area(kept, errors, harmonic) - least, 0.0)  # below 0 only by rounding

    return row_by_row(excess)


def aurc(probs: Any, labels: Any, *, scores: Any = None) -> float:
    r"""Area under the risk-coverage curve: mean error rate among the n most confident inputs.

    .. math:: \frac{1}{N} \sum_{n=1}^{N} \frac{1}{n} \sum_{i=1}^{n} [\hat y_{(i)} \ne y_{(i)}],

    with inputs in order of falling confidence (largest probability). Among inputs of equal
    confidence it is the expectation over their orderings, so the order of the data never counts.

    Source: Geifman, Uziel and El-Yaniv 2019 (arXiv 1805.08206).

    Args:
        probs: Class probabilities (N, C), in [0, 1] and summing to 1 over classes.
        labels: True classes (N,), integers in [0, C).
        scores: Scores (N,) to rank by instead of the confidence, finite; higher means less sure.

    Returns:
        Area, in [0, 1]; lower is better, and the error rate itself when all inputs are tied.

    Raises:
        ValueError: If an argument has wrong values or shapes.
        TypeError: If an array holds anything but real numbers.

    Example:
        >>> round(aurc([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]], [0, 0, 0]), 4)
        0.1111
    """
    kernel = aurc_kernel(*check_classification(probs, labels), scores=scores)
    return unweighted(kernel, len(labels))


def augrc(probs: Any, labels: Any, *, scores: Any = None) -> float:
    r"""Area under the generalised risk-coverage curve: the mean share of undetected errors.

    .. math:: \int_0^1 g(c) \, dc = (1 - \text{AUROC}) \, a (1 - a) + \tfrac12 (1 - a)^2, \qquad
              g(n/N) = \frac{1}{N} \sum_{i=1}^{n} [\hat y_{(i)} \ne y_{(i)}],

    with inputs in order of falling confidence (largest probability), g joined by straight lines
    from g(0) = 0 on, a the accuracy, and AUROC that of the score (the negated confidence) for
    telling errors from the rest, ties counting half. The equality is exact on finite data and
    with ties, for which g is the expectation over their orderings. The mean of g(n/N) over n would
    be larger by (1 - a) / 2N.

    Unlike `aurc`, every error weighs the same whatever its rank: errors are divided by all inputs,
    not by those kept.

    Source: Traub et al. 2024 (arXiv 2407.01032), with the trapezoids of the authors' code.

    Args:
        probs: Class probabilities (N, C), in [0, 1] and summing to 1 over classes.
        labels: True classes (N,), integers in [0, C).
        scores: Scores (N,) to rank by instead of the confidence, finite; higher means less sure.

    Returns:
        Area, in [0, 1/2]; lower is better, and half the error rate when all inputs are tied.

    Raises:
        ValueError: If an argument has wrong values or shapes.
        TypeError: If an array holds anything but real numbers.

    Example:
        >>> round(augrc([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]], [0, 0, 0]), 4)
        0.0556
    """
    kernel = augrc_kernel(*check_classification(probs, labels), scores=scores)
    return unweighted(kernel, len(labels))


def excess_aurc(probs: Any, labels: Any, *, scores: Any = None) -> float:
    r"""AURC minus the least one with as many errors: what a better ranking could still gain.

    .. math:: \text{AURC} - \frac{1}{N} \sum_{j=1}^{E} \frac{j}{N - E + j},

    with E the number of errors; the sum is the AURC when all of them come last. The source
    replaces it by its limit for many inputs, :math:`r + (1 - r) \ln(1 - r)` with r = E/N; here it
    is exact, so that a perfect ranking has an excess of 0 on any number of inputs.

    Source: Geifman, Uziel and El-Yaniv 2019 (arXiv 1805.08206), there E-AURC.

    Args:
        probs: Class probabilities (N, C), in [0, 1] and summing to 1 over classes.
        labels: True classes (N,), integers in [0, C).
        scores: Scores (N,) to rank by instead of the confidence, finite; higher means less sure.

    Returns:
        Excess, in [0, 1); lower is better, and 0 when all inputs are right or all are wrong.

    Raises:
        ValueError: If an argument has wrong values or shapes.
        TypeError: If an array holds anything but real numbers.

    Example:
        >>> round(excess_aurc([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]], [1, 0, 1]), 4)
        0.5
    """
    kernel = excess_aurc_kernel(*check_classification(probs, labels), scores=scores)
    return unweighted(kernel, len(labels))
