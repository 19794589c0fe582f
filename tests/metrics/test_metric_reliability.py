from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from metric_reference import (
    calibrated_data,
    grid_data,
    random_data,
    reference_bins,
    reproducible,
    tied_data,
)

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


@pytest.mark.parametrize("binning", ["uniform", "quantile"])
def test_bootstrap_bands_are_percentiles_over_resamples_of_the_inputs(binning):
    probs, labels = calibrated_data(2, num_inputs=200, num_classes=3)
    options = {"num_bins": 5, "binning": binning, "confidence_level": 0.9}
    curve = reliability_curve(
        probs, labels, band="bootstrap", num_resamples=20_000, seed=1, **options
    )
    bins = reference_bins(probs, labels, 5, binning)
    members = [np.array(bins[number], dtype=float) for number in sorted(bins)]
    outcome = np.concatenate([rows[:, 1] for rows in members])
    number = np.repeat(np.arange(len(members)), [len(rows) for rows in members])
    # Inputs drawn one by one, in the bins of the data.
    generator = np.random.default_rng(0)
    rates = np.full((20_000, len(members)), np.nan)
    for row in rates:
        drawn = generator.integers(200, size=200)
        for each in range(len(members)):
            here = outcome[drawn[number[drawn] == each]]
            row[each] = here.mean() if len(here) else np.nan
    filled = np.flatnonzero(curve.count)
    low, high = np.nanquantile(rates, [0.05, 0.95], axis=0)
    # Quantiles of 20,000 rates differ by a few steps of 1/n at most: about 4 standard errors.
    np.testing.assert_allclose(curve.low[filled], low, atol=0.02)
    np.testing.assert_allclose(curve.high[filled], high, atol=0.02)
    wilson = reliability_curve(probs, labels, **options)
    for name in ("bin_edges", "count", "confidence", "accuracy"):
        np.testing.assert_array_equal(getattr(curve, name), getattr(wilson, name))


@reproducible
@given(grid_data(max_inputs=30), st.sampled_from(["uniform", "quantile"]), st.integers(1, 20))
def test_bootstrap_bands_hold_the_accuracy(data, binning, num_bins):
    curve = reliability_curve(*data, num_bins=num_bins, binning=binning, band="bootstrap")
    filled = curve.count > 0
    assert np.isnan(curve.low[~filled]).all()
    assert np.isnan(curve.high[~filled]).all()
    assert (curve.low[filled] >= 0.0).all()
    assert (curve.low <= curve.accuracy)[filled].all()
    assert (curve.accuracy <= curve.high)[filled].all()
    assert (curve.high[filled] <= 1.0).all()
    # All right or all wrong stays so in every resample.
    for rate in (0.0, 1.0):
        same = curve.accuracy == rate
        assert (curve.low[same] == rate).all()
        assert (curve.high[same] == rate).all()


def test_bootstrap_bands_are_those_of_the_seed():
    data = tied_data(0)
    first, again, other = (
        reliability_curve(*data, band="bootstrap", seed=seed) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first.low, again.low)
    assert not np.array_equal(first.low, other.low, equal_nan=True)


def test_a_bin_that_no_resample_fills_has_no_band():
    # One input of 50 in its bin, and a single resample, which may not draw it.
    confidence = np.array([0.6] + [0.9] * 49)
    probs = np.stack([confidence, 1.0 - confidence], axis=1)
    options = {"num_bins": 10, "band": "bootstrap"}
    bands = [
        reliability_curve(probs, [0] * 50, num_resamples=1, seed=seed, **options).low[5]
        for seed in range(20)
    ]
    # A chance of 1/e each: that all or none of 20 are empty is below 1e-3.
    assert 0 < np.isnan(bands).sum() < 20
    assert not np.isnan(reliability_curve(probs, [0] * 50, **options).low[5])


def test_the_curve_is_frozen():
    curve = reliability_curve([[0.5, 0.5]], [0])
    with pytest.raises(dataclasses.FrozenInstanceError):
        curve.count = None


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"num_bins": 0}, ValueError, "num_bins must be at least 1"),
        ({"binning": "equal"}, ValueError, "binning must be one of uniform, quantile"),
        ({"band": "wilsn"}, ValueError, "band must be one of.*did you mean 'wilson'"),
        ({"num_resamples": 0}, ValueError, "num_resamples must be at least 1"),
        ({"seed": -1}, ValueError, "seed must be at least 0"),
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
