"""Calibration of real-valued predictions: how often targets lie below the predicted quantiles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy.special import ndtri

from bbnn_uq._checks import check_fraction, check_real_array
from bbnn_uq.metrics._weighted import Kernel, row_by_row, unweighted
from bbnn_uq.metrics.regression import check_gaussians
from bbnn_uq.metrics.reliability import wilson_band

__all__ = [
    "IntervalCalibrationCurve",
    "interval_calibration_curve",
    "regression_calibration_error",
    "regression_calibration_error_kernel",
]

_LEVELS = tuple(k / 20 for k in range(1, 20))


@dataclass(frozen=True, eq=False)
class IntervalCalibrationCurve:
    """Nominal against observed quantile levels, as computed by `interval_calibration_curve`.

    Attributes:
        levels: Nominal levels (L,), ascending, in (0, 1).
        observed: Share of the targets at or below the predicted quantile of each level (L,).
        low: Lower end of the share's Wilson interval (L,).
        high: Upper end of the share's Wilson interval (L,).
    """

    levels: Float64[np.ndarray, "levels"]
    observed: Float64[np.ndarray, "levels"]
    low: Float64[np.ndarray, "levels"]
    high: Float64[np.ndarray, "levels"]


def _standardised_errors(
    mean: Any, std: Any, targets: Any
) -> Float64[np.ndarray, "inputs *dimensions"]:
    predicted, spread, wanted = check_gaussians(mean, std, targets, positive=True)
    with np.errstate(over="ignore"):  # what leaves the range of floats is infinite
        errors = wanted - predicted
        return np.divide(errors, spread, out=errors)


def _quantile_counter(
    mean: Any, std: Any, targets: Any, levels: Any
) -> tuple[
    Float64[np.ndarray, "levels"],
    Callable[[Float64[np.ndarray, "inputs"]], Float64[np.ndarray, "counts"]],
]:
    """The levels, and the counter of targets at or below each of their quantiles, then of all."""
    nominal = check_real_array(levels, "levels")
    if nominal.ndim != 1 or not np.all(np.diff(nominal, prepend=0.0, append=1.0) > 0.0):
        raise ValueError(
            f"levels must be a list of ascending numbers between 0 and 1, got {levels!r}"
        )
    errors = _standardised_errors(mean, std, targets)
    order = np.argsort(errors, axis=None)
    ends = np.searchsorted(errors.ravel()[order], ndtri(nominal), side="right")
    ends = np.append(ends, len(order))
    order //= errors[0].size  # from targets to the inputs that they belong to

    def count(weights: Float64[np.ndarray, "inputs"]) -> Float64[np.ndarray, "counts"]:
        below = np.cumsum(weights[order])
        return np.where(ends > 0, below[np.maximum(ends - 1, 0)], 0.0)

    return nominal, count


def regression_calibration_error_kernel(
    mean: Any, std: Any, targets: Any, *, levels: Any = _LEVELS
) -> Kernel:
    """Kernel of `regression_calibration_error`."""
    nominal, count = _quantile_counter(mean, std, targets, levels)

    def error(weights: Float64[np.ndarray, "inputs"]) -> float:
        counts = count(weights)
        return float(np.abs(counts[:-1] / counts[-1] - nominal).mean())

    return row_by_row(error)


def regression_calibration_error(
    mean: Any, std: Any, targets: Any, *, levels: Any = _LEVELS
) -> float:
    r"""Mean gap between nominal and observed quantile levels.

    .. math:: \frac{1}{L} \sum_l | \hat p_l - p_l |, \qquad
              \hat p_l = \frac{1}{N D} \sum_n \sum_d
              \big[ \Phi\big( \tfrac{y_{nd} - \mu_{nd}}{\sigma_{nd}} \big) \le p_l \big],

    with :math:`p_l` the nominal levels: the mean vertical distance of the curve of
    `interval_calibration_curve` from the diagonal. The source sums weighted squares instead; the
    mean of absolute values is in the unit of the levels, as the ECE is. It is biased upward: even
    perfect predictions score above 0 on finite data.

    Source: Kuleshov, Fenner and Ermon 2018 (arXiv 1807.00263).

    Args:
        mean: Predicted means (N,) or (N, D).
        std: Predicted standard deviations, of the same shape, > 0.
        targets: True values, of the same shape.
        levels: Nominal levels (L,), ascending, in (0, 1); 0.05, 0.1, …, 0.95 if not given.

    Returns:
        Calibration error, in [0, 1).

    Raises:
        ValueError: If shapes differ, a value is not finite, a std is not positive, or the levels
            are not ascending between 0 and 1.
        TypeError: If an array holds anything but real numbers.

    Example:
        >>> regression_calibration_error([0.0] * 4, [1.0] * 4, [-1.0, -0.1, 0.1, 0.2], levels=[0.5])
        0.0
        >>> regression_calibration_error([0.0] * 4, [1.0] * 4, [2.0, 3.0, 4.0, 5.0], levels=[0.5])
        0.5
    """
    kernel = regression_calibration_error_kernel(mean, std, targets, levels=levels)
    return unweighted(kernel, len(targets))


def interval_calibration_curve(
    mean: Any, std: Any, targets: Any, *, levels: Any = _LEVELS, confidence_level: Any = 0.95
) -> IntervalCalibrationCurve:
    r"""Share of targets at or below each predicted quantile, with Wilson score intervals.

    .. math:: \hat p_l = \frac{1}{N D} \sum_n \sum_d
              \big[ y_{nd} \le \mu_{nd} + \sigma_{nd} \Phi^{-1}(p_l) \big].

    Calibrated predictions lie on the diagonal, overconfident ones (std too small) above it at low
    levels and below it at high ones. The share of the central interval of level 1 - 2p is that at
    1 - p less that at p, but for targets on its lower end. The Wilson intervals take targets as
    independent, which the dimensions of one input need not be.

    Source: Kuleshov, Fenner and Ermon 2018 (arXiv 1807.00263); the interval, Wilson 1927.

    Args:
        mean: Predicted means (N,) or (N, D).
        std: Predicted standard deviations, of the same shape, > 0.
        targets: True values, of the same shape.
        levels: Nominal levels (L,), ascending, in (0, 1); 0.05, 0.1, …, 0.95 if not given.
        confidence_level: Level of the Wilson intervals, in (0, 1).

    Returns:
        Nominal levels, observed shares and the shares' intervals.

    Raises:
        ValueError: If shapes differ, a value is not finite, a std is not positive, or a level is
            out of range or order.
        TypeError: If an array holds anything but real numbers, or ``confidence_level`` is no
            number.

    Example:
        >>> curve = interval_calibration_curve([0.0] * 4, [1.0] * 4, [-1.0, 0.0, 1.0, 2.0])
        >>> curve.levels[[1, 9, 18]], curve.observed[[1, 9, 18]]
        (array([0.1 , 0.5 , 0.95]), array([0.  , 0.5 , 0.75]))
    """
    confidence_level = check_fraction(confidence_level, "confidence_level")
    nominal, count = _quantile_counter(mean, std, targets, levels)
    counts = count(np.ones(len(targets)))
    below, total = counts[:-1], counts[-1:]
    low, high = wilson_band(total.repeat(len(below)), below, confidence_level)
    return IntervalCalibrationCurve(levels=nominal, observed=below / total, low=low, high=high)
