"""Figures of the posterior itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from bbnn_uq._checks import check_real_array
from bbnn_uq.plots._style import finish, given_axes, legend_above, series, visible_label
from bbnn_uq.posterior import SATURATED_FLIP_PROBABILITY

__all__ = ["natural_param_histograms"]


def natural_param_histograms(histograms: Any, ax: Any = None) -> Axes:
    """Histograms of |λ| over the weights of posteriors, on a logarithmic axis.

    A drawn weight differs from the mode with probability σ(−2|λ|) (Meng, Bachmann, Khan 2020,
    section 3). A vertical line stands where this is 2⁻²⁴, the resolution of :func:`bbnn_uq.draw`:
    weights beyond it hardly ever change, or never.

    Args:
        histograms: label → the pair (counts (B,), edges (B + 1,)) that ``numpy.histogram`` gives
            of |λ|. All share their edges, which are positive; a magnitude outside them, such as
            0, is in no bin unless it was clipped to them.
        ax: where to draw; a new figure when not given.

    Returns:
        The Axes. Heights are shares of the weights that were counted.

    Raises:
        TypeError: ``histograms`` is no dictionary of such pairs.
        ValueError: there is none, their edges differ or do not increase from above 0, or counts
            are negative, all 0, or not one for each bin.

    Example:
        >>> edges = np.geomspace(0.01, 100.0, 9)
        >>> magnitudes = np.clip([0.0, 0.5, 2.0, 30.0], 0.01, 100.0)
        >>> ax = natural_param_histograms({"posterior": np.histogram(magnitudes, edges)})
        >>> ax.get_xscale(), ax.get_ylabel()
        ('log', 'share of weights')
    """
    shares, edges = _checked(histograms)
    axes = given_axes(ax, (5.6, 3.6))
    for (label, share), (colour, line) in zip(shares.items(), series(len(shares)), strict=True):
        axes.stairs(share, edges, fill=True, color=colour, alpha=0.15)
        axes.stairs(
            share, edges, color=colour, linestyle=line, linewidth=1.6, label=visible_label(label)
        )
    # σ(−2|λ|) is the saturated probability here.
    saturated = 0.5 * math.log(1.0 / SATURATED_FLIP_PROBABILITY - 1.0)
    if edges[0] <= saturated <= edges[-1]:
        axes.axvline(
            saturated, color=plt.rcParams["axes.edgecolor"], alpha=0.75, linewidth=1,
            linestyle=(0, (1, 3)), label="flip probability 2⁻²⁴",
        )  # fmt: skip
    axes.set(
        xscale="log",
        xlim=(edges[0], edges[-1]),
        ylim=(0.0, None),
        xlabel="magnitude of the natural parameter, |λ|",
        ylabel="share of weights",
    )
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    legend_above(axes, columns=2)
    finish(axes)
    return axes


def _checked(histograms: Any) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Shares of weights by label, and the edges that all have in common."""
    if not isinstance(histograms, Mapping):
        raise TypeError(
            f"histograms must be a dictionary label -> (counts, edges), got "
            f'{type(histograms).__name__}; pass {{"label": numpy.histogram(magnitudes, edges)}}'
        )
    if not histograms:
        raise ValueError("histograms is empty; it needs at least one posterior's")
    shares: dict[str, np.ndarray] = {}
    common = np.empty(0)
    for label, pair in histograms.items():
        name = f"histograms[{label!r}]"
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(
                f"{name} must be a pair (counts, edges), got {type(pair).__name__}; "
                "numpy.histogram(magnitudes, edges) makes one"
            )
        counts = check_real_array(pair[0], f"{name} counts")
        edges = check_real_array(pair[1], f"{name} edges")
        _check_histogram(counts, edges, name)
        if shares and not np.array_equal(edges, common):
            raise ValueError(
                f"{name} has other edges than {next(iter(histograms))!r}; pass the same edges to "
                "numpy.histogram for all"
            )
        common = edges
        shares[label] = counts / counts.sum()
    return shares, common


def _check_histogram(counts: np.ndarray, edges: np.ndarray, name: str) -> None:
    if counts.ndim != 1 or edges.shape != (len(counts) + 1,):
        raise ValueError(
            f"{name} must hold B counts and B + 1 edges, got shapes {counts.shape} and "
            f"{edges.shape}; pass what numpy.histogram returns"
        )
    if edges[0] <= 0 or (np.diff(edges) <= 0).any():
        raise ValueError(
            f"{name} edges must increase from above 0, got {edges[0]:g} to {edges[-1]:g}; a "
            "logarithmic axis has no 0: take numpy.geomspace(1e-3, 1e9, 61), say"
        )
    if counts.min() < 0 or counts.sum() == 0:
        raise ValueError(
            f"{name} counts must be at least 0 with one above, got {counts.min():g} to "
            f"{counts.max():g}; clip |λ| to the edges, so that every weight is counted"
        )
