"""Metrics of predictive uncertainty: arrays in, floats out, with bootstrap intervals.

Arrays may be NumPy arrays, nested lists or tensors on any device; everything is computed in
float64. Entropies are in nats. OOD is the positive class: a higher score means more OOD.
"""

from __future__ import annotations

from bbnn_uq.metrics.bootstrap import bootstrap_interval
from bbnn_uq.metrics.calibration import ece
from bbnn_uq.metrics.intervals import (
    Interval,
    classification_intervals,
    ood_intervals,
    paired_differences,
)
from bbnn_uq.metrics.ood import OODMetrics, RocCurve, ood_metrics, roc_curve
from bbnn_uq.metrics.proper_scores import accuracy, brier, nll
from bbnn_uq.metrics.regression import gaussian_nll, mse
from bbnn_uq.metrics.reliability import ReliabilityCurve, reliability_curve
from bbnn_uq.metrics.selective import aurc
from bbnn_uq.metrics.uncertainty import (
    expected_entropy,
    mutual_information,
    predictive_entropy,
    variation_ratio,
)

__all__ = [
    "Interval",
    "OODMetrics",
    "ReliabilityCurve",
    "RocCurve",
    "accuracy",
    "aurc",
    "bootstrap_interval",
    "brier",
    "classification_intervals",
    "ece",
    "expected_entropy",
    "gaussian_nll",
    "mse",
    "mutual_information",
    "nll",
    "ood_intervals",
    "ood_metrics",
    "paired_differences",
    "predictive_entropy",
    "reliability_curve",
    "roc_curve",
    "variation_ratio",
]
