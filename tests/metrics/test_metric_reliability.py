from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from metric_reference import grid_data, random_data, reference_bins, reproducible

from bbnn_uq.metrics import ece, reliability_curve


@reproducible
@given(grid_data(max_inputs=30), st.integers(1, 9), st.sampled_from(["uniform", "quantile"]))
def test_curve_equals_the_plain_reference(data, num_bins, binning):
    probs, labels = data
    curve = reliability_curve(probs, labels, num_bins=num_bins, binning=binning)
    bins = reference_bins(probs, labels, num_bins, binning)
    numbers = range(num_bins) if binning == "uniform" else sorted(bins)
    assert len(curve.count) == len(numbers) == len(curve.bin_edges) - 1
    for row, number in enumerate(numbers):
        members = bins.get(number, [])
        assert curve.count[row] == len(members)
        if not members:
            drawn = [curve.confidence, curve.accuracy, curve.low, curve.high]
            assert np.isnan([values[row] for values in drawn]).all()
            continue
        confidences, correct = np.array(members).T
        assert curve.confidence[row] == pytest.approx(confidences.mean())
        assert curve.accuracy[row] == pytest.approx(correct.mean())
        lower, upper = curve.bin_edges[row : row + 2]
        assert confidences.max() <= upper
        assert confidences.min() > lower or (row == 0 and confidences.min() == lower)


@reproducible
@given(grid_data(max_inputs=30), st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_intervals_are_wilson_intervals(data, level):
    curve = reliability_curve(*data, num_bins=4, confidence_level=level)
    for row in np.flatnonzero(curve.count):
        hits = round(curve.accuracy[row] * curve.count[row])
        interval = scipy.stats.binomtest(hits, int(curve.count[row])).proportion_ci(level, "wilson")
        assert curve.low[row] == pytest.approx(interval.low, abs=1e-12)
        assert curve.high[row] == pytest.approx(interval.high, abs=1e-12)
        assert 0.0 <= curve.low[row] <= curve.accuracy[row] <= curve.high[row] <= 1.0


@pytest.mark.parametrize("binning", ["uniform", "quantile"])
def test_weighted_gaps_give_the_ece(binning):
    probs, labels = random_data(0)
    curve = reliability_curve(probs, labels, num_bins=12, binning=binning)
    used = curve.count > 0
    gaps = np.abs(curve.accuracy - curve.confidence)[used] * curve.count[used] / len(labels)
    assert gaps.sum() == pytest.approx(ece(probs, labels, num_bins=12, binning=binning))


def test_uniform_edges_and_ends():
    # On the edge 0.6 goes below; 0.7 is the number nearest to 7/10, the edge itself.
    confidence = np.array([0.5, 0.6, 0.7, 0.95, 1.0])
    curve = reliability_curve(np.stack([confidence, 1 - confidence], axis=1), [0] * 5, num_bins=10)
    np.testing.assert_array_equal(curve.bin_edges, [k / 10 for k in range(11)])
    assert curve.count.tolist() == [0, 0, 0, 0, 1, 1, 1, 0, 0, 2]


def test_quantile_bins_without_ties_hold_equal_numbers():
    probs, labels = random_data(1, num_inputs=100)
    curve = reliability_curve(probs, labels, num_bins=8, binning="quantile")
    assert sorted(set(curve.count.tolist())) == [12, 13]
    confidence = probs.max(axis=1)
    assert curve.bin_edges[0] == confidence.min()
    assert curve.bin_edges[-1] == confidence.max()
    assert np.isin(curve.bin_edges, confidence).all()


def test_quantile_bins_emptied_by_ties_are_merged():
    confidence = np.array([0.5, 0.6, *[0.75] * 10, 0.9])
    probs = np.stack([confidence, 1 - confidence], axis=1)
    curve = reliability_curve(probs, [0] * 13, num_bins=6, binning="quantile")
    # Shares k/6 are reached at 0.75 for k = 1..5 already (rank 3 of 13 and up), and at 0.9.
    assert curve.bin_edges.tolist() == [0.5, 0.75, 0.9]
    assert curve.count.tolist() == [12, 1]


def test_the_curve_is_frozen():
    curve = reliability_curve([[0.5, 0.5]], [0])
    with pytest.raises(dataclasses.FrozenInstanceError):
        curve.count = None


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"num_bins": 0}, ValueError, "num_bins must be at least 1"),
        ({"binning": "equal"}, ValueError, "binning must be one of uniform, quantile"),
        ({"confidence_level": 95}, ValueError, "confidence_level must lie strictly between"),
        ({"confidence_level": "high"}, TypeError, "confidence_level must be a number"),
    ],
)
def test_invalid_options_are_named(options, error, match):
    with pytest.raises(error, match=match):
        reliability_curve([[0.5, 0.5]], [0], **options)


def test_invalid_data_is_named():
    with pytest.raises(ValueError, match="probs must sum to 1"):
        reliability_curve([[0.5, 0.6]], [0])
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 2\)"):
        reliability_curve([[0.5, 0.5]], [3])
