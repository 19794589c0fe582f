from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from metric_reference import reproducible

from bbnn_uq.metrics import Interval, ood_metrics
from bbnn_uq.metrics.ood_comparison import PairedDifference, _delong_p_value, compare_ood_scores

METRICS = ("auroc", "aupr_out", "aupr_in", "fpr95", "fpr95_in", "detection_error")


def correlated(generator, num_id=60, num_ood=45, shifts=(1.0, 1.0), shared=0.5):
    """Two scores of the same inputs: a common part, and one of each score's own."""

    def two(size, means):
        common, *own = generator.normal(size=(3, size))
        return [
            mean + math.sqrt(shared) * common + math.sqrt(1 - shared) * part
            for mean, part in zip(means, own, strict=True)
        ]

    (id_a, id_b), (ood_a, ood_b) = two(num_id, (0.0, 0.0)), two(num_ood, shifts)
    return id_a, ood_a, id_b, ood_b


def reference_delong(id_a, ood_a, id_b, ood_b):
    """AUROCs, their covariance matrix and the p-value, pair by pair as in the paper of 1988."""
    num_ood, num_id = len(ood_a), len(id_a)
    areas, of_ood, of_id = [], [], []
    for inside, outside in ((id_a, ood_a), (id_b, ood_b)):
        wins = [[1.0 if x > y else 0.5 if x == y else 0.0 for y in inside] for x in outside]
        of_ood.append([sum(row) / num_id for row in wins])
        of_id.append([sum(row[n] for row in wins) / num_ood for n in range(num_id)])
        areas.append(sum(of_ood[-1]) / num_ood)
    covariance = np.cov(of_ood) / num_ood + np.cov(of_id) / num_id
    contrast = np.array([1.0, -1.0])
    variance = float(contrast @ covariance @ contrast)
    difference = areas[0] - areas[1]
    if variance < 1e-15:
        p_value = 1.0 if abs(difference) < 1e-12 else None
    else:
        p_value = 2 * scipy.stats.norm.sf(abs(difference) / math.sqrt(variance))
    return difference, variance, p_value


few_scores = st.integers(-3, 3).map(float)


@st.composite
def tied_pairs(draw):
    num_id, num_ood = draw(st.integers(2, 12)), draw(st.integers(2, 12))
    return [
        np.array(draw(st.lists(few_scores, min_size=size, max_size=size)))
        for size in (num_id, num_ood, num_id, num_ood)
    ]


@reproducible
@given(tied_pairs())
def test_delong_equals_the_sums_over_pairs_with_ties(pair):
    expected = reference_delong(*pair)[2]
    assert _delong_p_value(*pair) == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize("seed", range(4))
def test_delong_equals_the_sums_over_pairs_without_ties(seed):
    pair = correlated(np.random.default_rng(seed), shifts=(1.0, 0.7))
    difference, _, p_value = reference_delong(*pair)
    found = compare_ood_scores(*pair, num_resamples=20)["auroc"]
    assert found.value == pytest.approx(difference, abs=1e-12)
    assert found.p_value == pytest.approx(p_value, rel=1e-9)


def test_delong_agrees_with_the_spread_of_resamples():
    pair = correlated(np.random.default_rng(0), 300, 200, shifts=(1.0, 0.8))
    difference, variance, p_value = reference_delong(*pair)
    stream = np.random.default_rng(1)
    resampled = []
    for _ in range(600):
        i, o = stream.integers(300, size=300), stream.integers(200, size=200)
        a, b = (ood_metrics(s[i], t[o]).auroc for s, t in (pair[:2], pair[2:]))
        resampled.append(a - b)
    # Each has a relative standard error of some 3 %; 4 of them.
    assert math.sqrt(variance) == pytest.approx(np.std(resampled), rel=0.12)
    z = abs(difference) / np.std(resampled)
    assert z == pytest.approx(scipy.stats.norm.isf(p_value / 2), rel=0.12)


def test_delong_agrees_with_the_permutation_test():
    # Scores of one distribution may be exchanged between a and b for each input by itself.
    generator = np.random.default_rng(5)
    id_a, ood_a, id_b, ood_b = correlated(generator, 200, 150)
    observed = abs(ood_metrics(id_a, ood_a).auroc - ood_metrics(id_b, ood_b).auroc)
    exceeded = 0
    for _ in range(600):
        i, o = generator.random(200) < 0.5, generator.random(150) < 0.5
        a = ood_metrics(np.where(i, id_a, id_b), np.where(o, ood_a, ood_b)).auroc
        b = ood_metrics(np.where(i, id_b, id_a), np.where(o, ood_b, ood_a)).auroc
        exceeded += abs(a - b) >= observed
    p_value = _delong_p_value(id_a, ood_a, id_b, ood_b)
    assert 0.05 < p_value < 0.95  # where the comparison says something
    # 4 binomial standard errors of the 600 permutations, at most 0.082.
    assert p_value == pytest.approx(exceeded / 600, abs=4 * math.sqrt(0.25 / 600))


@pytest.mark.parametrize("digits", [8, 0])
def test_delong_rejects_as_often_as_its_level_under_the_null(digits):
    generator = np.random.default_rng(6)
    p_values = []
    for _ in range(1000):
        pair = [s.round(digits) for s in correlated(generator, 80, 60)]
        p_values.append(_delong_p_value(*pair))
    # Within 4 binomial standard errors of the level, each 0.0069 and 0.0126.
    for level in (0.05, 0.2):
        share = np.mean(np.array(p_values) <= level)
        assert abs(share - level) < 4 * math.sqrt(level * (1 - level) / 1000)


def test_intervals_and_p_values_equal_literal_resampling():
    pair = [s.round(1) for s in correlated(np.random.default_rng(7), shifts=(1.2, 0.6))]
    found = compare_ood_scores(*pair, num_resamples=99, confidence_level=0.9, seed=11)
    assert tuple(found) == METRICS
    stream = np.random.default_rng(11)
    rows = []
    for _ in range(99):
        i, o = stream.integers(60, size=60), stream.integers(45, size=45)
        a, b = ood_metrics(pair[0][i], pair[1][o]), ood_metrics(pair[2][i], pair[3][o])
        rows.append([getattr(a, name) - getattr(b, name) for name in METRICS])
    whole = ood_metrics(*pair[:2]), ood_metrics(*pair[2:])
    for name, draws in zip(METRICS, np.array(rows).T, strict=True):
        value = getattr(whole[0], name) - getattr(whole[1], name)
        ordered = sorted(draws)
        low, high = ordered[math.floor(0.05 * 98)], ordered[math.ceil(0.95 * 98)]
        expected = value, min(low, value), max(high, value)
        interval = found[name].value, found[name].low, found[name].high
        assert interval == pytest.approx(expected, abs=1e-12)
        if name != "auroc":
            rarer = min(sum(d <= 0 for d in draws), sum(d >= 0 for d in draws))
            assert found[name].p_value == pytest.approx(min(1.0, 2 * (rarer + 1) / 100))


def test_p_values_and_intervals_of_resamples_say_the_same():
    decided = []
    for seed in range(12):
        pair = correlated(np.random.default_rng(seed), shifts=(1.5, 0.7))
        # With 199 resamples an end of the 95 % interval is the 5th from outside, and 2 * 5 / 200
        # is the level.
        for name, found in compare_ood_scores(*pair, num_resamples=199).items():
            if name != "auroc":
                assert (found.low > 0 or found.high < 0) == (found.p_value <= 0.05 + 1e-12)
                decided.append(found.p_value <= 0.05)
    assert 5 < sum(decided) < len(decided) - 5


def test_resamples_reject_no_more_often_than_the_level_under_the_null():
    generator = np.random.default_rng(8)
    rejected = dict.fromkeys(METRICS, 0)
    for seed in range(200):
        pair = correlated(generator, 60, 60)
        for name, found in compare_ood_scores(*pair, num_resamples=79, seed=seed).items():
            rejected[name] += found.p_value <= 0.05
    # 0.05 and 4 binomial standard errors of 0.0154.
    assert max(rejected.values()) / 200 <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / 200)
    assert min(rejected[name] for name in METRICS[:3]) > 0


def test_a_clear_difference_has_the_smallest_p_value():
    pair = correlated(np.random.default_rng(9), 300, 300, shifts=(4.0, 0.2))
    found = compare_ood_scores(*pair, num_resamples=99)
    for name in METRICS:
        sign = 1 if name in METRICS[:3] else -1
        assert sign * found[name].low > 0 or sign * found[name].high < 0
        assert found[name].value * sign > 0
        assert found[name].p_value <= 2 / 100
        assert name == "auroc" or found[name].p_value == 2 / 100
    assert found["auroc"].p_value < 1e-12


def test_pairing_sees_a_difference_that_separate_scores_hide():
    generator = np.random.default_rng(10)
    id_a, ood_a, id_b, ood_b = correlated(generator, 150, 150, shifts=(1.0, 0.8), shared=0.98)
    together = compare_ood_scores(id_a, ood_a, id_b, ood_b, num_resamples=200)["auroc"]
    shuffled = generator.permutation(id_b), generator.permutation(ood_b)
    apart = compare_ood_scores(id_a, ood_a, *shuffled, num_resamples=200)["auroc"]
    assert apart.value == pytest.approx(together.value, abs=1e-12)
    assert together.p_value < 0.001 < 0.05 < apart.p_value
    assert together.low > 0.0 > apart.low


@reproducible
@given(tied_pairs())
def test_scores_that_rank_alike_do_not_differ(pair):
    id_a, ood_a = pair[:2]
    for transform in (np.array, np.exp, lambda s: s**3 - 5):
        found = compare_ood_scores(id_a, ood_a, transform(id_a), transform(ood_a), num_resamples=9)
        for difference in found.values():
            assert difference == PairedDifference(0.0, 0.0, 0.0, 1.0)


@reproducible
@given(tied_pairs())
def test_exchanging_the_scores_changes_the_sign_alone(pair):
    found = compare_ood_scores(*pair, num_resamples=19)
    exchanged = compare_ood_scores(*pair[2:], *pair[:2], num_resamples=19)
    for name, difference in found.items():
        expected = PairedDifference(
            -difference.value, -difference.high, -difference.low, difference.p_value
        )
        assert dataclasses.astuple(exchanged[name]) == pytest.approx(dataclasses.astuple(expected))


def test_the_order_of_inputs_does_not_count():
    generator = np.random.default_rng(0)
    pair = correlated(generator, 40, 30)
    i, o = generator.permutation(40), generator.permutation(30)
    moved = compare_ood_scores(pair[0][i], pair[1][o], pair[2][i], pair[3][o], num_resamples=5)
    for name, difference in compare_ood_scores(*pair, num_resamples=5).items():
        assert moved[name].value == pytest.approx(difference.value, abs=1e-12)
        if name == "auroc":
            assert moved[name].p_value == pytest.approx(difference.p_value, rel=1e-9)


def test_perfect_against_constant_scores_fall_back_on_the_resamples():
    # Each input differs by the same, so DeLong's variance is 0, and so is that of the resamples.
    for size in (2, 3, 50):
        id_a, ood_a, constant = np.zeros(size), np.ones(size), np.full(size, 1 / 3)
        assert _delong_p_value(id_a, ood_a, constant, constant) is None
        found = compare_ood_scores(id_a, ood_a, constant, constant, num_resamples=99)
        assert found["auroc"] == PairedDifference(0.5, 0.5, 0.5, 2 / 100)
    both = compare_ood_scores(constant, constant, constant + 1, constant + 1, num_resamples=9)
    assert both["auroc"] == PairedDifference(0.0, 0.0, 0.0, 1.0)


def test_a_result_is_json_and_an_interval():
    pair = correlated(np.random.default_rng(0), 10, 10)
    found = compare_ood_scores(*pair, num_resamples=9)["fpr95"]
    assert isinstance(found, Interval)
    parsed = json.loads(json.dumps(found.to_dict()))
    assert list(parsed) == ["value", "low", "high", "p_value"]
    assert all(type(value) is float for value in parsed.values())
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.p_value = 0.0


def test_any_container_gives_the_float64_answer():
    generator = np.random.default_rng(0)
    pair = [generator.integers(low, 9, size).astype(float) for low in (0, 2) for size in (20, 20)]
    expected = compare_ood_scores(*pair, num_resamples=9)
    for convert in (np.float16, np.ndarray.tolist, lambda s: torch.tensor(s, requires_grad=True)):
        assert compare_ood_scores(*map(convert, pair), num_resamples=9) == expected


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        (([], [1, 2], [1, 2], [1, 2]), ValueError, "id_a is empty"),
        (([1, 2], [1, math.nan], [1, 2], [1, 2]), ValueError, "ood_a must be finite"),
        (([1, 2], [1, 2], [1, math.inf], [1, 2]), ValueError, "id_b must be finite"),
        (([1, 2], [1, 2], [1, 2], [[1, 2]]), ValueError, r"ood_b must have shape \(N,\)"),
        (([1, 2], [1, 2], [1, 2], ["a", "b"]), TypeError, "ood_b must hold real numbers"),
        (
            ([1, 2], [1, 2], [1, 2, 3], [1, 2]),
            ValueError,
            "id_b must score the same inputs as id_a",
        ),
        (([1, 2], [1, 2, 3], [1, 2], [1, 2]), ValueError, "ood_b must score the same inputs as"),
        (([1], [1, 2], [1], [1, 2]), ValueError, "id_a must hold at least 2 scores, got 1"),
        (([1, 2], [1], [1, 2], [1]), ValueError, "ood_a must hold at least 2 scores, got 1"),
    ],
)
def test_invalid_scores_are_named(arguments, error, match):
    with pytest.raises(error, match=match):
        compare_ood_scores(*arguments)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"num_resamples": 0}, ValueError, "num_resamples must be at least 1"),
        ({"confidence_level": 1.0}, ValueError, "confidence_level must lie strictly between"),
        ({"seed": -1}, ValueError, "seed must be at least 0"),
    ],
)
def test_invalid_options_are_named(options, error, match):
    with pytest.raises(error, match=match):
        compare_ood_scores([1, 2], [1, 2], [1, 2], [1, 2], **options)
