"""The Monte Carlo error over networks against brute force, closed forms and repeated draws."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from bbnn_uq import Predictive, metrics
from bbnn_uq.monte_carlo import (
    common_groups,
    jackknife_error,
    metric_curve,
    monte_carlo_error,
    monte_carlo_errors,
)
from bbnn_uq.predictive_sums import PredictiveAccumulator
from bbnn_uq.regression import RegressionAccumulator

CPU = torch.device("cpu")
GENERATOR = np.random.default_rng(0)
INSIDE = GENERATOR.dirichlet([3.0, 1.0, 0.5], size=(12, 40))
OUTSIDE = GENERATOR.dirichlet([1.0, 1.0, 1.0], size=(12, 30))
LABELS = GENERATOR.integers(3, size=40)


def grouped(samples, num_groups, /, **options):
    """A predictive of networks with these probabilities, from sums by group."""
    networks, inputs, classes = samples.shape
    accumulator = PredictiveAccumulator(inputs, classes, (1.0,), CPU, num_groups=num_groups)
    accumulator.add(slice(0, inputs), range(networks), torch.tensor(np.log(samples)))
    options = {"num_samples": networks, "seed": 0, "method": "monte_carlo"} | options
    return accumulator.finish(**options)


def nll(predictive):
    return metrics.nll(predictive.probs, LABELS)


def auroc(inside, outside):
    scores = inside.score("mutual_information"), outside.score("mutual_information")
    return metrics.ood_metrics(*scores).auroc


def plain_nll(samples):
    return -np.log(samples.mean(axis=0)[np.arange(40), LABELS]).mean()


def plain_auroc(inside, outside):
    def mutual_information(samples):
        p = samples.mean(axis=0)
        each = -(samples * np.log(samples)).sum(axis=2)
        return -(p * np.log(p)).sum(axis=1) - each.mean(axis=0)

    scores = np.r_[mutual_information(inside), mutual_information(outside)]
    return roc_auc_score(np.r_[np.zeros(40), np.ones(30)], scores)


def plain_jackknife(statistic, num_groups, *samples):
    """The formula as it is written, over groups s mod G of kept samples."""
    member = np.arange(len(samples[0])) % num_groups
    values = [statistic(*(each[member != g] for each in samples)) for g in range(num_groups)]
    mean = sum(values) / num_groups
    return math.sqrt((num_groups - 1) / num_groups * sum((v - mean) ** 2 for v in values))


# --- the jackknife -----------------------------------------------------------------------------


def test_the_jackknife_of_a_mean_is_its_standard_error():
    x = np.random.default_rng(1).normal(size=20)
    left = [np.delete(x, i).mean() for i in range(20)]
    assert jackknife_error(left) == pytest.approx(x.std(ddof=1) / np.sqrt(20), rel=1e-12)


def test_a_number_that_is_not_finite_has_no_error():
    assert math.isnan(jackknife_error([1.0, math.inf, 2.0]))
    assert math.isnan(jackknife_error([math.inf, math.inf]))
    with pytest.raises(ValueError, match="at least 2 groups"):
        jackknife_error([1.0])


@pytest.mark.parametrize("num_groups", [2, 4, 5, 12])  # 5 groups of 12 networks differ in size
def test_errors_from_groups_are_the_formula_over_kept_samples(num_groups):
    inside, outside = grouped(INSIDE, num_groups), grouped(OUTSIDE, num_groups)
    wanted = plain_jackknife(plain_nll, num_groups, INSIDE)
    assert monte_carlo_error(nll, inside) == pytest.approx(wanted, rel=1e-9)
    wanted = plain_jackknife(plain_auroc, num_groups, INSIDE, OUTSIDE)
    assert monte_carlo_error(auroc, inside, outside) == pytest.approx(wanted, rel=1e-9)


def test_errors_from_kept_samples_leave_out_one_network_at_a_time():
    inside, outside = Predictive.from_samples(INSIDE), Predictive.from_samples(OUTSIDE)
    assert common_groups(inside, outside) == 12
    wanted = plain_jackknife(plain_nll, 12, INSIDE)
    assert monte_carlo_error(nll, inside) == pytest.approx(wanted, rel=1e-9)
    wanted = plain_jackknife(plain_auroc, 12, INSIDE, OUTSIDE)
    assert monte_carlo_error(auroc, inside, outside) == pytest.approx(wanted, rel=1e-9)


def test_groups_come_before_kept_samples_and_many_samples_share_groups():
    assert common_groups(grouped(INSIDE, 4, samples=INSIDE)) == 4
    mixed = grouped(INSIDE, 4, samples=INSIDE), grouped(OUTSIDE, 1, samples=OUTSIDE)
    wanted = plain_jackknife(plain_auroc, 12, INSIDE, OUTSIDE)
    assert monte_carlo_error(auroc, *mixed) == pytest.approx(wanted, rel=1e-9)
    many = np.random.default_rng(2).dirichlet([1.0, 1.0, 1.0], size=(230, 40))
    assert common_groups(Predictive.from_samples(many)) == 100
    wanted = plain_jackknife(plain_nll, 100, many)
    assert monte_carlo_error(nll, Predictive.from_samples(many)) == pytest.approx(wanted, rel=1e-9)


def test_the_error_of_a_probability_is_its_standard_error():
    predictive = grouped(INSIDE, 12)
    for n, c in ((0, 0), (17, 2)):
        found = monte_carlo_error(lambda p, n=n, c=c: p.probs[n, c], predictive)
        assert found == pytest.approx(predictive.probs_std_error[n, c], rel=1e-9)


def test_what_predictives_share_cancels():
    """The same networks are left out of all, so a difference of equals has no error."""
    a, b = grouped(INSIDE, 4), grouped(INSIDE, 4)
    assert monte_carlo_error(lambda p, q: p.probs[0, 0] - q.probs[0, 0], a, b) == 0.0
    alone = monte_carlo_error(lambda p: p.probs[0, 0], a)
    assert monte_carlo_error(lambda p, q: p.probs[0, 0] + q.probs[0, 0], a, b) == pytest.approx(
        2 * alone
    )


def test_many_numbers_at_once_have_the_errors_of_each():
    inside, outside = grouped(INSIDE, 4), grouped(OUTSIDE, 4)
    found = monte_carlo_errors(lambda p, q: {"a": auroc(p, q), "b": nll(p)}, inside, outside)
    assert found == {
        "a": monte_carlo_error(auroc, inside, outside),
        "b": monte_carlo_error(nll, inside),
    }


def test_the_error_is_how_much_repeated_predictions_differ():
    """32 networks in 8 groups, 300 times: mean squared error against the variance of the number.

    Relative standard errors: of the variance √(2 / 300) = 0.082, of the mean of the squared
    errors, each uncertain by √(2 / 7), 0.031; together 0.088. The number is the NLL of 40 inputs.
    """
    generator = np.random.default_rng(4)
    values, squares = [], []
    for _ in range(300):
        samples = generator.dirichlet([3.0, 1.0, 0.5], size=(32, 40))
        predictive = grouped(samples, 8)
        values.append(nll(predictive))
        squares.append(monte_carlo_error(nll, predictive) ** 2)
    assert np.mean(squares) / np.var(values, ddof=1) == pytest.approx(1.0, abs=4 * 0.088)


def test_real_targets():
    generator = np.random.default_rng(5)
    means, stds = generator.normal(3, 1, (10, 20, 1)), generator.uniform(0.5, 2, (10, 20, 1))
    y = generator.normal(3, 1, 20)

    def gaussian_nll(predictive):
        return metrics.gaussian_nll(predictive.mean, predictive.std, y)

    def plain(m, v):
        variance = m.var(axis=0) + v.mean(axis=0)
        return (
            0.5 * np.log(2 * np.pi * variance) + (y - m.mean(axis=0)) ** 2 / 2 / variance
        ).mean()

    accumulator = RegressionAccumulator(20, 1, CPU, num_groups=5)
    accumulator.add(slice(0, 20), range(10), torch.tensor(means), torch.tensor(stds))
    options = {"num_samples": 10, "seed": 0, "method": "monte_carlo"}
    predictive = accumulator.finish(**options)
    wanted = plain_jackknife(plain, 5, means[..., 0], stds[..., 0] ** 2)
    assert monte_carlo_error(gaussian_nll, predictive) == pytest.approx(wanted, rel=1e-8)
    curve = metric_curve(gaussian_nll, predictive)
    assert curve.num_networks.tolist() == [2, 4, 8, 10]
    assert curve.mean[-1] == pytest.approx(gaussian_nll(predictive), rel=1e-12)
    kept = accumulator.finish(**options, samples=means)
    object.__setattr__(kept, "group_sums", {})  # means alone do not say each network's noise
    with pytest.raises(ValueError, match="cannot be told apart"):
        monte_carlo_error(gaussian_nll, kept)


@pytest.mark.parametrize(
    ("predictives", "match"),
    [
        ((grouped(INSIDE, 4), grouped(OUTSIDE, 3)), r"have \[4, 3\] groups.*same num_groups"),
        ((grouped(INSIDE, 1), grouped(OUTSIDE, 1)), r"cannot be told apart: \[1?0, 0\] groups"),
        ((Predictive.from_samples(INSIDE[:1]),), r"\[0\] groups and 1 networks; predict with"),
        ((Predictive.from_probs(INSIDE[0]),), "keep_samples=True"),
        (
            (grouped(INSIDE, 4), grouped(OUTSIDE[:8], 4)),
            r"different networks \(12 of seed 0 by monte_carlo; 8 of",
        ),
        ((grouped(INSIDE, 4), grouped(OUTSIDE, 4, seed=1)), "of seed 1 by.*same num_samples"),
        ((grouped(INSIDE, 4, method="mode"),), "the mode is no random draw"),
    ],
)
def test_networks_that_cannot_be_left_out_are_named(predictives, match):
    assert common_groups(*predictives) == 0
    for function in (monte_carlo_error, metric_curve):
        with pytest.raises(ValueError, match=match):
            function(lambda *_: 0.0, *predictives)


# --- the curve ---------------------------------------------------------------------------------


def test_curve_from_samples_is_brute_force_over_disjoint_subsets():
    """With the networks in the order that the seed gives, cut into runs of 1, 2, 4, 8 and 12."""
    inside, outside = Predictive.from_samples(INSIDE), Predictive.from_samples(OUTSIDE)
    curve = metric_curve(auroc, inside, outside, seed=6)
    order = np.random.default_rng(6).permutation(12)
    assert curve.num_networks.tolist() == [1, 2, 4, 8, 12]
    assert curve.num_subsets.tolist() == [12, 6, 3, 1, 1]
    for i, size in enumerate([1, 2, 4, 8, 12]):
        cut = [order[k : k + size] for k in range(0, 12 - size + 1, size)]
        values = [plain_auroc(INSIDE[each], OUTSIDE[each]) for each in cut if size > 1]
        values = values or [0.5] * 12  # one network has no mutual information
        assert curve.mean[i] == pytest.approx(np.mean(values), rel=1e-12)
        wanted = np.std(values, ddof=1) if len(values) > 1 else math.nan
        assert curve.std[i] == pytest.approx(wanted, nan_ok=True)


def test_points_of_a_mean_are_closed_forms():
    """For p itself: the networks' own mean and standard deviation, whatever the order."""
    predictive = Predictive.from_samples(INSIDE)
    curve = metric_curve(lambda p: p.probs[3, 1], predictive)
    assert curve.mean[[0, 1, 2, 4]] == pytest.approx(INSIDE[:, 3, 1].mean(), rel=1e-12)
    assert curve.std[0] == pytest.approx(INSIDE[:, 3, 1].std(ddof=1), rel=1e-12)
    assert np.isnan(curve.std[-1])


def test_subsets_are_disjoint_and_in_the_order_of_the_seed():
    # Probabilities 2^-s tell by their sum which networks are in a subset.
    top = 2.0 ** -np.arange(1, 9)
    samples = np.stack([top, 1 - top], axis=1)[:, None]
    seen = []

    def record(predictive):
        seen.append(round(predictive.probs[0, 0] * predictive.num_samples * 256))
        return 0.0

    curve = metric_curve(record, Predictive.from_samples(samples))
    assert curve.num_networks.tolist() == [1, 2, 4, 8]
    for points in (seen[:8], seen[8:12], seen[12:14], seen[14:]):
        assert sum(points) == 255  # every network once: no carry, no gap
        assert np.bitwise_or.reduce(points) == 255
    first = list(seen)
    seen.clear()
    metric_curve(record, Predictive.from_samples(samples), seed=1)
    assert sorted(seen[:8]) == sorted(first[:8])
    assert seen != first


def test_curve_from_groups_starts_at_one_group():
    curve = metric_curve(nll, grouped(INSIDE, 6))
    assert curve.num_networks.tolist() == [2, 4, 8, 12]
    assert curve.num_subsets.tolist() == [6, 3, 1, 1]
    member = np.arange(12) % 6
    alone = [plain_nll(INSIDE[member == g]) for g in range(6)]
    assert curve.mean[0] == pytest.approx(np.mean(alone), rel=1e-12)
    assert curve.std[0] == pytest.approx(np.std(alone, ddof=1), rel=1e-12)
    assert curve.mean[-1] == pytest.approx(plain_nll(INSIDE), rel=1e-12)
    uneven = metric_curve(nll, grouped(INSIDE, 5))  # groups of 3, 3, 2, 2, 2 networks
    assert uneven.num_networks[0] == pytest.approx(12 / 5)
    assert uneven.num_networks[-1] == 12


def test_curve_takes_kept_samples_before_groups():
    assert metric_curve(nll, grouped(INSIDE, 2, samples=INSIDE)).num_networks[0] == 1


def test_an_infinite_metric_is_drawn_without_a_spread():
    sure = Predictive.from_samples(np.tile([[[1.0, 0.0]]], (4, 1, 1)))
    curve = metric_curve(lambda p: metrics.nll(p.probs, [1]), sure)
    assert np.isinf(curve.mean).all()
    assert np.isnan(curve.std).all()
    assert math.isnan(monte_carlo_error(lambda p: metrics.nll(p.probs, [1]), sure))


def test_the_seed_is_checked():
    with pytest.raises(ValueError, match="seed must be at least 0"):
        metric_curve(nll, grouped(INSIDE, 6), seed=-1)
