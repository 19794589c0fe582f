"""RegressionPredictive and its metrics."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import mean_squared_error

from bbnn_uq import metrics
from bbnn_uq.regression import RegressionAccumulator, RegressionPredictive

RNG = np.random.default_rng(0)
MEANS, STDS = RNG.normal(1e6, 1, (5, 8, 2)), RNG.uniform(0.5, 2, (5, 8, 2))


def accumulated(vector=True):
    accumulator = RegressionAccumulator(8, 2, torch.device("cpu"), vector=vector)
    for mean, std in zip(MEANS, STDS, strict=True):
        for rows in (slice(0, 3), slice(3, 8)):
            accumulator.add(rows, torch.tensor(mean[rows]), torch.tensor(std[rows]))
    return accumulator.finish(num_samples=5, seed=0, method="monte_carlo")


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
    found = accumulated()
    path = tmp_path / "predictive.npz"
    found.save(path)
    again = RegressionPredictive.load(path)
    np.testing.assert_array_equal(again.std, found.std)
    assert (again.num_samples, again.seed, again.method) == (5, 0, "monte_carlo")
    assert again.samples is None
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match="truncated"):
        RegressionPredictive.load(path)


def test_metrics_against_scipy_and_scikit_learn():
    y, mean, std = RNG.normal(size=(20, 3)), RNG.normal(size=(20, 3)), RNG.uniform(1, 2, (20, 3))
    expected = -stats.norm.logpdf(y, mean, std).sum(axis=1).mean()
    assert metrics.gaussian_nll(mean, std, y) == pytest.approx(expected, rel=1e-12)
    assert metrics.mse(mean, torch.tensor(y)) == pytest.approx(mean_squared_error(y, mean))
    with pytest.raises(ValueError, match=r"targets must have the shape of mean.*\(20, 2\)"):
        metrics.mse(mean, y[:, :2])
    with pytest.raises(ValueError, match="std must be positive"):
        metrics.gaussian_nll(mean, std * 0, y)
