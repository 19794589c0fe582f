from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from metric_reference import (
    calibrated_data,
    grid_data,
    random_data,
    reference_smooth_ece,
    reproducible,
    tied_data,
)

from bbnn_uq.metrics.smooth_calibration import smooth_ece, smooth_ece_kernel


@pytest.mark.parametrize("data", [random_data, calibrated_data, tied_data])
@pytest.mark.parametrize(("num_inputs", "num_classes"), [(20, 2), (60, 3), (60, 10)])
def test_equals_the_sum_over_mirror_images(data, num_inputs, num_classes):
    options = {} if data is tied_data else {"num_classes": num_classes}
    probs, labels = data(num_classes, num_inputs=num_inputs, **options)
    expected = reference_smooth_ece(probs, labels, num_points=2000)
    assert smooth_ece(probs, labels) == pytest.approx(expected, abs=2e-6)


def test_a_small_error_equals_the_sum_over_mirror_images():
    # Three of four are right at confidences close to 0.75: the bandwidth is a few cells wide.
    confidence = np.linspace(0.7495, 0.7505, 100)
    labels = np.tile([0, 0, 0, 1], 25)
    probs = np.stack([confidence, 1.0 - confidence], axis=1)
    expected = reference_smooth_ece(probs, labels, num_points=6000)
    assert 5e-4 < expected < 5e-3
    assert smooth_ece(probs, labels) == pytest.approx(expected, abs=5e-6)


def test_confidence_one_is_an_ordinary_value():
    # Opposite errors at both ends of the range: their smoothing meets in the middle.
    probs = np.zeros((10, 20))
    probs[:5, 0] = 1.0
    probs[5:] = [0.1] * 8 + [0.2 / 12] * 12
    labels = np.repeat([1, 0], 5)
    assert smooth_ece(probs, labels) == pytest.approx(reference_smooth_ece(probs, labels), abs=1e-6)


@reproducible
@given(grid_data(), st.randoms(use_true_random=False))
def test_bounds_and_order(data, random):
    probs, labels = data
    value = smooth_ece(probs, labels)
    residual = (probs.argmax(axis=1) == labels) - probs.max(axis=1)
    # Smoothing keeps the mean residual, and never adds to the absolute ones.
    assert abs(residual.mean()) - 1e-9 <= value <= np.abs(residual).mean() + 1e-9
    assert 0.0 <= value <= 1.0
    shuffled = list(range(len(labels)))
    random.shuffle(shuffled)
    assert smooth_ece(probs[shuffled], labels[shuffled]) == pytest.approx(value, abs=1e-8)


@pytest.mark.parametrize("confidence", [0.5, 0.73, 0.9, 0.999, 1.0])
def test_one_input_is_off_by_its_own_distance(confidence):
    probs = [[confidence, 1.0 - confidence]]
    assert smooth_ece(probs, [0]) == pytest.approx(1.0 - confidence, abs=1e-12)
    assert smooth_ece(probs, [1]) == pytest.approx(confidence, abs=1e-12)


@pytest.mark.parametrize("confidence", [0.5, 0.73, 0.9, 0.999, 1.0])
def test_a_calibrated_confidence_has_no_error(confidence):
    labels = np.repeat([0, 1], [round(1000 * confidence), 1000 - round(1000 * confidence)])
    probs = np.tile([confidence, 1.0 - confidence], (1000, 1))
    assert 0.0 <= smooth_ece(probs, labels) < 1e-9


def test_errors_of_one_sign_are_their_mean():
    probs = np.array([[0.9, 0.1], [0.6, 0.4], [1.0, 0.0]])
    assert smooth_ece(probs, [1, 1, 1]) == pytest.approx((0.9 + 0.6 + 1.0) / 3)
    assert smooth_ece(np.eye(3), [1, 2, 0]) == 1.0
    assert smooth_ece(np.eye(3), [0, 1, 2]) == 0.0


def test_moving_confidences_a_little_changes_little():
    # Bins would jump: the two groups share a bin or do not.
    labels = np.repeat([0, 1, 0, 1], [60, 40, 40, 60])
    values = [
        smooth_ece(np.stack([c, 1.0 - c], axis=1), labels)
        for c in (np.repeat([0.6 - step, 0.6 + step], 100) for step in (0.0, 1e-6, 1e-4))
    ]
    assert values[1] == pytest.approx(values[0], abs=1e-5)
    assert values[2] == pytest.approx(values[0], abs=1e-3)


def test_the_kernel_equals_the_metric_on_repeated_inputs():
    probs, labels = calibrated_data(0, num_inputs=40)
    weights = np.random.default_rng(0).integers(0, 4, size=(6, 40)).astype(np.float64)
    weights[4], weights[5] = np.eye(40)[7], 1.0
    values = smooth_ece_kernel(probs, labels)(weights)
    for row, value in zip(weights.astype(int), values, strict=True):
        drawn = np.repeat(np.arange(40), row)
        assert value == pytest.approx(smooth_ece(probs[drawn], labels[drawn]), abs=1e-9)
    assert values[4] == pytest.approx(
        reference_smooth_ece(probs[7:8], labels[7:8], num_points=2000), abs=1e-6
    )


def test_rows_of_the_kernel_do_not_depend_on_each_other():
    # Bandwidths of 0, some 0.002 and some 0.2 are searched side by side.
    groups = [np.full(20, 0.5), np.linspace(0.7495, 0.7505, 100), np.repeat([0.5, 0.9], 20)]
    labels = np.concatenate([np.tile([0, 1], 10), np.tile([0, 0, 0, 1], 25), np.repeat([0, 1], 20)])
    confidence, group = np.concatenate(groups), np.repeat([0, 1, 2], [20, 100, 40])
    probs = np.stack([confidence, 1.0 - confidence], axis=1)
    weights = (group == np.array([[0], [1], [2], [1]])).astype(np.float64)
    weights[3] += 1.0
    kernel = smooth_ece_kernel(probs, labels)
    together = kernel(weights)
    alone = np.concatenate([kernel(row[None]) for row in weights])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-12)
    assert together[0] == 0.0
    assert 0.001 < together[1] < 0.01
    assert 0.1 < together[2] < 0.5
