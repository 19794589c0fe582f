"""Whether one OOD score is better than another on the same inputs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import ndtr

from bbnn_uq._checks import check_scores
from bbnn_uq.metrics._resampling import (
    Interval,
    check_options,
    evaluate_resamples,
    make_interval,
)
from bbnn_uq.metrics.ood import ood_kernel

__all__ = ["PairedDifference", "compare_ood_scores"]


@dataclass(frozen=True)
class PairedDifference(Interval):
    """A difference between two scores, as computed by `compare_ood_scores`.

    Attributes:
        value: The first score's metric minus the second's.
        low: Lower end of the bootstrap interval.
        high: Upper end of the bootstrap interval.
        p_value: Two-sided p-value of no difference, in [0, 1].
    """

    p_value: float


def _twice_beaten(
    scores: Float64[np.ndarray, "inputs"], others: Float64[np.ndarray, "others"]
) -> Int64[np.ndarray, "inputs"]:
    """For each score, how many of the others lie below it, twice, so that ties count one."""
    ordered = np.sort(others)
    return ordered.searchsorted(scores, side="left") + ordered.searchsorted(scores, side="right")


def _delong_p_value(
    id_a: Float64[np.ndarray, "id_inputs"],
    ood_a: Float64[np.ndarray, "ood_inputs"],
    id_b: Float64[np.ndarray, "id_inputs"],
    ood_b: Float64[np.ndarray, "ood_inputs"],
) -> float | None:
    """DeLong's p-value for equal AUROCs, or None where they differ with a variance of 0.

    All terms are 2 N M times those of the formula: whole numbers until the variances, so that what
    is constant has a variance of exactly 0.
    """
    of_ood = _twice_beaten(ood_a, id_a) - _twice_beaten(ood_b, id_b)
    of_id = _twice_beaten(id_b, ood_b) - _twice_beaten(id_a, ood_a)
    difference = int(of_ood.sum())
    variance = len(of_ood) * of_ood.var(ddof=1) + len(of_id) * of_id.var(ddof=1)
    if difference == 0:
        return 1.0
    return float(2.0 * ndtr(-abs(difference) / math.sqrt(variance))) if variance > 0.0 else None


def _bootstrap_p_value(resampled: Float64[np.ndarray, "resamples"]) -> float:
    """Twice the share of resamples on the rarer side of 0, the data counting as one on both."""
    rarer = min(int((resampled <= 0.0).sum()), int((resampled >= 0.0).sum()))
    return min(1.0, 2.0 * (rarer + 1) / (len(resampled) + 1))


def _check_pairs(*scores: Any) -> tuple[Float64[np.ndarray, "_"], ...]:
    names = ("id_a", "ood_a", "id_b", "ood_b")
    checked = tuple(check_scores(s, name) for s, name in zip(scores, names, strict=True))
    for first in (0, 1):
        array, other = checked[first], checked[first + 2]
        if other.shape != array.shape:
            raise ValueError(
                f"{names[first + 2]} must score the same inputs as {names[first]}, in the same "
                f"order: got {len(other)} scores and {len(array)}"
            )
        if len(array) < 2:
            raise ValueError(
                f"{names[first]} must hold at least 2 scores, got {len(array)}; one input has no "
                "spread to compare with"
            )
    return checked


def compare_ood_scores(
    id_a: Any,
    ood_a: Any,
    id_b: Any,
    ood_b: Any,
    *,
    num_resamples: Any = 1000,
    confidence_level: Any = 0.95,
    seed: Any = 0,
) -> dict[str, PairedDifference]:
    r"""Differences between two OOD scores of the same inputs, with intervals and p-values.

    Each difference :math:`d = m(a) - m(b)` of a number of `ood_metrics` gets the percentile
    interval over resamples :math:`d^*` that draw the same inputs for both scores, so that what is
    hard for both cancels. p-values are two-sided, for no difference. That of AUROC is DeLong's,

    .. math:: p = 2 \Phi(-|d| / \sigma), \qquad
              \sigma^2 = \operatorname{Var}_m(u_m) / M + \operatorname{Var}_n(v_n) / N,

    with :math:`u_m` the share of ID inputs that OOD input m scores above (ties half) under a less
    that under b, and :math:`v_n` likewise the share of OOD inputs that score above ID input n. The
    others come from the R resamples, and are never below 2 / (R + 1):

    .. math:: p = \min\left(1, \frac{2}{R + 1}
              \left(1 + \min(\#\{d^* \le 0\}, \#\{d^* \ge 0\})\right)\right).

    Scores that rank all inputs alike differ by 0, with p = 1. Where DeLong's variance is 0 although
    the AUROCs differ, as of perfect scores against constant ones, it knows nothing of the spread,
    and AUROC takes the p-value of the resamples too. In simulations with no difference, DeLong's
    test and the AUPRs' rejected in about 5 % of cases at the level of 5 %, ``fpr95``, ``fpr95_in``
    and ``detection_error`` in 2 to 3 %. The interval of ``detection_error`` covers too little where
    one of the scores is near chance (0.82 to 0.89 instead of 0.95), since its bias differs there
    (``tests/benchmarks/ood_coverage.py``).

    The p-values are not corrected for their number: name the metric in advance, or, with k
    comparisons, hold each against the level over k (Bonferroni). They tell of other inputs of the
    same two sets, not of other training runs or other OOD sets.

    Source: DeLong, DeLong and Clarke-Pearson 1988, in O(n log n) as of Sun and Xu 2014; bootstrap
    p-values, Davison and Hinkley 1997, chapter 4.

    Args:
        id_a: First score of the in-distribution inputs (N,), finite; higher means more OOD.
        ood_a: First score of the out-of-distribution inputs (M,), finite.
        id_b: Second score of the same in-distribution inputs (N,), in the same order.
        ood_b: Second score of the same out-of-distribution inputs (M,), in the same order.
        num_resamples: Number of resamples R, at least 1.
        confidence_level: Level of the intervals, in (0, 1).
        seed: Seed of the resamples, in [0, 2^64).

    Returns:
        Differences a − b by the names ``auroc``, ``aupr_out``, ``aupr_in``, ``fpr95``,
        ``fpr95_in``, ``detection_error``. The first three are in favour of a when
        positive, the others when negative.

    Raises:
        ValueError: If an array is invalid, the numbers of scores differ, or N or M is below 2.
        TypeError: If an array holds anything but real numbers, or an option is no number.

    Example:
        >>> id_a, ood_a = [0.1, 0.2, 0.3, 0.4], [0.35, 0.5, 0.6]
        >>> id_b, ood_b = [0.3, 0.2, 0.5, 0.6], [0.4, 0.1, 0.7]
        >>> found = compare_ood_scores(id_a, ood_a, id_b, ood_b)["auroc"]
        >>> round(found.value, 4), round(found.p_value, 4)
        (0.4167, 0.1814)
    """
    num_resamples, confidence_level, seed = check_options(num_resamples, confidence_level, seed)
    id_a, ood_a, id_b, ood_b = _check_pairs(id_a, ood_a, id_b, ood_b)
    kernel_a, kernel_b = ood_kernel(id_a, ood_a), ood_kernel(id_b, ood_b)

    def kernel(
        id_weights: Float64[np.ndarray, "resamples id_inputs"],
        ood_weights: Float64[np.ndarray, "resamples ood_inputs"],
    ) -> dict[str, Float64[np.ndarray, "resamples"]]:
        of_a, of_b = kernel_a(id_weights, ood_weights), kernel_b(id_weights, ood_weights)
        return {name: of_a[name] - of_b[name] for name in of_a}

    values, resampled = evaluate_resamples(kernel, [len(id_a), len(ood_a)], num_resamples, seed)
    p_values = {name: _bootstrap_p_value(draws) for name, draws in resampled.items()}
    delong = _delong_p_value(id_a, ood_a, id_b, ood_b)
    if delong is not None:
        p_values["auroc"] = delong
    return {
        name: PairedDifference(
            **make_interval(value, resampled[name], confidence_level).to_dict(),
            p_value=p_values[name],
        )
        for name, value in values.items()
    }
