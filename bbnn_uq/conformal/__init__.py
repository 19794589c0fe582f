"""Conformal prediction sets: sets of classes that hold the true one as often as they promise.

The promise is marginal: over fitting splits and test inputs that are exchangeable (drawn alike),
the share of sets that hold their label is at least 1 - alpha, however bad the probabilities are.
It needs a fitting split that neither training nor recalibration has seen.
"""

from __future__ import annotations

from bbnn_uq.conformal.classifier import ConformalClassifier
from bbnn_uq.conformal.evaluation import ConformalReport, evaluate_sets

__all__ = ["ConformalClassifier", "ConformalReport", "evaluate_sets"]
