"""Intervals over test inputs from sums over them, when the inputs themselves are gone."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from jaxtyping import Float64
from scipy.special import ndtri

from bbnn_uq.metrics._resampling import Interval, make_interval

__all__ = ["ece_interval", "normal_interval"]

_NUM_DRAWS = 10_000


def normal_interval(
    total: Fraction, total_squared: Fraction, num_inputs: int, most: float, level: float
) -> Interval:
    """Of the mean of values in [0, ``most``], from the sums of them and of their squares.

    Example:
        >>> normal_interval(Fraction(4), Fraction(8), 4, math.inf, 0.95)
        Interval(value=1.0, low=0.0, high=2.13...)
    """
    mean = float(total / num_inputs)
    if num_inputs == 1:
        return Interval(mean, 0.0, most)
    # Exact fractions, since the difference would lose digits where values hardly vary; it is below
    # 0 only by the rounding of each square.
    spread = total_squared - total**2 / num_inputs
    variance = max(float(spread / (num_inputs - 1)), 0.0)
    half = float(ndtri(0.5 + level / 2.0)) * math.sqrt(variance / num_inputs)
    return Interval(mean, max(mean - half, 0.0), min(mean + half, most))


def ece_interval(
    value: float,
    gaps: Float64[np.ndarray, "bins"],
    squares: list[Fraction],
    num_inputs: int,
    level: float,
    generator: np.random.Generator,
) -> Interval:
    """Basic interval of the l1 ECE, from each bin's sums of gaps and of squared gaps."""
    covariance = np.diag([float(total) for total in squares]) - np.outer(gaps, gaps) / num_inputs
    drawn = generator.multivariate_normal(gaps, covariance, _NUM_DRAWS, method="eigh")
    resampled = np.abs(drawn).sum(axis=1) / num_inputs
    return make_interval(value, resampled, level, (0.0, 1.0))
