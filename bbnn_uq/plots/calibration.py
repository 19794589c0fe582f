"""Figures of calibration, and of errors by confidence."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, PercentFormatter
from mpl_toolkits.axes_grid1 import make_axes_locatable

from bbnn_uq.metrics import IntervalCalibrationCurve, ReliabilityCurve, RiskCoverageCurve
from bbnn_uq.plots._style import (
    check_curve,
    check_curves,
    diagonal,
    finish,
    given_axes,
    legend_above,
    palette,
    series,
    stated,
    visible_label,
)

__all__ = ["interval_calibration", "reliability_diagram", "risk_coverage"]


def reliability_diagram(curve: Any, ax: Any = None, *, ece: Any = None) -> Axes:
    """Accuracy against confidence by bin, with interval bars, above the number of inputs by bin.

    Points below the diagonal are overconfident. Bars are the curve's intervals; a
    panel with the counts, on a logarithmic scale, is cut off the lower end of the Axes.

    Args:
        curve: from :func:`bbnn_uq.metrics.reliability_curve`.
        ax: where to draw; a new figure when not given.
        ece: the calibration error to state in the figure, an
            :class:`~bbnn_uq.metrics.Interval`.

    Returns:
        The Axes of the upper panel.

    Raises:
        TypeError: ``curve`` is no such curve, as with probabilities and labels.

    Example:
        >>> from bbnn_uq import metrics
        >>> curve = metrics.reliability_curve([[0.9, 0.1], [0.3, 0.7]], [0, 0])
        >>> reliability_diagram(curve).get_ylabel()
        'accuracy'
    """
    check_curve(curve, ReliabilityCurve, "curve", "reliability_curve")
    title = None if ece is None else stated("ECE", ece, "ece")
    axes = given_axes(ax, (4.2, 5.0))
    blue = palette(1)[0]
    filled = curve.count > 0
    x, y = curve.confidence[filled], curve.accuracy[filled]
    bars = np.abs(np.stack([y - curve.low[filled], curve.high[filled] - y]))
    diagonal(axes, label="calibrated")
    # Bins are not joined by a line: one of a single input would pull it across the figure.
    axes.errorbar(
        x, y, yerr=bars, color=blue, marker="o", markersize=5, capsize=2.5, linewidth=1.4,
        linestyle="none", label="model, with interval",
    )  # fmt: skip
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.02, 1.02), ylabel="accuracy")
    legend_above(axes, columns=2)
    if title is not None:
        room = 2.0 * plt.rcParams["font.size"]  # for the legend below it
        axes.set_title(title, fontsize="medium", pad=room)

    below = make_axes_locatable(axes).new_vertical("24%", 0.12, pack_start=True, sharex=axes)
    axes.add_child_axes(below)  # as a child, so that layouts leave room for its labels
    below.bar(
        curve.bin_edges[:-1], curve.count, width=np.diff(curve.bin_edges), align="edge",
        color=blue, edgecolor=axes.get_facecolor(), linewidth=0.5,
    )  # fmt: skip
    # On a linear axis the last bin of a good classifier would hide all the others.
    below.set_yscale("symlog", linthresh=1)
    below.yaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
    below.set(xlabel="confidence", ylabel="inputs\n(log scale)", ylim=(0, None))
    axes.tick_params(labelbottom=False)
    finish(axes)
    finish(below)
    return axes


def risk_coverage(curves: Any, ax: Any = None) -> Axes:
    """Error rate among the inputs that are kept, against the share that is kept.

    Between the points of a curve, where inputs of equal confidence are kept in part, the line is
    the expectation over their orderings.

    Args:
        curves: label → curve, from :func:`bbnn_uq.metrics.risk_coverage_curve`.
        ax: where to draw; a new figure when not given.

    Returns:
        The Axes.

    Raises:
        TypeError: ``curves`` is no dictionary of such curves.

    Example:
        >>> from bbnn_uq import metrics
        >>> curve = metrics.risk_coverage_curve([[0.9, 0.1], [0.6, 0.4]], [0, 1])
        >>> risk_coverage({"confidence": curve}).get_xlabel()
        'inputs kept (coverage)'
    """
    check_curves(curves, RiskCoverageCurve, "risk_coverage_curve")
    axes = given_axes(ax, (4.4, 3.6))
    for (label, curve), (colour, line) in zip(curves.items(), series(len(curves)), strict=True):
        kept = np.union1d(curve.coverage, np.linspace(curve.coverage[0], 1.0, 200))
        ends = np.append(0.0, curve.coverage)
        errors = np.interp(kept, ends, ends * np.append(0.0, curve.risk))
        axes.plot(
            kept,
            errors / kept,
            color=colour,
            linestyle=line,
            linewidth=1.6,
            label=visible_label(label),
        )
    axes.set(
        xlim=(0.0, 1.01),
        ylim=(0.0, None),
        xlabel="inputs kept (coverage)",
        ylabel="error rate among them (risk)",
    )
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    if curves:
        legend_above(axes)
    finish(axes)
    return axes


def interval_calibration(curve: Any, ax: Any = None) -> Axes:
    """Share of targets below each predicted quantile, against its level, with intervals.

    Args:
        curve: from :func:`bbnn_uq.metrics.interval_calibration_curve`.
        ax: where to draw; a new figure when not given.

    Returns:
        The Axes.

    Raises:
        TypeError: ``curve`` is no such curve.

    Example:
        >>> from bbnn_uq import metrics
        >>> curve = metrics.interval_calibration_curve([0.0, 0.0], [1.0, 1.0], [-0.5, 0.5])
        >>> interval_calibration(curve).get_xlabel()
        'level of the predicted quantile'
    """
    check_curve(curve, IntervalCalibrationCurve, "curve", "interval_calibration_curve")
    axes = given_axes(ax, (4.4, 4.4))
    bars = np.abs(np.stack([curve.observed - curve.low, curve.high - curve.observed]))
    diagonal(axes, label="calibrated")
    axes.errorbar(
        curve.levels, curve.observed, yerr=bars, color=palette(1)[0],
        marker="o", markersize=5, capsize=2.5, linewidth=1.4, label="model, Wilson interval",
    )  # fmt: skip
    axes.set(
        xlim=(-0.01, 1.01),
        ylim=(-0.01, 1.01),
        xlabel="level of the predicted quantile",
        ylabel="targets below it",
        aspect="equal",
    )
    legend_above(axes, columns=2)
    finish(axes)
    return axes
