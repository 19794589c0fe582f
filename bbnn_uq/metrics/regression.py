"""How good real-valued predictions are, with a mean and a standard deviation for each target."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import norm

from bbnn_uq._checks import check_real_array

__all__ = ["gaussian_nll", "mse"]


def mse(mean: Any, targets: Any) -> float:
    """Mean squared error over all targets, in their units squared.

    Args:
        mean: predicted means (N,) or (N, D).
        targets: of the same shape.

    Raises:
        ValueError: shapes differ, or a value is not finite.

    Example:
        >>> mse([0.0, 1.0], [0.0, 3.0])
        2.0
    """
    predicted, wanted = _pair(mean, targets)
    return float(np.square(predicted - wanted).mean())


def gaussian_nll(mean: Any, std: Any, targets: Any) -> float:
    """−log ∏_d N(y_d; mean_d, std_d²) in nats, averaged over inputs and summed over dimensions.

    For the predictive of several networks this is the NLL of the Gaussian with the mixture's first
    two moments, not of the mixture itself.

    Args:
        mean: predicted means (N,) or (N, D).
        std: predicted standard deviations > 0, of the same shape.
        targets: of the same shape.

    Raises:
        ValueError: shapes differ, a value is not finite, or a std is not positive.

    Example:
        >>> round(gaussian_nll([0.0], [1.0], [0.0]), 4)  # ½ ln 2π
        0.9189
    """
    predicted, wanted = _pair(mean, targets)
    spread = check_real_array(std, "std")
    if spread.shape != predicted.shape or spread.min() <= 0.0:
        raise ValueError(
            f"std must be positive and of the mean's shape {predicted.shape}, got shape "
            f"{spread.shape} and a smallest value of {spread.min():g}"
        )
    log_density = norm.logpdf(wanted, predicted, spread)
    return float(-log_density.reshape(len(wanted), -1).sum(axis=1).mean())


def _pair(mean: Any, targets: Any) -> tuple[np.ndarray, np.ndarray]:
    predicted, wanted = check_real_array(mean, "mean"), check_real_array(targets, "targets")
    if predicted.shape != wanted.shape or predicted.ndim not in (1, 2):
        raise ValueError(
            f"targets must have the shape of mean, (N,) or (N, D), got {wanted.shape} and "
            f"{predicted.shape}"
        )
    return predicted, wanted
