"""PosteriorMixture: which member a network belongs to, and use wherever a posterior is."""

import numpy as np
import pytest
import torch
from torch import nn

import bbnn_uq
from bbnn_uq import BernoulliPosterior, PosteriorMixture, draw, predict, refresh_batchnorm

X = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))


def network():
    return nn.Sequential(nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))


def members(count=3, **options):
    y = (X[:, 0] > 0).long() + (X[:, 1] > 0).long()
    arguments = {"epochs": 2, "batch_size": 30, "batchnorm_networks": 7} | options
    return [bbnn_uq.fit(network(), (X, y), seed=seed, **arguments) for seed in range(count)]


def test_networks_are_shared_among_members():
    posteriors = members()
    mixture = PosteriorMixture(posteriors)
    for index in range(7):
        drawn = draw(mixture, index, seed=5)
        alone = draw(posteriors[index % 3], index, seed=5)
        assert all(torch.equal(drawn[name], alone[name]) for name in drawn)


def test_prediction_is_the_mean_over_the_members_networks():
    posteriors = members()
    mixture = PosteriorMixture(posteriors)
    result = predict(network(), mixture, X, num_samples=7, keep_samples=True)
    for index in range(7):
        alone = predict(network(), posteriors[index % 3], X, num_samples=7, keep_samples=True)
        np.testing.assert_array_equal(result.samples[index], alone.samples[index])
    np.testing.assert_allclose(result.probs, result.samples.mean(axis=0), rtol=1e-6)


def test_modes_of_all_members_are_averaged():
    posteriors = members()
    result = predict(network(), PosteriorMixture(posteriors), X, method="mode")
    modes = [predict(network(), each, X, method="mode").probs for each in posteriors]
    np.testing.assert_allclose(result.probs, np.mean(modes, axis=0), rtol=1e-12)
    assert result.num_samples == 3


def test_file_round_trip(tmp_path):
    mixture = PosteriorMixture(members())
    mixture.save(tmp_path / "m.safetensors")
    loaded = bbnn_uq.load(tmp_path / "m.safetensors")
    assert isinstance(loaded, PosteriorMixture)
    assert len(loaded.posteriors) == 3
    ours = predict(network(), mixture, X, num_samples=5).probs
    np.testing.assert_array_equal(predict(network(), loaded, X, num_samples=5).probs, ours)
    assert loaded.posteriors[1].metadata == mixture.posteriors[1].metadata
    assert loaded.posteriors[2].batchnorm.num_networks == 7


def test_diagnostics_are_averages():
    one = BernoulliPosterior({"w": torch.zeros(4)}, {}, {})
    other = BernoulliPosterior({"w": torch.full((4,), 1000.0)}, {}, {})
    mixture = PosteriorMixture([one, other])
    assert mixture.bits_per_weight() == pytest.approx(0.5)
    assert mixture.flip_rate() == pytest.approx(0.25)
    assert mixture.saturated_share() == pytest.approx(0.5)
    assert mixture.num_weights == 8
    assert not mixture.collapsed
    assert mixture.summary()["num_members"] == 2


def test_layers_and_totals_agree(tmp_path):
    one = BernoulliPosterior({"w": torch.zeros(4)}, {}, {})
    summary = PosteriorMixture([one, one]).summary()
    assert sum(layer["num_weights"] for layer in summary["layers"].values()) == 8
    assert set(summary["layers"]) == {"0/w", "1/w"}
    PosteriorMixture([one, one]).save(tmp_path / "twice.safetensors")
    assert len(bbnn_uq.load(tmp_path / "twice.safetensors").posteriors) == 2


def test_refreshing_refreshes_every_member():
    mixture = PosteriorMixture(members(2, batchnorm_networks=0))
    fresh = refresh_batchnorm(network(), mixture, X, num_samples=4)
    assert [each.batchnorm.num_networks for each in fresh.posteriors] == [4, 4]


@pytest.mark.parametrize(
    ("others", "match"),
    [
        ([], "posteriors is empty"),
        ([BernoulliPosterior({"w": torch.zeros(3)}, {}, {})], "another architecture"),
        ([BernoulliPosterior({"v": torch.zeros(2)}, {}, {})], "another architecture"),
        (
            [BernoulliPosterior({"w": torch.zeros(2)}, {}, {"normalisation": {"mean": [1.0]}})],
            "normalisation",
        ),
    ],
)
def test_unlike_members_are_refused(others, match):
    first = [BernoulliPosterior({"w": torch.zeros(2)}, {}, {})] if others else []
    with pytest.raises(ValueError, match=match):
        PosteriorMixture(first + others)
