"""Means, covariances that can be inverted, and distances in them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64
from scipy.linalg import solve_triangular

from bbnn_uq._rows import row_blocks

__all__ = [
    "cholesky_factor",
    "class_means",
    "covariance",
    "mean_variance",
    "shrunk",
    "squared_distances",
]

_FLOOR = 1e-9  # of the mean variance of all features
_ROUNDING = 1e-24  # of the mean square of all features


def class_means(
    features: Float64[np.ndarray, "inputs features"], where: Int64[np.ndarray, " inputs"]
) -> Float64[np.ndarray, "classes features"]:
    """Mean of each class; ``where`` is the class's place."""
    return np.stack([features[where == c].mean(axis=0) for c in range(where.max() + 1)])


def covariance(
    features: Float64[np.ndarray, "inputs features"],
    means: Float64[np.ndarray, "classes features"],
    where: Int64[np.ndarray, " inputs"],
) -> Float64[np.ndarray, "features features"]:
    """Mean product of deviations from the means of the inputs' classes, divided by N."""
    total = np.zeros((features.shape[1],) * 2)
    for block in row_blocks(features):
        deviations = features[block] - means[where[block]]
        total += deviations.T @ deviations
    return total / len(features)


def mean_variance(features: Float64[np.ndarray, "inputs features"]) -> float:
    """Variance of a feature over all inputs, averaged over features.

    Raises:
        ValueError: No feature varies but for rounding.
    """
    mean, variance, square = features.mean(axis=0), 0.0, 0.0
    for block in row_blocks(features):
        variance += float(np.sum((features[block] - mean) ** 2))
        square += float(np.sum(features[block] ** 2))
    if variance <= _ROUNDING * square:
        raise ValueError(
            "outputs has the same features for all inputs, from which nothing can be learned; "
            "take another layer"
        )
    return variance / features.size


def shrunk(
    empirical: Float64[np.ndarray, "features features"], count: int, floor: float
) -> Float64[np.ndarray, "features features"]:
    r"""Oracle approximating shrinkage of a covariance S of ``count`` inputs.

    .. math:: \Sigma = (1 - \rho) S + \rho \, \tfrac1D \operatorname{tr}(S) I, \qquad \rho = \min
              \Bigl(1, \frac{\operatorname{tr}(S^2) + \operatorname{tr}(S)^2}
              {(n + 1) (\operatorname{tr}(S^2) - \operatorname{tr}(S)^2 / D)} \Bigr),

    as `sklearn.covariance.oas` has it, which wants the features themselves once more. Since
    :math:`\rho > 1 / (n + 1)`, the result is positive definite for any number of inputs and for
    features that do not vary; where none does, ``floor`` takes the place of the mean variance.

    Source: Chen, Wiesel, Eldar and Hero 2010 (arXiv 0907.4698), equation 23.
    """
    size = len(empirical)
    squares, variance = float(np.sum(empirical**2)), float(np.trace(empirical)) / size
    spread = squares - size * variance**2  # 0 where S is a multiple of I, but for rounding
    needed = squares + (size * variance) ** 2
    amount = 1.0 if needed >= (count + 1) * spread else needed / ((count + 1) * spread)
    return (1.0 - amount) * empirical + amount * max(variance, floor) * np.eye(size)


def cholesky_factor(
    empirical: Float64[np.ndarray, "features features"],
    count: int,
    variance: float,
    *,
    shrinkage: bool,
) -> Float64[np.ndarray, "features features"]:
    """L with L Lᵀ = the covariance, shrunk if asked for; ``variance`` is that of all features.

    Raises:
        ValueError: The covariance is singular.
    """
    if shrinkage:
        empirical = shrunk(empirical, count, _FLOOR * variance)
    else:
        eigenvalues = np.linalg.eigvalsh(empirical)
        smallest = len(eigenvalues) * np.finfo(np.float64).eps * eigenvalues[-1]
        rank = int(np.sum(eigenvalues > smallest))
        if rank < len(eigenvalues):
            raise ValueError(
                f"the covariance of {len(eigenvalues)} features over {count} inputs is singular "
                f"(rank {rank}): some features do not vary, depend on others, or outnumber the "
                "inputs; use shrinkage=True"
            )
    return np.linalg.cholesky(empirical)


def squared_distances(
    features: Float64[np.ndarray, "inputs features"],
    means: Float64[np.ndarray, "classes features"],
    factor: Float64[np.ndarray, "features features"],
) -> Float64[np.ndarray, "inputs classes"]:
    """(x − μ)ᵀ (L Lᵀ)⁻¹ (x − μ) of each input and each mean, as ‖L⁻¹ x − L⁻¹ μ‖²."""
    # What is common to all would cost digits in the product below; a single mean costs none.
    centre = means.mean(axis=0)
    x, centres = _whitened(features - centre, factor), _whitened(means - centre, factor)
    squares = [np.einsum("nd,nd->n", each, each) for each in (x, centres)]
    return np.maximum(squares[0][:, None] + squares[1] - 2.0 * (x @ centres.T), 0.0)


def _whitened(
    features: Float64[np.ndarray, "inputs features"],
    factor: Float64[np.ndarray, "features features"],
) -> Float64[np.ndarray, "inputs features"]:
    """L⁻¹ x of each input, without the inverse."""
    return solve_triangular(factor, features.T, lower=True, check_finite=False).T
