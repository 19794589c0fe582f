"""What all figures share: checks of arguments, axes, colours, lines, and legends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.legend import Legend

from bbnn_uq.metrics import Interval

__all__ = [
    "check_curve",
    "check_curves",
    "diagonal",
    "finish",
    "given_axes",
    "legend_above",
    "palette",
    "series",
    "stated",
    "visible_label",
    "without_math",
]

_LINES: tuple[Any, ...] = (
    "-",
    "--",
    ":",
    "-.",
    (0, (5, 1, 1, 1, 1, 1)),
    (0, (10, 2)),
    (0, (1, 4)),
    (0, (10, 2, 2, 2)),
    (0, (3, 4)),
    (0, (10, 2, 1, 2, 1, 2)),
)


def check_curve(
    curve: Any, kind: type, argument: str, maker: str, *, module: str = "metrics"
) -> None:
    """Raise a TypeError that names the function that makes such a curve."""
    if not isinstance(curve, kind):
        article = "an" if kind.__name__[0] in "AEIO" else "a"
        raise TypeError(
            f"{argument} must be {article} {kind.__name__}, got {type(curve).__name__}; "
            f"bbnn_uq.{module}.{maker} makes one"
        )


def check_curves(curves: Any, kind: type, maker: str) -> None:
    """The same of a dictionary of curves."""
    if not isinstance(curves, Mapping):
        raise TypeError(
            f"curves must be a dictionary label -> {kind.__name__}, got {type(curves).__name__}; "
            f'pass {{"label": curve}} with a curve from bbnn_uq.metrics.{maker}'
        )
    for label, curve in curves.items():
        check_curve(curve, kind, f"curves[{label!r}]", maker)


def stated(metric: str, interval: Any, argument: str) -> str:
    """A metric with its interval, for a title."""
    check_curve(interval, Interval, argument, "bootstrap_interval")
    return f"{metric} {interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def given_axes(ax: Any, size: tuple[float, float]) -> Axes:
    """The Axes that were given, or those of a new figure."""
    if ax is None:
        return plt.subplots(figsize=size, layout="constrained")[1]
    if not isinstance(ax, Axes):
        raise TypeError(
            f"ax must be a matplotlib Axes, got {type(ax).__name__}; give one panel of a figure, "
            "such as axes[0] of plt.subplots"
        )
    return ax


def finish(axes: Axes) -> None:
    """No box, and faint lines across."""
    sns.despine(ax=axes)
    axes.grid(axis="y", alpha=0.35, linewidth=0.6)
    axes.set_axisbelow(True)


def diagonal(axes: Axes, label: str | None = None) -> None:
    """The dashed line where both axes are equal."""
    axes.plot(
        [0, 1], [0, 1], color=plt.rcParams["axes.edgecolor"], alpha=0.75, linewidth=1,
        linestyle="--", label=label,
    )  # fmt: skip


def legend_above(axes: Axes, *, title: str | None = None, columns: int = 1) -> None:
    """A legend where it covers no data."""
    legend = axes.legend(
        loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=columns, title=title, frameon=False,
        fontsize="small", borderaxespad=0.2, borderpad=0.2, columnspacing=1.0, handlelength=1.6,
    )  # fmt: skip
    without_math(legend)


def palette(count: int) -> list[tuple[float, float, float]]:
    """Colours that colour-blind readers can tell apart; they repeat beyond ten."""
    return sns.color_palette("colorblind", max(count, 1))  # pyright: ignore[reportReturnType]


def series(count: int) -> list[tuple[tuple[float, float, float], Any]]:
    """Colour and line style of each of so many series."""
    return [(colour, _LINES[i % len(_LINES)]) for i, colour in enumerate(palette(count)[:count])]


def visible_label(text: str) -> str:
    """A label that is shown."""
    return f" {text}" if text.startswith("_") else text  # matplotlib hides labels such as _x


def without_math(legend: Legend) -> None:
    """Show names as they are: a dollar in one starts no formula."""
    for text in legend.get_texts():
        text.set_parse_math(False)
