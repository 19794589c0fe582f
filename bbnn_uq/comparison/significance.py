"""Tests of no difference: on the same inputs, between groups of runs, and many at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float64
from scipy.special import stdtr, stdtrit

from bbnn_uq.metrics import Interval

__all__ = ["difference_of_means", "holm", "mcnemar", "mean_of_runs", "paired_t_test"]

# Relative spread below which values count as equal: what is left of it is rounding.
_ROUNDING = 1e-12


def mcnemar(right: Bool[np.ndarray, "inputs"], other_right: Bool[np.ndarray, "inputs"]) -> float:
    r"""Exact two-sided p-value for equal accuracy on the same inputs.

    Of the n inputs that one of the two alone gets right, k are the first one's, and without a
    difference k is binomial with n tosses of a fair coin.

    Source: McNemar 1947, in its exact form.

    Args:
        right: whether the first is right, by input (N,).
        other_right: the same of the second, on the same inputs.

    Returns:
        The p-value, in [0, 1]; 1 where both are right on the same inputs.

    Example:
        >>> mcnemar(np.array([True, True, True, True]), np.array([False, False, False, True]))
        0.25
    """
    from scipy.stats import binomtest  # late: half of the time that a command takes to start

    first = int((right & ~other_right).sum())
    discordant = first + int((other_right & ~right).sum())
    return 1.0 if discordant == 0 else float(binomtest(first, discordant).pvalue)


def paired_t_test(differences: Float64[np.ndarray, "inputs"]) -> float | None:
    r"""Two-sided p-value for a mean of 0, of differences of losses by input.

    .. math:: t = \bar d \sqrt N / s, \qquad N - 1 \text{ degrees of freedom.}

    A sign-flip test would need the stronger hypothesis that the two losses of an input are
    exchangeable, and its smallest p-value is one over the number of flips, which no correction for
    many tests leaves below 5 %.

    Args:
        differences: of the losses (N,); infinite where one of the losses is.

    Returns:
        The p-value; 1 where all differences are 0, and None where it is undefined: one input, no
        spread around a mean other than 0, or an infinite loss.

    Example:
        >>> round(paired_t_test(np.array([1.0, 2.0, 3.0])), 4)
        0.0742
    """
    if not np.isfinite(differences).all():
        return None
    if not differences.any():
        return 1.0
    mean = float(differences.mean())
    if len(differences) < 2 or not _spread(differences) > _ROUNDING * abs(mean):
        return None
    t = mean * math.sqrt(len(differences)) / _spread(differences)
    return _two_sided(t, len(differences) - 1.0)


def mean_of_runs(values: Sequence[float], confidence_level: float) -> tuple[Interval, float]:
    """Mean over runs with its Student interval, and its standard error.

    Args:
        values: one for each run, at least two.
        confidence_level: in (0, 1).

    Returns:
        The interval, and the standard error; all but the mean are NaN where a value is infinite.

    Example:
        >>> interval, error = mean_of_runs([1.0, 2.0, 3.0], 0.95)
        >>> round(interval.value, 3), round(interval.low, 3), round(error, 3)
        (2.0, -0.484, 0.577)
    """
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        return Interval(float(array.mean()), math.nan, math.nan), math.nan
    mean, error = float(array.mean()), _spread(array) / math.sqrt(len(array))
    return _student(mean, error, len(array) - 1.0, confidence_level), error


def difference_of_means(
    values: Sequence[float], others: Sequence[float], confidence_level: float
) -> tuple[Interval, float | None]:
    """Difference of the means of two groups of runs, with Welch's interval and p-value.

    Source: Welch 1947.

    Args:
        values: one for each run of the first group, at least two.
        others: the same of the second.
        confidence_level: in (0, 1).

    Returns:
        First less second, and the two-sided p-value for no difference: 1 where all values are
        equal, None where it is undefined, as of infinite values or of no spread.

    Example:
        >>> difference, p_value = difference_of_means([1.0, 2.0, 3.0], [2.0, 4.0, 6.0], 0.95)
        >>> difference.value, round(p_value, 4)
        (-2.0, 0.2209)
    """
    a, b = (np.asarray(each, dtype=np.float64) for each in (values, others))
    with np.errstate(invalid="ignore"):  # inf - inf = NaN is meant
        difference = float(a.mean() - b.mean())
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return Interval(difference, math.nan, math.nan), None
    scale = max(abs(float(a.mean())), abs(float(b.mean())))
    if not max(_spread(a), _spread(b)) > _ROUNDING * scale:
        same = abs(difference) <= _ROUNDING * scale
        return Interval(difference, difference, difference), 1.0 if same else None
    parts = np.array([_spread(each) ** 2 / len(each) for each in (a, b)])
    error = math.sqrt(parts.sum())
    # Welch and Satterthwaite's degrees of freedom.
    freedom = float(parts.sum() ** 2 / (parts**2 / [len(a) - 1, len(b) - 1]).sum())
    interval = _student(difference, error, freedom, confidence_level)
    return interval, _two_sided(difference / error, freedom)


def holm(p_values: Sequence[float]) -> list[float]:
    r"""p-values adjusted so that any false rejection among them is as rare as the level says.

    .. math:: \tilde p_{(i)} = \min\left(1, \max_{j \le i} (m - j + 1)\, p_{(j)}\right)

    for the m p-values in ascending order; valid however they depend on one another.

    Source: Holm 1979.

    Args:
        p_values: in [0, 1].

    Returns:
        Adjusted ones in the same order.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    array = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(array, kind="stable")
    steps = np.maximum.accumulate(array[order] * np.arange(len(array), 0, -1))
    adjusted = np.empty_like(array)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted.tolist()


def _spread(values: Float64[np.ndarray, "_"]) -> float:
    return float(values.std(ddof=1))


def _two_sided(t: float, freedom: float) -> float:
    return float(2.0 * stdtr(freedom, -abs(t)))


def _student(value: float, error: float, freedom: float, confidence_level: float) -> Interval:
    reach = float(stdtrit(freedom, (1.0 + confidence_level) / 2.0)) * error
    return Interval(value, value - reach, value + reach)
