"""Scores of features by Gaussians, one for each class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float64
from scipy.special import logsumexp

from bbnn_uq.ood_scores._features import FeatureScore, Scorer, check_classes
from bbnn_uq.ood_scores._gaussians import (
    cholesky_factor,
    class_means,
    covariance,
    mean_variance,
    squared_distances,
)

__all__ = ["GaussianMixtureScore", "MahalanobisScore", "RelativeMahalanobisScore"]


class _GaussianScore(FeatureScore):
    def __init__(self, *, shrinkage: Any = True) -> None:
        super().__init__()
        if not isinstance(shrinkage, bool):
            raise TypeError(f"shrinkage must be True or False, got {shrinkage!r}")
        self.shrinkage: bool = shrinkage

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shrinkage={self.shrinkage})"

    def _options(self) -> dict[str, Any]:
        return {"shrinkage": self.shrinkage}


class MahalanobisScore(_GaussianScore):
    r"""Squared Mahalanobis distance to the nearest class, in a covariance that all classes share.

    .. math:: s(f) = \min_c \, (f - \mu_c)^\top \Sigma^{-1} (f - \mu_c), \qquad
              S = \frac1N \sum_n (f_n - \mu_{y_n}) (f_n - \mu_{y_n})^\top,

    with the mean :math:`\mu_c` of each class and :math:`\Sigma` the covariance S within classes,
    shrunk by a little so that it has an inverse (Chen, Wiesel, Eldar and Hero 2010, arXiv
    0907.4698). On ID inputs the score is about D, whatever the network, which is why the mean
    over networks weighs them alike.

    Source: Lee, Lee, Lee and Shin 2018 (arXiv 1807.03888), equation 2; neither their perturbed
    inputs nor their logistic regression over layers, which is fitted on OOD inputs.

    Args:
        shrinkage: False takes S itself: the score is then the same for any affine map of the
            features, and an error where S is singular.

    Example:
        >>> features = [[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]] * 2
        >>> score = MahalanobisScore(shrinkage=False).fit(features, [0] * 8)
        >>> score.score([[1.0, 1.0], [3.0, 1.0]])
        array([0., 4.])
    """

    _ARRAYS: ClassVar = {"means": 2, "factor": 2}

    def _learned(
        self, features: Float64[np.ndarray, "inputs features"], labels: Any
    ) -> dict[str, np.ndarray]:
        where, _ = check_classes(features, labels, type(self).__name__)
        means = class_means(features, where)
        within = covariance(features, means, where)
        return {"means": means, "factor": self._factor(within, features)}

    def _factor(
        self,
        within: Float64[np.ndarray, "features features"],
        features: Float64[np.ndarray, "inputs features"],
    ) -> Float64[np.ndarray, "features features"]:
        variance = mean_variance(features)
        return cholesky_factor(within, len(features), variance, shrinkage=self.shrinkage)

    def _scorer(self, learned: Mapping[str, np.ndarray]) -> Scorer:
        return lambda x: squared_distances(x, learned["means"], learned["factor"]).min(axis=1)


class RelativeMahalanobisScore(MahalanobisScore):
    r"""Mahalanobis distance to the nearest class, less that to all inputs taken for one class.

    .. math:: s(f) = \min_c \, (f - \mu_c)^\top \Sigma^{-1} (f - \mu_c)
              - (f - \mu_0)^\top \Sigma_0^{-1} (f - \mu_0),

    with the mean and covariance :math:`\mu_0, \Sigma_0` of all features: directions in which
    classes do not differ, and which say little of near OOD, cancel. A ratio of log densities, so
    that a mean over networks is one too.

    Source: Ren, Fort, Liu, Guha Roy, Padhy and Lakshminarayanan 2021 (arXiv 2106.09022).

    Args:
        shrinkage: As of `MahalanobisScore`, for both covariances.

    Example:
        >>> features = [[0.0], [2.0], [10.0], [12.0]]
        >>> score = RelativeMahalanobisScore(shrinkage=False).fit(features, [0, 0, 1, 1])
        >>> score.score([[1.0], [6.0], [14.0]]).round(2)
        array([-0.96, 25.  ,  6.54])
    """

    _ARRAYS: ClassVar = {"means": 2, "factor": 2, "overall_mean": 2, "overall_factor": 2}

    def _learned(
        self, features: Float64[np.ndarray, "inputs features"], labels: Any
    ) -> dict[str, np.ndarray]:
        learned = super()._learned(features, labels)
        if len(learned["means"]) < 2:
            raise ValueError(
                "labels has a single class, whose distance is that to all inputs: the score would "
                "be 0 everywhere; use MahalanobisScore"
            )
        everyone = np.zeros(len(features), np.int64)
        mean = features.mean(axis=0, keepdims=True)
        factor = self._factor(covariance(features, mean, everyone), features)
        return learned | {"overall_mean": mean, "overall_factor": factor}

    def _scorer(self, learned: Mapping[str, np.ndarray]) -> Scorer:
        nearest = super()._scorer(learned)
        mean, factor = learned["overall_mean"], learned["overall_factor"]
        return lambda x: nearest(x) - squared_distances(x, mean, factor)[:, 0]


class GaussianMixtureScore(_GaussianScore):
    r"""Negative log density of a mixture of one Gaussian for each class, each with its covariance.

    .. math:: s(f) = -\ln \sum_c \pi_c \, \mathcal{N}(f; \mu_c, \Sigma_c), \qquad \pi_c = n_c / N,

    in nats, with :math:`\Sigma_c` the covariance of class c, shrunk by a little so that it has an
    inverse with fewer inputs than features too (Chen, Wiesel, Eldar and Hero 2010, arXiv
    0907.4698). The scale of a network's features adds a constant to its scores, and a mean over
    networks only shifts by it: it is the negative log of the densities' geometric mean.

    Source: Mukhoti, Kirsch, van Amersfoort, Torr and Gal 2023, "Deep Deterministic Uncertainty"
    (arXiv 2102.11582); they rely on spectral normalisation, which binary weights do not have.

    Args:
        shrinkage: False takes the covariance itself, an error where it is singular.

    Example:
        >>> score = GaussianMixtureScore(shrinkage=False).fit([[-1.0], [1.0]], [0, 0])
        >>> score.score([[0.0], [2.0]]).round(4)  # ½ ln 2π, and 2 more
        array([0.9189, 2.9189])
    """

    _ARRAYS: ClassVar = {"means": 2, "factors": 3, "log_weights": 1}

    def _learned(
        self, features: Float64[np.ndarray, "inputs features"], labels: Any
    ) -> dict[str, np.ndarray]:
        where, counts = check_classes(features, labels, type(self).__name__)
        means = class_means(features, where)
        variance = mean_variance(features)
        factors = []
        for c, count in enumerate(counts.tolist()):
            own = covariance(features[where == c], means[[c]], np.zeros(count, np.int64))
            factors.append(cholesky_factor(own, count, variance, shrinkage=self.shrinkage))
        weights = np.log(counts / len(features))
        return {"means": means, "factors": np.stack(factors), "log_weights": weights}

    def _scorer(self, learned: Mapping[str, np.ndarray]) -> Scorer:
        means, factors = learned["means"], learned["factors"]
        diagonals = np.diagonal(factors, axis1=1, axis2=2)
        constants = learned["log_weights"] - np.log(diagonals * np.sqrt(2.0 * np.pi)).sum(axis=1)

        def score(x: Float64[np.ndarray, "inputs features"]) -> Float64[np.ndarray, " inputs"]:
            logs = np.empty((len(x), len(means)))
            for c, factor in enumerate(factors):
                logs[:, c] = constants[c] - 0.5 * squared_distances(x, means[[c]], factor)[:, 0]
            return -logsumexp(logs, axis=1)

        return score
