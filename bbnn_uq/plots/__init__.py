"""Figures of calibration and out-of-distribution detection: curve data in, Axes out.

Nothing is computed here. Colours are seaborn's colour-blind palette; each set also has a line
style of its own, so that figures can be read in grey. Sizes and the colour of axes and letters are
those of ``matplotlib.rcParams``, so that a dark style stays one. Legends stand where they cover no
data.
"""

from bbnn_uq.plots.calibration import interval_calibration, reliability_diagram, risk_coverage
from bbnn_uq.plots.detection import FEW_LABELS, ood_histograms, roc_curves
from bbnn_uq.plots.networks import metric_against_networks

__all__ = [
    "FEW_LABELS",
    "interval_calibration",
    "metric_against_networks",
    "ood_histograms",
    "reliability_diagram",
    "risk_coverage",
    "roc_curves",
]
