"""Figures of continual learning: what is left of each task after the next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float64
from matplotlib.axes import Axes

from bbnn_uq._checks import check_scores
from bbnn_uq.plots._style import finish, given_axes, legend_above, series, visible_label

__all__ = ["accuracy_matrix", "against_tasks"]


def accuracy_matrix(accuracy: Any, ax: Any = None, *, spread: Any = None) -> Axes:
    """Accuracy on each task (column) after training on each (row), as an annotated heat map.

    Args:
        accuracy: a_ji in [0, 1], accuracy on task i after task j, (T, T); NaN for tasks not seen
            by then, whose cells stay empty. As of :class:`bbnn_uq.continual.ContinualResult`, or
            its mean over seeds.
        ax: where to draw; a new figure when not given.
        spread: to state after ± in each cell, (T, T), such as the standard deviation over seeds.

    Returns:
        The Axes.

    Raises:
        TypeError, ValueError: a matrix is not square, not of numbers, or out of its range.

    Example:
        >>> ax = accuracy_matrix([[0.9, np.nan], [0.5, 0.8]])
        >>> [text.get_text() for text in ax.texts]
        ['0.90', '0.50', '0.80']
    """
    values = _square(accuracy, "accuracy")
    if np.nanmax(values) > 1.0:
        raise ValueError(
            f"accuracy must lie in [0, 1], got values up to {np.nanmax(values):g}; divide "
            "percentages by 100"
        )
    errors = None if spread is None else _square(spread, "spread")
    if errors is not None and errors.shape != values.shape:
        raise ValueError(f"spread must have shape {values.shape}, got {errors.shape}")
    count = len(values)
    axes = given_axes(ax, (1.6 + 0.95 * count, 1.1 + 0.8 * count))
    image = axes.imshow(np.ma.masked_invalid(values), cmap="cividis", vmin=0.0, vmax=1.0)
    for row, column in np.argwhere(np.isfinite(values)):
        text = f"{values[row, column]:.2f}"
        if errors is not None and np.isfinite(errors[row, column]):
            text += f"\n± {errors[row, column]:.2f}"
        # cividis is dark at 0 and light at 1.
        ink = "white" if values[row, column] < 0.5 else "black"
        axes.text(column, row, text, ha="center", va="center", color=ink)
    numbers = [str(number) for number in range(1, count + 1)]
    axes.set_xticks(range(count), numbers)
    axes.set_yticks(range(count), numbers)
    axes.set(xlabel="tested on task", ylabel="after training on task")
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.8)
    bar.set_label("accuracy")
    return axes


def against_tasks(values: Any, ax: Any = None, *, ylabel: str, spread: Any = None) -> Axes:
    """One number after each task, for several ways of training, with bars of their spread.

    Args:
        values: label → numbers after 1, …, T tasks, (T,), such as ``mean_accuracy`` of
            :class:`bbnn_uq.continual.ContinualResult`, or its mean over seeds.
        ax: where to draw; a new figure when not given.
        ylabel: name of the number, with its unit.
        spread: label → half-lengths of bars, (T,), at least 0.

    Returns:
        The Axes.

    Raises:
        TypeError, ValueError: ``values`` or ``spread`` is no such dictionary, or the two differ in
            labels or lengths.

    Example:
        >>> ax = against_tasks({"chained": [0.9, 0.7]}, ylabel="mean accuracy")
        >>> ax.get_xlabel()
        'tasks trained on'
    """
    lines = _by_label(values, "values")
    errors = None if spread is None else _by_label(spread, "spread")
    if errors is not None:
        for label, each in lines.items():
            if label not in errors or errors[label].shape != each.shape:
                found = errors[label].shape if label in errors else "nothing"
                raise ValueError(f"spread[{label!r}] must have shape {each.shape}, got {found}")
            if errors[label].min() < 0.0:
                raise ValueError(
                    f"spread[{label!r}] must be at least 0, got {errors[label].min():g}"
                )
    axes = given_axes(ax, (4.6, 3.6))
    for (label, each), (colour, line) in zip(lines.items(), series(len(lines)), strict=True):
        axes.errorbar(
            np.arange(1, len(each) + 1), each, yerr=None if errors is None else errors[label],
            color=colour, linestyle=line, marker="o", markersize=5, capsize=2.5, linewidth=1.6,
            label=visible_label(label),
        )  # fmt: skip
    longest = max(len(each) for each in lines.values())
    axes.set_xticks(range(1, longest + 1))
    axes.set_xlabel("tasks trained on")
    axes.set_ylabel(ylabel, parse_math=False)
    legend_above(axes)
    finish(axes)
    return axes


def _square(values: Any, name: str) -> Float64[np.ndarray, "T T"]:
    """A matrix (T, T) of numbers at least 0, some of which may be NaN."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be a matrix of numbers: {error}") from None
    if array.ndim != 2 or array.shape[0] != array.shape[1] or array.size == 0:
        raise ValueError(f"{name} must have shape (T, T) for T tasks, got {array.shape}")
    if np.isnan(array).all() or np.nanmin(array) < 0.0 or np.isinf(array).any():
        raise ValueError(
            f"{name} must hold numbers that are finite and at least 0, NaN only where a task was "
            "not seen"
        )
    return array


def _by_label(values: Any, name: str) -> dict[str, Float64[np.ndarray, "T"]]:
    if not isinstance(values, Mapping):
        raise TypeError(
            f"{name} must be a dictionary label -> numbers, got {type(values).__name__}; pass "
            '{"label": numbers}'
        )
    if not values:
        raise ValueError(f"{name} is empty; it needs at least one label")
    return {label: check_scores(each, f"{name}[{label!r}]") for label, each in values.items()}
