from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import given
from hypothesis import strategies as st
from metric_reference import reference_fpr95, reference_fpr95_in, reproducible

from bbnn_uq.metrics import OODMetrics, ood_metrics, roc_curve

tied_scores = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=45)
any_scores = st.lists(
    st.floats(allow_nan=False, allow_infinity=False, width=64), min_size=1, max_size=30
)


def assert_equals_scikit_learn(id_scores, ood_scores):
    metrics = ood_metrics(id_scores, ood_scores)
    scores = np.concatenate([id_scores, ood_scores])
    is_ood = np.repeat([0, 1], [len(id_scores), len(ood_scores)])
    expected = {
        "auroc": sklearn.metrics.roc_auc_score(is_ood, scores),
        "aupr_out": sklearn.metrics.average_precision_score(is_ood, scores),
        "aupr_in": sklearn.metrics.average_precision_score(1 - is_ood, -scores),
        "fpr95": reference_fpr95(id_scores, ood_scores),
        "fpr95_in": reference_fpr95_in(id_scores, ood_scores),
    }
    assert dataclasses.asdict(metrics) == pytest.approx(expected, abs=1e-12)


@reproducible
@given(tied_scores, tied_scores)
def test_metrics_equal_scikit_learn_with_ties(id_scores, ood_scores):
    assert_equals_scikit_learn(id_scores, ood_scores)


@pytest.mark.parametrize("seed", range(3))
def test_metrics_equal_scikit_learn_without_ties(seed):
    generator = np.random.default_rng(seed)
    id_scores, ood_scores = generator.normal(0, 1, 300), generator.normal(1, 2, 170)
    assert_equals_scikit_learn(id_scores.tolist(), ood_scores.tolist())


@reproducible
@given(tied_scores, tied_scores)
def test_curve_equals_scikit_learn_with_every_threshold(id_scores, ood_scores):
    curve = roc_curve(id_scores, ood_scores)
    fpr, tpr, thresholds = sklearn.metrics.roc_curve(
        np.repeat([0, 1], [len(id_scores), len(ood_scores)]),
        np.concatenate([id_scores, ood_scores]),
        drop_intermediate=False,
    )
    np.testing.assert_allclose(curve.fpr, fpr, atol=1e-15)
    np.testing.assert_allclose(curve.tpr, tpr, atol=1e-15)
    np.testing.assert_array_equal(curve.thresholds, thresholds)
    assert (curve.fpr[0], curve.tpr[0], curve.fpr[-1], curve.tpr[-1]) == (0.0, 0.0, 1.0, 1.0)
    # fpr95 read off the curve, as users do, away from rounding at 95 % itself.
    first = np.argmax(curve.tpr >= 0.95 - 1e-9)
    assert ood_metrics(id_scores, ood_scores).fpr95 == curve.fpr[first]
    area = np.trapezoid(curve.tpr, curve.fpr)
    assert ood_metrics(id_scores, ood_scores).auroc == pytest.approx(area)


@reproducible
@given(any_scores, any_scores)
def test_negated_scores_mirror_the_metrics(id_scores, ood_scores):
    metrics = ood_metrics(id_scores, ood_scores)
    negated = ood_metrics(np.negative(id_scores), np.negative(ood_scores))
    assert metrics.auroc == pytest.approx(1.0 - negated.auroc, abs=1e-15)
    # With the roles swapped too, what was said of OOD is said of ID.
    swapped = ood_metrics(np.negative(ood_scores), np.negative(id_scores))
    assert swapped.auroc == pytest.approx(metrics.auroc, abs=1e-15)
    assert swapped.aupr_out == pytest.approx(metrics.aupr_in, abs=1e-12)
    assert swapped.fpr95 == metrics.fpr95_in


@reproducible
@given(tied_scores, tied_scores)
def test_only_the_order_of_scores_counts(id_scores, ood_scores):
    transformed = ood_metrics(np.exp(id_scores) + 7.0, np.exp(ood_scores) + 7.0)
    assert transformed == ood_metrics(id_scores, ood_scores)
    assert ood_metrics(id_scores[::-1], ood_scores[::-1]) == transformed


def test_constant_scores():
    expected = OODMetrics(auroc=0.5, aupr_out=0.25, aupr_in=0.75, fpr95=1.0, fpr95_in=1.0)
    assert ood_metrics([2.0] * 3, [2.0]) == expected


def test_perfect_and_worst_separation():
    assert ood_metrics([1.0, 2.0], [3.0, 4.0]) == OODMetrics(1.0, 1.0, 1.0, 0.0, 0.0)
    worst = ood_metrics([3.0, 4.0], [1.0, 2.0])
    assert (worst.auroc, worst.fpr95, worst.fpr95_in) == (0.0, 1.0, 1.0)


@pytest.mark.parametrize("size", [20, 40, 60, 180, 1000, 2620])
def test_exactly_95_percent_is_enough(size):
    # The last 5 % of OOD lie below all ID inputs, and the last 5 % of ID above all OOD inputs.
    few = size // 20
    ood_scores = [-1.0] * few + [2.0] * (size - few)
    id_scores = [1.0] * (size - few) + [3.0] * few
    metrics = ood_metrics(id_scores, ood_scores)
    assert metrics.fpr95 == few / size
    assert metrics.fpr95_in == few / size


def test_one_input_short_of_95_percent_is_not_enough():
    ood_scores = [-1.0] * 2 + [2.0] * 18
    assert ood_metrics([1.0] * 20, ood_scores).fpr95 == 1.0
    assert ood_metrics(np.negative(ood_scores), [-1.0] * 20).fpr95_in == 1.0


def test_extreme_and_signed_zero_scores():
    largest = np.finfo(np.float64).max
    assert ood_metrics([-largest], [largest]).auroc == 1.0
    assert ood_metrics([-0.0], [0.0]).auroc == 0.5
    assert len(roc_curve([-0.0], [0.0]).thresholds) == 2


@pytest.mark.parametrize(
    "convert",
    [
        np.float16,
        lambda x: x.astype(np.int64),
        np.ndarray.tolist,
        lambda x: torch.tensor(x, dtype=torch.bfloat16, requires_grad=True),
    ],
    ids=["float16", "int64", "list", "bfloat16"],
)
def test_any_container_gives_the_float64_answer(convert):
    generator = np.random.default_rng(0)
    id_scores = generator.integers(0, 9, 30).astype(float)
    ood_scores = generator.integers(3, 12, 20).astype(float)
    metrics = ood_metrics(convert(id_scores), convert(ood_scores))
    assert metrics == ood_metrics(id_scores, ood_scores)
    assert all(type(value) is float for value in dataclasses.asdict(metrics).values())


@pytest.mark.parametrize("function", [ood_metrics, roc_curve])
@pytest.mark.parametrize(
    ("id_scores", "ood_scores", "error", "match"),
    [
        ([], [1.0], ValueError, "id_scores is empty"),
        ([1.0], [], ValueError, "ood_scores is empty"),
        ([np.nan], [1.0], ValueError, "id_scores must be finite"),
        ([1.0], [np.inf], ValueError, "ood_scores must be finite"),
        ([[1.0]], [1.0], ValueError, r"id_scores must have shape \(N,\)"),
        ([1.0], ["a"], TypeError, "ood_scores must hold real numbers"),
    ],
)
def test_invalid_scores_are_named(function, id_scores, ood_scores, error, match):
    with pytest.raises(error, match=match):
        function(id_scores, ood_scores)
