"""Recalibration: maps from probabilities to better calibrated ones, fitted on labelled inputs.

Each works on probability arrays, whatever made them: `fit(probs, labels)` on a split that is
disjoint from the test set, then `transform(probs)`. None is worse in NLL than no recalibration on
the split it was fitted on, and each refuses to be fitted on fewer inputs than it can support.
Calibrate what is reported: for an average over networks that is the averaged probabilities.
"""

from __future__ import annotations

from bbnn_uq.recalibration.dirichlet import DirichletCalibration
from bbnn_uq.recalibration.isotonic import IsotonicCalibration
from bbnn_uq.recalibration.temperature import TemperatureScaling
from bbnn_uq.recalibration.vector import VectorScaling

__all__ = ["DirichletCalibration", "IsotonicCalibration", "TemperatureScaling", "VectorScaling"]
