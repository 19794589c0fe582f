from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from metric_reference import (
    calibrated_data,
    grid_data,
    random_data,
    reference_brier_parts,
    reproducible,
    tied_data,
)

from bbnn_uq.metrics.proper_scores import (
    accuracy,
    brier,
    brier_decomposition,
    brier_decomposition_kernel,
    nll,
)

BINNINGS = ["uniform", "quantile"]


@pytest.mark.parametrize("seed", range(3))
def test_scores_equal_scikit_learn(seed):
    probs, labels = random_data(seed)
    classes = np.arange(probs.shape[1])
    assert accuracy(probs, labels) == sklearn.metrics.accuracy_score(labels, probs.argmax(axis=1))
    assert nll(probs, labels) == pytest.approx(
        sklearn.metrics.log_loss(labels, probs, labels=classes), rel=1e-12
    )
    assert brier(probs, labels) == pytest.approx(
        sklearn.metrics.brier_score_loss(labels, probs, labels=classes, scale_by_half=False),
        rel=1e-12,
    )


def test_extreme_probabilities():
    sure = np.eye(3)
    right, wrong = np.arange(3), np.array([1, 2, 0])
    assert [f(sure, right) for f in (accuracy, nll, brier)] == [1.0, 0.0, 0.0]
    assert math.copysign(1.0, nll(sure, right)) == 1.0  # not -0.0
    assert [f(sure, wrong) for f in (accuracy, nll, brier)] == [0.0, math.inf, 2.0]
    assert nll(sure, np.array([0, 1, 0])) == math.inf  # a single one is enough


def test_a_single_input():
    probs, labels = [[0.25, 0.75]], [1]
    assert accuracy(probs, labels) == 1.0
    assert nll(probs, labels) == pytest.approx(-math.log(0.75))
    assert brier(probs, labels) == pytest.approx(2 * 0.25**2)
    parts = brier_decomposition(probs, labels)
    assert dataclasses.astuple(parts) == pytest.approx((2 * 0.25**2, 0.0, 0.0, 0.0))


def test_a_tie_goes_to_the_first_class():
    assert accuracy([[0.5, 0.5], [0.25, 0.75]], [0, 1]) == 1.0
    assert accuracy([[0.5, 0.5], [0.25, 0.75]], [1, 1]) == 0.5


def check_decomposition(probs, labels, **options):
    """That the parts are those of the plain reference, in their ranges, and add up."""
    parts = brier_decomposition(probs, labels, **options)
    expected = reference_brier_parts(probs, labels, **options)
    assert dataclasses.astuple(parts) == pytest.approx(expected, abs=1e-12)
    total = parts.reliability - parts.resolution + parts.uncertainty + parts.within_bin
    assert total == pytest.approx(brier(probs, labels), rel=1e-14, abs=1e-15)
    assert 0.0 <= parts.reliability <= 2.0
    assert 0.0 <= parts.resolution <= parts.uncertainty + 1e-12
    assert parts.uncertainty <= 1.0 - 1.0 / probs.shape[1] + 1e-12


@pytest.mark.parametrize("binning", BINNINGS)
@pytest.mark.parametrize("data", [random_data, calibrated_data, tied_data])
@pytest.mark.parametrize("num_bins", [1, 4, 15])
def test_decomposition_equals_the_plain_reference(data, num_bins, binning):
    check_decomposition(*data(1), num_bins=num_bins, binning=binning)


@reproducible
@given(grid_data(), st.integers(1, 9), st.sampled_from(BINNINGS))
def test_decomposition_equals_the_plain_reference_on_edges_and_ties(data, num_bins, binning):
    check_decomposition(*data, num_bins=num_bins, binning=binning)


def test_murphys_identity_is_exact_where_bins_hold_one_probability_each():
    # Multiples of 1/8, each in a bin of its own: Murphy's three parts over the distinct values.
    probs, labels = tied_data(3, num_inputs=500)
    parts = brier_decomposition(probs, labels, num_bins=16)
    assert parts.within_bin == pytest.approx(0.0, abs=1e-14)
    reliability = resolution = uncertainty = 0.0
    for column, outcome in zip(probs.T, np.eye(3)[labels].T, strict=True):
        for value in np.unique(column):
            rate = outcome[column == value].mean()
            share = np.mean(column == value)
            reliability += share * (value - rate) ** 2
            resolution += share * (rate - outcome.mean()) ** 2
        uncertainty += outcome.var()
    assert dataclasses.astuple(parts)[:3] == pytest.approx((reliability, resolution, uncertainty))
    assert reliability - resolution + uncertainty == pytest.approx(brier(probs, labels))


def test_parts_of_known_forecasts():
    labels = np.array([0, 0, 0, 1])
    climate = brier_decomposition(np.tile([0.75, 0.25], (4, 1)), labels)
    assert dataclasses.astuple(climate) == pytest.approx((0.0, 0.0, 2 * 0.75 * 0.25, 0.0))
    oracle = brier_decomposition(np.eye(2)[labels], labels)
    assert dataclasses.astuple(oracle) == pytest.approx((0.0, 0.375, 0.375, 0.0))
    # One bin: probabilities that follow the labels within it cost less than their mean would.
    inside = brier_decomposition(np.eye(2)[labels], labels, num_bins=1)
    assert dataclasses.astuple(inside) == pytest.approx((0.0, 0.0, 0.375, -0.375))


@pytest.mark.parametrize("binning", BINNINGS)
def test_decomposition_kernel_equals_the_function_on_repeated_inputs(binning):
    probs, labels = tied_data(4, num_inputs=30)
    weights = np.random.default_rng(0).integers(0, 4, size=(5, 30)).astype(np.float64)
    values = brier_decomposition_kernel(probs, labels, num_bins=6, binning=binning)(weights)
    for row, counts in enumerate(weights.astype(int)):
        drawn = np.repeat(np.arange(30), counts)
        expected = reference_brier_parts(probs[drawn], labels[drawn], num_bins=6, binning=binning)
        assert [value[row] for value in values.values()] == pytest.approx(expected, abs=1e-12)


def test_decomposition_takes_float16_and_any_labels_and_is_frozen():
    probs, labels = tied_data(0, num_inputs=20)
    parts = brier_decomposition(probs.astype(np.float16), labels.astype(np.uint8))
    assert parts == brier_decomposition(probs, labels)
    assert all(type(part) is float for part in dataclasses.astuple(parts))
    with pytest.raises(dataclasses.FrozenInstanceError):
        parts.resolution = 1.0


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"num_bins": 0}, ValueError, "num_bins must be at least 1"),
        ({"num_bins": "many"}, TypeError, "num_bins must be an integer"),
        ({"binning": "equal"}, ValueError, "binning must be one of uniform, quantile"),
    ],
)
def test_invalid_options_are_named(options, error, match):
    with pytest.raises(error, match=match):
        brier_decomposition([[0.5, 0.5]], [0], **options)
