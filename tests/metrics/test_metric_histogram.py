from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from metric_reference import reproducible

from bbnn_uq.metrics import ood_metrics
from bbnn_uq.metrics.histogram_metrics import ood_metrics_from_histograms
from bbnn_uq.metrics.score_histogram import ScoreHistogram

any_scores = st.lists(
    st.floats(allow_nan=False, allow_infinity=False, width=64), min_size=1, max_size=30
)
# Few bins of few bits, each with tied and with different scores.
crowded_scores = st.lists(
    st.tuples(st.sampled_from([-4.0, -0.0, 0.0, 1.0, 1.5, 4.0]), st.integers(0, 2)).map(
        lambda pair: pair[0] + pair[1] / 64
    ),
    min_size=1,
    max_size=25,
)


def histogram(scores, *, mantissa_bits=10):
    result = ScoreHistogram(mantissa_bits=mantissa_bits)
    result.add(scores)
    return result


def assert_same_bits(one, other):
    for name, array in other.state().items():
        np.testing.assert_array_equal(one.state()[name], array, err_msg=name)
        assert one.state()[name].tobytes() == array.tobytes(), name  # -0.0 is not 0.0 here


def assert_bounds_hold(id_scores, ood_scores, mantissa_bits):
    bounds = ood_metrics_from_histograms(
        histogram(id_scores, mantissa_bits=mantissa_bits),
        histogram(ood_scores, mantissa_bits=mantissa_bits),
    )
    expected = dataclasses.asdict(ood_metrics(id_scores, ood_scores))
    assert bounds.keys() == expected.keys()
    for name, bounded in bounds.items():
        assert bounded.low <= bounded.value <= bounded.high, name
        assert bounded.low - 1e-12 <= expected[name] <= bounded.high + 1e-12, name
    return bounds


@reproducible
@given(any_scores, st.integers(1, 20))
def test_bins_keep_order_and_have_the_stated_width(scores, mantissa_bits):
    bins = histogram(scores, mantissa_bits=mantissa_bits)
    assert bins.num_scores == len(scores)
    assert (np.diff(bins.keys) > 0).all()
    assert (bins.lowest[1:] > bins.highest[:-1]).all()
    with np.errstate(over="ignore"):
        width = bins.highest - bins.lowest
    # Of the smallest scores, whose exponent is the lowest there is, the width is absolute.
    largest = np.maximum(np.abs(bins.highest), np.abs(bins.lowest))
    assert (width <= np.maximum(largest, np.finfo(float).tiny) * 2.0**-mantissa_bits).all()
    assert bins.lowest.min() == min(scores)
    assert bins.highest.max() == max(scores)


@reproducible
@given(st.data(), st.one_of(any_scores, crowded_scores))
def test_batches_of_any_size_merged_in_any_order_are_the_same_bits(data, scores):
    whole = histogram(scores)
    cut = data.draw(st.integers(0, len(scores)))
    in_batches = ScoreHistogram()
    parts = []
    for batch in (scores[:cut], scores[cut:]):
        if batch:
            in_batches.add(batch[::-1])
            parts.append(histogram(batch))
    assert_same_bits(in_batches, whole)
    merged = ScoreHistogram()
    for part in data.draw(st.permutations(parts)):
        merged.merge(part)
    assert_same_bits(merged, whole)
    by_state = ScoreHistogram()
    for part in parts:
        by_state.add_state(part.state())
    assert_same_bits(by_state, whole)


def test_merging_leaves_the_other_as_it_is_and_doubles_itself():
    one, other = histogram([1.0, 2.0]), histogram([2.0, 3.0])
    one.merge(other)
    one.merge(one)
    one.add([2.0])
    assert_same_bits(other, histogram([2.0, 3.0]))
    assert_same_bits(one, histogram([1.0, 2.0, 2.0, 3.0] * 2 + [2.0]))


@reproducible
@given(crowded_scores, crowded_scores, st.integers(1, 4))
def test_bounds_hold_in_crowded_bins(id_scores, ood_scores, mantissa_bits):
    assert_bounds_hold(id_scores, ood_scores, mantissa_bits)


@reproducible
@given(any_scores, any_scores, st.integers(1, 4))
def test_bounds_hold_on_any_floats(id_scores, ood_scores, mantissa_bits):
    assert_bounds_hold(id_scores, ood_scores, mantissa_bits)


@reproducible
@given(st.integers(1, 4), st.integers(1, 4))
def test_bounds_are_reached_by_the_best_and_the_worst_order_within_a_bin(num_id, num_ood):
    lower, upper = np.linspace(1.0, 1.1, 4), np.linspace(1.3, 1.4, 4)
    bounds = assert_bounds_hold(lower[:num_id], upper[:num_ood], 1)
    best = dataclasses.asdict(ood_metrics(lower[:num_id], upper[:num_ood]))
    worst = dataclasses.asdict(ood_metrics(upper[:num_id], lower[:num_ood]))
    for name in ("auroc", "aupr_out", "aupr_in"):
        assert bounds[name].high == best[name] == 1.0
        assert bounds[name].low == pytest.approx(worst[name], abs=1e-12)
    for name in ("fpr95", "fpr95_in", "detection_error"):
        assert bounds[name].low == best[name] == 0.0
        assert bounds[name].high == worst[name]


@reproducible
@given(any_scores, any_scores, st.integers(1, 6))
def test_value_is_the_metric_of_the_rounded_scores(id_scores, ood_scores, mantissa_bits):
    def rounded(scores):
        # Positive scores only: their leading bits as they are, the rest 0.
        return np.abs(scores).view(np.int64) >> (52 - mantissa_bits) << (52 - mantissa_bits)

    bounds = assert_bounds_hold(np.abs(id_scores), np.abs(ood_scores), mantissa_bits)
    expected = ood_metrics(
        rounded(np.array(id_scores)).view(np.float64), rounded(np.array(ood_scores)).view(float)
    )
    for name, bounded in bounds.items():
        assert bounded.value == pytest.approx(getattr(expected, name), abs=1e-12), name


@reproducible
@given(
    st.lists(st.floats(width=16, allow_nan=False, allow_infinity=False), min_size=1, max_size=30),
    st.lists(st.floats(width=16, allow_nan=False, allow_infinity=False), min_size=1, max_size=30),
)
def test_half_precision_scores_are_known_exactly(id_scores, ood_scores):
    inside = histogram(torch.tensor(id_scores, dtype=torch.float16))
    outside = histogram(np.array(ood_scores, dtype=np.float16))
    expected = dataclasses.asdict(ood_metrics(id_scores, ood_scores))
    for name, bounded in ood_metrics_from_histograms(inside, outside).items():
        got = (bounded.value, bounded.low, bounded.high)
        # Within a bin of one kind alone, one by one or together is the same: all scores are tied.
        assert got == pytest.approx((expected[name],) * 3, abs=1e-12), name


def test_constant_scores_of_any_value_are_known_exactly():
    bounds = assert_bounds_hold([math.pi] * 5, [math.pi] * 3, 1)
    assert bounds["auroc"] == dataclasses.replace(bounds["auroc"], value=0.5, low=0.5, high=0.5)
    assert all(each.low == each.high for each in bounds.values())


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_bounds_are_tight_on_many_scores_of_any_scale(scale):
    generator = np.random.default_rng(0)
    id_scores = scale * generator.normal(0.0, 1.0, 100_000)
    ood_scores = scale * generator.normal(1.0, 1.5, 100_000)
    bounds = assert_bounds_hold(id_scores, ood_scores, 10)
    for name, bounded in bounds.items():
        assert bounded.high - bounded.low < 5e-4, name
    width = bounds["auroc"].high - bounds["auroc"].low
    finer = assert_bounds_hold(id_scores, ood_scores, 13)["auroc"]
    assert finer.high - finer.low == pytest.approx(width / 8, rel=0.05)


def test_width_of_the_bounds_of_auroc_is_the_share_of_mixed_pairs():
    # Bins from 1 to 2 and from 2 to 4; the first is mixed: 2 * 1 of 3 * 2 pairs.
    bounds = assert_bounds_hold([1.0, 1.2, 3.0], [1.1, 5.0], 1)
    assert bounds["auroc"].low == pytest.approx(3 / 6)
    assert bounds["auroc"].value == pytest.approx(4 / 6)
    assert bounds["auroc"].high == pytest.approx(5 / 6)


def test_save_and_load_at_any_moment(tmp_path):
    scores = np.random.default_rng(0).normal(size=300)
    bins = ScoreHistogram(mantissa_bits=6)
    for batch in scores.reshape(3, 100):
        bins.save(tmp_path / "scores.npz")
        bins = ScoreHistogram.load(tmp_path / "scores.npz")
        bins.add(batch)
    assert_same_bits(bins, histogram(scores, mantissa_bits=6))
    assert bins.mantissa_bits == 6
    assert repr(bins).startswith("ScoreHistogram(mantissa_bits=6): 300 scores in ")


def test_no_damage_of_a_file_goes_unseen(tmp_path):
    path = tmp_path / "scores.npz"
    bins = histogram([0.1, 0.2, -3.0])
    bins.save(path)
    whole = path.read_bytes()
    refused = 0
    for place in range(0, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        fault = None
        try:
            loaded = ScoreHistogram.load(path)
        except ValueError as error:
            fault = str(error)
        if fault is None:
            # What is not covered by a checksum, such as dates, may be damaged without harm.
            assert_same_bits(loaded, bins)
        else:
            assert "scores.npz" in fault
            refused += 1
    assert refused > len(whole) / 3 / 2
    for end in range(0, len(whole), 7):
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match="is damaged or is no"):
            ScoreHistogram.load(path)


@pytest.mark.parametrize(
    "change",
    [
        {"keys": np.array([1, 0])},
        {"counts": np.array([1, 0])},
        {"counts": np.array([1])},
        {"counts": np.array([1.0, 1.0])},
        {"lowest": np.array([3.0, 2.0])},
        {"highest": np.array([1.0, np.nan])},
        {"highest": np.array([2.0, 2.0])},
        {"more": np.array([1, 1])},
    ],
)
def test_contradictory_states_are_refused(change):
    bins = histogram([1.0, 2.0])
    with pytest.raises(ValueError, match="state"):
        bins.add_state({**bins.state(), **change})
    assert_same_bits(bins, histogram([1.0, 2.0]))


def test_errors_name_the_argument():
    bins = histogram([1.0])
    for scores, match in (
        ([], "scores is empty"),
        ([[1.0]], r"scores must have shape \(N,\)"),
        ([1.0, math.inf], "scores must be finite"),
    ):
        with pytest.raises(ValueError, match=match):
            bins.add(scores)
    assert_same_bits(bins, histogram([1.0]))
    for bits in (0, 21):
        with pytest.raises(ValueError, match="mantissa_bits must be at"):
            ScoreHistogram(mantissa_bits=bits)
    with pytest.raises(ValueError, match="other must have the mantissa_bits of this histogram, 10"):
        bins.merge(ScoreHistogram(mantissa_bits=9))
    with pytest.raises(ValueError, match="mantissa_bits"):
        ood_metrics_from_histograms(bins, histogram([1.0], mantissa_bits=9))
    with pytest.raises(ValueError, match="ood_histogram is empty"):
        ood_metrics_from_histograms(bins, ScoreHistogram())
