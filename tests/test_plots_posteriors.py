"""Histograms of |λ|: that they show the counts they were given, and refuse what is none."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch
from scipy.special import expit

from bbnn_uq import plots

EDGES = np.array([0.1, 1.0, 10.0, 100.0])


@pytest.fixture(autouse=True)
def _no_figure_is_left_open():
    yield
    plt.close("all")


def new_axes(size=(5.6, 3.6)):
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure.add_subplot()


def outlines(axes):
    """The line of each histogram, by its label."""
    steps = [patch for patch in axes.patches if isinstance(patch, StepPatch)]
    return {patch.get_label(): patch for patch in steps if patch.get_label()}  # fills have none


def test_heights_are_the_shares_of_weights_in_each_bin():
    histograms = {"one": ([1, 2, 1], EDGES), "two": (np.array([0, 0, 7]), EDGES)}
    axes = plots.natural_param_histograms(histograms, new_axes())
    drawn = outlines(axes)
    assert list(drawn) == ["one", "two"]
    np.testing.assert_array_equal(drawn["one"].get_data().values, [0.25, 0.5, 0.25])
    np.testing.assert_array_equal(drawn["two"].get_data().values, [0.0, 0.0, 1.0])
    for patch in axes.patches:  # the filled ones too
        np.testing.assert_array_equal(patch.get_data().edges, EDGES)
    fills = [patch for patch in axes.patches if patch not in drawn.values()]
    for fill, line in zip(fills, drawn.values(), strict=True):
        np.testing.assert_array_equal(fill.get_data().values, line.get_data().values)


def test_the_axis_is_logarithmic_over_the_edges_and_both_axes_are_named():
    axes = plots.natural_param_histograms({"one": ([1, 2, 1], EDGES)}, new_axes())
    assert axes.get_xscale() == "log"
    assert axes.get_xlim() == (0.1, 100.0)
    assert axes.get_ylim()[0] == 0.0
    assert axes.get_xlabel() == "magnitude of the natural parameter, |λ|"
    assert axes.get_ylabel() == "share of weights"
    assert axes.yaxis.get_major_formatter()(0.25, 0) == "25%"


def test_the_line_stands_where_a_weight_flips_once_in_two_to_the_24():
    axes = plots.natural_param_histograms({"one": ([1, 2, 1], EDGES)}, new_axes())
    (line,) = axes.lines
    (where,) = set(line.get_xdata())
    assert expit(-2.0 * where) == pytest.approx(2.0**-24, rel=1e-9)
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["one", "flip probability 2⁻²⁴"]


@pytest.mark.parametrize("edges", [[0.1, 1.0, 8.0], [9.0, 10.0, 11.0]])
def test_without_room_for_the_line_there_is_none_and_the_legend_names_none(edges):
    axes = plots.natural_param_histograms({"one": ([1, 2], edges)}, new_axes())
    assert not axes.lines
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["one"]


def test_posteriors_differ_in_colour_and_in_line():
    histograms = {name: ([1, 1, 1], EDGES) for name in "abcd"}
    drawn = outlines(plots.natural_param_histograms(histograms, new_axes())).values()
    assert len({patch.get_edgecolor() for patch in drawn}) == 4
    assert len({patch.get_linestyle() for patch in drawn}) == 4


def test_an_axes_that_is_given_is_used_and_else_a_figure_is_made():
    histograms = {"one": ([1, 2, 1], EDGES)}
    axes = new_axes()
    assert plots.natural_param_histograms(histograms, axes) is axes
    assert plt.get_fignums() == []
    assert plots.natural_param_histograms(histograms).figure.number in plt.get_fignums()
    with pytest.raises(TypeError, match="ax must be a matplotlib Axes"):
        plots.natural_param_histograms(histograms, axes.figure)


def test_drawing_changes_none_of_the_data():
    counts, edges = np.array([3.0, 0.0, 1.0]), EDGES.copy()
    plots.natural_param_histograms({"one": (counts, edges)}, new_axes())
    assert counts.tolist() == [3, 0, 1]
    np.testing.assert_array_equal(edges, EDGES)


def test_any_name_is_shown_as_it_is_and_everything_lies_within_the_figure():
    histograms = {"_hidden": ([1, 2, 1], EDGES), "costs $1 or $2": ([1, 2, 1], EDGES)}
    axes = plots.natural_param_histograms(histograms, new_axes((4.0, 3.0)))
    axes.figure.canvas.draw()
    box = axes.get_tightbbox(axes.figure.canvas.get_renderer())
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= axes.figure.bbox.width
    assert box.y1 <= axes.figure.bbox.height
    texts = axes.get_legend().get_texts()
    assert [text.get_text() for text in texts][:2] == [" _hidden", "costs $1 or $2"]
    assert not any(text.get_parse_math() for text in texts)


@pytest.mark.parametrize(
    ("histograms", "error", "message"),
    [
        ([1, 2], TypeError, r"histograms must be a dictionary .*got list; pass .*numpy.histogram"),
        ({}, ValueError, r"histograms is empty"),
        ({"a": [1, 2, 1]}, TypeError, r"histograms\['a'\] must be a pair .*got list"),
        ({"a": 1.0}, TypeError, r"histograms\['a'\] must be a pair .*got float"),
        ({"a": ([1, 2], EDGES)}, ValueError, r"B \+ 1 edges, got shapes \(2,\) and \(4,\)"),
        ({"a": ([[1, 2, 3]], EDGES)}, ValueError, r"got shapes \(1, 3\) and \(4,\)"),
        ({"a": ([1], [0.0, 1.0])}, ValueError, r"increase from above 0, got 0 to 1"),
        ({"a": ([1, 1], [1.0, 3.0, 2.0])}, ValueError, r"must increase from above 0"),
        ({"a": ([1, 1], [1.0, 1.0, 2.0])}, ValueError, r"must increase from above 0"),
        ({"a": ([-1, 2, 1], EDGES)}, ValueError, r"at least 0 with one above, got -1 to 2"),
        ({"a": ([0, 0, 0], EDGES)}, ValueError, r"at least 0 with one above, got 0 to 0"),
        ({"a": ([np.nan, 1, 1], EDGES)}, ValueError, r"\['a'\] counts must be finite"),
        ({"a": ([1, 1], [1.0, 2.0, np.inf])}, ValueError, r"\['a'\] edges must be finite"),
        (
            {"a": ([1, 1, 1], EDGES), "b": ([1, 1, 1], 2 * EDGES)},
            ValueError,
            r"histograms\['b'\] has other edges than 'a'; pass the same edges",
        ),
    ],
)
def test_what_is_no_histogram_is_refused_with_its_name_and_the_remedy(histograms, error, message):
    with pytest.raises(error, match=message):
        plots.natural_param_histograms(histograms, new_axes())
    assert plt.get_fignums() == []
