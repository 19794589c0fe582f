"""Differences with their intervals around 0, one below the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from bbnn_uq.metrics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["forest", "forest_size"]


def forest(differences: Mapping[str, Interval], ax: Axes, *, metric: str, better: str) -> Axes:
    """A row for each difference: its value, the bar of its interval, and a line at 0.

    Dots are filled where the interval excludes 0.

    Args:
        differences: name → difference with finite ends.
        ax: where to draw.
        metric: name of the metric, for the axis.
        better: ``higher`` or ``lower``.

    Returns:
        The Axes.

    Example:
        >>> from matplotlib.figure import Figure
        >>> drawn = {"b": Interval(-0.2, -0.3, 0.1)}
        >>> forest(drawn, Figure().subplots(), metric="ECE", better="lower").get_xlabel()
        'difference in ECE (lower is better)'
    """
    import seaborn as sns

    colour = sns.color_palette("colorblind")[0]
    ax.axvline(0.0, color=ax.xaxis.label.get_color(), linewidth=1, linestyle="--")
    for row, difference in enumerate(differences.values()):
        clear = difference.low > 0.0 or difference.high < 0.0
        ax.plot([difference.low, difference.high], [row, row], color=colour, linewidth=1.8)
        ax.plot(
            difference.value, row, marker="o", markersize=6, color=colour, markeredgewidth=1.5,
            markerfacecolor=colour if clear else ax.get_facecolor(),
        )  # fmt: skip
    ax.set_yticks(range(len(differences)), list(differences))
    for label in ax.get_yticklabels():
        label.set_parse_math(False)  # a name may hold dollar signs
    ax.set_ylim(len(differences) - 0.4, -0.6)
    ax.margins(x=0.08)
    ax.locator_params(axis="x", nbins=5)
    ax.set_xlabel(f"difference in {metric} ({better} is better)")
    ax.grid(axis="x", linewidth=0.6, alpha=0.35)
    ax.set_axisbelow(True)
    sns.despine(ax=ax, left=True)
    ax.tick_params(axis="y", length=0)
    return ax


def forest_size(count: int) -> tuple[float, float]:
    """Width and height in inches of a figure of so many rows."""
    return 3.8, 0.75 + 0.3 * count
