"""Figures of calibration and out-of-distribution detection: curve data in, Axes out.

Nothing is computed here. Colours are seaborn's colour-blind palette; each set also has a line
style of its own, so that figures can be read in grey. Sizes and the colour of axes and letters are
those of ``matplotlib.rcParams``, so that a dark style stays one. Legends stand where they cover no
data.
"""

from bbnn_uq.plots.calibration import interval_calibration, reliability_diagram, risk_coverage
from bbnn_uq.plots.detection import FEW_LABELS, ood_histograms, roc_curves
from bbnn_uq.plots.networks import metric_against_networks
from bbnn_uq.plots.posteriors import natural_param_histograms
from bbnn_uq.plots.surfaces import probability_surface, regression_band, uncertainty_surface
from bbnn_uq.plots.tasks import accuracy_matrix, against_tasks

__all__ = [
    "FEW_LABELS",
    "accuracy_matrix",
    "against_tasks",
    "interval_calibration",
    "metric_against_networks",
    "natural_param_histograms",
    "ood_histograms",
    "probability_surface",
    "regression_band",
    "reliability_diagram",
    "risk_coverage",
    "roc_curves",
    "uncertainty_surface",
]
