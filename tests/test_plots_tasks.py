"""Figures of continual learning: they show the numbers they were given, and refuse others."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from bbnn_uq import plots

nan = np.nan
ACCURACY = [[0.9, nan, nan], [0.4, 0.95, nan], [0.1, 0.6, 1.0]]


@pytest.fixture(autouse=True)
def _no_figure_is_left_open():
    yield
    plt.close("all")


def new_axes():
    figure = Figure(figsize=(4.4, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    return figure.add_subplot()


CALLS = [
    lambda ax=None: plots.accuracy_matrix(ACCURACY, ax),
    lambda ax=None: plots.against_tasks({"a": [0.9, 0.5]}, ax, ylabel="accuracy"),
]


@pytest.mark.parametrize("call", CALLS)
def test_an_axes_that_is_given_is_used_and_none_made(call):
    axes = new_axes()
    assert call(axes) is axes
    assert plt.get_fignums() == []
    axes.figure.canvas.draw()
    assert call().figure.number == plt.get_fignums()[0]


# --- the matrix ------------------------------------------------------------------------------


def test_each_cell_states_the_accuracy_of_its_row_and_column():
    axes = plots.accuracy_matrix(ACCURACY, new_axes())
    # text is placed at (column, row): (tested on, after training on)
    found = {text.get_position(): text.get_text() for text in axes.texts}
    assert found == {
        (0, 0): "0.90", (0, 1): "0.40", (1, 1): "0.95",
        (0, 2): "0.10", (1, 2): "0.60", (2, 2): "1.00",
    }  # fmt: skip
    (image,) = axes.images
    np.testing.assert_array_equal(image.get_array().filled(nan), ACCURACY)
    assert image.get_clim() == (0.0, 1.0), "the same colours in every matrix"
    assert axes.get_xlabel() == "tested on task"
    assert axes.get_ylabel() == "after training on task"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["1", "2", "3"]
    assert axes.yaxis_inverted(), "later rows stand below"


def test_spread_is_stated_below_where_there_is_one():
    spread = [[0.01, nan], [0.129, nan]]
    axes = plots.accuracy_matrix([[0.9, nan], [0.5, 0.8]], new_axes(), spread=spread)
    assert [text.get_text() for text in axes.texts] == ["0.90\n± 0.01", "0.50\n± 0.13", "0.80"]


def luminance(colour):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return np.dot(linear, (0.2126, 0.7152, 0.0722))


@pytest.mark.parametrize("accuracy", np.linspace(0, 1, 21))
def test_numbers_can_be_read_on_every_colour(accuracy):
    axes = plots.accuracy_matrix([[accuracy]], new_axes())
    ground = axes.images[0].cmap(accuracy)[:3]
    light, dark = sorted((luminance(ground), luminance(axes.texts[0].get_color())), reverse=True)
    assert (light + 0.05) / (dark + 0.05) > 4.0  # 4.5 for small letters, 3 for large (WCAG)


# --- lines -----------------------------------------------------------------------------------


def test_lines_and_bars_are_the_numbers():
    values = {"chained": [0.9, 0.7, 0.6], "uniform": [0.9, 0.5]}
    spread = {"chained": [0.0, 0.1, 0.2], "uniform": [0.05, 0.05]}
    axes = plots.against_tasks(values, new_axes(), ylabel="mean accuracy", spread=spread)
    for container, (label, numbers) in zip(axes.containers, values.items(), strict=True):
        line, _, (bars,) = container.lines
        assert container.get_label() == label
        assert line.get_xdata().tolist() == list(range(1, len(numbers) + 1))
        assert line.get_ydata().tolist() == numbers
        ends = np.array(bars.get_segments())[:, :, 1]
        np.testing.assert_allclose(ends.mean(axis=1), numbers)
        np.testing.assert_allclose(np.diff(ends, axis=1)[:, 0], 2 * np.array(spread[label]))
    first, second = (container.lines[0] for container in axes.containers)
    assert first.get_linestyle() != second.get_linestyle(), "told apart in grey"
    assert axes.get_xticks().tolist() == [1, 2, 3]
    assert axes.get_ylabel() == "mean accuracy"


def test_without_spread_there_are_no_bars():
    axes = plots.against_tasks({"a": [0.9, 0.5]}, new_axes(), ylabel="accuracy")
    assert len(axes.collections) == 0


def test_names_are_shown_as_they_are():
    axes = plots.against_tasks({"_a$b$": [0.9]}, new_axes(), ylabel="cost ($")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [" _a$b$"]
    axes.figure.canvas.draw()


# --- what they refuse ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accuracy", "spread", "error", "message"),
    [
        ([[0.9, 0.5]], None, ValueError, r"accuracy must have shape \(T, T\)"),
        ([0.9], None, ValueError, r"accuracy must have shape \(T, T\)"),
        (np.zeros((0, 0)), None, ValueError, r"accuracy must have shape \(T, T\)"),
        ([[93.0]], None, ValueError, r"accuracy must lie in \[0, 1\].*divide percentages by 100"),
        ([[-0.1]], None, ValueError, "accuracy must hold numbers"),
        ([[nan]], None, ValueError, "accuracy must hold numbers"),
        ([["high"]], None, TypeError, "accuracy must be a matrix of numbers"),
        ([[0.9]], [[0.1, 0.1], [0.1, 0.1]], ValueError, r"spread must have shape \(1, 1\)"),
        ([[0.9]], [[-0.1]], ValueError, "spread must hold numbers"),
        ([[0.9]], [[np.inf]], ValueError, "spread must hold numbers"),
    ],
)
def test_a_matrix_that_does_not_fit_is_refused(accuracy, spread, error, message):
    with pytest.raises(error, match=message):
        plots.accuracy_matrix(accuracy, spread=spread)
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("values", "spread", "error", "message"),
    [
        ([0.9, 0.5], None, TypeError, "values must be a dictionary label -> numbers"),
        ({}, None, ValueError, "values is empty"),
        ({"a": [0.9, nan]}, None, ValueError, r"values\['a'\] must be finite"),
        ({"a": [[0.9]]}, None, ValueError, r"values\['a'\] must have shape \(N,\)"),
        ({"a": [0.9]}, {"b": [0.1]}, ValueError, r"spread\['a'\] must have shape \(1,\), got noth"),
        ({"a": [0.9]}, {"a": [0.1, 0.1]}, ValueError, r"spread\['a'\] must have shape \(1,\)"),
        ({"a": [0.9]}, {"a": [-0.1]}, ValueError, r"spread\['a'\] must be at least 0, got -0.1"),
        ({"a": [0.9]}, [0.1], TypeError, "spread must be a dictionary"),
    ],
)
def test_lines_that_do_not_fit_are_refused(values, spread, error, message):
    with pytest.raises(error, match=message):
        plots.against_tasks(values, ylabel="accuracy", spread=spread)
    assert plt.get_fignums() == []
