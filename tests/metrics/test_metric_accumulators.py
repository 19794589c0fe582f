from __future__ import annotations

import dataclasses
import math
from fractions import Fraction
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from metric_reference import grid_data, random_data, reproducible, tied_data

from bbnn_uq.metrics import (
    accuracy,
    aurc,
    brier,
    classification_intervals,
    ece,
    nll,
    reliability_curve,
)
from bbnn_uq.metrics._exact_sums import add_exactly, exact_table, exact_totals
from bbnn_uq.metrics.accumulators import ClassificationAccumulator
from bbnn_uq.metrics.score_histogram import ScoreHistogram
from bbnn_uq.metrics.selective import augrc


def accumulated(probs, labels, sizes=None, **settings):
    """All of the data, in batches of the sizes."""
    accumulator = ClassificationAccumulator(probs.shape[1], **settings)
    start = 0
    for size in sizes or [len(labels)]:
        accumulator.add(probs[start : start + size], labels[start : start + size])
        start += size
    assert start == len(labels)
    return accumulator


def assert_same_bits(one, other):
    state = one.state()
    assert state.keys() == other.state().keys()
    for name, array in other.state().items():
        np.testing.assert_array_equal(state[name], array, err_msg=name)


def assert_equals_metrics(accumulator, probs, labels):
    assert dataclasses.asdict(accumulator.result()) == pytest.approx(
        {
            "num_inputs": len(labels),
            "accuracy": accuracy(probs, labels),
            "nll": nll(probs, labels),
            "brier": brier(probs, labels),
            "ece": ece(probs, labels, num_bins=accumulator.num_bins),
        },
        rel=1e-12,
        abs=1e-15,
    )


def assert_holds(bounded, true):
    assert bounded.low - 1e-12 <= true <= bounded.high + 1e-12
    assert bounded.low <= bounded.value <= bounded.high


@st.composite
def sizes_of(draw, total):
    cuts = sorted(draw(st.sets(st.integers(1, max(1, total - 1)), max_size=4)) - {total})
    return np.diff([0, *cuts, total]).tolist()


@reproducible
@given(st.data(), grid_data(), st.integers(1, 20))
def test_batches_of_any_size_merged_in_any_order_equal_the_metrics(data, example, num_bins):
    probs, labels = example
    whole = accumulated(probs, labels, num_bins=num_bins)
    assert_equals_metrics(whole, probs, labels)
    sizes = data.draw(sizes_of(len(labels)))
    assert_same_bits(accumulated(probs, labels, sizes, num_bins=num_bins), whole)

    starts = np.cumsum([0, *sizes[:-1]]).tolist()
    parts = [
        accumulated(probs[start : start + size], labels[start : start + size], num_bins=num_bins)
        for start, size in zip(starts, sizes, strict=True)
    ]
    merged = ClassificationAccumulator(3, num_bins=num_bins)
    for part in data.draw(st.permutations(parts)):
        merged.merge(part)
    assert_same_bits(merged, whole)


@pytest.mark.parametrize("num_classes", [2, 5, 37])
def test_no_bit_depends_on_order_batches_or_memory_layout(num_classes):
    probs, labels = random_data(0, num_inputs=400, num_classes=num_classes)
    whole = accumulated(probs, labels)
    assert_equals_metrics(whole, probs, labels)
    order = np.random.default_rng(1).permutation(400)
    assert_same_bits(accumulated(probs[order], labels[order], [1, 1, 3, 95, 300]), whole)
    assert_same_bits(accumulated(np.asfortranarray(probs), labels), whole)
    wide = np.repeat(probs, 2, axis=1)
    assert_same_bits(accumulated(wide[::-1, ::2], labels[::-1], [7] * 57 + [1]), whole)


def test_means_are_the_exact_ones_rounded_once():
    probs, labels = random_data(3, num_inputs=50)
    one_by_one = [(brier([p], [y]), nll([p], [y])) for p, y in zip(probs, labels, strict=True)]
    exact_brier, exact_nll = (sum(map(Fraction, each)) / 50 for each in np.transpose(one_by_one))
    result = accumulated(probs, labels).result()
    assert result.brier == float(exact_brier)
    assert result.nll == float(exact_nll)


@reproducible
@given(st.lists(st.floats(0.0, 2.0**20, exclude_max=True), min_size=1, max_size=30))
def test_sums_are_exact(values):
    table = exact_table(2)
    add_exactly(table, np.ones(len(values), np.int64), np.array(values))
    assert exact_totals(table) == [0, sum(map(Fraction, values))]
    assert float(exact_totals(table)[1]) == math.fsum(values)


@pytest.mark.parametrize("make", [random_data, tied_data])
def test_calibration_errors_and_reliability_curve_of_uniform_bins(make):
    probs, labels = make(2)
    accumulator = accumulated(probs, labels, [120, len(labels) - 120], num_bins=8)
    for options in (
        {"norm": "l1"},
        {"norm": "l2"},
        {"norm": "max"},
        {"norm": "l2", "debias": True},
    ):
        expected = ece(probs, labels, num_bins=8, **options)
        assert accumulator.ece(**options) == pytest.approx(expected, rel=1e-12), options
    curve = accumulator.reliability_curve(confidence_level=0.8)
    expected = reliability_curve(probs, labels, num_bins=8, confidence_level=0.8)
    for field in dataclasses.fields(expected):
        np.testing.assert_allclose(
            getattr(curve, field.name), getattr(expected, field.name), rtol=1e-12, atol=1e-15
        )
    assert curve.count.dtype == np.int64


def test_label_of_probability_zero_makes_the_loss_infinite():
    accumulator = ClassificationAccumulator(2)
    accumulator.add([[0.5, 0.5]], [1])
    accumulator.add([[1.0, 0.0]], [1])
    result = accumulator.result()
    assert (result.nll, result.brier) == (math.inf, 1.25)
    interval = accumulator.intervals()["nll"]
    assert (interval.value, interval.low, interval.high) == (math.inf,) * 3


@pytest.mark.parametrize("probability", [5e-324, 1e-200, 1.0 - 2.0**-53])
def test_smallest_and_largest_finite_losses(probability):
    probs = np.array([[probability, 1.0 - probability]])
    accumulator = accumulated(probs, np.array([0]))
    assert_equals_metrics(accumulator, probs, np.array([0]))


# Confidences close enough to share cells of either kind, and ties; some near where kinds meet.
close_confidences = st.lists(
    st.tuples(
        st.sampled_from([1.0, 1 - 2**-53, 1 - 2**-30, 1 - 2**-9, 0.75, 0.501]), st.integers(-3, 3)
    ).map(lambda pair: min(1 - (1 - pair[0]) * (1 + pair[1] / 2000) - pair[1] * 2**-42, 1.0)),
    min_size=1,
    max_size=24,
)


@reproducible
@given(st.data(), close_confidences, st.integers(1, 6))
def test_bounds_hold_where_cells_are_shared(data, confidences, num_bins):
    probs = np.stack([confidences, 1.0 - np.array(confidences)], axis=1)
    size = len(confidences)
    labels = np.array(data.draw(st.lists(st.integers(0, 1), min_size=size, max_size=size)))
    accumulator = accumulated(probs, labels)
    assert_holds(accumulator.aurc(), aurc(probs, labels))
    assert_holds(accumulator.augrc(), augrc(probs, labels))
    quantile = ece(probs, labels, num_bins=num_bins, binning="quantile")
    assert_holds(accumulator.quantile_ece(num_bins=num_bins), quantile)


@reproducible
@given(grid_data(), st.integers(1, 6))
def test_bounds_hold_with_ties(example, num_bins):
    accumulator = accumulated(*example)
    assert_holds(accumulator.aurc(), aurc(*example))
    assert_holds(accumulator.augrc(), augrc(*example))
    quantile = ece(*example, num_bins=num_bins, binning="quantile")
    assert_holds(accumulator.quantile_ece(num_bins=num_bins), quantile)
    # Inputs of one cell are all tied here, which is what the value supposes.
    assert accumulator.aurc().value == pytest.approx(aurc(*example), abs=1e-12)
    assert accumulator.augrc().value == pytest.approx(augrc(*example), abs=1e-12)
    assert accumulator.quantile_ece(num_bins=num_bins).value == pytest.approx(quantile, abs=1e-5)


@pytest.mark.parametrize("concentration", [0.02, 0.3, 3.0])
def test_bounds_are_tight_on_many_inputs(concentration):
    generator = np.random.default_rng(0)
    probs = generator.dirichlet(np.full(4, concentration), 50_000)
    labels = (probs.cumsum(axis=1) > generator.random((50_000, 1))).argmax(axis=1)
    accumulator = accumulated(probs, labels)
    for bounded, true, width in (
        (accumulator.aurc(), aurc(probs, labels), 1e-4),
        (accumulator.augrc(), augrc(probs, labels), 1e-4),
        (accumulator.quantile_ece(), ece(probs, labels, binning="quantile"), 6e-4),
    ):
        assert_holds(bounded, true)
        assert bounded.high - bounded.low < width
        assert bounded.value == pytest.approx(true, abs=width / 4)


def test_intervals_of_means_are_normal_and_wilsons():
    probs, labels = random_data(5, num_inputs=200)
    intervals = accumulated(probs, labels).intervals(confidence_level=0.9)
    z = 1.6448536269514722
    for name, metric in (("nll", nll), ("brier", brier)):
        values = [metric([p], [y]) for p, y in zip(probs, labels, strict=True)]
        half = z * np.std(values, ddof=1) / math.sqrt(200)
        got = intervals[name]
        assert got.value == pytest.approx(np.mean(values))
        assert (got.low, got.high) == pytest.approx((got.value - half, got.value + half))
    rate = intervals["accuracy"].value
    for end in (intervals["accuracy"].low, intervals["accuracy"].high):
        assert abs(rate - end) == pytest.approx(z * math.sqrt(end * (1 - end) / 200))


@pytest.mark.parametrize("overconfidence", [0.0, 0.9])
def test_interval_of_the_calibration_error_is_that_of_a_bootstrap(overconfidence):
    probs, labels = random_data(6, num_inputs=4000)
    probs = (1 - overconfidence) * probs + overconfidence * np.eye(5)[probs.argmax(axis=1)]
    got = accumulated(probs, labels).intervals()["ece"]
    expected = classification_intervals(probs, labels, num_resamples=2000)["ece"]
    assert got.value == pytest.approx(expected.value)
    # An end of 2,000 resamples has a standard error of about 2.6 sigma / sqrt(2000).
    sigma = (expected.high - expected.low) / 3.92
    tolerance = 3 * 2.6 * sigma / math.sqrt(2000)
    assert (got.low, got.high) == pytest.approx((expected.low, expected.high), abs=tolerance)
    assert accumulated(probs, labels).intervals()["ece"] == got
    assert accumulated(probs, labels).intervals(seed=1)["ece"] != got


def test_intervals_of_one_input_say_that_nothing_is_known():
    intervals = accumulated(np.array([[0.75, 0.25]]), np.array([0])).intervals()
    assert (intervals["nll"].low, intervals["nll"].high) == (0.0, math.inf)
    assert (intervals["brier"].low, intervals["brier"].high) == (0.0, 2.0)


@pytest.mark.parametrize("make", [np.float16, np.float32, torch.float16, torch.float64, list])
@pytest.mark.parametrize("label_type", [np.uint8, np.int32, torch.int64, list])
def test_inputs_of_any_type(make, label_type):
    probs, labels = tied_data(4, num_inputs=60)
    expected = accumulated(probs, labels)

    def as_type(array, kind):
        if kind is list:
            return array.tolist()
        return torch.tensor(array, dtype=kind) if "torch" in str(kind) else array.astype(kind)

    accumulator = ClassificationAccumulator(3)
    accumulator.add(as_type(probs, make), as_type(labels, label_type))
    assert_same_bits(accumulator, expected)


def test_a_billion_inputs_lose_no_digit():
    probs, labels = random_data(10, num_inputs=1000)
    accumulator = accumulated(probs, labels)
    once = accumulator.result()
    intervals = accumulator.intervals()
    for _ in range(20):
        accumulator.merge(accumulator)
    assert accumulator.result() == dataclasses.replace(once, num_inputs=1000 * 2**20)
    for name in ("nll", "brier", "accuracy"):
        many = accumulator.intervals()[name]
        expected = (intervals[name].high - intervals[name].low) / 2**10
        assert many.high - many.low == pytest.approx(expected, rel=2e-3), name
    assert_holds(accumulator.augrc(), augrc(probs, labels))
    # Cells hold copies of one input each, though nothing says so: they are bounded as if not tied.
    assert accumulator.aurc().value == pytest.approx(_limit_of_aurc(probs, labels), abs=1e-8)


def _limit_of_aurc(probs, labels):
    """The AURC where every input stands for very many: each adds an integral, not a sum."""
    order = np.argsort(-probs.max(axis=1))
    area, errors = 0.0, 0
    for n, wrong in enumerate((probs.argmax(axis=1) != labels)[order].tolist()):
        # The integral from n to n + 1 of (errors + (x - n) wrong) / x.
        area += (errors - n * wrong) * math.log1p(1 / n) + wrong if n else float(wrong)
        errors += wrong
    return area / len(labels)


def test_states_add_up_and_are_copies():
    probs, labels = random_data(7)
    whole = accumulated(probs, labels)
    states = [accumulated(probs[i::3], labels[i::3]).state() for i in range(3)]
    total = ClassificationAccumulator(5)
    total.add_state({name: sum(state[name] for state in states) for name in states[0]})
    assert_same_bits(total, whole)
    for array in total.state().values():
        array += 1
    assert_same_bits(total, whole)


def test_save_and_load_at_any_moment(tmp_path):
    probs, labels = random_data(8)
    accumulator = ClassificationAccumulator(5, num_bins=7)
    for start in range(0, 300, 100):
        accumulator.save(tmp_path / "state.npz")
        accumulator = ClassificationAccumulator.load(tmp_path / "state.npz")
        accumulator.add(probs[start : start + 100], labels[start : start + 100])
    assert_same_bits(accumulator, accumulated(probs, labels, num_bins=7))
    assert [path.name for path in tmp_path.iterdir()] == ["state.npz"]
    assert (accumulator.num_classes, accumulator.num_bins) == (5, 7)


def _save_shard(job):
    path, probs, labels = job
    accumulator = ClassificationAccumulator(probs.shape[1])
    accumulator.add(probs, labels)
    accumulator.save(path)


def test_shards_of_four_processes_merge_to_the_whole(tmp_path):
    probs, labels = random_data(9)
    paths = [tmp_path / f"shard{i}.npz" for i in range(4)]
    jobs = [(path, probs[i::4], labels[i::4]) for i, path in enumerate(paths)]
    context = get_context("forkserver")
    context.set_forkserver_preload(["bbnn_uq.metrics.accumulators"])
    with context.Pool(4) as pool:
        pool.map(_save_shard, jobs, chunksize=1)
    merged = ClassificationAccumulator.load(paths.pop())
    for path in paths:
        merged.merge(ClassificationAccumulator.load(path))
    assert_same_bits(merged, accumulated(probs, labels))


def test_faulty_files_are_named_with_their_fault(tmp_path):
    accumulator = accumulated(*random_data(1))
    path = tmp_path / "state.npz"
    accumulator.save(path)
    whole = path.read_bytes()
    arrays = dict(np.load(path))

    def assert_refused(match):
        with pytest.raises(ValueError, match=match) as caught:
            ClassificationAccumulator.load(path)
        assert "state.npz" in str(caught.value)

    path.write_bytes(whole[: len(whole) // 2])
    assert_refused("is damaged or is no .npz file")
    middle = len(whole) // 3
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    assert_refused("is damaged")
    path.write_bytes(b"")
    assert_refused("is damaged or is no .npz file")
    with path.open("wb") as file:
        np.save(file, np.ones(2))
    assert_refused("is damaged or is no .npz file")
    np.savez(path, probs=np.ones((2, 2)))
    assert_refused("is no file of ClassificationAccumulator.save")
    np.savez(path, kind=np.array([{}], dtype=object))
    assert_refused("is damaged or is no .npz file")
    np.savez(path, **{**arrays, "version": np.array(2)})
    assert_refused("newer bbnn_uq .file version 2")
    np.savez(path, **{**arrays, "array/losses": arrays["array/losses"][:, :, :-1]})
    assert_refused("is damaged: state.'losses'. must be .* of shape")
    np.savez(path, **{**arrays, "array/bin_counts": arrays["array/bin_counts"] * 2})
    assert_refused("contradict each other")
    arrays.pop("setting/num_classes")
    np.savez(path, **arrays)
    assert_refused("is damaged")
    ScoreHistogram().save(path)
    assert_refused("is a file of ScoreHistogram; load it with ScoreHistogram.load")
    with pytest.raises(FileNotFoundError):
        ClassificationAccumulator.load(tmp_path / "none.npz")


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"num_classes": 4}, "num_classes of this accumulator, 3, got 4"),
        ({"num_bins": 10}, "num_bins of this accumulator, 15, got 10"),
    ],
)
def test_accumulators_of_different_settings_do_not_merge(settings, match):
    accumulator = ClassificationAccumulator(3)
    with pytest.raises(ValueError, match=match):
        accumulator.merge(ClassificationAccumulator(**{"num_classes": 3, **settings}))


@pytest.mark.parametrize(
    ("probs", "labels", "match"),
    [
        ([[0.5, 0.5]], [0], r"probs must have shape \(N, 3\)"),
        ([[0.5, 0.25, 0.25], [0.5, 0.5, math.nan]], [0, 0], "probs must be finite"),
        ([[0.5, 0.25, 0.25]], [3], r"labels must lie in \[0, 3\)"),
        (np.empty((0, 3)), [], "probs is empty"),
    ],
)
def test_faulty_batches_are_refused_and_not_counted(probs, labels, match):
    accumulator = accumulated(*tied_data(0))
    before = accumulated(*tied_data(0))
    with pytest.raises(ValueError, match=match):
        accumulator.add(probs, labels)
    assert_same_bits(accumulator, before)


def test_errors_of_options_and_of_empty_accumulators():
    accumulator = ClassificationAccumulator(3)
    for method in (
        accumulator.result,
        accumulator.ece,
        accumulator.quantile_ece,
        accumulator.aurc,
        accumulator.augrc,
        accumulator.reliability_curve,
        accumulator.intervals,
    ):
        with pytest.raises(ValueError, match="has seen no inputs; call add first"):
            method()
    accumulator.merge(ClassificationAccumulator(3))
    assert accumulator.num_inputs == 0
    with pytest.raises(ValueError, match="num_classes must be at least 2, got 1"):
        ClassificationAccumulator(1)
    with pytest.raises(ValueError, match="state must hold the arrays bin_confidence, "):
        accumulator.add_state({})
    accumulator.add([[1.0, 0.0, 0.0]], [0])
    with pytest.raises(ValueError, match="norm must be one of l1, l2, max"):
        accumulator.ece(norm="l3")
    with pytest.raises(ValueError, match="debias is defined for norm='l2' only"):
        accumulator.ece(debias=True)
