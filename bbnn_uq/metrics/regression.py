"""How good real-valued predictions are, with a mean and a standard deviation for each target.

The prediction is taken as the Gaussian of that mean and standard deviation; for the predictive of
several networks that is the Gaussian with the mixture's first two moments, not the mixture itself.
Kernels check their arguments, since the bootstrap gives them the user's arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy.special import erf, ndtri

from bbnn_uq._checks import check_fraction, check_real_array
from bbnn_uq._rows import row_blocks
from bbnn_uq.metrics._weighted import Kernel, mean_kernel, unweighted

__all__ = [
    "check_gaussians",
    "check_predictions",
    "crps_gaussian",
    "crps_gaussian_kernel",
    "gaussian_nll",
    "gaussian_nll_kernel",
    "interval_coverage",
    "interval_coverage_kernel",
    "mse",
    "mse_kernel",
    "rmse",
    "rmse_kernel",
    "sharpness",
    "sharpness_kernel",
]


def check_predictions(
    mean: Any, targets: Any
) -> tuple[Float64[np.ndarray, "inputs *dimensions"], Float64[np.ndarray, "inputs *dimensions"]]:
    """Means and targets of one shape, (N,) or (N, D)."""
    predicted, wanted = check_real_array(mean, "mean"), check_real_array(targets, "targets")
    if predicted.shape != wanted.shape or predicted.ndim not in (1, 2):
        raise ValueError(
            f"targets must have the shape of mean, (N,) or (N, D), got {wanted.shape} and "
            f"{predicted.shape}"
        )
    return predicted, wanted


def check_gaussians(
    mean: Any, std: Any, targets: Any, *, positive: bool
) -> tuple[
    Float64[np.ndarray, "inputs *dimensions"],
    Float64[np.ndarray, "inputs *dimensions"],
    Float64[np.ndarray, "inputs *dimensions"],
]:
    """Means, standard deviations and targets of one shape; the second > 0, or only >= 0."""
    predicted, wanted = check_predictions(mean, targets)
    spread = check_real_array(std, "std")
    low = spread.min()
    if spread.shape != predicted.shape or low < 0.0 or (positive and low == 0.0):
        raise ValueError(
            f"std must be {'positive' if positive else 'at least 0'} and of the mean's shape "
            f"{predicted.shape}, got shape {spread.shape} and a smallest value of {low:g}"
        )
    return predicted, spread, wanted


def _of_each_input(
    function: Callable[..., np.ndarray], *arrays: Float64[np.ndarray, "inputs *dimensions"]
) -> Float64[np.ndarray, "inputs"]:
    """Mean over an input's dimensions of an elementwise function, block by block."""
    values = np.empty(len(arrays[0]))
    with np.errstate(over="ignore"):  # what leaves the range of floats is infinite
        for block in row_blocks(arrays[0]):
            rows = (array[block] for array in arrays)
            if values.shape == arrays[0].shape:
                values[block] = function(*rows)
            else:
                values[block] = function(*rows).mean(axis=1)
    return values


def _root(kernel: Kernel) -> Kernel:
    return lambda weights: np.sqrt(kernel(weights))


def mse_kernel(mean: Any, targets: Any) -> Kernel:
    """Kernel of `mse`."""

    def loss(m: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.square(y - m)

    return mean_kernel(_of_each_input(loss, *check_predictions(mean, targets)))


def rmse_kernel(mean: Any, targets: Any) -> Kernel:
    """Kernel of `rmse`."""
    return _root(mse_kernel(mean, targets))


def gaussian_nll_kernel(mean: Any, std: Any, targets: Any) -> Kernel:
    """Kernel of `gaussian_nll`."""
    constant = 0.5 * math.log(2.0 * math.pi)

    def loss(m: np.ndarray, s: np.ndarray, y: np.ndarray) -> np.ndarray:
        dimensions = m[0].size  # times their mean is the sum over them
        return dimensions * (0.5 * np.square((y - m) / s) + np.log(s) + constant)

    return mean_kernel(_of_each_input(loss, *check_gaussians(mean, std, targets, positive=True)))


def crps_gaussian_kernel(mean: Any, std: Any, targets: Any) -> Kernel:
    """Kernel of `crps_gaussian`.

    With e = y − μ the formula is computed as e erf(z/√2) + σ (2 φ(z) − 1/√π): a z that overflows
    then meets no σ that is nearly 0, and a σ of 0 gives the limit |e|.
    """

    def score(m: np.ndarray, s: np.ndarray, y: np.ndarray) -> np.ndarray:
        error = y - m
        with np.errstate(divide="ignore"):
            z = np.divide(error, s, out=np.zeros_like(error), where=error != 0.0)
        density = np.exp(-0.5 * np.square(z)) / math.sqrt(2.0 * math.pi)
        return error * erf(z / math.sqrt(2.0)) + s * (2.0 * density - 1.0 / math.sqrt(math.pi))

    return mean_kernel(_of_each_input(score, *check_gaussians(mean, std, targets, positive=False)))


def interval_coverage_kernel(mean: Any, std: Any, targets: Any, level: Any) -> Kernel:
    """Kernel of `interval_coverage`."""
    half_width = -ndtri((1.0 - check_fraction(level, "level")) / 2.0)

    def inside(m: np.ndarray, s: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (np.abs(y - m) <= half_width * s).astype(np.float64)

    return mean_kernel(_of_each_input(inside, *check_gaussians(mean, std, targets, positive=False)))


def sharpness_kernel(std: Any) -> Kernel:
    """Kernel of `sharpness`."""
    spread = check_real_array(std, "std")
    if spread.ndim not in (1, 2) or spread.min() < 0.0:
        raise ValueError(
            f"std must be at least 0 and of shape (N,) or (N, D), got shape {spread.shape} and a "
            f"smallest value of {spread.min():g}"
        )
    return _root(mean_kernel(_of_each_input(np.square, spread)))


def mse(mean: Any, targets: Any) -> float:
    r"""Mean squared error over all targets, in their units squared.

    .. math:: \frac{1}{N D} \sum_n \sum_d (y_{nd} - \mu_{nd})^2.

    Args:
        mean: Predicted means (N,) or (N, D).
        targets: True values, of the same shape.

    Returns:
        Mean squared error, in [0, inf].

    Raises:
        ValueError: If shapes differ, or a value is not finite.
        TypeError: If an array holds anything but real numbers.

    Example:
        >>> mse([0.0, 1.0], [0.0, 3.0])
        2.0
    """
    return unweighted(mse_kernel(mean, targets), len(targets))


def rmse(mean: Any, targets: Any) -> float:
    r"""Root of the mean squared error over all targets, in their units.

    .. math:: \Big( \frac{1}{N D} \sum_n \sum_d (y_{nd} - \mu_{nd})^2 \Big)^{1/2}.

    Args:
        mean: Predicted means (N,) or (N, D).
        targets: True values, of the same shape.

    Returns:
        Root mean squared error, in [0, inf].

    Raises:
        ValueError: If shapes differ, or a value is not finite.
        TypeError: If an array holds anything but real numbers.

    Example:
        >>> rmse([0.0, 1.0], [3.0, 5.0]).__round__(4)
        3.5355
    """
    return unweighted(rmse_kernel(mean, targets), len(targets))


def gaussian_nll(mean: Any, std: Any, targets: Any) -> float:
    r"""Mean negative log-density of the targets, summed over an input's dimensions.

    .. math:: \frac{1}{N} \sum_n \sum_d \Big( \tfrac12 \ln 2 \pi + \ln \sigma_{nd}
              + \frac{(y_{nd} - \mu_{nd})^2}{2 \sigma_{nd}^2} \Big).

    Source: Good 1952 (the logarithmic score).

    Args:
        mean: Predicted means (N,) or (N, D).
        std: Predicted standard deviations, of the same shape, > 0.
        targets: True values, of the same shape.

    Returns:
        Mean loss in nats, in (-inf, inf]; it depends on the targets' units.

    Raises:
        ValueError: If shapes differ, a value is not finite, or a std is not positive.
        TypeError: If an array holds anything but real numbers.

    Example:
        >>> round(gaussian_nll([0.0], [1.0], [0.0]), 4)  # ½ ln 2π
        0.9189
    """
    return unweighted(gaussian_nll_kernel(mean, std, targets), len(targets))


def crps_gaussian(mean: Any, std: Any, targets: Any) -> float:
    r"""Continuous ranked probability score of Gaussians, averaged over all targets.

    .. math:: \int (F(t) - [y \le t])^2 \, dt
              = \sigma \big( z \, (2 \Phi(z) - 1) + 2 \varphi(z) - \pi^{-1/2} \big),
              \qquad z = (y - \mu) / \sigma,

    with F the Gaussian's distribution function. It is a proper score in the targets' units, and
    generalises the absolute error, which it equals at a std of 0.

    Source: Gneiting et al. 2005; Gneiting and Raftery 2007, section 4.2.

    Args:
        mean: Predicted means (N,) or (N, D).
        std: Predicted standard deviations, of the same shape, >= 0.
        targets: True values, of the same shape.

    Returns:
        Mean score, in [0, inf]; lower is better.

    Raises:
        ValueError: If shapes differ, a value is not finite, or a std is negative.
        TypeError: If an array holds anything but real numbers.

    Example:
        >>> round(crps_gaussian([0.0], [1.0], [0.0]), 4)  # (√2 − 1) / √π
        0.2337
    """
    return unweighted(crps_gaussian_kernel(mean, std, targets), len(targets))


def interval_coverage(mean: Any, std: Any, targets: Any, level: Any) -> float:
    r"""Share of all targets that lie in the central Gaussian interval of a level.

    .. math:: \frac{1}{N D} \sum_n \sum_d \big[ |y_{nd} - \mu_{nd}| \le
              \Phi^{-1}(\tfrac{1 + \gamma}{2}) \, \sigma_{nd} \big],

    with :math:`\gamma` the level. The ends belong to the interval.

    Args:
        mean: Predicted means (N,) or (N, D).
        std: Predicted standard deviations, of the same shape, >= 0.
        targets: True values, of the same shape.
        level: Level of the intervals, in (0, 1).

    Returns:
        Share, in [0, 1]; about ``level`` where the predictions are calibrated.

    Raises:
        ValueError: If shapes differ, a value is not finite, a std is negative, or the level is
            not between 0 and 1.
        TypeError: If an array holds anything but real numbers, or ``level`` is no number.

    Example:
        >>> interval_coverage([0.0, 0.0], [1.0, 1.0], [1.9, 2.1], 0.95)
        0.5
    """
    return unweighted(interval_coverage_kernel(mean, std, targets, level), len(targets))


def sharpness(std: Any) -> float:
    r"""Root of the mean predicted variance over all targets, in their units.

    .. math:: \Big( \frac{1}{N D} \sum_n \sum_d \sigma_{nd}^2 \Big)^{1/2}.

    How certain the predictions are, whether or not they are right: of two calibrated models the
    sharper one, with the lower value, says more. The source has the mean variance, without the
    root, which makes it comparable to `rmse`.

    Source: Kuleshov, Fenner and Ermon 2018 (arXiv 1807.00263).

    Args:
        std: Predicted standard deviations (N,) or (N, D), >= 0.

    Returns:
        Sharpness, in [0, inf]; lower is sharper.

    Raises:
        ValueError: If ``std`` has another shape, or a value that is negative or not finite.
        TypeError: If ``std`` holds anything but real numbers.

    Example:
        >>> sharpness([3.0, 4.0]).__round__(4)
        3.5355
    """
    return unweighted(sharpness_kernel(std), len(std))
