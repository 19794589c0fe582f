"""The risk-coverage curve: how many errors are left among the inputs a model is most sure of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from bbnn_uq._checks import check_real
from bbnn_uq.metrics._ranking import error_counter
from bbnn_uq.metrics._weighted import Kernel, check_classification, row_by_row, unweighted

__all__ = [
    "RiskCoverageCurve",
    "risk_at_coverage",
    "risk_at_coverage_kernel",
    "risk_coverage_curve",
]


@dataclass(frozen=True, eq=False)
class RiskCoverageCurve:
    """Error rate against the share of inputs kept, as computed by `risk_coverage_curve`.

    Attributes:
        coverage: Share of the inputs kept at each threshold (K,), ascending, the last 1.
        risk: Error rate among the inputs kept (K,).
        thresholds: Distinct confidences, descending (K,); an input is kept when its confidence is
            at least the threshold. With scores, the distinct scores, ascending; an input is kept
            when its score is at most the threshold.
    """

    coverage: Float64[np.ndarray, "points"]
    risk: Float64[np.ndarray, "points"]
    thresholds: Float64[np.ndarray, "points"]


def risk_at_coverage_kernel(
    probs: Float64[np.ndarray, "inputs classes"],
    labels: Int64[np.ndarray, "inputs"],
    coverage: Any,
    *,
    scores: Any = None,
) -> Kernel:
    """Kernel of `risk_at_coverage`; checks the options too, since the bootstrap passes them on."""
    coverage = check_real(coverage, "coverage", above=0.0)
    if coverage > 1.0:
        raise ValueError(f"coverage must lie in (0, 1], got {coverage:g}")
    _, count = error_counter(probs, labels, scores)

    def risk(weights: Float64[np.ndarray, "inputs"]) -> float:
        kept, errors = count(weights)
        # A decimal is seldom a binary fraction: 0.07 * 100 is a bit above 7, and means 7.
        wanted = math.ceil(coverage * kept[-1] * (1.0 - 1e-12))
        last = np.searchsorted(kept, wanted)
        kept_before, errors_before = (kept[last - 1], errors[last - 1]) if last else (0.0, 0.0)
        # Of the last group, of m inputs of which e are wrong, any k of them hold k e / m errors.
        rate = (errors[last] - errors_before) / (kept[last] - kept_before)
        return float((errors_before + (wanted - kept_before) * rate) / wanted)

    return row_by_row(risk)


def risk_at_coverage(probs: Any, labels: Any, coverage: Any, *, scores: Any = None) -> float:
    r"""Error rate among the share of inputs that the model is most sure of.

    .. math:: \frac{1}{n} \sum_{i=1}^{n} [\hat y_{(i)} \ne y_{(i)}], \qquad n = \lceil c N \rceil,

    with c the coverage and inputs in order of falling confidence (largest probability). Where the
    cut falls among inputs of equal confidence it is the expectation over their orderings. A
    product c N that exceeds a whole number by rounding only counts as that number: 0.07 of 100
    inputs are 7.

    Source: El-Yaniv and Wiener 2010; Geifman and El-Yaniv 2017 (arXiv 1705.08500).

    Args:
        probs: Class probabilities (N, C), in [0, 1] and summing to 1 over classes.
        labels: True classes (N,), integers in [0, C).
        coverage: Share of the inputs to keep, in (0, 1].
        scores: Scores (N,) to rank by instead of the confidence, finite; higher means less sure.

    Returns:
        Error rate, in [0, 1]; at coverage 1 that of all inputs.

    Raises:
        ValueError: If an argument has wrong values or shapes.
        TypeError: If an array holds anything but real numbers, or ``coverage`` is no number.

    Example:
        >>> risk_at_coverage([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]], [0, 1, 0], 0.5)
        0.5
    """
    kernel = risk_at_coverage_kernel(
        *check_classification(probs, labels), coverage=coverage, scores=scores
    )
    return unweighted(kernel, len(labels))


def risk_coverage_curve(probs: Any, labels: Any, *, scores: Any = None) -> RiskCoverageCurve:
    r"""Coverage and error rate at every distinct confidence as threshold.

    .. math:: c(t) = \frac{1}{N} \sum_i [\kappa_i \ge t], \qquad
              r(t) = \frac{\sum_i [\kappa_i \ge t] \, [\hat y_i \ne y_i]}
                          {\sum_i [\kappa_i \ge t]},

    with :math:`\kappa_i` the confidence (largest probability). No threshold parts inputs of equal
    confidence. In between, the expectation over their orderings has a coverage times risk that is
    linear in the coverage, from 0 at coverage 0 on, so the risk at any c = n/N is
    ``np.interp(c, [0, *coverage], [0, *coverage * risk]) / c``; `risk_at_coverage` gives the same.

    The largest coverage whose risk is at most r, ``coverage[risk <= r].max()``, is an optimistic
    choice of a threshold when it is made on the inputs that it is then judged by.

    Source: El-Yaniv and Wiener 2010; Geifman and El-Yaniv 2017 (arXiv 1705.08500).

    Args:
        probs: Class probabilities (N, C), in [0, 1] and summing to 1 over classes.
        labels: True classes (N,), integers in [0, C).
        scores: Scores (N,) to rank by instead of the confidence, finite; higher means less sure.

    Returns:
        The curve, surest inputs first, up to coverage 1; no point is dropped.

    Raises:
        ValueError: If an argument has wrong values or shapes.
        TypeError: If an array holds anything but real numbers.

    Example:
        >>> curve = risk_coverage_curve([[0.75, 0.25], [0.0, 1.0], [0.25, 0.75]], [0, 1, 0])
        >>> curve.thresholds, curve.coverage.round(2), curve.risk.round(2)
        (array([1.  , 0.75]), array([0.33, 1.  ]), array([0.  , 0.33]))
    """
    distinct, count = error_counter(*check_classification(probs, labels), scores)
    kept, errors = count(np.ones(len(labels)))
    thresholds = -distinct if scores is None else distinct
    return RiskCoverageCurve(coverage=kept / kept[-1], risk=errors / kept, thresholds=thresholds)
