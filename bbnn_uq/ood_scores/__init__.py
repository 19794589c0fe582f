"""Scores of out-of-distribution inputs that are fitted on in-distribution data, and then score.

Every score has ``fit(outputs, labels=None)``, which returns itself, and ``score(outputs)``, float64
(N,), higher meaning more out-of-distribution. Features may come from any model: (N, D), or
(S, N, D) of S networks, whose scores are averaged. :func:`bbnn_uq.feature_scores` has
those of drawn networks without keeping any features.
"""

from __future__ import annotations

from bbnn_uq.ood_scores._stored import OODScore
from bbnn_uq.ood_scores.combined import CombinedScore
from bbnn_uq.ood_scores.gaussian import (
    GaussianMixtureScore,
    MahalanobisScore,
    RelativeMahalanobisScore,
)
from bbnn_uq.ood_scores.neighbours import NearestNeighboursScore
from bbnn_uq.ood_scores.predictive_score import PredictiveScore

__all__ = [
    "CombinedScore",
    "GaussianMixtureScore",
    "MahalanobisScore",
    "NearestNeighboursScore",
    "OODScore",
    "PredictiveScore",
    "RelativeMahalanobisScore",
]
