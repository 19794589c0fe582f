from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from metric_reference import (
    calibrated_data,
    grid_data,
    random_data,
    reference_ece,
    reproducible,
    tied_data,
)

from bbnn_uq.metrics import accuracy, aurc, brier, ece, nll
from bbnn_uq.metrics.calibration import classwise_ece, ece_kernel
from bbnn_uq.metrics.smooth_calibration import smooth_ece

METRICS = [accuracy, nll, brier, ece, classwise_ece, smooth_ece, aurc]

ECE_OPTIONS = [
    {"binning": binning, "norm": norm, "debias": debias}
    for binning in ("uniform", "quantile")
    for norm, debias in (("l1", False), ("l2", False), ("max", False), ("l2", True))
]


def two_classes(confidence):
    """Probabilities (N, 2) whose first class has the given confidences (>= 0.5)."""
    confidence = np.asarray(confidence, dtype=np.float64)
    return np.stack([confidence, 1.0 - confidence], axis=1)


@pytest.mark.parametrize("options", ECE_OPTIONS, ids=str)
def test_extreme_probabilities_and_a_single_input(options):
    sure = np.eye(3)
    assert ece(sure, np.arange(3), **options) == 0.0
    assert ece(sure, np.array([1, 2, 0]), **options) == 1.0  # all in the last bin
    # A lone input has no variance estimate, so the debiased error says nothing: 0.
    expected = 0.0 if options["debias"] else 0.25
    assert ece([[0.25, 0.75]], [1], **options) == pytest.approx(expected)


@pytest.mark.parametrize("options", ECE_OPTIONS, ids=str)
@pytest.mark.parametrize("data", [random_data, calibrated_data, tied_data])
@pytest.mark.parametrize("num_bins", [1, 10, 500])
def test_ece_equals_the_plain_reference(data, options, num_bins):
    probs, labels = data(2)
    expected = reference_ece(probs, labels, num_bins=num_bins, **options)
    assert ece(probs, labels, num_bins=num_bins, **options) == pytest.approx(expected, abs=1e-12)


@reproducible
@given(grid_data(), st.integers(1, 9), st.sampled_from(ECE_OPTIONS))
def test_ece_equals_the_plain_reference_on_edges_and_ties(data, num_bins, options):
    expected = reference_ece(*data, num_bins=num_bins, **options)
    # The root of a debiased sum that is 0 but for rounding is its root.
    tolerance = 1e-7 if options["debias"] else 1e-12
    assert ece(*data, num_bins=num_bins, **options) == pytest.approx(expected, abs=tolerance)


def test_ece_is_by_default_l1_over_15_uniform_bins():
    # The edge 10/15 parts the two; with 10 bins they would share (0.6, 0.7].
    assert ece(two_classes([0.65, 0.69]), [0, 1]) == pytest.approx((0.35 + 0.69) / 2)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below():
    # Bins (0.5, 0.6], (0.6, 0.7]: 0.6 shares the bin of 0.55, so their errors cancel.
    probs, labels = two_classes([0.55, 0.6]), [1, 0]
    gap = abs(1.0 - (0.55 + 0.6)) / 2
    assert ece(probs, labels, num_bins=10) == pytest.approx(gap)
    # One step above the edge they part: |0 - 0.55| / 2 + |1 - 0.6| / 2.
    probs = two_classes([0.55, np.nextafter(0.6, 1)])
    assert ece(probs, labels, num_bins=10) == pytest.approx((0.55 + 0.4) / 2)


def test_confidence_one_shares_the_last_bin():
    assert ece(two_classes([0.95, 1.0]), [1, 0], num_bins=10) == pytest.approx(0.475)


def test_quantile_bins_hold_equal_numbers():
    probs, labels = random_data(3, num_inputs=61)
    confidence, correct = probs.max(axis=1), probs.argmax(axis=1) == labels
    order = np.argsort(confidence)
    parts = np.array_split(order, 4)  # larger parts first, as here
    expected = sum(abs(correct[p].mean() - confidence[p].mean()) * len(p) / 61 for p in parts)
    assert ece(probs, labels, num_bins=4, binning="quantile") == pytest.approx(expected)


def test_quantile_bins_that_fall_empty_count_nothing():
    # Of 4 quantiles three lie in the ties at 0.75, and the last at 1.0.
    probs = two_classes([0.5, *[0.75] * 5, 1.0, 1.0])
    labels = [1] + [0] * 4 + [1] + [0, 1]
    gaps = abs(4 - 0.5 - 5 * 0.75), abs(1 - 2.0)
    value = ece(probs, labels, num_bins=4, binning="quantile")
    assert value == pytest.approx(sum(gaps) / 8)


@pytest.mark.parametrize("options", ECE_OPTIONS, ids=str)
@pytest.mark.parametrize("num_bins", [1, 7, 40])
def test_the_kernel_equals_the_metric_on_repeated_inputs(options, num_bins):
    probs, labels = tied_data(4, num_inputs=30)
    # The last row leaves most inputs out, the most confident ones among them.
    weights = np.random.default_rng(0).integers(0, 4, size=(6, 30)).astype(np.float64)
    weights[5, probs.max(axis=1) > 0.6] = 0.0
    values = ece_kernel(probs, labels, num_bins=num_bins, **options)(weights)
    for row, value in zip(weights.astype(int), values, strict=True):
        drawn = np.repeat(np.arange(30), row)
        expected = reference_ece(probs[drawn], labels[drawn], num_bins=num_bins, **options)
        assert value == pytest.approx(expected, abs=1e-7 if options["debias"] else 1e-12)


@pytest.mark.parametrize("binning", ["uniform", "quantile"])
def test_ece_of_more_inputs_than_one_block_holds(binning):
    probs, labels = random_data(6, num_inputs=400, num_classes=3)
    expected = ece(probs, labels, binning=binning)
    many = np.repeat(probs, 1000, axis=0), np.repeat(labels, 1000)
    assert ece(*many, binning=binning) == pytest.approx(expected, rel=1e-11)


def test_quantile_bins_of_one_confidence_are_one_bin():
    probs, labels = two_classes([0.75] * 8), [0, 1, 0, 1, 0, 1, 0, 1]
    assert ece(probs, labels, binning="quantile", norm="max") == pytest.approx(0.25)


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
def test_norms_of_a_known_miscalibration(norm):
    # 4 inputs at confidence 0.75 with accuracy 0.25; 12 at 1.0 with accuracy 0.75.
    probs = two_classes([0.75] * 4 + [1.0] * 12)
    labels = [0, 1, 1, 1] + [0] * 9 + [1] * 3
    expected = {"l1": 0.25 * 0.5 + 0.75 * 0.25, "l2": math.sqrt(0.25 / 4 + 0.75 / 16), "max": 0.5}
    assert ece(probs, labels, norm=norm) == pytest.approx(expected[norm])


def test_debiasing_is_unbiased():
    # One bin of n inputs at confidence 0.8 and true accuracy 0.5: the mean over all outcomes.
    size, true_rate, confidence = 50, 0.5, 0.8
    hits = np.arange(size + 1)
    chance = scipy.stats.binom.pmf(hits, size, true_rate)
    squared = {True: [], False: []}
    for k in hits:
        labels = np.repeat([0, 1], [k, size - k])
        for debias, values in squared.items():
            value = ece(two_classes([confidence] * size), labels, norm="l2", debias=debias)
            values.append(value**2)
    gap = (true_rate - confidence) ** 2
    # Clipping at 0 concerns outcomes of probability below 1e-3, by less than 1/49 each.
    assert chance @ squared[True] == pytest.approx(gap, abs=1e-5)
    assert chance @ squared[False] == pytest.approx(gap + true_rate * (1 - true_rate) / size)


def test_a_debiased_sum_below_zero_gives_zero():
    assert ece(two_classes([0.5] * 4), [0, 0, 1, 1], norm="l2", debias=True) == 0.0


@reproducible
@given(grid_data(), st.integers(1, 9), st.randoms(use_true_random=False))
def test_range_order_and_permutations(data, num_bins, random):
    probs, labels = data
    shuffled = list(range(len(labels)))
    random.shuffle(shuffled)
    for binning in ("uniform", "quantile"):
        l1, l2, largest = (
            ece(probs, labels, num_bins=num_bins, binning=binning, norm=norm)
            for norm in ("l1", "l2", "max")
        )
        assert 0.0 <= l1 <= l2 + 1e-12
        assert l2 <= largest + 1e-12
        assert largest <= 1.0
        assert ece(
            probs[shuffled], labels[shuffled], num_bins=num_bins, binning=binning
        ) == pytest.approx(l1, abs=1e-12)
    for metric in METRICS:
        value = metric(probs, labels)
        assert metric(probs[shuffled], labels[shuffled]) == pytest.approx(value, abs=1e-8)


@reproducible
@given(grid_data())
def test_renaming_the_classes_changes_nothing_without_ties(data):
    probs, labels = data
    probs = probs * 0.97 + np.array([0.02, 0.01, 0.0])  # breaks ties between classes
    names = np.array([2, 0, 1])
    for metric in METRICS:
        renamed = metric(probs[:, np.argsort(names)], names[labels])
        assert renamed == pytest.approx(metric(probs, labels), abs=1e-8)


@pytest.mark.parametrize(
    "dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32"]
)
@pytest.mark.parametrize("metric", METRICS)
def test_any_integer_dtype_of_labels(metric, dtype):
    probs, labels = tied_data(0, num_inputs=20)
    assert metric(probs, labels.astype(dtype)) == metric(probs, labels)


@pytest.mark.parametrize(
    "convert",
    [
        np.float16,
        np.float32,
        np.ndarray.tolist,
        lambda x: torch.tensor(x, dtype=torch.float32, requires_grad=True),
        lambda x: torch.tensor(x, dtype=torch.bfloat16),
    ],
    ids=["float16", "float32", "list", "requires_grad", "bfloat16"],
)
@pytest.mark.parametrize("metric", METRICS)
def test_any_container_gives_the_float64_answer(metric, convert):
    probs, labels = tied_data(0, num_inputs=20)
    result = metric(convert(probs), torch.tensor(labels))
    assert type(result) is float
    assert result == metric(probs, labels)


def test_inputs_are_left_unchanged():
    probs, labels = random_data(0, num_inputs=10)
    kept = probs.copy(), labels.copy()
    for metric in METRICS:
        metric(probs, labels)
    np.testing.assert_array_equal(probs, kept[0])
    np.testing.assert_array_equal(labels, kept[1])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("probs", "labels", "error", "match"),
    [
        ([[0.5, np.nan]], [0], ValueError, "probs must be finite"),
        ([[1.5, -0.5]], [0], ValueError, "probs must lie in .*logits"),
        ([[0.5, 0.4]], [0], ValueError, "probs must sum to 1"),
        ([0.5, 0.5], [0], ValueError, r"probs must have shape \(N, C\)"),
        ([], [], ValueError, "probs is empty"),
        ([[0.5, 0.5]], [2], ValueError, r"labels must lie in \[0, 2\)"),
        ([[0.5, 0.5]], [-1], ValueError, r"labels must lie in \[0, 2\)"),
        ([[0.5, 0.5]], [0.5], ValueError, "labels must be integer"),
        ([[0.5, 0.5]], [0, 1], ValueError, r"labels must have shape \(1,\)"),
        ([[0.5, 0.5]], ["cat"], TypeError, "labels must hold real numbers"),
    ],
)
def test_invalid_data_is_named(metric, probs, labels, error, match):
    with pytest.raises(error, match=match):
        metric(probs, labels)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"num_bins": 0}, ValueError, "num_bins must be at least 1"),
        ({"num_bins": 2.5}, TypeError, "num_bins must be an integer"),
        ({"binning": "quantil"}, ValueError, "binning must be one of.*did you mean 'quantile'"),
        ({"norm": "l3"}, ValueError, "norm must be one of l1, l2, max"),
        ({"debias": True}, ValueError, "debias is defined for norm='l2' only, got norm='l1'"),
        ({"debias": True, "norm": "max"}, ValueError, "debias is defined for norm='l2' only"),
    ],
)
def test_invalid_options_are_named(options, error, match):
    with pytest.raises(error, match=match):
        ece([[0.5, 0.5]], [0], **options)
