"""A metric against the number of networks."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from bbnn_uq.monte_carlo import MetricCurve
from bbnn_uq.plots._style import check_curve, finish, given_axes, palette

__all__ = ["metric_against_networks"]


def metric_against_networks(curve: Any, ax: Any = None, *, ylabel: str) -> Axes:
    """A metric against the number of networks S′, on a logarithmic axis: are there enough?

    Points are means over disjoint subsets of the networks, bars one standard deviation between
    subsets: the Monte Carlo standard error at S′. The last point has all networks and no bar.

    Args:
        curve: from :func:`bbnn_uq.monte_carlo.metric_curve`.
        ax: where to draw; a new figure when not given.
        ylabel: name of the metric, with its unit.

    Returns:
        The Axes.

    Raises:
        TypeError: ``curve`` is no such curve.

    Example:
        >>> points = ([1.0, 2.0], [0.5, 0.4], [0.1, np.nan], [2, 1])
        >>> curve = MetricCurve(*(np.array(column) for column in points))
        >>> metric_against_networks(curve, ylabel="NLL (nats)").get_xlabel()
        'number of networks'
    """
    check_curve(curve, MetricCurve, "curve", "metric_curve", module="monte_carlo")
    axes = given_axes(ax, (4.4, 3.4))
    known = np.isfinite(curve.std)
    blue = palette(1)[0]
    axes.plot(curve.num_networks, curve.mean, color=blue, marker="o", markersize=5, linewidth=1.4)
    axes.errorbar(
        curve.num_networks[known], curve.mean[known], yerr=curve.std[known],
        color=blue, linestyle="none", capsize=2.5, linewidth=1.4,
    )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_xticks(curve.num_networks, [_short(count) for count in curve.num_networks])
    axes.minorticks_off()
    axes.set_xlabel("number of networks")
    axes.set_ylabel(ylabel, parse_math=False)
    finish(axes)
    return axes


def _short(count: float) -> str:
    """A mean number of networks: 4.6, and 32."""
    return f"{count:.1f}".removesuffix(".0")
