"""Surfaces and bands: they show the numbers they were given, and refuse others."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from bbnn_uq import plots
from bbnn_uq.regression import RegressionPredictive

X1, X2 = np.linspace(0, 4, 5), np.linspace(0, 2, 3)
POINTS = [[0.5, 1.0], [1.5, 1.5], [3.5, 0.5]]


@pytest.fixture(autouse=True)
def _no_figure_is_left_open():
    yield
    plt.close("all")


def new_axes():
    figure = Figure(figsize=(4.4, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    return figure.add_subplot()


def rising():
    """P(y = 1) = x1 / 4 at each of the grid's points."""
    return np.tile(X1 / 4, (len(X2), 1))


def bar_of(axes):
    return next(each for each in axes.figure.axes if each is not axes)


def pixel(axes, x1, x2):
    """Colour in [0, 1] of what is drawn at a place of the data."""
    axes.figure.canvas.draw()
    image = np.asarray(axes.figure.canvas.buffer_rgba()) / 255
    column, row = axes.transData.transform((x1, x2))
    return image[len(image) - 1 - int(row), int(column), :3]


# --- where they draw -------------------------------------------------------------------------


def predictive(epistemic=(0.5, 0.1, 0.5)):
    columns = (np.array([1.0, 2.0, 3.0]), np.array(epistemic), np.full(3, 1.2))
    return RegressionPredictive(*columns, 32, 0, "monte_carlo")


CALLS = [
    lambda ax=None: plots.probability_surface(X1, X2, rising(), ax),
    lambda ax=None: plots.uncertainty_surface(X1, X2, rising(), ax, label="entropy (nats)"),
    lambda ax=None: plots.regression_band([0.0, 1.0, 2.0], predictive(), ax),
]


@pytest.mark.parametrize("call", CALLS)
def test_an_axes_that_is_given_is_used_and_none_made(call):
    axes = new_axes()
    assert call(axes) is axes
    assert plt.get_fignums() == []
    axes.figure.canvas.draw()
    assert call().figure.number == plt.get_fignums()[0]


# --- probability -----------------------------------------------------------------------------


def test_lines_lie_where_the_probability_is_a_tenth_a_half_and_nine_tenths():
    axes = plots.probability_surface(X1, X2, rising(), new_axes())
    lines = axes.collections[-1]
    assert lines.levels.tolist() == [0.1, 0.5, 0.9]
    for path, x1 in zip(lines.get_paths(), (0.4, 2.0, 3.6), strict=True):
        np.testing.assert_allclose(path.vertices[:, 0], x1, atol=1e-9)
    assert len({str(style) for style in lines.get_linestyle()}) == 3, "told apart in grey"


def test_the_middle_is_lighter_than_both_ends_which_differ_in_hue():
    axes = plots.probability_surface(X1, X2, rising(), new_axes())
    low, middle, high = (pixel(axes, x1, 1.0) for x1 in (0.1, 2.2, 3.9))
    assert middle.mean() > max(low.mean(), high.mean()) + 0.2
    assert low[2] > low[0]  # blue
    assert high[0] > high[2]  # orange


def test_rows_of_the_surface_are_the_second_input():
    surface = np.tile(X2[:, None] / 2, (1, len(X1)))
    axes = plots.probability_surface(X1, X2, surface, new_axes())
    middle = axes.collections[-1].get_paths()[1]
    np.testing.assert_allclose(middle.vertices[:, 1], 1.0)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x1", "x2")
    assert bar_of(axes).get_xlabel() == "P(y = 1)"


@pytest.mark.parametrize("call", [plots.probability_surface, plots.uncertainty_surface])
def test_points_stand_at_their_places_by_class(call):
    options = {} if call is plots.probability_surface else {"label": "entropy (nats)"}
    axes = call(X1, X2, rising(), new_axes(), points=POINTS, labels=[0, 1, 1], **options)
    first, second = axes.collections[-2:]
    assert first.get_offsets().tolist() == POINTS[:1]
    assert second.get_offsets().tolist() == POINTS[1:]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["class 0", "class 1"]
    assert len(first.get_paths()[0].vertices) != len(second.get_paths()[0].vertices), "by shape"


def test_a_class_without_points_is_not_in_the_legend():
    axes = plots.probability_surface(X1, X2, rising(), new_axes(), points=POINTS, labels=[1, 1, 1])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["class 1"]


# --- uncertainty -----------------------------------------------------------------------------


def test_colours_grow_lighter_from_zero_to_the_largest_value():
    axes = plots.uncertainty_surface(X1, X2, 0.69 * rising(), new_axes(), label="entropy (nats)")
    shades = [pixel(axes, x1, 1.0) @ (0.299, 0.587, 0.114) for x1 in (0.2, 1.2, 2.2, 3.2, 3.9)]
    assert (np.diff(shades) > 0.02).all()
    levels = axes.collections[0].levels
    assert levels[0] == 0.0
    assert levels[-1] >= 0.69 > levels[-2]
    assert bar_of(axes).get_xlabel() == "entropy (nats)"


def test_a_single_network_has_a_surface_of_zeros():
    axes = plots.uncertainty_surface(X1, X2, np.zeros((3, 5)), new_axes(), label="disagreement")
    assert axes.collections[0].levels[0] == 0.0
    np.testing.assert_allclose(pixel(axes, 1.0, 1.0), pixel(axes, 3.0, 1.5))


# --- regression ------------------------------------------------------------------------------


def band(collection):
    """Lower and upper edge at x = 0, 1, 2."""
    vertices = collection.get_paths()[0].vertices
    at = [vertices[vertices[:, 0] == x, 1] for x in (0.0, 1.0, 2.0)]
    return np.array([[each.min(), each.max()] for each in at])


def test_bands_are_two_total_and_two_epistemic_standard_deviations():
    axes = plots.regression_band([0.0, 1.0, 2.0], predictive(), new_axes())
    total, epistemic = axes.collections
    # 5, 12, 13: √(0.5² + 1.2²) = 1.3
    wide = np.hypot(0.1, 1.2)
    np.testing.assert_allclose(band(total), [[-1.6, 3.6], [2 - 2 * wide, 2 + 2 * wide], [0.4, 5.6]])
    np.testing.assert_allclose(band(epistemic), [[0, 2], [1.8, 2.2], [2, 4]])
    (line,) = axes.lines
    assert line.get_ydata().tolist() == [1.0, 2.0, 3.0]
    assert axes.get_xlim() == (0.0, 2.0)


def test_one_network_has_no_epistemic_band():
    axes = plots.regression_band([0.0, 1.0, 2.0], predictive((0.0, 0.0, 0.0)), new_axes())
    assert [each.get_label() for each in axes.collections] == ["±2 std, total"]


def test_data_and_function_are_shown_in_lines_that_grey_tells_apart():
    known = {"data": ([0.5, 1.5], [4.0, -1.0]), "function": [1.0, 0.0, 1.0]}
    axes = plots.regression_band([0.0, 1.0, 2.0], predictive(), new_axes(), **known)
    data, function, prediction = axes.lines
    assert np.column_stack(data.get_data()).tolist() == [[0.5, 4.0], [1.5, -1.0]]
    assert function.get_ydata().tolist() == [1.0, 0.0, 1.0]
    assert function.get_linestyle() != prediction.get_linestyle()
    assert to_rgb(function.get_color()) != to_rgb(prediction.get_color())


# --- what they refuse ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probability": rising().T}, r"probability must have shape \(3, 5\), got \(5, 3\)"),
        ({"probability": 3 * rising()}, r"probability must lie in \[0, 1\].*not logits"),
        ({"probability": np.full((3, 5), np.nan)}, "probability must be finite"),
        ({"x1": X1[::-1]}, "x1 must hold at least 2 ascending values"),
        ({"x2": [1.0]}, "x2 must hold at least 2 ascending values"),
        ({"points": POINTS}, "labels must be given as well"),
        ({"labels": [0, 1, 1]}, "points must be given as well"),
        ({"points": [0.0, 1.0], "labels": [0, 1]}, r"points must have shape \(N, 2\)"),
        ({"points": POINTS, "labels": [0, 1, 2]}, r"labels must lie in \[0, 2\)"),
        ({"points": POINTS, "labels": [0, 1]}, r"labels must have shape \(3,\)"),
    ],
)
def test_a_surface_that_does_not_fit_is_refused(changes, message):
    arguments = {"x1": X1, "x2": X2, "probability": rising()} | changes
    with pytest.raises(ValueError, match=message):
        plots.probability_surface(**arguments)
    assert plt.get_fignums() == [], "before a figure is made"


def test_a_negative_uncertainty_is_refused():
    with pytest.raises(ValueError, match=r"values must be at least 0, got -1; negate"):
        plots.uncertainty_surface(X1, X2, -rising(), label="confidence")


@pytest.mark.parametrize(
    ("x", "changes", "error", "message"),
    [
        ([0.0, 1.0], {}, ValueError, r"predictive.mean must have shape \(2,\), got \(3,\)"),
        ([0.0, 2.0, 1.0], {}, ValueError, "x must hold at least 2 ascending values"),
        ([0.0, 1.0, 2.0], {"function": [1.0]}, ValueError, "function must have shape"),
        ([0.0, 1.0, 2.0], {"data": [0.0]}, TypeError, "data must be a pair"),
        ([0.0, 1.0, 2.0], {"data": ([0.0], [0.0, 1.0])}, ValueError, r"data\[1\] must have shape"),
        ([0.0, 1.0, 2.0], {"predictive": np.ones(3)}, TypeError, "must be a RegressionPredictive"),
        ([0.0, 1.0, 2.0], {"ax": "left"}, TypeError, "ax must be a matplotlib Axes"),
    ],
)
def test_a_band_that_does_not_fit_is_refused(x, changes, error, message):
    with pytest.raises(error, match=message):
        plots.regression_band(x, **({"predictive": predictive()} | changes))
    assert plt.get_fignums() == []
