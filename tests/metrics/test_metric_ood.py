from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import math
import re
import sys
import tracemalloc
import types

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
import torch
from hypothesis import given
from hypothesis import strategies as st
from metric_reference import reference_fpr95, reference_fpr95_in, reproducible

from bbnn_uq.metrics import ood_metrics, roc_curve
from bbnn_uq.metrics.ood import OODMetrics, ood_kernel, threshold_at_retention

tied_scores = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=45)
any_scores = st.lists(
    st.floats(allow_nan=False, allow_infinity=False, width=64), min_size=1, max_size=30
)


@pytest.fixture(scope="module")
def pytorch_ood():
    """pytorch-ood's functions on scores, without the rest of the package and what that needs."""
    packages = {name: types.ModuleType(name) for name in ("pytorch_ood", "pytorch_ood.utils")}
    [folder] = importlib.util.find_spec("pytorch_ood").submodule_search_locations
    packages["pytorch_ood"].__path__ = [folder]
    packages["pytorch_ood.utils"].__path__ = [folder + "/utils"]
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in sys.modules if name.split(".")[0] == "pytorch_ood"]:
            patch.delitem(sys.modules, name)
        before = set(sys.modules)
        for name, package in packages.items():
            patch.setitem(sys.modules, name, package)
        yield importlib.import_module("pytorch_ood.metrics.functional")
        for name in set(sys.modules) - before - set(packages):
            if name.split(".")[0] == "pytorch_ood":
                del sys.modules[name]


def reference_detection_error(id_scores, ood_scores):
    """Every threshold in turn, and one above all scores."""
    errors = [
        sum(s < threshold for s in ood_scores) / len(ood_scores) / 2
        + sum(s >= threshold for s in id_scores) / len(id_scores) / 2
        for threshold in {*id_scores, *ood_scores, math.inf}
    ]
    return min(errors)


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
        "detection_error": reference_detection_error(id_scores, ood_scores),
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
    error = np.min(1.0 - tpr + fpr) / 2.0
    assert ood_metrics(id_scores, ood_scores).detection_error == pytest.approx(error, abs=1e-15)


@reproducible
@given(tied_scores, tied_scores)
def test_auroc_is_the_mann_whitney_statistic(id_scores, ood_scores):
    statistic = scipy.stats.mannwhitneyu(ood_scores, id_scores, method="asymptotic").statistic
    auroc = ood_metrics(id_scores, ood_scores).auroc
    assert auroc == pytest.approx(statistic / (len(id_scores) * len(ood_scores)), abs=1e-15)


@reproducible
@given(tied_scores, tied_scores)
def test_metrics_equal_pytorch_ood_but_for_its_precision_recall(pytorch_ood, id_scores, ood_scores):
    scores = torch.tensor([*id_scores, *ood_scores], dtype=torch.float64)
    labels = torch.tensor([1] * len(id_scores) + [-1] * len(ood_scores))
    metrics = ood_metrics(id_scores, ood_scores)
    assert metrics.auroc == pytest.approx(float(pytorch_ood.auroc(scores, labels)), abs=1e-12)
    assert metrics.fpr95 == float(pytorch_ood.fpr_at_tpr(scores, labels))
    assert metrics.fpr95_in == float(pytorch_ood.fpr_at_tpr(-scores, -labels))
    # It joins the points of the curve by straight lines, which no classifier can attain.
    for positive, sign in (("ood", 1), ("id", -1)):
        is_positive = sign * labels.numpy() < 0
        precision, recall, _ = sklearn.metrics.precision_recall_curve(
            is_positive, sign * scores.numpy()
        )
        theirs = float(pytorch_ood.aupr(scores, labels, positive))
        assert theirs == pytest.approx(sklearn.metrics.auc(recall, precision), abs=1e-12)


def test_pytorch_ood_gives_constant_scores_more_than_chance(pytorch_ood):
    # Chance is the share of OOD inputs, 0.1.
    labels = torch.tensor([1] * 9 + [-1])
    assert float(pytorch_ood.aupr(torch.zeros(10), labels)) == pytest.approx(0.55)
    assert ood_metrics([0.0] * 9, [0.0]).aupr_out == pytest.approx(0.1)


@pytest.mark.parametrize("entries", [1, 2, 7, 100])
def test_blocks_do_not_change_the_metrics(monkeypatch, entries):
    generator = np.random.default_rng(0)
    for spread in (1.0, 9.0, 1e6):  # ties that go on over many blocks, some, and none
        id_scores = generator.normal(0, spread, 90).round()
        ood_scores = generator.normal(spread, spread, 60).round()
        weights = (
            generator.multinomial(90, np.full(90, 1 / 90), size=8).astype(float),
            generator.multinomial(60, np.full(60, 1 / 60), size=8).astype(float),
        )
        expected = ood_metrics(id_scores, ood_scores)
        resampled = ood_kernel(id_scores, ood_scores)(*weights)
        with monkeypatch.context() as patch:
            for module in ("_ood_counts", "ood"):
                patch.setattr(f"bbnn_uq.metrics.{module}.BLOCK_ENTRIES", entries)
            found = ood_metrics(id_scores, ood_scores)
            assert dataclasses.astuple(found) == pytest.approx(
                dataclasses.astuple(expected), abs=1e-14
            )
            for name, values in ood_kernel(id_scores, ood_scores)(*weights).items():
                np.testing.assert_array_equal(values, resampled[name])


@reproducible
@given(tied_scores, tied_scores)
def test_the_kernel_of_ones_is_the_metric(id_scores, ood_scores):
    kernel = ood_kernel(np.array(id_scores), np.array(ood_scores))
    values = kernel(np.ones((1, len(id_scores))), np.ones((1, len(ood_scores))))
    expected = dataclasses.asdict(ood_metrics(id_scores, ood_scores))
    assert {name: float(value[0]) for name, value in values.items()} == expected


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_memory_is_at_most_four_times_the_input(dtype):
    generator = np.random.default_rng(0)
    id_scores = generator.normal(0, 1, 300_000).astype(dtype)
    ood_scores = generator.normal(1, 1, 300_000).astype(dtype)
    tracemalloc.start()
    ood_metrics(id_scores, ood_scores)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 4 * (id_scores.nbytes + ood_scores.nbytes)


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
    assert swapped.detection_error == metrics.detection_error
    assert metrics.detection_error <= 0.5
    assert negated.detection_error <= 0.5


@reproducible
@given(tied_scores, tied_scores)
def test_only_the_order_of_scores_counts(id_scores, ood_scores):
    transformed = ood_metrics(np.exp(id_scores) + 7.0, np.exp(ood_scores) + 7.0)
    assert transformed == ood_metrics(id_scores, ood_scores)
    assert ood_metrics(id_scores[::-1], ood_scores[::-1]) == transformed


def test_constant_scores():
    expected = OODMetrics(
        auroc=0.5, aupr_out=0.25, aupr_in=0.75, fpr95=1.0, fpr95_in=1.0, detection_error=0.5
    )
    assert ood_metrics([2.0] * 3, [2.0]) == expected


def test_perfect_and_worst_separation():
    assert ood_metrics([1.0, 2.0], [3.0, 4.0]) == OODMetrics(1.0, 1.0, 1.0, 0.0, 0.0, 0.0)
    worst = ood_metrics([3.0, 4.0], [1.0, 2.0])
    assert (worst.auroc, worst.fpr95, worst.fpr95_in, worst.detection_error) == (0.0, 1.0, 1.0, 0.5)


def test_detection_error_weighs_both_classes_alike():
    # At the threshold 3, 1 of 4 OOD inputs is missed and 1 of 10 ID inputs flagged.
    metrics = ood_metrics([0.0] * 9 + [3.0], [2.0, 3.0, 4.0, 5.0])
    assert metrics.detection_error == pytest.approx((0 / 4 + 1 / 10) / 2)
    metrics = ood_metrics([0.0] * 9 + [3.0], [-1.0, 3.0, 4.0, 5.0])
    assert metrics.detection_error == pytest.approx((1 / 4 + 1 / 10) / 2)


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


@pytest.mark.parametrize(
    "function", [ood_metrics, roc_curve, lambda ids, oods: threshold_at_retention(ids, 0.5)]
)
def test_scores_are_left_as_they_are(function):
    arrays = np.array([3.0, 1.0, 2.0]), np.array([5.0, 2.0])
    function(*arrays)
    assert [array.tolist() for array in arrays] == [[3.0, 1.0, 2.0], [5.0, 2.0]]
    for array in arrays:
        array.flags.writeable = False  # as of a mapped file
    function(*arrays)


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


class TestThresholdAtRetention:
    RETENTIONS = (0.01, 0.3, 0.5, 0.55, 0.7, 0.8, 0.9, 0.95, 0.99)

    @pytest.mark.parametrize("retention", RETENTIONS)
    @pytest.mark.parametrize("num_scores", [1, 2, 9, 19, 20, 57, 99, 199])
    def test_each_new_input_is_retained_often_enough(self, num_scores, retention):
        """Of n + 1 exchangeable inputs any may be the new one: an exact share, by enumeration."""
        values = list(range(num_scores + 1))
        try:
            retained = sum(
                new <= threshold_at_retention(values[:new] + values[new + 1 :], retention)
                for new in values
            )
        except ValueError:
            assert num_scores / (num_scores + 1) < retention
            return
        assert retained >= (num_scores + 1) * retention - 1e-9
        assert retained < (num_scores + 1) * retention + 1  # and no more often than it must be

    @reproducible
    @given(st.lists(st.integers(-3, 3), min_size=3, max_size=40), st.sampled_from([0.3, 0.5, 0.66]))
    def test_ties_retain_more_and_never_less(self, values, retention):
        retained = sum(
            values[new] <= threshold_at_retention(values[:new] + values[new + 1 :], retention)
            for new in range(len(values))
        )
        assert retained >= len(values) * retention - 1e-9

    def test_the_share_retained_follows_a_beta_distribution(self):
        # Of uniform scores the threshold is itself the share of new ones that it retains.
        generator = np.random.default_rng(0)
        shares = [threshold_at_retention(generator.random(100), 0.95) for _ in range(2000)]
        beta = scipy.stats.beta(96, 5)
        assert scipy.stats.kstest(shares, beta.cdf).pvalue > 0.01
        # 5 standard errors; the in-sample 95 / 101 is 20 of them away.
        assert abs(np.mean(shares) - 96 / 101) < 5 * beta.std() / math.sqrt(2000)
        assert beta.std() == pytest.approx(0.021, abs=0.0005)  # as documented

    def test_random_splits_of_tied_scores(self):
        generator = np.random.default_rng(1)
        pool = generator.poisson(3.0, 2000) / 7
        retained = 0
        for _ in range(500):
            chosen = generator.permutation(2000)
            threshold = threshold_at_retention(pool[chosen[:99]], 0.9)
            retained += pool[chosen[99]] <= threshold
        # At least 0.9, less 4 binomial standard errors.
        assert retained / 500 >= 0.9 - 4 * math.sqrt(0.9 * 0.1 / 500)

    def test_rounding_does_not_raise_the_rank(self):
        assert 100 * 0.55 > 55
        assert threshold_at_retention(range(1, 100), 0.55) == 55.0
        assert threshold_at_retention(range(1, 20), 0.95) == 19.0
        assert threshold_at_retention(range(1, 10), 1e-12) == 1.0

    @pytest.mark.parametrize("retention", [*RETENTIONS, 0.975, 0.999, 2 / 3, 1 / 3, 0.9999])
    def test_the_number_of_scores_that_the_error_asks_for_is_the_least(self, retention):
        if retention > 0.5:
            with pytest.raises(ValueError, match="must hold at least") as error:
                threshold_at_retention([0.5], retention)
            needed = int(re.search(r"at least (\d+) scores", str(error.value))[1])
            assert threshold_at_retention(range(needed), retention) == needed - 1
            with pytest.raises(ValueError, match=f"got {needed - 1}; ") as error:
                threshold_at_retention(range(needed - 1), retention)
            offered = float(re.search(r"retention of at most ([\d.]+)", str(error.value))[1])
            assert threshold_at_retention(range(needed - 1), offered) == needed - 2
        else:
            assert threshold_at_retention([0.5], retention) == 0.5

    @pytest.mark.parametrize("num_scores", [19, 20, 21, 60, 100, 333])
    def test_relation_to_fpr95_in(self, num_scores):
        generator = np.random.default_rng(num_scores)
        id_scores, ood_scores = generator.normal(0, 1, num_scores), generator.normal(1, 1, 5000)
        ordered = np.sort(id_scores)
        in_sample = math.ceil(0.95 * num_scores)
        assert ood_metrics(id_scores, ood_scores).fpr95_in == np.mean(
            ood_scores <= ordered[in_sample - 1]
        )
        threshold = threshold_at_retention(id_scores)
        assert threshold in ordered[in_sample - 1 : in_sample + 1]

    def test_containers_and_type(self):
        scores = np.random.default_rng(0).normal(size=60).astype(np.float16)
        expected = float(np.sort(scores)[57])  # 61 * 0.95 is 57.95
        for given_scores in (scores, scores.tolist(), torch.tensor(scores)):
            threshold = threshold_at_retention(given_scores)
            assert type(threshold) is float
            assert threshold == expected

    @pytest.mark.parametrize(
        ("scores", "retention", "error", "match"),
        [
            ([], 0.5, ValueError, "id_scores is empty"),
            ([math.nan], 0.5, ValueError, "id_scores must be finite"),
            ([[1.0]], 0.5, ValueError, r"id_scores must have shape \(N,\)"),
            ([1.0], 1.0, ValueError, "retention must lie strictly between 0 and 1"),
            ([1.0], 95, ValueError, "retention must lie strictly between 0 and 1"),
            ([1.0], "0.5", TypeError, "retention must be a number"),
        ],
    )
    def test_invalid_arguments_are_named(self, scores, retention, error, match):
        with pytest.raises(error, match=match):
            threshold_at_retention(scores, retention)
