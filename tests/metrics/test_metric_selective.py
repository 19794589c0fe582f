from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from metric_reference import grid_data, random_data, reference_aurc, reproducible, tied_data
from sklearn.metrics import roc_auc_score

from bbnn_uq.metrics.proper_scores import accuracy
from bbnn_uq.metrics.risk_coverage import (
    risk_at_coverage,
    risk_at_coverage_kernel,
    risk_coverage_curve,
)
from bbnn_uq.metrics.selective import (
    augrc,
    augrc_kernel,
    aurc,
    aurc_kernel,
    excess_aurc,
    excess_aurc_kernel,
)

METRICS = {
    "aurc": (aurc, aurc_kernel, {}),
    "augrc": (augrc, augrc_kernel, {}),
    "excess_aurc": (excess_aurc, excess_aurc_kernel, {}),
    **{
        f"risk_at_{c}": (risk_at_coverage, risk_at_coverage_kernel, {"coverage": c})
        for c in (0.01, 0.5, 0.7)
    },
}
each_metric = pytest.mark.parametrize("name", METRICS)


@st.composite
def ranked_data(draw, max_inputs=12):
    """Probabilities and labels on the grid, ranked by confidence or by scores with ties."""
    probs, labels = draw(grid_data(max_inputs))
    if draw(st.booleans()):
        return probs, labels, None
    size = len(labels)
    return probs, labels, np.array(draw(st.lists(st.integers(0, 3), min_size=size, max_size=size)))


# --- against all orderings, one by one ------------------------------------------------------------


def running_errors(probs, labels, scores=None):
    """Errors among the first n = 0, 1, …, N, for every ordering that puts surer inputs first."""
    unsure = (-probs.max(axis=1) if scores is None else scores).tolist()
    wrong = (probs.argmax(axis=1) != labels).tolist()
    for order in itertools.permutations(range(len(wrong))):
        if all(unsure[a] <= unsure[b] for a, b in itertools.pairwise(order)):
            yield [0, *itertools.accumulate(int(wrong[i]) for i in order)]


def mean_of(values):
    values = list(values)
    return float(sum(values) / len(values))


def area(errors):
    return Fraction(sum(Fraction(e, n) for n, e in enumerate(errors[1:], 1)), len(errors) - 1)


@reproducible
@given(grid_data(max_inputs=6))
def test_aurc_is_the_mean_over_all_orderings_of_ties(data):
    assert aurc(*data) == pytest.approx(reference_aurc(*data), abs=1e-12)


@reproducible
@given(ranked_data(max_inputs=6))
def test_all_metrics_are_means_over_all_orderings(data):
    *data, scores = data
    size, orderings = len(data[1]), list(running_errors(*data, scores))
    # Any order at all is in reach of some score: the least area is that of the best one.
    least = min(area(e) for e in running_errors(*data, np.zeros(size)))
    trapezoids = (sum(Fraction(a + b, 2) for a, b in itertools.pairwise(e)) for e in orderings)
    expected = {
        aurc: mean_of(area(e) for e in orderings),
        excess_aurc: mean_of(area(e) - least for e in orderings),
        augrc: mean_of(trapezoids) / size**2,
    }
    for metric, value in expected.items():
        assert metric(*data, scores=scores) == pytest.approx(value, abs=1e-12)
    curve = risk_coverage_curve(*data, scores=scores)
    for n in range(1, size + 1):
        risk = mean_of(Fraction(e[n], n) for e in orderings)
        assert risk_at_coverage(*data, n / size, scores=scores) == pytest.approx(risk, abs=1e-12)
        joined = np.interp(n / size, [0, *curve.coverage], [0, *curve.coverage * curve.risk])
        assert joined / (n / size) == pytest.approx(risk, abs=1e-12)


# --- against other formulas -----------------------------------------------------------------------


def test_aurc_without_ties_is_the_mean_of_running_error_rates():
    probs, labels = random_data(0, num_inputs=500)
    wrong = (probs.argmax(axis=1) != labels)[np.argsort(-probs.max(axis=1))]
    expected = np.mean(np.cumsum(wrong) / np.arange(1, 501))
    assert aurc(probs, labels) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("data", [random_data, tied_data])
@pytest.mark.parametrize("ranked_by_scores", [False, True])
def test_augrc_is_the_papers_function_of_auroc_and_accuracy(data, ranked_by_scores):
    probs, labels = data(0)
    scores = np.random.default_rng(1).integers(7, size=len(labels)) if ranked_by_scores else None
    unsure = scores if ranked_by_scores else -probs.max(axis=1)
    auroc = roc_auc_score(probs.argmax(axis=1) != labels, unsure)
    right = accuracy(probs, labels)
    expected = (1 - auroc) * right * (1 - right) + (1 - right) ** 2 / 2
    assert augrc(probs, labels, scores=scores) == pytest.approx(expected, rel=1e-12)


def test_augrc_lies_below_the_mean_over_n_by_half_a_step():
    probs, labels = random_data(2, num_inputs=500)
    wrong = (probs.argmax(axis=1) != labels)[np.argsort(-probs.max(axis=1))]
    step = wrong.mean() / (2 * 500)
    assert augrc(probs, labels) + step == pytest.approx(np.cumsum(wrong).mean() / 500, rel=1e-12)


def test_excess_approaches_the_sources_limit_for_many_inputs():
    probs, labels = random_data(3, num_inputs=4000)
    rate = 1 - accuracy(probs, labels)
    limit = rate + (1 - rate) * math.log(1 - rate)
    # The exact sum differs from its limit by about r / 2N.
    assert aurc(probs, labels) - excess_aurc(probs, labels) == pytest.approx(limit, abs=rate / 4000)


def test_the_curve_at_every_threshold():
    probs, labels = tied_data(4)
    confidence, wrong = probs.max(axis=1), probs.argmax(axis=1) != labels
    curve = risk_coverage_curve(probs, labels)
    np.testing.assert_array_equal(curve.thresholds, np.unique(confidence)[::-1])
    for coverage, risk, threshold in zip(curve.coverage, curve.risk, curve.thresholds, strict=True):
        assert coverage == np.mean(confidence >= threshold)
        assert risk == pytest.approx(wrong[confidence >= threshold].mean(), rel=1e-15)
    assert curve.coverage[-1] == 1.0

    scores = np.random.default_rng(0).integers(9, size=len(labels))
    by_scores = risk_coverage_curve(probs, labels, scores=scores)
    np.testing.assert_array_equal(by_scores.thresholds, np.arange(9))
    kept = [scores <= threshold for threshold in range(9)]
    np.testing.assert_array_equal(by_scores.coverage, [k.mean() for k in kept])
    np.testing.assert_allclose(by_scores.risk, [wrong[k].mean() for k in kept], rtol=1e-15)


def test_augrc_is_the_area_under_coverage_times_risk():
    curve = risk_coverage_curve(*tied_data(5))
    x, y = np.append(0, curve.coverage), np.append(0, curve.coverage * curve.risk)
    assert augrc(*tied_data(5)) == pytest.approx(np.trapezoid(y, x), rel=1e-12)


# --- how many inputs a coverage keeps -------------------------------------------------------------


def descending(num_inputs, wrong):
    """Probabilities of falling confidence, and labels that make the given places wrong."""
    confidence = np.linspace(0.99, 0.6, num_inputs)
    labels = np.isin(np.arange(num_inputs), wrong).astype(int)
    return np.stack([confidence, 1 - confidence], axis=1), labels


@pytest.mark.parametrize(("size", "step"), [(7, 1), (10, 1), (100, 3), (1000, 71)])
def test_a_decimal_coverage_keeps_what_it_says(size, step):
    # One error, first: the risk is 1/n, different for every n.
    data = descending(size, [0])
    for n in range(1, size, step):
        assert risk_at_coverage(*data, n / size) == pytest.approx(1 / n, rel=1e-12)
        above = n / size + 1e-9
        assert risk_at_coverage(*data, above) == pytest.approx(1 / (n + 1), rel=1e-12)


def test_coverages_that_rounding_would_get_wrong():
    assert math.ceil(0.07 * 100) == 8  # of a plain product
    assert math.ceil(0.55 * 100) == 56
    data = descending(100, [0])
    assert risk_at_coverage(*data, 0.07) == pytest.approx(1 / 7)
    assert risk_at_coverage(*data, 0.55) == pytest.approx(1 / 55)
    assert risk_at_coverage(*descending(3, [0]), 1 - 1 / 3) == pytest.approx(1 / 2)
    assert risk_at_coverage(*descending(10, [0]), 0.7) == pytest.approx(1 / 7)


def test_any_coverage_keeps_at_least_one_input():
    assert risk_at_coverage(*descending(10, [0]), 1e-300) == 1.0
    assert risk_at_coverage(*descending(10, [1]), 1e-300) == 0.0


def test_coverage_one_gives_the_error_rate():
    probs, labels = tied_data(6)
    assert risk_at_coverage(probs, labels, 1) == pytest.approx(1 - accuracy(probs, labels))


# --- edges ----------------------------------------------------------------------------------------


def test_a_constant_confidence_gives_the_error_rate():
    probs, labels = np.tile([0.75, 0.25], (1000, 1)), np.repeat([0, 1], [700, 300])
    assert aurc(probs, labels) == pytest.approx(0.3, rel=1e-12)
    assert augrc(probs, labels) == pytest.approx(0.15, rel=1e-12)
    assert risk_at_coverage(probs, labels, 0.123) == pytest.approx(0.3, rel=1e-12)
    assert aurc(*random_data(0), scores=np.zeros(300)) == pytest.approx(
        1 - accuracy(*random_data(0)), rel=1e-12
    )


def test_errors_last_is_better_than_errors_first():
    # Errors at the last two places cost 1/9 + 2/10; at the first two, 1 + 1 + 2/3 + ... + 2/10.
    assert aurc(*descending(10, [8, 9])) == pytest.approx((1 / 9 + 2 / 10) / 10)
    first = 1 + sum(2 / n for n in range(2, 11))
    assert aurc(*descending(10, [0, 1])) == pytest.approx(first / 10)
    assert excess_aurc(*descending(10, [8, 9])) == 0.0
    assert excess_aurc(*descending(10, [0, 1])) == pytest.approx((first - 1 / 9 - 2 / 10) / 10)
    assert augrc(*descending(10, [8, 9])) == pytest.approx(0.2**2 / 2)
    assert augrc(*descending(10, [0, 1])) == pytest.approx(0.2 * 0.8 + 0.2**2 / 2)


@pytest.mark.parametrize("num_inputs", [1, 300])
def test_all_right_and_all_wrong(num_inputs):
    probs, _ = random_data(1, num_inputs)
    right = probs.argmax(axis=1)
    wrong = (right + 1) % 5
    expected = {aurc: 1.0, augrc: 0.5, excess_aurc: 0.0}
    for metric, value in expected.items():
        assert metric(probs, right) == 0.0
        assert metric(probs, wrong) == pytest.approx(value, abs=1e-14)
    assert risk_at_coverage(probs, right, 0.37) == 0.0
    assert risk_at_coverage(probs, wrong, 0.37) == 1.0
    np.testing.assert_array_equal(risk_coverage_curve(probs, wrong).risk, 1.0)


def test_scores_that_know_the_errors():
    probs, labels = random_data(7)
    wrong = probs.argmax(axis=1) != labels
    oracle = wrong + 0.5 * np.random.default_rng(0).random(len(wrong))
    assert excess_aurc(probs, labels, scores=oracle) == pytest.approx(0.0, abs=1e-15)
    assert excess_aurc(probs, labels, scores=wrong) == pytest.approx(0.0, abs=1e-15)
    assert augrc(probs, labels, scores=oracle) == pytest.approx(wrong.mean() ** 2 / 2)
    rate = wrong.mean()
    assert augrc(probs, labels, scores=-oracle) == pytest.approx(rate * (1 - rate) + rate**2 / 2)
    assert risk_at_coverage(probs, labels, 1 - rate, scores=oracle) == 0.0


# --- what must change nothing ---------------------------------------------------------------------


def value_of(name, *data, scores=None):
    metric, _, options = METRICS[name]
    return metric(*data, **options, scores=scores)


@reproducible
@given(ranked_data(), st.randoms(use_true_random=False))
def test_the_order_of_the_data_changes_no_bit(data, random):
    probs, labels, scores = data
    order = random.sample(range(len(labels)), len(labels))
    shuffled = probs[order], labels[order]
    shuffled_scores = None if scores is None else scores[order]
    for name in METRICS:
        again = value_of(name, *shuffled, scores=shuffled_scores)
        assert again == value_of(name, probs, labels, scores=scores)


@reproducible
@given(grid_data(), st.floats(0.1, 1.0))
def test_only_the_order_of_confidences_counts(data, mix):
    probs, labels = data
    # Mixing with the uniform distribution keeps the order, the ties and the top class.
    mixed = mix * probs + (1 - mix) / 3
    mixed = np.round(mixed, 12)  # and rounding must not part what was tied
    for name in METRICS:
        assert value_of(name, mixed, labels) == value_of(name, probs, labels)
    assert accuracy(mixed, labels) == accuracy(probs, labels)


@each_metric
@pytest.mark.parametrize("data", [random_data, tied_data])
def test_scores_count_by_their_order_and_default_to_the_confidence(name, data):
    probs, labels = data(8)
    confidence = probs.max(axis=1)
    value = value_of(name, probs, labels)
    assert value_of(name, probs, labels, scores=-confidence) == value
    assert value_of(name, probs, labels, scores=np.exp(-5 * confidence)) == value
    assert value_of(name, probs, labels, scores=1e9 * (1 - confidence)) == value
    assert value_of(name, probs, labels, scores=confidence) != value


@each_metric
def test_types_of_arrays_change_nothing(name):
    probs, labels = tied_data(9)
    scores = np.random.default_rng(0).integers(5, size=len(labels))
    value, by_scores = value_of(name, probs, labels), value_of(name, probs, labels, scores=scores)
    assert isinstance(value, float)
    assert isinstance(by_scores, float)
    for dtype in (np.int8, np.uint8, np.int32, np.uint64, np.float32):
        assert value_of(name, probs.astype(np.float16), labels.astype(dtype)) == value
        assert value_of(name, probs, labels, scores=scores.astype(dtype)) == by_scores
    tensors = torch.tensor(probs, dtype=torch.bfloat16), torch.tensor(labels)
    assert value_of(name, *tensors, scores=torch.tensor(scores)) == by_scores
    assert value_of(name, probs.tolist(), labels.tolist()) == value


@reproducible
@given(ranked_data())
def test_bounds_between_the_areas(data):
    *data, scores = data
    whole, general = aurc(*data, scores=scores), augrc(*data, scores=scores)
    rate = 1 - accuracy(*data)
    assert rate**2 / 2 - 1e-12 <= general <= min(whole, rate - rate**2 / 2) + 1e-12
    assert 0.0 <= excess_aurc(*data, scores=scores) <= whole
    assert whole <= 1.0 + 1e-12


# --- kernels --------------------------------------------------------------------------------------


@each_metric
@pytest.mark.parametrize("data", [random_data, tied_data])
@pytest.mark.parametrize("ranked_by_scores", [False, True])
def test_kernels_equal_the_metric_of_repeated_data(name, data, ranked_by_scores):
    metric, kernel, options = METRICS[name]
    probs, labels = data(0, num_inputs=60)
    generator = np.random.default_rng(1)
    scores = generator.integers(9, size=60) if ranked_by_scores else None
    weights = generator.multinomial(60, np.full(60, 1 / 60), size=25)
    weights[0], weights[1] = 0, 0
    weights[0, 7], weights[1, :2] = 60, 30  # one input alone, and two
    values = kernel(probs, labels, **options, scores=scores)(weights.astype(np.float64))
    expected = []
    for row in weights:
        repeated = None if scores is None else np.repeat(scores, row)
        arrays = np.repeat(probs, row, axis=0), np.repeat(labels, row)
        expected.append(metric(*arrays, **options, scores=repeated))
    np.testing.assert_allclose(values, expected, rtol=1e-11, atol=1e-12)


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [aurc, augrc, excess_aurc, risk_coverage_curve])
def test_scores_are_checked(function):
    probs, labels = tied_data(0)
    with pytest.raises(ValueError, match=r"scores must have shape \(200,\), one per input.*199"):
        function(probs, labels, scores=np.zeros(199))
    with pytest.raises(ValueError, match=r"scores must have shape \(N,\)"):
        function(probs, labels, scores=np.zeros((200, 1)))
    with pytest.raises(ValueError, match="scores must be finite"):
        function(probs, labels, scores=np.full(200, np.inf))
    with pytest.raises(ValueError, match="labels must have shape"):
        function(probs, labels[:-1])


@pytest.mark.parametrize("coverage", [0, 0.0, -0.1, 1.0000001, math.nan])
def test_coverage_outside_its_range_is_refused(coverage):
    with pytest.raises(ValueError, match="coverage must"):
        risk_at_coverage(*tied_data(0), coverage)
    with pytest.raises(TypeError, match="coverage must be a number"):
        risk_at_coverage(*tied_data(0), "all")
