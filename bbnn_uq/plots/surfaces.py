"""Figures of predictions over their inputs: surfaces over two, bands over one."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float64
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.contour import QuadContourSet
from matplotlib.ticker import MaxNLocator

from bbnn_uq._checks import check_labels, check_real_array, check_scores
from bbnn_uq.plots._style import check_curve, finish, given_axes, legend_above, palette
from bbnn_uq.regression import RegressionPredictive

__all__ = ["probability_surface", "regression_band", "uncertainty_surface"]

_MARKERS = ("o", "^")
_LIGHT = ("#b3d5e8", "#f5ddb4")  # blue and orange of the palette, 70 % white


def probability_surface(
    x1: Any, x2: Any, probability: Any, ax: Any = None, *, points: Any = None, labels: Any = None
) -> Axes:
    """The probability of class 1 over a grid of two inputs, with training points.

    Blue is class 0, orange class 1, white 0.5. In grey both ends are darker than the middle, so
    lines stand at 0.1 (dotted), 0.5 (solid) and 0.9 (dashed), and classes have markers of their
    own.

    Args:
        x1: ascending values along the horizontal axis, (K,).
        x2: ascending values along the vertical axis, (L,).
        probability: P(y = 1), (L, K): a row for each of ``x2``.
        ax: where to draw; a new figure when not given.
        points: inputs (N, 2) to show.
        labels: classes 0 and 1 of the points, (N,).

    Returns:
        The Axes.

    Raises:
        TypeError, ValueError: shapes do not fit each other, ``x1`` or ``x2`` is not ascending,
            probabilities lie outside [0, 1], labels are neither 0 nor 1, or only one of
            ``points`` and ``labels`` is given.

    Example:
        >>> ax = probability_surface([0, 1], [0, 1], [[0.1, 0.4], [0.6, 0.9]])
        >>> ax.get_xlabel()
        'x1'
    """
    x1, x2, surface = _grid(x1, x2, probability, "probability")
    if surface.min() < 0.0 or surface.max() > 1.0:
        raise ValueError(
            f"probability must lie in [0, 1], got values from {surface.min():g} to "
            f"{surface.max():g}; pass one class's column of probs, not logits"
        )
    known = _classes(points, labels)
    axes = given_axes(ax, (4.4, 4.2))
    blue, orange = palette(2)
    colours = LinearSegmentedColormap.from_list("blue_white_orange", [blue, "white", orange])
    filled = axes.contourf(x1, x2, surface, np.linspace(0.0, 1.0, 21), cmap=colours)
    lines = axes.contour(
        x1, x2, surface, [0.1, 0.5, 0.9], colors="black", linewidths=[1.0, 1.8, 1.0],
        linestyles=[":", "-", "--"],
    )  # fmt: skip
    _finish_surface(axes, filled, lines, "P(y = 1)", np.linspace(0.0, 1.0, 6).tolist(), known)
    return axes


def uncertainty_surface(
    x1: Any,
    x2: Any,
    values: Any,
    ax: Any = None,
    *,
    label: str,
    points: Any = None,
    labels: Any = None,
) -> Axes:
    """An uncertainty, such as mutual information, over a grid of two inputs.

    The colours grow lighter from 0 to the largest value, in grey too.

    Args:
        x1: ascending values along the horizontal axis, (K,).
        x2: ascending values along the vertical axis, (L,).
        values: the uncertainty, at least 0, (L, K): a row for each of ``x2``.
        ax: where to draw; a new figure when not given.
        label: name of the uncertainty, with its unit.
        points: inputs (N, 2) to show.
        labels: classes 0 and 1 of the points, (N,).

    Returns:
        The Axes.

    Raises:
        TypeError, ValueError: as :func:`probability_surface`; an uncertainty is negative.

    Example:
        >>> unsure = [[0.0, 0.1], [0.1, 0.4]]
        >>> ax = uncertainty_surface([0, 1], [0, 1], unsure, label="mutual information (nats)")
        >>> ax.get_ylabel()
        'x2'
    """
    x1, x2, surface = _grid(x1, x2, values, "values")
    if surface.min() < 0.0:
        raise ValueError(f"values must be at least 0, got {surface.min():g}; negate the score")
    known = _classes(points, labels)
    axes = given_axes(ax, (4.4, 4.2))
    levels = np.array(MaxNLocator(8).tick_values(0.0, surface.max() or 1.0))
    filled = axes.contourf(x1, x2, surface, levels, cmap="cividis")
    _finish_surface(axes, filled, None, label, levels[::2].tolist(), known)
    return axes


def regression_band(
    x: Any, predictive: Any, ax: Any = None, *, data: Any = None, function: Any = None
) -> Axes:
    """A prediction of real targets over one input, with bands of ±2 epistemic and total std.

    Args:
        x: ascending inputs (N,).
        predictive: of these inputs, a :class:`bbnn_uq.RegressionPredictive` of one target.
        ax: where to draw; a new figure when not given.
        data: a pair (inputs, targets), both (M,), to show.
        function: the true mean at ``x``, (N,), where it is known.

    Returns:
        The Axes.

    Raises:
        TypeError, ValueError: ``predictive`` is none, or shapes do not fit each other.

    Example:
        >>> columns = (np.zeros(3), np.array([0.3, 0.1, 0.3]), np.full(3, 0.2))
        >>> predictive = RegressionPredictive(*columns, 32, 0, "monte_carlo")
        >>> ax = regression_band([0.0, 1.0, 2.0], predictive)
        >>> [text.get_text() for text in ax.get_legend().get_texts()]
        ['±2 std, total', '±2 std, epistemic', 'prediction']
    """
    x = _ascending(x, "x")
    check_curve(predictive, RegressionPredictive, "predictive", "predict", module="inference")
    _check_shape(predictive.mean, x.shape, "predictive.mean")
    pair = None if data is None else _pair(data)
    truth = None if function is None else check_scores(function, "function")
    if truth is not None:
        _check_shape(truth, x.shape, "function")
    axes = given_axes(ax, (5.6, 3.6))
    blue, orange = palette(2)
    for name, std, alpha in (
        ("total", predictive.std, 0.22),
        ("epistemic", predictive.epistemic_std, 0.5),
    ):
        if std.any():  # a single network has no epistemic band
            low, high = predictive.mean - 2.0 * std, predictive.mean + 2.0 * std
            axes.fill_between(
                x, low, high, color=blue, alpha=alpha, linewidth=0, label=f"±2 std, {name}"
            )
    ink = plt.rcParams["axes.edgecolor"]
    if pair is not None:
        axes.plot(*pair, ".", color=ink, markersize=3, alpha=0.7, label="data")
    if truth is not None:
        axes.plot(x, truth, color=ink, linestyle="--", linewidth=1.2, label="function")
    # The edge keeps the line apart from the bands in grey.
    edge = [patheffects.withStroke(linewidth=3.6, foreground=axes.get_facecolor())]
    axes.plot(
        x, predictive.mean, color=orange, linestyle="-", linewidth=2.0, path_effects=edge,
        label="prediction",
    )  # fmt: skip
    axes.set(xlim=(x[0], x[-1]), xlabel="x", ylabel="y")
    legend_above(axes, columns=3)
    finish(axes)
    return axes


def _finish_surface(
    axes: Axes,
    filled: QuadContourSet,
    lines: QuadContourSet | None,
    label: str,
    ticks: list[float],
    known: tuple[np.ndarray, np.ndarray] | None,
) -> None:
    """Colour bar, points and names of the axes."""
    bar = axes.figure.colorbar(
        filled, ax=axes, ticks=ticks, location="bottom", aspect=30, format="%.2g"
    )
    if lines is not None:
        bar.add_lines(lines, erase=False)
    bar.set_label(label)
    if known is not None:
        points, labels = known
        # Light, since a point mostly lies on the colour of its own class.
        for number, (marker, colour) in enumerate(zip(_MARKERS, _LIGHT, strict=True)):
            if (labels == number).any():
                axes.scatter(
                    *points[labels == number].T, s=14, marker=marker, color=colour,
                    edgecolors="black", linewidths=0.5, label=f"class {number}",
                )  # fmt: skip
        legend_above(axes, columns=2)
    axes.set(xlabel="x1", ylabel="x2")


def _grid(
    x1: Any, x2: Any, values: Any, name: str
) -> tuple[Float64[np.ndarray, "K"], Float64[np.ndarray, "L"], Float64[np.ndarray, "L K"]]:
    x1, x2 = _ascending(x1, "x1"), _ascending(x2, "x2")
    surface = check_real_array(values, name)
    _check_shape(surface, (len(x2), len(x1)), name)
    return x1, x2, surface


def _ascending(values: Any, name: str) -> Float64[np.ndarray, "K"]:
    array = check_scores(values, name)
    if len(array) < 2 or not (np.diff(array) > 0.0).all():
        raise ValueError(
            f"{name} must hold at least 2 ascending values, got shape {array.shape}; "
            "sort it, and the values with it"
        )
    return array


def _check_shape(array: np.ndarray, wanted: tuple[int, ...], name: str) -> None:
    if array.shape != wanted:
        raise ValueError(f"{name} must have shape {wanted}, got {array.shape}")


def _classes(points: Any, labels: Any) -> tuple[np.ndarray, np.ndarray] | None:
    if points is None and labels is None:
        return None
    if points is None or labels is None:
        missing = "points" if points is None else "labels"
        raise ValueError(f"{missing} must be given as well: points come with their labels")
    places = check_real_array(points, "points")
    if places.ndim != 2 or places.shape[1] != 2:
        raise ValueError(f"points must have shape (N, 2), got {places.shape}")
    return places, check_labels(labels, num_inputs=len(places), num_classes=len(_MARKERS))


def _pair(data: Any) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise TypeError(f"data must be a pair (inputs, targets), got {type(data).__name__}")
    inputs, targets = (check_scores(each, f"data[{i}]") for i, each in enumerate(data))
    _check_shape(targets, inputs.shape, "data[1]")
    return inputs, targets
