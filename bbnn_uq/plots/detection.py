"""Figures of out-of-distribution detection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from bbnn_uq._checks import check_scores
from bbnn_uq.metrics import RocCurve
from bbnn_uq.plots._style import (
    check_curves,
    diagonal,
    finish,
    given_axes,
    legend_above,
    series,
    stated,
    visible_label,
    without_math,
)

__all__ = ["FEW_LABELS", "ood_histograms", "roc_curves"]

FEW_LABELS = 5
"""More labels than these would not fit into the empty corner below ROC curves."""


def ood_histograms(scores: Any, ax: Any = None, *, score: str, auroc: Any = None) -> Axes:
    """Histograms of one score on the ID set and on OOD sets, over common bin edges.

    Args:
        scores: set name → scores (N,); the first set is the ID one.
        ax: where to draw; a new figure when not given.
        score: name of the score, for the axis.
        auroc: to state in the figure, an :class:`~bbnn_uq.metrics.Interval`.

    Returns:
        The Axes.

    Raises:
        TypeError: ``scores`` is no dictionary.
        ValueError: fewer than one set, or scores that are not finite.

    Example:
        >>> ax = ood_histograms({"id": [0.1, 0.2], "ood": [0.8, 0.9]}, score="entropy")
        >>> ax.get_xlabel()
        'entropy (nats)'
    """
    if not isinstance(scores, Mapping):
        raise TypeError(
            f"scores must be a dictionary set name -> scores, got {type(scores).__name__}; pass "
            '{"id": id_scores, "ood": ood_scores}'
        )
    if not scores:
        raise ValueError("scores is empty; it needs at least the ID set")
    arrays = {name: check_scores(values, f"scores[{name!r}]") for name, values in scores.items()}
    title = None if auroc is None else stated("AUROC", auroc, "auroc")
    axes = given_axes(ax, (5.6, 3.6))
    edges = _common_edges(np.concatenate(list(arrays.values())), 40)
    for (name, values), (colour, line) in zip(arrays.items(), series(len(arrays)), strict=True):
        share = np.full(len(values), 1.0 / len(values))
        axes.hist(
            values, bins=edges, weights=share, histtype="stepfilled", color=colour, alpha=0.25
        )
        axes.hist(
            values, bins=edges, weights=share, histtype="step", color=colour, linestyle=line,
            linewidth=1.6, label=visible_label(f"{name} ({len(values):,})"),
        )  # fmt: skip
    legend_above(axes, title=title)
    axes.set(xlabel=_score_label(score), ylabel="share of inputs")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.xaxis.set_major_locator(MaxNLocator(6))  # energies of raw data have long numbers
    finish(axes)
    return axes


def roc_curves(curves: Any, ax: Any = None) -> Axes:
    """ROC curves of OOD detection: share of OOD caught against share of ID flagged.

    Args:
        curves: label → curve, from :func:`bbnn_uq.metrics.roc_curve`.
        ax: where to draw; a new figure when not given.

    Returns:
        The Axes.

    Raises:
        TypeError: ``curves`` is no dictionary of such curves.

    Example:
        >>> from bbnn_uq import metrics
        >>> curve = metrics.roc_curve([0.1, 0.2], [0.15, 0.9])
        >>> roc_curves({"entropy": curve}).get_xlabel()
        'ID inputs flagged (false positive rate)'
    """
    check_curves(curves, RocCurve, "roc_curve")
    few = len(curves) <= FEW_LABELS
    axes = given_axes(ax, (4.4 if few else 6.4, 4.4))
    diagonal(axes)
    for (label, curve), (colour, line) in zip(curves.items(), series(len(curves)), strict=True):
        axes.plot(
            curve.fpr,
            curve.tpr,
            color=colour,
            linestyle=line,
            linewidth=1.6,
            label=visible_label(label),
        )
    axes.set(
        xlim=(-0.01, 1.01),
        ylim=(-0.01, 1.01),
        xlabel="ID inputs flagged (false positive rate)",
        ylabel="OOD inputs caught (true positive rate)",
        aspect="equal",
    )
    if curves and few and not any(_in_corner(curve) for curve in curves.values()):
        without_math(axes.legend(loc="lower right", frameon=False, fontsize="small"))
    elif curves and few:
        legend_above(axes)
    elif curves:
        beside = axes.legend(
            loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize="small"
        )
        without_math(beside)
    finish(axes)
    return axes


def _in_corner(curve: RocCurve) -> bool:
    """Whether a curve, of a score worse than chance, goes where the legend else would stand."""
    return bool(((curve.fpr > 0.35) & (curve.tpr < 0.35)).any())


def _common_edges(values: np.ndarray, count: int) -> list[float]:
    """Edges of ``count`` equal bins; wider ones where floats are too coarse for so many."""
    low, high = float(values.min()), float(values.max())
    edges = np.linspace(low, high, count + 1)
    if not (np.diff(edges) > 0).all():
        pad = max(0.5, 1e-6 * abs(low))
        edges = np.linspace(low - pad, high + pad, count + 1)
    return edges.tolist()


def _score_label(score: str) -> str:
    kind, _, temperature = score.partition("@")
    in_nats = ("entropy", "mutual_information", "expected_entropy", "pairwise_kl")
    unit = " (nats)" if kind in in_nats else ""
    sign = "−" if kind in ("confidence", "margin", "max_logit") else ""
    at = f", logits / {temperature}" if temperature else ""
    return f"{sign}{kind.replace('_', ' ')}{unit}{at}"
