"""RegressionPredictive and the sums behind it."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from bbnn_uq.regression import RegressionAccumulator, RegressionPredictive

RNG = np.random.default_rng(0)
MEANS, STDS = RNG.normal(1e6, 1, (5, 8, 2)), RNG.uniform(0.5, 2, (5, 8, 2))


CPU = torch.device("cpu")
OPTIONS = {"num_samples": 5, "seed": 0, "method": "monte_carlo"}


def summed(networks=range(5), *, vector=True, num_groups=1, means=MEANS, stds=STDS):
    accumulator = RegressionAccumulator(8, 2, CPU, vector=vector, num_groups=num_groups)
    mean, std = torch.tensor(means), torch.tensor(stds)
    for s in networks:
        for rows in (slice(0, 3), slice(3, 8)):
            accumulator.add(rows, range(s, s + 1), mean[s : s + 1, rows], std[s : s + 1, rows])
    return accumulator


def accumulated(**options):
    return summed(**options).finish(**OPTIONS)


def test_moments_far_from_zero():
    found = accumulated()
    np.testing.assert_allclose(found.mean, MEANS.mean(axis=0), rtol=1e-15)
    np.testing.assert_allclose(found.epistemic_std, MEANS.std(axis=0), rtol=1e-9)
    np.testing.assert_allclose(found.aleatoric_std, np.sqrt((STDS**2).mean(axis=0)), rtol=1e-12)


def test_the_spread_is_that_of_the_mixture():
    found = accumulated()
    generator = np.random.default_rng(1)
    drawn = generator.normal(MEANS, STDS, (40_000, *MEANS.shape)).reshape(-1, 8, 2)
    np.testing.assert_allclose(found.std, drawn.std(axis=0), rtol=0.01)


def test_scores():
    found = accumulated()
    np.testing.assert_allclose(
        found.score("epistemic_std"), np.sqrt(MEANS.var(axis=0).sum(axis=1)), rtol=1e-9
    )
    np.testing.assert_array_equal(accumulated(vector=False).score("std").shape, (8,))
    with pytest.raises(ValueError, match="did you mean 'epistemic_std'"):
        found.score("epistemic")


def test_file_round_trip(tmp_path):
    found = accumulated(num_groups=2)
    path = tmp_path / "predictive.npz"
    found.save(path)
    again = RegressionPredictive.load(path)
    np.testing.assert_array_equal(again.std, found.std)
    assert (again.num_samples, again.seed, again.method) == (5, 0, "monte_carlo")
    assert again.samples is None
    np.testing.assert_array_equal(again.mean_std_error, found.mean_std_error)
    assert len(again.leave_out) == 2
    for ours, theirs in zip(again.leave_out, found.leave_out, strict=True):
        np.testing.assert_array_equal(ours.std, theirs.std)
        np.testing.assert_array_equal(ours.mean, theirs.mean)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match="truncated"):
        RegressionPredictive.load(path)


# --- how networks and inputs are split, and merging --------------------------------------------


@pytest.mark.parametrize("num_groups", [1, 3])
def test_no_bit_depends_on_how_networks_and_inputs_are_split(num_groups):
    generator = np.random.default_rng(2)
    mean, std = torch.tensor(MEANS), torch.tensor(STDS)
    whole = RegressionAccumulator(8, 2, CPU, num_groups=num_groups)
    whole.add(slice(0, 8), range(5), mean, std)
    for _ in range(10):
        split = RegressionAccumulator(8, 2, CPU, num_groups=num_groups)
        row = int(generator.integers(1, 8))
        for rows in (slice(0, row), slice(row, 8)):
            inner = generator.choice(np.arange(1, 5), generator.integers(5), replace=False)
            for first, last in pairwise([0, *sorted(inner.tolist()), 5]):
                split.add(rows, range(first, last), mean[first:last, rows], std[first:last, rows])
        for name, values in whole.sums().items():
            assert torch.equal(split.sums()[name], values), name
    one = RegressionAccumulator(1, 2, CPU, vector=True, num_groups=num_groups)
    one.add(slice(0, 1), range(5), mean[:, 6:7], std[:, 6:7])
    np.testing.assert_array_equal(
        one.finish(**OPTIONS).std[0], accumulated(num_groups=num_groups).std[6]
    )


@pytest.mark.parametrize("num_groups", [1, 2])
def test_merging_is_adding_all_networks_to_one(num_groups):
    merged = summed(range(0, 5, 2), num_groups=num_groups)
    merged.merge(summed(range(1, 5, 2), num_groups=num_groups).sums())
    found = merged.finish(**OPTIONS)
    np.testing.assert_allclose(found.mean, MEANS.mean(axis=0), rtol=1e-15)
    np.testing.assert_allclose(found.epistemic_std, MEANS.std(axis=0), rtol=1e-9)
    np.testing.assert_allclose(found.aleatoric_std, np.sqrt((STDS**2).mean(axis=0)), rtol=1e-12)


def test_merging_with_nothing_changes_nothing():
    full, empty = summed(), summed([])
    assert full.width == 2
    before = {name: values.clone() for name, values in full.sums().items()}
    full.merge(summed([]).sums())
    empty.merge(summed([]).sums())
    empty.merge(full.sums())
    for name, values in before.items():
        assert torch.equal(full.sums()[name], values)
        assert torch.equal(empty.sums()[name], values)
    with pytest.raises(ValueError, match=r"same inputs.*\(1, 8, 2\).*\(2, 8, 2\)"):
        full.merge(summed(num_groups=2).sums())


# --- the Monte Carlo error, and groups ---------------------------------------------------------


def test_the_standard_error_of_the_mean():
    wanted = MEANS.std(axis=0, ddof=1) / np.sqrt(5)
    found = accumulated()
    np.testing.assert_allclose(found.mean_std_error, wanted, rtol=1e-9)
    share = np.sqrt(np.mean(wanted**2) / np.mean(found.std**2))
    assert summed().standard_error(5) == pytest.approx(share, rel=1e-9)
    assert summed(num_groups=3).standard_error(5) == pytest.approx(share, rel=1e-9)
    metres = summed(means=MEANS - 1e6), summed(means=(MEANS - 1e6) * 100, stds=STDS * 100)
    assert metres[0].standard_error(5) == pytest.approx(metres[1].standard_error(5), rel=1e-9)


def test_the_standard_error_squared_is_unbiased():
    # Means of variance 4 over networks: that of the mean of 5 networks is 4 / 5.
    means = np.random.default_rng(3).normal(7, 2, (5, 4000, 1))
    accumulator = RegressionAccumulator(4000, 1, CPU)
    accumulator.add(slice(0, 4000), range(5), torch.tensor(means), torch.ones(5, 4000, 1))
    squared = accumulator.finish(**OPTIONS).mean_std_error ** 2
    assert abs(squared.mean() - 4 / 5) < 4 * squared.std() / np.sqrt(4000)
    # The epistemic variance divides by S: 4 (1 − 1/5) + 1 of the noise = 4.2.
    assert accumulator.standard_error(5) == pytest.approx(np.sqrt(0.8 / 4.2), rel=0.05)


def test_what_has_no_standard_error():
    assert summed([0]).finish(**OPTIONS | {"num_samples": 1}).mean_std_error is None
    assert summed().finish(**OPTIONS | {"method": "mode"}).mean_std_error is None
    with pytest.raises(ValueError, match="num_samples must be at least 2, got 1"):
        summed([0]).standard_error(1)
    same = summed(means=np.ones((5, 8, 2)), stds=np.zeros((5, 8, 2)))
    assert same.standard_error(5) == 0.0


@pytest.mark.parametrize("num_groups", [2, 3, 5])
def test_leave_out_is_the_predictive_of_the_other_networks(num_groups):
    found = accumulated(num_groups=num_groups)
    assert len(found.leave_out) == found.num_groups == num_groups
    for g, left in enumerate(found.leave_out):
        rest = np.arange(5) % num_groups != g
        assert left.num_samples == rest.sum()
        np.testing.assert_allclose(left.mean, MEANS[rest].mean(axis=0), rtol=1e-15)
        np.testing.assert_allclose(left.epistemic_std, MEANS[rest].std(axis=0), rtol=1e-8, atol=0)
        np.testing.assert_allclose(
            left.aleatoric_std, np.sqrt((STDS[rest] ** 2).mean(axis=0)), rtol=1e-12
        )
    assert accumulated(num_groups=num_groups, vector=False).leave_out[0].mean.shape == (8,)


def test_networks_without_groups_leave_nothing_out():
    assert accumulated().leave_out == accumulated(num_groups=6).leave_out == ()
    with pytest.raises(ValueError, match=r"groups must be numbers in \[0, 2\).*got \[2\]"):
        accumulated(num_groups=2).of_groups([2])


def test_a_finished_predictive_does_not_change_with_its_accumulator():
    accumulator = summed(num_groups=1)
    found = accumulator.finish(**OPTIONS)
    before = found.mean.copy()
    accumulator.add(slice(0, 8), range(5, 6), torch.zeros(1, 8, 2), torch.ones(1, 8, 2))
    np.testing.assert_array_equal(found.mean, before)
