"""Metrics of predictive uncertainty: arrays in, floats out, with bootstrap intervals.

Arrays may be NumPy arrays, nested lists or tensors on any device; everything is computed in
float64. Entropies are in nats. OOD is the positive class: a higher score means more OOD.
"""

from __future__ import annotations

from bbnn_uq.metrics._registry import default_metrics
from bbnn_uq.metrics.accumulators import ClassificationAccumulator, ClassificationSummary
from bbnn_uq.metrics.bootstrap import bootstrap_interval
from bbnn_uq.metrics.calibration import classwise_ece, ece
from bbnn_uq.metrics.histogram_metrics import Bounded, ood_metrics_from_histograms
from bbnn_uq.metrics.intervals import Interval, classification_intervals, paired_differences
from bbnn_uq.metrics.ood import (
    OODMetrics,
    RocCurve,
    ood_metrics,
    roc_curve,
    threshold_at_retention,
)
from bbnn_uq.metrics.ood_bootstrap import grouped_ood_metrics, ood_intervals
from bbnn_uq.metrics.ood_comparison import PairedDifference, compare_ood_scores
from bbnn_uq.metrics.proper_scores import (
    BrierDecomposition,
    accuracy,
    brier,
    brier_decomposition,
    nll,
)
from bbnn_uq.metrics.regression import (
    crps_gaussian,
    gaussian_nll,
    interval_coverage,
    mse,
    rmse,
    sharpness,
)
from bbnn_uq.metrics.regression_calibration import (
    IntervalCalibrationCurve,
    interval_calibration_curve,
    regression_calibration_error,
)
from bbnn_uq.metrics.reliability import ReliabilityCurve, reliability_curve
from bbnn_uq.metrics.risk_coverage import (
    RiskCoverageCurve,
    risk_at_coverage,
    risk_coverage_curve,
)
from bbnn_uq.metrics.score_histogram import ScoreHistogram
from bbnn_uq.metrics.selective import augrc, aurc, excess_aurc
from bbnn_uq.metrics.smooth_calibration import smooth_ece
from bbnn_uq.metrics.uncertainty import (
    confidence,
    energy,
    expected_entropy,
    logit_variance,
    margin,
    max_logit,
    mutual_information,
    pairwise_kl,
    predictive_entropy,
    variation_ratio,
)

__all__ = [
    "Bounded",
    "BrierDecomposition",
    "ClassificationAccumulator",
    "ClassificationSummary",
    "Interval",
    "IntervalCalibrationCurve",
    "OODMetrics",
    "PairedDifference",
    "ReliabilityCurve",
    "RiskCoverageCurve",
    "RocCurve",
    "ScoreHistogram",
    "accuracy",
    "augrc",
    "aurc",
    "bootstrap_interval",
    "brier",
    "brier_decomposition",
    "classification_intervals",
    "classwise_ece",
    "compare_ood_scores",
    "confidence",
    "crps_gaussian",
    "default_metrics",
    "ece",
    "energy",
    "excess_aurc",
    "expected_entropy",
    "gaussian_nll",
    "grouped_ood_metrics",
    "interval_calibration_curve",
    "interval_coverage",
    "logit_variance",
    "margin",
    "max_logit",
    "mse",
    "mutual_information",
    "nll",
    "ood_intervals",
    "ood_metrics",
    "ood_metrics_from_histograms",
    "paired_differences",
    "pairwise_kl",
    "predictive_entropy",
    "regression_calibration_error",
    "reliability_curve",
    "risk_at_coverage",
    "risk_coverage_curve",
    "rmse",
    "roc_curve",
    "sharpness",
    "smooth_ece",
    "threshold_at_retention",
    "variation_ratio",
]
