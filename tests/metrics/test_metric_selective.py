from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from metric_reference import grid_data, random_data, reference_aurc, reproducible

from bbnn_uq.metrics import accuracy, aurc


@reproducible
@given(grid_data(max_inputs=6))
def test_aurc_is_the_mean_over_all_orderings_of_ties(data):
    assert aurc(*data) == pytest.approx(reference_aurc(*data), abs=1e-12)


def test_aurc_without_ties_is_the_mean_of_running_error_rates():
    probs, labels = random_data(0, num_inputs=500)
    wrong = (probs.argmax(axis=1) != labels)[np.argsort(-probs.max(axis=1))]
    expected = np.mean(np.cumsum(wrong) / np.arange(1, 501))
    assert aurc(probs, labels) == pytest.approx(expected, rel=1e-12)


def test_a_constant_confidence_gives_the_error_rate():
    probs, labels = np.tile([0.75, 0.25], (1000, 1)), np.repeat([0, 1], [700, 300])
    assert aurc(probs, labels) == pytest.approx(0.3, rel=1e-12)


def test_errors_last_is_better_than_errors_first():
    confidence = np.linspace(0.99, 0.6, 10)
    probs = np.stack([confidence, 1 - confidence], axis=1)
    # Errors at the last two places cost 1/9 + 2/10; at the first two, 1 + 1 + 2/3 + ... + 2/10.
    assert aurc(probs, [0] * 8 + [1] * 2) == pytest.approx((1 / 9 + 2 / 10) / 10)
    first = 1 + sum(2 / n for n in range(2, 11))
    assert aurc(probs, [1] * 2 + [0] * 8) == pytest.approx(first / 10)


def test_all_right_and_all_wrong():
    probs, _ = random_data(1)
    top = probs.argmax(axis=1)
    assert aurc(probs, top) == 0.0
    assert aurc(probs, (top + 1) % 5) == pytest.approx(1.0, rel=1e-12)


@reproducible
@given(grid_data(), st.floats(0.1, 1.0))
def test_only_the_order_of_confidences_counts(data, mix):
    probs, labels = data
    # Mixing with the uniform distribution keeps the order, the ties and the top class.
    mixed = mix * probs + (1 - mix) / 3
    mixed = np.round(mixed, 12)  # and rounding must not part what was tied
    assert aurc(mixed, labels) == pytest.approx(aurc(probs, labels), abs=1e-12)
    assert accuracy(mixed, labels) == accuracy(probs, labels)
