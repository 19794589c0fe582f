from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import scipy.stats

from bbnn_uq.metrics import ood_metrics
from bbnn_uq.metrics.ood_bootstrap import grouped_ood_metrics, ood_intervals

METRICS = ("auroc", "aupr_out", "aupr_in", "fpr95", "fpr95_in", "detection_error")


def scores(seed, num_id=60, num_ood=45, digits=1):
    generator = np.random.default_rng(seed)
    return (
        generator.normal(0, 1, num_id).round(digits),
        generator.normal(1, 1, num_ood).round(digits),
    )


def literal_interval(metric, value, resampled, level=0.95):
    """Order statistics next outside, reflected at the value for the detection error."""
    ordered, last = np.sort(resampled), len(resampled) - 1
    tail = (1 - level) / 2
    low, high = ordered[math.floor(tail * last)], ordered[math.ceil((1 - tail) * last)]
    if metric == "detection_error":
        low, high = max(0.0, 2 * value - high), min(0.5, 2 * value - low)
    return value, min(low, value), max(high, value)


@pytest.mark.parametrize("level", [0.95, 0.7])
def test_intervals_equal_literal_resampling(level):
    id_scores, ood_scores = scores(0)
    intervals = ood_intervals(
        id_scores, ood_scores, num_resamples=120, confidence_level=level, seed=4
    )
    stream = np.random.default_rng(4)
    rows = []
    for _ in range(120):
        id_row, ood_row = stream.integers(60, size=60), stream.integers(45, size=45)
        rows.append(dataclasses.asdict(ood_metrics(id_scores[id_row], ood_scores[ood_row])))
    assert tuple(intervals) == METRICS
    for name, value in dataclasses.asdict(ood_metrics(id_scores, ood_scores)).items():
        expected = literal_interval(name, value, [row[name] for row in rows], level)
        assert dataclasses.astuple(intervals[name]) == pytest.approx(expected, abs=1e-12)


def test_the_interval_of_the_detection_error_ends_at_chance():
    # About half of all intervals of scores that say nothing would go beyond 1/2.
    for seed in range(3):
        generator = np.random.default_rng(seed)
        interval = ood_intervals(*generator.normal(size=(2, 50)), num_resamples=60)
        assert 0.0 <= interval["detection_error"].low <= interval["detection_error"].high <= 0.5
    certain = ood_intervals([0.0] * 9, [1.0] * 9, num_resamples=9)["detection_error"]
    assert dataclasses.astuple(certain) == (0.0, 0.0, 0.0)


def test_groups_equal_literal_resampling_of_shared_id_inputs():
    id_scores, near = scores(0)
    sets = {
        "near": near,
        "unused": [math.nan],
        "far": scores(1, num_ood=30)[1] + 1.0,
        "other": scores(2, num_ood=20)[1],
    }
    groups = {"near": ["near"], "far": ("other", "far"), "all": ["near", "far", "other"]}
    found = grouped_ood_metrics(id_scores, sets, groups, num_resamples=90, seed=3)
    stream = np.random.default_rng(3)
    order = ("near", "other", "far")  # as the groups name them
    rows = []
    for _ in range(90):
        drawn = id_scores[stream.integers(60, size=60)]
        outside = {n: sets[n][stream.integers(len(sets[n]), size=len(sets[n]))] for n in order}
        rows.append({n: dataclasses.asdict(ood_metrics(drawn, outside[n])) for n in order})
    assert list(found) == list(groups)
    for group, members in groups.items():
        assert tuple(found[group]) == METRICS
        for metric, interval in found[group].items():
            whole = [dataclasses.asdict(ood_metrics(id_scores, sets[n]))[metric] for n in members]
            resampled = [sum(row[n][metric] for n in members) / len(members) for row in rows]
            expected = literal_interval(metric, sum(whole) / len(members), resampled)
            assert dataclasses.astuple(interval) == pytest.approx(expected, abs=1e-12)


def test_a_group_of_one_set_is_that_set():
    id_scores, ood_scores = scores(0)
    alone = grouped_ood_metrics(id_scores, {"x": ood_scores}, {"g": ["x"]}, num_resamples=80)
    assert alone == {"g": ood_intervals(id_scores, ood_scores, num_resamples=80)}


def test_shared_id_inputs_keep_the_mean_as_uncertain_as_they_are():
    # Few ID inputs and many OOD inputs: nearly all error is that of the ID inputs, which four sets
    # of one distribution share. Resampled apart, the mean's interval would be half as wide.
    generator = np.random.default_rng(0)
    id_scores = generator.normal(0, 1, 40)
    sets = {name: generator.normal(1, 1, 2000) for name in "abcd"}
    groups = {"one": ["a"], "four": list("abcd")}
    found = grouped_ood_metrics(id_scores, sets, groups, num_resamples=300)
    widths = [found[group]["auroc"].high - found[group]["auroc"].low for group in groups]
    assert 0.9 < widths[1] / widths[0] < 1.1


def test_large_and_small_sets_count_alike():
    sets = {"large": [2.0] * 900, "small": [0.0]}
    found = grouped_ood_metrics([1.0, 1.0], sets, {"both": ["small", "large"]}, num_resamples=5)
    assert found["both"]["auroc"].value == 0.5


def test_the_basic_interval_of_the_detection_error_covers_more_than_the_percentile_one():
    # Half way between two normals one standard deviation apart the true error is Phi(-1/2).
    truth, basic, percentile = scipy.stats.norm.cdf(-0.5), 0, 0
    for seed in range(200):
        generator = np.random.default_rng(4000 + seed)
        inside, outside = generator.normal(0, 1, 200), generator.normal(1, 1, 200)
        found = ood_intervals(inside, outside, num_resamples=120)["detection_error"]
        basic += found.low <= truth <= found.high
        percentile += 2 * found.value - found.high <= truth <= 2 * found.value - found.low
    # Known to hold some 0.91 and 0.82 instead of 0.95; 200 simulations have standard errors of
    # 0.020 and 0.027, and 0.87 is two of either away.
    assert basic / 200 > 0.87 > percentile / 200


@pytest.mark.parametrize(
    ("sets", "groups", "error", "match"),
    [
        (
            {"digits": [1.0], "noise": [2.0]},
            {"near": ["digit"]},
            ValueError,
            r"a set of groups\['near'\] must be one of digits, noise, got 'digit'; did you mean "
            "'digits'",
        ),
        ({"a": [1.0]}, {"near": []}, ValueError, r"groups\['near'\] is empty"),
        ({"a": [1.0]}, {}, ValueError, "groups is empty"),
        ({"a": [1.0]}, {"near": ["a", "a"]}, ValueError, r"groups\['near'\] names a set twice"),
        ({"a": [1.0]}, {"near": "a"}, TypeError, r"groups\['near'\] must be a list of set names"),
        ({"a": [1.0]}, {"near": 1}, TypeError, r"groups\['near'\] must be a list of set names"),
        ({"a": [1.0]}, [["a"]], TypeError, "groups must be a dictionary"),
        ([[1.0]], {"near": ["a"]}, TypeError, "ood_scores must be a dictionary"),
        ({"a": []}, {"near": ["a"]}, ValueError, r"ood_scores\['a'\] is empty"),
        ({"a": [math.inf]}, {"near": ["a"]}, ValueError, r"ood_scores\['a'\] must be finite"),
    ],
)
def test_invalid_groups_are_named(sets, groups, error, match):
    with pytest.raises(error, match=match):
        grouped_ood_metrics([0.0, 1.0], sets, groups)


def test_invalid_scores_and_options_are_named():
    for function in (
        lambda s, **options: ood_intervals(s, [1.0], **options),
        lambda s, **options: grouped_ood_metrics(s, {"a": [1.0]}, {"g": ["a"]}, **options),
    ):
        with pytest.raises(ValueError, match="id_scores is empty"):
            function([])
        with pytest.raises(ValueError, match="num_resamples must be at least 1"):
            function([0.0], num_resamples=0)
        with pytest.raises(ValueError, match="confidence_level must lie strictly between"):
            function([0.0], confidence_level=95)
        with pytest.raises(TypeError, match="seed must be an integer"):
            function([0.0], seed=None)
