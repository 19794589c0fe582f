"""Figures of calibration and out-of-distribution detection: curve data in, Axes out.

Nothing is computed here. Colours are seaborn's colour-blind palette; each set also has a line
style or hatch of its own, so that figures can be read in grey.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.legend import Legend
from matplotlib.ticker import MaxNLocator, PercentFormatter
from mpl_toolkits.axes_grid1 import make_axes_locatable

from bbnn_uq._checks import check_scores
from bbnn_uq.metrics import (
    Interval,
    IntervalCalibrationCurve,
    ReliabilityCurve,
    RiskCoverageCurve,
    RocCurve,
)
from bbnn_uq.monte_carlo import MetricCurve

__all__ = [
    "interval_calibration",
    "metric_against_networks",
    "ood_histograms",
    "reliability_diagram",
    "risk_coverage",
    "roc_curves",
]

_INK = "0.25"
_LINES = ("-", "--", ":", "-.")


def reliability_diagram(
    curve: ReliabilityCurve, ax: Axes | None = None, *, ece: Interval | None = None
) -> Axes:
    """Accuracy against confidence by bin, with interval bars, above the number of inputs by bin.

    Points below the diagonal are overconfident. Bars are the curve's intervals; a
    panel with the counts is cut off the lower end of the Axes.

    Args:
        curve: from :func:`bbnn_uq.metrics.reliability_curve`.
        ax: where to draw; a new figure when not given.
        ece: the calibration error to state in the figure, with its interval.

    Returns:
        The Axes of the upper panel.

    Example:
        >>> from bbnn_uq import metrics
        >>> curve = metrics.reliability_curve([[0.9, 0.1], [0.3, 0.7]], [0, 0])
        >>> reliability_diagram(curve).get_ylabel()
        'accuracy'
    """
    axes = _axes(ax, (4.2, 5.0))
    blue = sns.color_palette("colorblind")[0]
    filled = curve.count > 0
    x, y = curve.confidence[filled], curve.accuracy[filled]
    bars = np.abs(np.stack([y - curve.low[filled], curve.high[filled] - y]))
    axes.plot([0, 1], [0, 1], color=_INK, linewidth=1, linestyle="--", label="calibrated")
    # Bins are not joined by a line: one of a single input would pull it across the figure.
    axes.errorbar(
        x, y, yerr=bars, color=blue, marker="o", markersize=5, capsize=2.5, linewidth=1.4,
        linestyle="none", label="model, with interval",
    )  # fmt: skip
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.02, 1.02), ylabel="accuracy")
    if ece is not None:
        axes.set_title(f"ECE {ece.value:.3f} [{ece.low:.3f}, {ece.high:.3f}]", fontsize="medium")
    axes.legend(framealpha=0.8, edgecolor="none")

    below = make_axes_locatable(axes).new_vertical("24%", 0.12, pack_start=True, sharex=axes)
    axes.add_child_axes(below)  # as a child, so that layouts leave room for its labels
    below.bar(
        curve.bin_edges[:-1], curve.count, width=np.diff(curve.bin_edges), align="edge",
        color=blue, edgecolor="white", linewidth=0.5,
    )  # fmt: skip
    # On a linear axis the last bin of a good classifier would hide all the others.
    below.set_yscale("symlog", linthresh=1)
    below.set(xlabel="confidence", ylabel="inputs", ylim=(0, None))
    axes.tick_params(labelbottom=False)
    sns.despine(ax=axes)
    sns.despine(ax=below)
    return axes


def ood_histograms(
    scores: Mapping[str, Any], ax: Axes | None = None, *, score: str, auroc: Interval | None = None
) -> Axes:
    """Histograms of one score on the ID set and on OOD sets, over common bin edges.

    Args:
        scores: set name → scores (N,); the first set is the ID one.
        ax: where to draw; a new figure when not given.
        score: name of the score, for the axis.
        auroc: to state in the figure, with its interval.

    Returns:
        The Axes.

    Raises:
        ValueError: fewer than one set, or scores that are not finite.

    Example:
        >>> ax = ood_histograms({"id": [0.1, 0.2], "ood": [0.8, 0.9]}, score="entropy")
        >>> ax.get_xlabel()
        'entropy (nats)'
    """
    if not scores:
        raise ValueError("scores is empty; it needs at least the ID set")
    arrays = {name: check_scores(values, f"scores[{name!r}]") for name, values in scores.items()}
    axes = _axes(ax, (5.6, 3.6))
    edges = _common_edges(np.concatenate(list(arrays.values())), 40)
    palette = sns.color_palette("colorblind", max(len(arrays), 2))
    for (name, values), colour, line in zip(
        arrays.items(), palette, _cycled(_LINES, len(arrays)), strict=False
    ):
        share = np.full(len(values), 1.0 / len(values))
        axes.hist(
            values, bins=edges, weights=share, histtype="stepfilled", color=colour, alpha=0.25
        )
        axes.hist(
            values, bins=edges, weights=share, histtype="step", color=colour, linestyle=line,
            linewidth=1.6, label=_label(f"{name} ({len(values):,})"),
        )  # fmt: skip
    title = None
    if auroc is not None:
        title = f"AUROC {auroc.value:.3f} [{auroc.low:.3f}, {auroc.high:.3f}]"
    _plain(axes.legend(frameon=False, title=title))
    axes.set(xlabel=_score_label(score), ylabel="share of inputs")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.xaxis.set_major_locator(MaxNLocator(6))  # energies of raw data have long numbers
    sns.despine(ax=axes)
    return axes


def roc_curves(curves: Mapping[str, RocCurve], ax: Axes | None = None) -> Axes:
    """ROC curves of OOD detection: share of OOD caught against share of ID flagged.

    Args:
        curves: label → curve, from :func:`bbnn_uq.metrics.roc_curve`.
        ax: where to draw; a new figure when not given.

    Returns:
        The Axes.

    Example:
        >>> from bbnn_uq import metrics
        >>> curve = metrics.roc_curve([0.1, 0.2], [0.15, 0.9])
        >>> roc_curves({"entropy": curve}).get_xlabel()
        'ID inputs flagged (false positive rate)'
    """
    axes = _axes(ax, (4.4, 4.4))
    axes.plot([0, 1], [0, 1], color=_INK, linewidth=1, linestyle="--")
    palette = sns.color_palette("colorblind", max(len(curves), 1))
    for (label, curve), colour, line in zip(
        curves.items(), palette, _cycled(_LINES, len(curves)), strict=False
    ):
        axes.plot(
            curve.fpr, curve.tpr, color=colour, linestyle=line, linewidth=1.6, label=_label(label)
        )
    axes.set(
        xlim=(-0.01, 1.01),
        ylim=(-0.01, 1.01),
        xlabel="ID inputs flagged (false positive rate)",
        ylabel="OOD inputs caught (true positive rate)",
        aspect="equal",
    )
    if curves:
        _plain(axes.legend(loc="lower right", framealpha=0.8, edgecolor="none"))
    sns.despine(ax=axes)
    return axes


def risk_coverage(curves: Mapping[str, RiskCoverageCurve], ax: Axes | None = None) -> Axes:
    """Error rate among the inputs that are kept, against the share that is kept.

    Between the points of a curve, where inputs of equal confidence are kept in part, the line is
    the expectation over their orderings.

    Args:
        curves: label → curve, from :func:`bbnn_uq.metrics.risk_coverage_curve`.
        ax: where to draw; a new figure when not given.

    Returns:
        The Axes.

    Example:
        >>> from bbnn_uq import metrics
        >>> curve = metrics.risk_coverage_curve([[0.9, 0.1], [0.6, 0.4]], [0, 1])
        >>> risk_coverage({"confidence": curve}).get_xlabel()
        'inputs kept (coverage)'
    """
    axes = _axes(ax, (4.4, 3.6))
    palette = sns.color_palette("colorblind", max(len(curves), 1))
    for (label, curve), colour, line in zip(
        curves.items(), palette, _cycled(_LINES, len(curves)), strict=False
    ):
        kept = np.union1d(curve.coverage, np.linspace(curve.coverage[0], 1.0, 200))
        ends = np.append(0.0, curve.coverage)
        errors = np.interp(kept, ends, ends * np.append(0.0, curve.risk))
        axes.plot(
            kept, errors / kept, color=colour, linestyle=line, linewidth=1.6, label=_label(label)
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
        _plain(axes.legend(loc="upper left", framealpha=0.8, edgecolor="none"))
    sns.despine(ax=axes)
    return axes


def interval_calibration(curve: IntervalCalibrationCurve, ax: Axes | None = None) -> Axes:
    """Share of targets below each predicted quantile, against its level, with intervals.

    Args:
        curve: from :func:`bbnn_uq.metrics.interval_calibration_curve`.
        ax: where to draw; a new figure when not given.

    Returns:
        The Axes.

    Example:
        >>> from bbnn_uq import metrics
        >>> curve = metrics.interval_calibration_curve([0.0, 0.0], [1.0, 1.0], [-0.5, 0.5])
        >>> interval_calibration(curve).get_xlabel()
        'level of the predicted quantile'
    """
    axes = _axes(ax, (4.4, 4.4))
    bars = np.abs(np.stack([curve.observed - curve.low, curve.high - curve.observed]))
    axes.plot([0, 1], [0, 1], color=_INK, linewidth=1, linestyle="--", label="calibrated")
    axes.errorbar(
        curve.levels, curve.observed, yerr=bars, color=sns.color_palette("colorblind")[0],
        marker="o", markersize=5, capsize=2.5, linewidth=1.4, label="model, Wilson interval",
    )  # fmt: skip
    axes.set(
        xlim=(-0.01, 1.01),
        ylim=(-0.01, 1.01),
        xlabel="level of the predicted quantile",
        ylabel="targets below it",
        aspect="equal",
    )
    axes.legend(loc="upper left", framealpha=0.8, edgecolor="none")
    sns.despine(ax=axes)
    return axes


def metric_against_networks(curve: MetricCurve, ax: Axes | None = None, *, ylabel: str) -> Axes:
    """A metric against the number of networks S′, on a logarithmic axis: are there enough?

    Points are means over disjoint subsets of the networks, bars one standard deviation between
    subsets: the Monte Carlo standard error at S′. The last point has all networks and no bar.

    Args:
        curve: from :func:`bbnn_uq.monte_carlo.metric_curve`.
        ax: where to draw; a new figure when not given.
        ylabel: name of the metric, with its unit.

    Returns:
        The Axes.

    Example:
        >>> points = ([1.0, 2.0], [0.5, 0.4], [0.1, np.nan], [2, 1])
        >>> curve = MetricCurve(*(np.array(column) for column in points))
        >>> metric_against_networks(curve, ylabel="NLL (nats)").get_xlabel()
        'number of networks'
    """
    axes = _axes(ax, (4.4, 3.4))
    known = np.isfinite(curve.std)
    blue = sns.color_palette("colorblind")[0]
    axes.plot(curve.num_networks, curve.mean, color=blue, marker="o", markersize=5, linewidth=1.4)
    axes.errorbar(
        curve.num_networks[known], curve.mean[known], yerr=curve.std[known],
        color=blue, linestyle="none", capsize=2.5, linewidth=1.4,
    )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_xticks(curve.num_networks, [f"{count:.4g}" for count in curve.num_networks])
    axes.minorticks_off()
    axes.set_xlabel("number of networks")
    axes.set_ylabel(ylabel, parse_math=False)
    sns.despine(ax=axes)
    return axes


def _axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    return plt.subplots(figsize=size, layout="constrained")[1] if ax is None else ax


def _common_edges(values: np.ndarray, count: int) -> list[float]:
    """Edges of ``count`` equal bins; wider ones where floats are too coarse for so many."""
    low, high = float(values.min()), float(values.max())
    edges = np.linspace(low, high, count + 1)
    if not (np.diff(edges) > 0).all():
        pad = max(0.5, 1e-6 * abs(low))
        edges = np.linspace(low - pad, high + pad, count + 1)
    return edges.tolist()


def _label(text: str) -> str:
    return f" {text}" if text.startswith("_") else text  # matplotlib hides labels such as _x


def _plain(legend: Legend) -> None:
    """Show names as they are: a dollar in one starts no formula."""
    for text in legend.get_texts():
        text.set_parse_math(False)


def _cycled(items: Sequence[str], count: int) -> list[str]:
    return [items[i % len(items)] for i in range(count)]


def _score_label(score: str) -> str:
    kind, _, temperature = score.partition("@")
    in_nats = ("entropy", "mutual_information", "expected_entropy", "pairwise_kl")
    unit = " (nats)" if kind in in_nats else ""
    sign = "−" if kind in ("confidence", "margin", "max_logit") else ""
    at = f", logits / {temperature}" if temperature else ""
    return f"{sign}{kind.replace('_', ' ')}{unit}{at}"
