from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from metric_reference import (
    calibrated_data,
    grid_data,
    random_data,
    reference_classwise_ece,
    reproducible,
    tied_data,
)

from bbnn_uq.metrics.calibration import classwise_ece, classwise_ece_kernel, ece

OPTIONS = [
    {"binning": binning, "norm": norm}
    for binning in ("uniform", "quantile")
    for norm in ("l1", "l2", "max")
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("data", [random_data, calibrated_data, tied_data])
@pytest.mark.parametrize("num_bins", [1, 10, 500])
def test_equals_the_plain_reference(data, options, num_bins):
    probs, labels = data(2)
    expected = reference_classwise_ece(probs, labels, num_bins=num_bins, **options)
    value = classwise_ece(probs, labels, num_bins=num_bins, **options)
    assert value == pytest.approx(expected, abs=1e-12)


@reproducible
@given(grid_data(), st.integers(1, 9), st.sampled_from(OPTIONS), st.randoms(use_true_random=False))
def test_equals_the_plain_reference_in_any_order_on_edges_and_ties(data, num_bins, options, random):
    probs, labels = data
    expected = reference_classwise_ece(probs, labels, num_bins=num_bins, **options)
    shuffled = list(range(len(labels)))
    random.shuffle(shuffled)
    for order in (slice(None), shuffled):
        value = classwise_ece(probs[order], labels[order], num_bins=num_bins, **options)
        assert 0.0 <= value <= 1.0
        assert value == pytest.approx(expected, abs=1e-12)
    renamed = classwise_ece(probs[:, [2, 0, 1]], (labels + 1) % 3, num_bins=num_bins, **options)
    assert renamed == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("num_bins", [1, 6, 40])
def test_the_kernel_equals_the_metric_on_repeated_inputs(options, num_bins):
    probs, labels = tied_data(4, num_inputs=30)
    # The last row leaves out whole ends of the classes' orders.
    weights = np.random.default_rng(0).integers(0, 4, size=(6, 30)).astype(np.float64)
    weights[5, probs[:, 0] > 0.3] = 0.0
    values = classwise_ece_kernel(probs, labels, num_bins=num_bins, **options)(weights)
    for row, value in zip(weights.astype(int), values, strict=True):
        drawn = np.repeat(np.arange(30), row)
        expected = reference_classwise_ece(
            probs[drawn], labels[drawn], num_bins=num_bins, **options
        )
        assert value == pytest.approx(expected, abs=1e-12)


def test_is_by_default_l1_over_15_uniform_bins():
    probs, labels = calibrated_data(5)
    expected = reference_classwise_ece(probs, labels, num_bins=15, binning="uniform", norm="l1")
    assert classwise_ece(probs, labels) == pytest.approx(expected)


@pytest.mark.parametrize("binning", ["uniform", "quantile"])
def test_of_more_inputs_than_one_block_holds(binning):
    probs, labels = calibrated_data(6, num_inputs=200)
    many = np.repeat(probs, 1000, axis=0), np.repeat(labels, 1000)
    expected = classwise_ece(probs, labels, binning=binning)
    assert classwise_ece(*many, binning=binning) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_extremes(options):
    sure = np.eye(3)
    assert classwise_ece(sure, [0, 1, 2], **options) == 0.0
    assert classwise_ece(np.eye(2), [1, 0], **options) == 1.0  # the most there is
    # A class that never occurs, and gets no probability, is right.
    assert classwise_ece([[1.0, 0.0, 0.0]] * 3, [0, 0, 0], **options) == 0.0


def test_one_input_is_off_by_its_own_distance():
    probs, labels = [[0.5, 0.3, 0.2]], [1]
    assert classwise_ece(probs, labels) == pytest.approx((0.5 + 0.7 + 0.2) / 3)
    squares = (0.25 + 0.49 + 0.04) / 3
    assert classwise_ece(probs, labels, norm="l2") == pytest.approx(math.sqrt(squares))
    assert classwise_ece(probs, labels, norm="max") == pytest.approx(0.7)


def test_sees_what_the_top_class_hides():
    # Right about the top class on average, wrong about which of the others it is.
    probs = np.tile([0.5, 0.5 - 1e-3, 1e-3], (100, 1))
    labels = np.repeat([0, 2], 50)
    assert ece(probs, labels) == pytest.approx(0.0, abs=1e-12)
    assert classwise_ece(probs, labels) == pytest.approx(2 * (0.5 - 1e-3) / 3)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"num_bins": 0}, ValueError, "num_bins must be at least 1"),
        ({"num_bins": 2.5}, TypeError, "num_bins must be an integer"),
        ({"binning": "quantil"}, ValueError, "binning must be one of.*did you mean 'quantile'"),
        ({"norm": "l3"}, ValueError, "norm must be one of l1, l2, max"),
    ],
)
def test_invalid_options_are_named(options, error, match):
    with pytest.raises(error, match=match):
        classwise_ece([[0.5, 0.5]], [0], **options)
