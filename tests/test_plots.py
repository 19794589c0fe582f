"""Figures: that they show the numbers they were given, and are drawn without a warning."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bbnn_uq import metrics, plots
from bbnn_uq.metrics import Interval
from bbnn_uq.monte_carlo import MetricCurve


@pytest.fixture(autouse=True)
def _no_figure_is_left_open():
    plt.close("all")  # those of doctests
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def curve():
    generator = np.random.default_rng(0)
    top = generator.uniform(0.5, 1.0, size=200)
    probs = np.stack([top, 1 - top], axis=1)
    labels = (generator.random(200) > top).astype(int)
    return metrics.reliability_curve(probs, labels, num_bins=10)


def new_axes(size=(4.2, 5.0)):
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure.add_subplot()


def lines_of(axes):
    return [np.column_stack(line.get_data()) for line in axes.lines]


def has_diagonal(axes):
    return any(np.array_equal(line, [[0, 0], [1, 1]]) for line in lines_of(axes))


def draw(axes):
    axes.figure.canvas.draw()
    return axes.figure.canvas.get_renderer()


# --- where they draw -------------------------------------------------------------------------


@pytest.fixture
def calls(curve):
    roc = metrics.roc_curve([0.1, 0.2], [0.15, 0.9])
    return [
        lambda ax=None: plots.reliability_diagram(curve, ax),
        lambda ax=None: plots.ood_histograms({"id": [0.1], "ood": [0.9]}, ax, score="entropy"),
        lambda ax=None: plots.roc_curves({"entropy": roc}, ax),
        lambda ax=None: plots.metric_against_networks(metric_curve(), ax, ylabel="NLL"),
        lambda ax=None: plots.risk_coverage({"confidence": risk_curve()}, ax),
        lambda ax=None: plots.interval_calibration(quantile_curve(), ax),
    ]


def metric_curve():
    columns = ([1.0, 2.0, 4.0, 6.0], [0.9, 0.7, 0.6, 0.55], [0.2, 0.1, np.nan, np.nan])
    return MetricCurve(*(np.array(column) for column in columns), np.array([6, 3, 1, 1]))


def risk_curve():
    """Two sure inputs, one of them wrong, and two less sure ones that are tied, one wrong."""
    probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.6, 0.4]])
    return metrics.risk_coverage_curve(probs, [0, 1, 0, 1])


def quantile_curve():
    errors = np.random.default_rng(0).normal(size=60)
    return metrics.interval_calibration_curve(np.zeros(60), np.ones(60), 0.5 * errors)


def test_an_axes_that_is_given_is_used_and_no_other_figure_made(calls):
    for call in calls:
        axes = new_axes()
        assert call(axes) is axes
        assert axes.lines or axes.patches
        assert plt.get_fignums() == []


def test_without_an_axes_each_call_makes_a_figure_of_its_own(calls):
    figures = {call().figure.number for call in calls}
    assert len(figures) == len(calls)
    assert set(plt.get_fignums()) == figures


def test_drawing_changes_none_of_the_data(curve):
    kept = {name: np.copy(value) for name, value in vars(curve).items()}
    scores = {"id": np.array([0.3, 0.1]), "ood": np.array([0.9, 0.2])}
    plots.reliability_diagram(curve, new_axes())
    plots.ood_histograms(scores, new_axes(), score="entropy")
    for name, value in kept.items():
        np.testing.assert_array_equal(getattr(curve, name), value)
    assert scores["id"].tolist() == [0.3, 0.1]


# --- reliability -----------------------------------------------------------------------------


def test_reliability_points_and_bars_are_the_curves(curve):
    axes = plots.reliability_diagram(curve, new_axes())
    filled = curve.count > 0
    assert 0 < filled.sum() < len(filled)
    (container,) = axes.containers
    points, _, (bars,) = container.lines
    np.testing.assert_allclose(points.get_xdata(), curve.confidence[filled])
    np.testing.assert_allclose(points.get_ydata(), curve.accuracy[filled])
    wanted = np.stack(
        [
            np.column_stack([curve.confidence[filled], curve.low[filled]]),
            np.column_stack([curve.confidence[filled], curve.high[filled]]),
        ],
        axis=1,
    )
    np.testing.assert_allclose(np.stack(bars.get_segments()), wanted, atol=1e-12)


def test_reliability_counts_panel_sums_to_all_inputs(curve):
    axes = plots.reliability_diagram(curve, new_axes())
    (panel,) = axes.child_axes
    heights = [patch.get_height() for patch in panel.patches]
    assert sum(heights) == 200
    np.testing.assert_array_equal(heights, curve.count)
    np.testing.assert_allclose([p.get_x() for p in panel.patches], curve.bin_edges[:-1])
    assert panel.get_xlim() == axes.get_xlim()


def test_reliability_shows_the_diagonal_and_the_ece(curve):
    axes = plots.reliability_diagram(curve, new_axes(), ece=Interval(0.1234, 0.05, 0.2))
    assert has_diagonal(axes)
    assert axes.get_title() == "ECE 0.123 [0.050, 0.200]"
    assert plots.reliability_diagram(curve, new_axes()).get_title() == ""


@pytest.mark.parametrize("size", [(4.2, 5.0), (3.0, 3.0)])
def test_reliability_labels_of_both_panels_lie_within_the_figure(curve, size):
    axes = plots.reliability_diagram(curve, new_axes(size))
    renderer = draw(axes)
    (panel,) = axes.child_axes
    for each in (axes, panel):
        box = each.get_tightbbox(renderer)
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= axes.figure.bbox.width
        assert box.y1 <= axes.figure.bbox.height
    assert panel.get_window_extent().y1 < axes.get_window_extent().y0


@pytest.mark.parametrize(
    ("probs", "labels", "num_bins"),
    [
        ([[1.0, 0.0]], [0], 15),
        ([[1.0, 0.0]], [1], 15),
        ([[0.5, 0.5]] * 3, [0, 1, 0], 1),
        ([[0.7, 0.3], [0.8, 0.2]], [0, 1], 1),
    ],
)
def test_reliability_of_a_single_bin_draws_without_a_warning(probs, labels, num_bins):
    curve = metrics.reliability_curve(probs, labels, num_bins=num_bins)
    axes = plots.reliability_diagram(curve, new_axes())
    draw(axes)
    assert sum(patch.get_height() for patch in axes.child_axes[0].patches) == len(labels)


def test_reliability_of_quantile_bins_draws(curve):
    top = np.linspace(0.6, 0.9, 50)
    quantile = metrics.reliability_curve(
        np.stack([top, 1 - top], axis=1), np.zeros(50, int), num_bins=5, binning="quantile"
    )
    axes = plots.reliability_diagram(quantile, new_axes())
    draw(axes)
    assert [patch.get_height() for patch in axes.child_axes[0].patches] == [10] * 5


# --- histograms ------------------------------------------------------------------------------


def outline(patch):
    """Bin edges and heights of a step histogram, from the corners of its polygon."""
    x, y = patch.get_xy().T
    edges = np.unique(x)
    middles = (edges[:-1] + edges[1:]) / 2
    heights = []
    for middle in middles:  # the horizontal pieces of the outline above each bin
        across = [
            y[i]
            for i in range(len(x) - 1)
            if min(x[i], x[i + 1]) < middle < max(x[i], x[i + 1]) and y[i] == y[i + 1]
        ]
        heights.append(max(across))
    return edges, np.array(heights)


def test_histograms_share_their_edges_and_each_sums_to_one():
    generator = np.random.default_rng(0)
    sets = {"id": generator.normal(0, 1, 300), "ood": generator.normal(4, 2, 70), "b": [9.0, 9.5]}
    axes = plots.ood_histograms(sets, new_axes(), score="energy")
    drawn = [outline(patch) for patch in axes.patches]
    assert len(drawn) == 2 * len(sets)  # a filled and an outlined one each
    everything = np.concatenate([np.asarray(values) for values in sets.values()])
    for (edges, heights), values in zip(drawn, np.repeat(list(sets), 2), strict=True):
        np.testing.assert_allclose(edges, drawn[0][0])
        assert edges[0] == everything.min()
        assert edges[-1] == everything.max()
        assert heights.sum() == pytest.approx(1.0, abs=1e-12)
        counts, _ = np.histogram(sets[values], edges)
        np.testing.assert_allclose(heights, counts / len(sets[values]), atol=1e-12)


def test_histogram_sets_differ_in_colour_and_in_line():
    axes = plots.ood_histograms({"a": [0.0, 1.0], "b": [2.0], "c": [3.0]}, new_axes(), score="x")
    steps = axes.patches[1::2]
    assert len({patch.get_edgecolor() for patch in steps}) == 3
    assert len({patch.get_linestyle() for patch in steps}) == 3


def test_histogram_legend_names_the_sets_their_sizes_and_the_auroc():
    interval = Interval(0.9876, 0.95, 1.0)
    axes = plots.ood_histograms(
        {"digits": [0.1, 0.2], "noise": np.arange(1500.0)}, new_axes(), score="x", auroc=interval
    )
    legend = axes.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["digits (2)", "noise (1,500)"]
    assert legend.get_title().get_text() == "AUROC 0.988 [0.950, 1.000]"


@pytest.mark.parametrize(
    ("score", "label"),
    [
        ("entropy", "entropy (nats)"),
        ("mutual_information@3", "mutual information (nats), logits / 3"),
        ("confidence", "−confidence"),
        ("margin@2", "−margin, logits / 2"),
        ("energy", "energy"),
    ],
)
def test_histogram_axis_names_score_unit_sign_and_temperature(score, label):
    axes = plots.ood_histograms({"id": [0.1, 0.2]}, new_axes(), score=score)
    assert axes.get_xlabel() == label


@pytest.mark.parametrize(
    "sets",
    [
        {"id": [0.0] * 5, "ood": [0.0] * 3},
        {"id": [-1.0], "ood": [-1.0]},
        {"id": [-1.0, np.nextafter(-1.0, 0.0)], "ood": [-1.0]},  # saturated confidences
        {"id": [1e20] * 2, "ood": [1e20]},
        {"id": [-1e100], "ood": [1e-300]},
        {"id": [5.0]},
    ],
)
def test_constant_and_nearly_constant_scores_draw_without_a_warning(sets):
    axes = plots.ood_histograms(sets, new_axes((5.6, 3.6)), score="confidence")
    draw(axes)
    for patch in axes.patches:
        assert outline(patch)[1].sum() == pytest.approx(1.0)


def test_names_are_shown_as_they_are():
    """Matplotlib would take a dollar for a formula, and hide labels that begin with _."""
    axes = plots.ood_histograms({"$x^$": [0.1, 0.2], "_b": [0.3]}, new_axes(), score="entropy")
    draw(axes)
    shown = [text.get_text().strip() for text in axes.get_legend().get_texts()]
    assert shown == ["$x^$ (2)", "_b (1)"]
    curve = metrics.roc_curve([0.1], [0.2])
    axes = plots.roc_curves({"$x^$": curve, "_b": curve}, new_axes())
    draw(axes)
    assert [text.get_text().strip() for text in axes.get_legend().get_texts()] == ["$x^$", "_b"]


@pytest.mark.parametrize(
    ("sets", "named"),
    [
        ({}, "scores is empty"),
        ({"id": [0.1, np.nan]}, r"scores\['id'\] must be finite"),
        ({"id": [0.1], "far": []}, r"scores\['far'\] is empty"),
        ({"id": [[0.1]]}, r"scores\['id'\] must have shape"),
    ],
)
def test_histogram_names_what_it_cannot_draw(sets, named):
    with pytest.raises(ValueError, match=named):
        plots.ood_histograms(sets, new_axes(), score="entropy")


# --- ROC -------------------------------------------------------------------------------------


def test_roc_lines_are_the_curves_with_their_labels():
    generator = np.random.default_rng(0)
    curves = {
        name: metrics.roc_curve(generator.normal(size=40), generator.normal(shift, size=30))
        for name, shift in (("entropy", 1.0), ("energy", 2.0))
    }
    axes = plots.roc_curves(curves, new_axes())
    assert has_diagonal(axes)
    drawn = {line.get_label(): line for line in axes.lines}
    for name, curve in curves.items():
        np.testing.assert_array_equal(drawn[name].get_xdata(), curve.fpr)
        np.testing.assert_array_equal(drawn[name].get_ydata(), curve.tpr)
    assert drawn["entropy"].get_linestyle() != drawn["energy"].get_linestyle()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(curves)


def test_many_or_no_roc_curves_draw_without_a_warning():
    curve = metrics.roc_curve([0.5, 0.5], [0.5])
    for count in (0, 1, 12):
        draw(plots.roc_curves({str(i): curve for i in range(count)}, new_axes()))


# --- a metric against the number of networks ---------------------------------------------------


def test_metric_against_networks_shows_means_and_the_bars_that_there_are():
    axes = plots.metric_against_networks(metric_curve(), new_axes(), ylabel="NLL $x^$")
    draw(axes)
    points = lines_of(axes)[0]
    np.testing.assert_array_equal(points, [[1, 0.9], [2, 0.7], [4, 0.6], [6, 0.55]])
    bars = np.array(axes.collections[0].get_segments())
    np.testing.assert_allclose(bars, [[[1, 0.7], [1, 1.1]], [[2, 0.6], [2, 0.8]]])
    assert len(axes.collections) == 1
    assert axes.get_xscale() == "log"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "2", "4", "6"]
    assert axes.get_ylabel() == "NLL $x^$"


def test_metric_against_networks_of_one_infinite_point():
    one = MetricCurve(np.array([8.0]), np.array([np.inf]), np.array([np.nan]), np.array([1]))
    draw(plots.metric_against_networks(one, new_axes(), ylabel="NLL"))


# --- risk and coverage, quantiles -------------------------------------------------------------


def test_risk_coverage_goes_through_the_curve_and_between_ties_by_expectation():
    curve = risk_curve()
    axes = plots.risk_coverage({"$confidence$": curve, "_other": curve}, new_axes())
    draw(axes)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "$confidence$",
        " _other",
    ]
    line, _ = lines_of(axes)
    for coverage, risk in zip(curve.coverage, curve.risk, strict=True):
        np.testing.assert_allclose(line[line[:, 0] == coverage], [[coverage, risk]])
    # Of the tied two the third is wrong with probability 1/2: (1 + 1/2) / 3 at 3 of 4.
    assert np.interp(0.75, *line.T) == pytest.approx(0.5, abs=1e-3)
    draw(plots.risk_coverage({}, new_axes()))


def test_interval_calibration_shows_shares_and_their_intervals():
    curve = quantile_curve()
    axes = plots.interval_calibration(curve, new_axes())
    draw(axes)
    assert has_diagonal(axes)
    (container,) = axes.containers
    points, _, (bars,) = container.lines
    np.testing.assert_array_equal(points.get_xdata(), curve.levels)
    np.testing.assert_array_equal(points.get_ydata(), curve.observed)
    ends = np.array(bars.get_segments())[:, :, 1]
    np.testing.assert_allclose(ends, np.column_stack([curve.low, curve.high]), atol=1e-12)


# --- legends, and arguments of the wrong type ---------------------------------------------------


def box_of_legend(axes):
    renderer = draw(axes)
    return axes.get_legend().get_window_extent(renderer), axes.get_window_extent(renderer)


def test_legends_stand_above_the_data(curve):
    wide = {"a long name of a data set": [0.0, 1.0], "b": [0.5]}
    for axes in (
        plots.reliability_diagram(curve, new_axes(), ece=Interval(0.1, 0.0, 0.2)),
        plots.ood_histograms(wide, new_axes(), score="x", auroc=Interval(0.1, 0.0, 0.2)),
        plots.risk_coverage({"confidence": risk_curve()}, new_axes()),
        plots.interval_calibration(quantile_curve(), new_axes()),
    ):
        legend, panel = box_of_legend(axes)
        assert legend.y0 >= panel.y1 - 2
        assert legend.x0 >= 0
        assert legend.x1 <= axes.figure.bbox.width
        if axes.get_title():
            title = axes.title.get_window_extent(axes.figure.canvas.get_renderer())
            assert title.y0 >= legend.y1 - 2


def test_legend_of_roc_curves_avoids_them():
    good, bad = (metrics.roc_curve([0.0, 1.0], scores) for scores in ([2.0, 3.0], [-2.0, -1.0]))
    legend, panel = box_of_legend(plots.roc_curves({"a": good}, new_axes((4.4, 4.4))))
    assert panel.x0 < legend.x0 < legend.x1 <= panel.x1
    assert panel.y0 <= legend.y0 < legend.y1 < panel.y1
    legend, panel = box_of_legend(plots.roc_curves({"a": good, "b": bad}, new_axes((4.4, 4.4))))
    assert legend.y0 >= panel.y1 - 2
    many = {f"score {i}": good for i in range(plots.FEW_LABELS + 1)}
    legend, panel = box_of_legend(plots.roc_curves(many, new_axes((6.4, 4.4))))
    assert legend.x0 >= panel.x1
    assert legend.x1 <= 640


def test_the_scale_of_the_counts_is_named_and_their_ticks_are_numbers(curve):
    axes = plots.reliability_diagram(curve, new_axes())
    draw(axes)
    (panel,) = axes.child_axes
    assert panel.get_ylabel() == "inputs\n(log scale)"
    shown = [tick.get_text() for tick in panel.get_yticklabels()]
    assert {"0", "1", "10"} <= set(shown)


def test_mean_numbers_of_networks_are_short():
    numbers = np.array([32 / 7, 64 / 7, 32.0])
    curve = MetricCurve(numbers, np.arange(3.0), np.full(3, np.nan), np.array([7, 3, 1]))
    axes = plots.metric_against_networks(curve, new_axes(), ylabel="NLL")
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["4.6", "9.1", "32"]


def test_a_dark_style_stays_one(curve):
    with plt.style.context("dark_background"):
        axes = plots.reliability_diagram(curve, new_axes())
    assert axes.lines[0].get_color() == "white"
    assert axes.child_axes[0].patches[0].get_edgecolor()[:3] == (0, 0, 0)


PROBS, LABELS = [[0.9, 0.1]], [0]
ROC = metrics.roc_curve([0.1], [0.2])


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: plots.reliability_diagram(PROBS, LABELS),
         r"curve must be a ReliabilityCurve, got list; bbnn_uq.metrics.reliability_curve makes"),
        (lambda: plots.roc_curves(ROC), "curves must be a dictionary label -> RocCurve, got Roc"),
        (lambda: plots.roc_curves({"a": [0.1]}), r"curves\['a'\] must be a RocCurve, got list"),
        (lambda: plots.risk_coverage(risk_curve()), "curves must be a dictionary"),
        (lambda: plots.risk_coverage({"a": ROC}), "must be a RiskCoverageCurve, got RocCurve"),
        (lambda: plots.interval_calibration([0.1]), "bbnn_uq.metrics.interval_calibration_curve"),
        (lambda: plots.metric_against_networks([1], ylabel="x"), "bbnn_uq.monte_carlo.metric_cur"),
        (lambda: plots.ood_histograms([0.1], score="x"), "scores must be a dictionary set name"),
        (lambda: plots.ood_histograms({"id": [0.1]}, score="x", auroc=0.9),
         "auroc must be an Interval, got float"),
        (lambda: plots.roc_curves({"a": ROC}, np.array([1])), "ax must be a matplotlib Axes, got"),
    ],
)  # fmt: skip
def test_arguments_of_the_wrong_type_say_what_makes_the_right_one(call, named):
    with pytest.raises(TypeError, match=named):
        call()
    assert plt.get_fignums() == []
