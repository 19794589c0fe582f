from __future__ import annotations

import dataclasses
import json
import math
import tracemalloc
from functools import partial

import numpy as np
import pytest
import scipy.stats
import torch
from metric_reference import random_data, tied_data

from bbnn_uq.metrics import (
    Interval,
    _resampling,
    accuracy,
    augrc,
    aurc,
    bootstrap_interval,
    brier,
    classification_intervals,
    classwise_ece,
    crps_gaussian,
    ece,
    excess_aurc,
    gaussian_nll,
    interval_coverage,
    mse,
    nll,
    ood_intervals,
    ood_metrics,
    paired_differences,
    regression_calibration_error,
    risk_at_coverage,
    rmse,
    sharpness,
    smooth_ece,
)
from bbnn_uq.metrics._registry import own_metric
from bbnn_uq.metrics.ood import ood_kernel

METRICS = [
    (accuracy, {}),
    (nll, {}),
    (brier, {}),
    (aurc, {}),
    (augrc, {}),
    (excess_aurc, {}),
    (risk_at_coverage, {"coverage": 0.7}),
    (smooth_ece, {}),
    (classwise_ece, {"num_bins": 6}),
    (classwise_ece, {"num_bins": 6, "binning": "quantile"}),
    *(
        (ece, {"num_bins": 6, "binning": binning, "norm": norm, "debias": debias})
        for binning in ("uniform", "quantile")
        for norm, debias in (("l1", False), ("l2", False), ("max", False), ("l2", True))
    ),
]
UPWARD_BIASED = (ece, classwise_ece, smooth_ece)  # get the basic interval
REGRESSION = [
    (mse, {}),
    (rmse, {}),
    (gaussian_nll, {}),
    (crps_gaussian, {}),
    (interval_coverage, {"level": 0.8}),
    (sharpness, {}),
    (regression_calibration_error, {}),
]
CLASSIFICATION = {
    "accuracy": accuracy,
    "nll": nll,
    "brier": brier,
    "ece": partial(ece, num_bins=8),
    "aurc": aurc,
    "classwise_ece": partial(classwise_ece, num_bins=8),
    "smooth_ece": smooth_ece,
    "augrc": augrc,
    "excess_aurc": excess_aurc,
}
CALIBRATION_ERRORS = ("ece", "classwise_ece", "smooth_ece")


def literal_resamples(metric, arrays, num_resamples, seed):
    """The metric on data drawn with replacement, one resample at a time."""
    generator, size = np.random.default_rng(seed), len(arrays[0])
    rows = [generator.integers(size, size=size) for _ in range(num_resamples)]
    return np.array([metric(*(array[row] for array in arrays)) for row in rows])


def literal_ends(values, level=0.95):
    """The order statistics that hold the middle share, next outside."""
    ordered, last = np.sort(values), len(values) - 1
    tail = (1 - level) / 2
    return ordered[math.floor(tail * last)], ordered[math.ceil((1 - tail) * last)]


@pytest.mark.parametrize(
    ("metric", "options"), METRICS, ids=lambda x: getattr(x, "__name__", str(x))
)
@pytest.mark.parametrize("data", [random_data, tied_data])
def test_kernels_equal_the_metric_of_repeated_data(metric, options, data):
    probs, labels = data(0, num_inputs=60)
    weights = np.random.default_rng(1).multinomial(60, np.full(60, 1 / 60), size=25)
    weights[0], weights[1] = 0, 0
    weights[0, 7], weights[1, :2] = 60, 30  # one input alone, and two
    kernel = own_metric(partial(metric, **options)).kernel(probs, labels)
    values = kernel(weights.astype(np.float64))
    expected = [
        metric(np.repeat(probs, row, axis=0), np.repeat(labels, row), **options) for row in weights
    ]
    np.testing.assert_allclose(values, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_ood_kernel_equals_the_metrics_of_repeated_scores(ties):
    generator = np.random.default_rng(0)
    id_scores, ood_scores = generator.normal(0, 1, 60), generator.normal(1, 1, 45)
    if ties:
        id_scores, ood_scores = id_scores.round(), ood_scores.round()
    id_weights = generator.multinomial(60, np.full(60, 1 / 60), size=25).astype(np.float64)
    ood_weights = generator.multinomial(45, np.full(45, 1 / 45), size=25).astype(np.float64)
    values = ood_kernel(id_scores, ood_scores)(id_weights, ood_weights)
    for row in range(25):
        expected = ood_metrics(
            np.repeat(id_scores, id_weights[row].astype(int)),
            np.repeat(ood_scores, ood_weights[row].astype(int)),
        )
        got = {name: value[row] for name, value in values.items()}
        assert got == pytest.approx(dataclasses.asdict(expected), abs=1e-12)


@pytest.mark.parametrize(
    ("metric", "options"),
    [(metric, options) for metric, options in METRICS if metric not in UPWARD_BIASED],
    ids=lambda x: getattr(x, "__name__", str(x)),
)
@pytest.mark.parametrize("level", [0.95, 0.8])
def test_percentile_interval_equals_literal_resampling(metric, options, level):
    arrays = random_data(0, num_inputs=80)
    metric = partial(metric, **options)
    interval = bootstrap_interval(metric, *arrays, num_resamples=80, confidence_level=level, seed=3)
    low, high = literal_ends(literal_resamples(metric, arrays, 80, 3), level)
    assert dataclasses.astuple(interval) == pytest.approx((metric(*arrays), low, high), rel=1e-10)
    # Any callable takes the plain way and must come to the same.
    plain = bootstrap_interval(
        lambda *a: metric(*a), *arrays, num_resamples=80, confidence_level=level, seed=3
    )
    assert dataclasses.astuple(plain) == pytest.approx(dataclasses.astuple(interval), rel=1e-10)


@pytest.mark.parametrize(
    ("metric", "options"),
    [(metric, options) for metric, options in METRICS if metric in UPWARD_BIASED],
    ids=lambda x: getattr(x, "__name__", str(x)),
)
def test_basic_interval_of_calibration_errors_equals_literal_resampling(metric, options):
    arrays, metric = random_data(0, num_inputs=80), partial(metric, **options)
    interval = bootstrap_interval(metric, *arrays, num_resamples=80, seed=3)
    low, high = literal_ends(literal_resamples(metric, arrays, 80, 3))
    value = metric(*arrays)
    expected = (
        value,
        min(value, max(0.0, 2 * value - high)),
        max(value, min(1.0, 2 * value - low)),
    )
    assert dataclasses.astuple(interval) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("data", [random_data, tied_data])
def test_classification_intervals_come_from_the_same_resamples(data):
    arrays = data(1, num_inputs=70)
    intervals = classification_intervals(*arrays, num_bins=8, num_resamples=100, seed=5)
    assert list(intervals) == list(CLASSIFICATION)
    for name, metric in CLASSIFICATION.items():
        alone = bootstrap_interval(metric, *arrays, num_resamples=100, seed=5)
        assert intervals[name] == alone
        assert intervals[name].value == pytest.approx(metric(*arrays))


def test_chosen_metrics_come_from_the_same_resamples():
    arrays = random_data(1, num_inputs=70)
    chosen = {
        "quantile": partial(ece, binning="quantile"),
        "kept": partial(risk_at_coverage, coverage=0.5),
    }
    intervals = classification_intervals(*arrays, metrics=chosen, num_resamples=100, seed=5)
    for name, metric in chosen.items():
        assert intervals[name] == bootstrap_interval(metric, *arrays, num_resamples=100, seed=5)
    by_name = classification_intervals(*arrays, metrics=["nll", "brier"], num_resamples=100, seed=5)
    everything = classification_intervals(*arrays, num_resamples=100, seed=5)
    assert by_name == {name: everything[name] for name in ("nll", "brier")}
    nothing = paired_differences(arrays[0], *arrays, metrics=chosen, num_resamples=5)
    assert nothing == dict.fromkeys(chosen, Interval(0.0, 0.0, 0.0))


@pytest.mark.parametrize(
    ("metric", "options"), REGRESSION, ids=lambda x: getattr(x, "__name__", "")
)
def test_intervals_of_real_targets_equal_literal_resampling(metric, options):
    generator = np.random.default_rng(0)
    mean, std = generator.normal(size=60), generator.uniform(0.5, 2.0, 60)
    targets = mean + generator.normal(size=60) * std
    count = own_metric(metric).num_arrays
    arrays = {1: (std,), 2: (mean, targets), 3: (mean, std, targets)}[count]
    metric = partial(metric, **options)
    interval = bootstrap_interval(metric, *arrays, num_resamples=80, seed=3)
    low, high = literal_ends(literal_resamples(metric, arrays, 80, 3))
    value = metric(*arrays)
    if metric.func is regression_calibration_error:
        low, high = max(0.0, 2 * value - high), min(1.0, 2 * value - low)
    expected = (value, min(low, value), max(high, value))
    assert dataclasses.astuple(interval) == pytest.approx(expected, rel=1e-9)


def test_paired_differences_equal_literal_resampling():
    probs_a, labels = random_data(0, num_inputs=80)
    probs_b = 0.8 * probs_a + 0.2 * random_data(7, num_inputs=80)[0]
    intervals = paired_differences(probs_a, probs_b, labels, num_bins=8, num_resamples=100, seed=2)
    assert list(intervals) == list(CLASSIFICATION)
    for name, metric in CLASSIFICATION.items():

        def difference(a, b, y, metric=metric):
            return metric(a, y) - metric(b, y)

        arrays = probs_a, probs_b, labels
        value = difference(*arrays)
        low, high = literal_ends(literal_resamples(difference, arrays, 100, 2))
        if name in CALIBRATION_ERRORS:
            low, high = 2 * value - high, 2 * value - low
        expected = (value, min(low, value), max(high, value))
        assert dataclasses.astuple(intervals[name]) == pytest.approx(expected, abs=1e-12)


def test_a_model_does_not_differ_from_itself():
    probs, labels = random_data(0)
    for interval in paired_differences(probs, probs, labels, num_resamples=50).values():
        assert interval == Interval(0.0, 0.0, 0.0)


def test_pairing_sees_a_difference_that_separate_intervals_hide():
    probs_a, labels = random_data(0)
    probs_b = 0.95 * probs_a + 0.05 / 5
    difference = paired_differences(probs_a, probs_b, labels)["nll"]
    assert difference.low > 0.0  # a is overconfident, so b is better
    a, b = (classification_intervals(probs, labels)["nll"] for probs in (probs_a, probs_b))
    assert a.low < b.high


def test_the_seed_fixes_the_interval_and_the_chunk_size_does_not_matter(monkeypatch):
    arrays = random_data(0, num_inputs=50)
    scores = arrays[0][:, 0], arrays[0][:30, 1]
    first = (
        classification_intervals(*arrays, num_resamples=90),
        ood_intervals(*scores, num_resamples=90),
    )
    other = classification_intervals(*arrays, num_resamples=90, seed=1)
    assert first[0] != other
    for entries in (1, 7 * 50, 2**30):
        monkeypatch.setattr(_resampling, "_CHUNK_ENTRIES", entries)
        again = (
            classification_intervals(*arrays, num_resamples=90),
            ood_intervals(*scores, num_resamples=90),
        )
        for old, new in zip(first, again, strict=True):
            for name, interval in old.items():
                assert dataclasses.astuple(new[name]) == pytest.approx(
                    dataclasses.astuple(interval), rel=1e-12
                )


def test_memory_stays_bounded_for_any_number_of_resamples():
    scores = np.random.default_rng(0).random(10_000)
    probs, labels = random_data(0, num_inputs=10_000)
    for function, arrays in (
        (ood_intervals, (scores, scores)),
        (classification_intervals, (probs, labels)),
    ):
        tracemalloc.start()
        function(*arrays, num_resamples=150)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 64 * 2**20


@pytest.mark.parametrize("num_resamples", [1, 5, 200])
@pytest.mark.parametrize("level", [0.001, 0.5, 0.99])
@pytest.mark.parametrize("num_inputs", [1, 2, 60])
def test_every_interval_holds_its_value(num_resamples, level, num_inputs):
    options = {"num_resamples": num_resamples, "confidence_level": level}
    for data in (random_data, tied_data):
        probs, labels = data(0, num_inputs=num_inputs)
        probs = 0.75 * probs + 0.25 / probs.shape[1]  # a difference of infinite NLLs is undefined
        intervals = [
            *classification_intervals(probs, labels, **options).values(),
            *paired_differences(probs, np.roll(probs, 1, axis=0), labels, **options).values(),
            *ood_intervals(probs[:, 0], probs[:, 1], **options).values(),
            bootstrap_interval(lambda x: x.mean(), probs[:, 0], **options),
            bootstrap_interval(partial(ece, norm="max"), probs, labels, **options),
        ]
        for interval in intervals:
            assert interval.low <= interval.value <= interval.high
        assert intervals[3].low >= 0.0
        assert intervals[3].high <= 1.0


def test_the_percentile_interval_of_the_ece_would_lie_above_it():
    # Calibrated by construction: the ECE is bias alone, and resampling adds as much again.
    generator = np.random.default_rng(0)
    confidence = generator.uniform(0.5, 1.0, 2000)
    labels = (generator.random(2000) >= confidence).astype(int)
    probs = np.stack([confidence, 1 - confidence], axis=1)
    low, _ = literal_ends(literal_resamples(ece, (probs, labels), 200, 0))
    interval = classification_intervals(probs, labels, num_resamples=200)["ece"]
    assert low > 0.0
    assert interval.low < low
    assert interval.high - interval.value < interval.value - interval.low


def covered(make_interval, truth, num_simulations):
    intervals = [make_interval(seed) for seed in range(num_simulations)]
    return sum(interval.low <= truth <= interval.high for interval in intervals)


def test_coverage_of_the_accuracy_interval():
    def simulate(seed):
        right = np.random.default_rng(1000 + seed).random(400) < 0.8
        return bootstrap_interval(
            accuracy, np.tile([0.9, 0.1], (400, 1)), (~right).astype(int), num_resamples=200
        )

    # 300 simulations of a 95 % interval: within 4 standard errors of 0.95, each 0.0126.
    share = covered(simulate, 0.8, 300) / 300
    assert abs(share - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 300)


def test_coverage_of_the_ece_interval():
    def simulate(seed):
        generator = np.random.default_rng(2000 + seed)
        confidence = generator.uniform(0.6, 0.95, 2000)
        right = generator.random(2000) < confidence - 0.1  # an error of 0.1 in every bin
        probs = np.stack([confidence, 1 - confidence], axis=1)
        return bootstrap_interval(ece, probs, (~right).astype(int), num_resamples=200)

    # Within 4 standard errors, as above.
    share = covered(simulate, 0.1, 150) / 150
    assert abs(share - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 150)


def test_coverage_of_the_auroc_interval():
    def simulate(seed):
        generator = np.random.default_rng(3000 + seed)
        return ood_intervals(
            generator.normal(0, 1, 200), generator.normal(1, 1, 150), num_resamples=200
        )["auroc"]

    # P(N(1, 1) > N(0, 1)) = Phi(1 / sqrt 2).
    share = covered(simulate, scipy.stats.norm.cdf(1 / math.sqrt(2)), 200) / 200
    assert abs(share - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 200)


def test_an_infinite_nll_stays_infinite():
    probs = np.array([[1.0, 0.0]] * 3 + [[0.5, 0.5]] * 37)
    labels = np.array([1] * 3 + [0] * 37)
    interval = classification_intervals(probs, labels, num_resamples=200)["nll"]
    # Some resamples, 4.6 % of them, miss all three, and have a finite mean: ln 2.
    assert dataclasses.astuple(interval) == (math.inf, pytest.approx(math.log(2)), math.inf)
    alone = np.array([[1.0, 0.0]]), np.array([1])
    for metric in (nll, lambda p, y: nll(p, y)):
        assert bootstrap_interval(metric, *alone, num_resamples=9) == Interval(*[math.inf] * 3)


def test_differences_of_infinite_nlls():
    infinite, finite, labels = [[1.0, 0.0]], [[0.5, 0.5]], [1]
    difference = paired_differences(infinite, finite, labels, num_resamples=5)["nll"]
    assert difference == Interval(*[math.inf] * 3)
    difference = paired_differences(finite, infinite, labels, num_resamples=5)["nll"]
    assert difference == Interval(*[-math.inf] * 3)
    both = paired_differences(infinite, infinite, labels, num_resamples=5)
    assert np.isnan(dataclasses.astuple(both["nll"])).all()
    assert both["brier"] == Interval(0.0, 0.0, 0.0)
    # Undefined on the data, though a resample may hold only one of the two inputs.
    a, b = [[1.0, 0.0], [0.5, 0.5]], [[0.5, 0.5], [1.0, 0.0]]
    for seed in range(8):
        difference = paired_differences(a, b, [1, 1], num_resamples=1, seed=seed)["nll"]
        assert np.isnan(dataclasses.astuple(difference)).all()


def test_arrays_are_resampled_jointly():
    x = np.arange(50.0)
    interval = bootstrap_interval(lambda a, b: np.abs(a - b).max(), x, x, num_resamples=50)
    assert interval == Interval(0.0, 0.0, 0.0)


def test_lists_become_arrays_and_tensors_stay_tensors():
    seen = []

    def mean(x):
        seen.append(type(x))
        return x.mean()

    from_list = bootstrap_interval(mean, [1.0, 2.0, 4.0], num_resamples=20)
    assert set(seen) == {np.ndarray}
    seen.clear()
    from_tensor = bootstrap_interval(mean, torch.tensor([1.0, 2.0, 4.0]).double(), num_resamples=20)
    assert set(seen) == {torch.Tensor}
    assert dataclasses.astuple(from_tensor) == pytest.approx(dataclasses.astuple(from_list))


def test_own_metrics_take_tensors_and_frozen_arguments():
    probs, labels = random_data(0, num_inputs=30)
    expected = bootstrap_interval(accuracy, probs, labels, num_resamples=50)
    tensors = torch.tensor(probs), torch.tensor(labels)
    assert bootstrap_interval(accuracy, *tensors, num_resamples=50) == expected
    # A partial that freezes an array is no metric of two arrays, so it takes the plain way.
    constant = np.zeros(30, dtype=int)
    frozen = bootstrap_interval(partial(accuracy, labels=constant), probs, num_resamples=50)
    assert frozen == bootstrap_interval(accuracy, probs, constant, num_resamples=50)
    with pytest.raises(TypeError, match="positional arguments"):
        bootstrap_interval(partial(accuracy, probs), probs, labels)


def test_an_unhashable_callable_is_called():
    class Mean:
        __hash__ = None  # type: ignore[assignment]

        def __call__(self, x):
            return x.mean()

    assert bootstrap_interval(Mean(), [1.0, 1.0], num_resamples=3) == Interval(1.0, 1.0, 1.0)


def test_a_failing_resample_is_an_error_and_not_dropped():
    def needs_both(x):
        if len(set(x.tolist())) < 2:
            raise ValueError("only one class")
        return x.mean()

    with pytest.raises(ValueError, match=r"metric failed on resample \d+ .*: only one class"):
        bootstrap_interval(needs_both, [0, 1])
    with pytest.raises(ValueError, match=r"metric gave NaN on resample \d+"):
        bootstrap_interval(lambda x: x.mean() if x.any() else math.nan, [0, 1])
    with pytest.raises(ValueError, match="metric gave NaN on the data themselves"):
        bootstrap_interval(lambda x: math.nan, [0, 1])


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: bootstrap_interval("accuracy", [1.0]), TypeError, "metric must be callable"),
        (lambda: bootstrap_interval(np.mean), ValueError, "arrays must hold at least one"),
        (lambda: bootstrap_interval(np.mean, []), ValueError, "arrays must share a first axis"),
        (lambda: bootstrap_interval(np.mean, 3.0), ValueError, "arrays must share a first axis"),
        (
            lambda: bootstrap_interval(np.dot, [1.0, 2.0], [1.0]),
            ValueError,
            r"arrays must share .* got shapes \[\(2,\), \(1,\)\]",
        ),
        (lambda: bootstrap_interval(accuracy, [[0.5, 0.6]], [0]), ValueError, "probs must sum"),
        (
            lambda: bootstrap_interval(partial(ece, norm="l3"), [[0.5, 0.5]], [0]),
            ValueError,
            "norm must be one of",
        ),
        (
            lambda: paired_differences([[0.5, 0.6]], [[0.5, 0.5]], [0]),
            ValueError,
            "probs_a must sum to 1",
        ),
        (
            lambda: paired_differences([[0.5, 0.5]], [[0.5, 0.6]], [0]),
            ValueError,
            "probs_b must sum to 1",
        ),
        (
            lambda: paired_differences([[0.5, 0.5]], [[0.5, 0.25, 0.25]], [0]),
            ValueError,
            r"probs_b must have the shape of probs_a, \(1, 2\), got \(1, 3\)",
        ),
        (lambda: ood_intervals([], [1.0]), ValueError, "id_scores is empty"),
        (lambda: ood_intervals([1.0], [math.nan]), ValueError, "ood_scores must be finite"),
        (
            lambda: classification_intervals([[0.5, 0.5]], [0], metrics=["nl"]),
            ValueError,
            "metrics must be one of .*did you mean 'nll'",
        ),
        (
            lambda: classification_intervals([[0.5, 0.5]], [0], metrics={"a": np.mean}),
            TypeError,
            r"metrics must name .* got \['a'\]",
        ),
        (
            lambda: classification_intervals([[0.5, 0.5]], [0], metrics=5),
            TypeError,
            "metrics must be a dictionary or a list of names, got int",
        ),
        (
            lambda: bootstrap_interval(risk_at_coverage, [[0.5, 0.5]], [0]),
            TypeError,
            "missing a required argument: 'coverage'; set its options with functools.partial",
        ),
        (
            lambda: bootstrap_interval(partial(ece, debias="no"), [[0.5, 0.5]], [0]),
            TypeError,
            "debias must be True or False",
        ),
        (
            lambda: classification_intervals([[0.5, 0.5]], [0], num_bins=0),
            ValueError,
            "num_bins must be at least 1",
        ),
    ],
)
def test_invalid_arguments_are_named(call, error, match):
    with pytest.raises(error, match=match):
        call()


@pytest.mark.parametrize(
    "function",
    [
        partial(bootstrap_interval, np.mean, [1.0]),
        partial(classification_intervals, [[0.5, 0.5]], [0]),
        partial(paired_differences, [[0.5, 0.5]], [[0.5, 0.5]], [0]),
        partial(ood_intervals, [0.0], [1.0]),
    ],
    ids=lambda f: f.func.__name__,
)
@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"num_resamples": 0}, ValueError, "num_resamples must be at least 1"),
        ({"num_resamples": 10.0}, TypeError, "num_resamples must be an integer"),
        ({"confidence_level": 1.0}, ValueError, "confidence_level must lie strictly between"),
        ({"confidence_level": 95}, ValueError, "confidence_level must lie strictly between"),
        ({"seed": -1}, ValueError, "seed must be at least 0"),
        ({"seed": None}, TypeError, "seed must be an integer"),
    ],
)
def test_invalid_options_are_named(function, options, error, match):
    with pytest.raises(error, match=match):
        function(**options)


def test_an_interval_is_json():
    interval = Interval(0.5, 0.25, 1.0)
    assert json.loads(json.dumps(interval.to_dict())) == {"value": 0.5, "low": 0.25, "high": 1.0}
    with pytest.raises(dataclasses.FrozenInstanceError):
        interval.value = 0.0
