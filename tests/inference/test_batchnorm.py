"""BatchNorm statistics of single networks."""

import copy

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch import nn

import bbnn_uq
from bbnn_uq import BernoulliPosterior, draw, predict, refresh_batchnorm
from bbnn_uq.inference import batchnorm_disagreement

X = torch.randn(200, 5, generator=torch.Generator().manual_seed(0)) * 2 + 1


def network():
    return nn.Sequential(
        nn.Linear(5, 4, bias=False), nn.BatchNorm1d(4, affine=False), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(4, 3, bias=False), nn.BatchNorm1d(3, affine=False),
    )  # fmt: skip


def posterior(**metadata):
    model = network()
    generator = torch.Generator().manual_seed(1)
    natural = {
        "0.weight": torch.randn(4, 5, generator=generator) * 0.5,
        "4.weight": torch.randn(3, 4, generator=generator) * 0.5,
    }
    return BernoulliPosterior(natural, dict(model.named_buffers()), metadata)


def plain_forward(weights, x, statistics=None):
    """Both layers in NumPy; without statistics, those of x itself, which are returned."""
    h, kept = x.double().numpy(), []
    for layer, name in enumerate(("0.weight", "4.weight")):
        h = h @ weights[name].double().numpy().T
        mean, var = statistics[layer] if statistics else (h.mean(axis=0), h.var(axis=0, ddof=1))
        kept.append((mean, var))
        scale = var if statistics else h.var(axis=0)  # a batch is normalised without ddof
        h = (h - mean) / np.sqrt(scale + 1e-5)
        h = np.maximum(h, 0) if layer == 0 else h
    return h, kept


def test_statistics_are_those_of_each_network_alone():
    fresh = refresh_batchnorm(network(), posterior(), X, num_samples=3, seed=7)
    stored = fresh.batchnorm
    assert (stored.seed, stored.num_networks) == (7, 3)
    networks = [draw(posterior(), index, seed=7) for index in range(3)] + [posterior().mode()]
    for index, weights in enumerate(networks):
        _, kept = plain_forward(weights, X)
        for layer, name in enumerate(("1", "5")):
            found = [
                (stored.mode if index == 3 else {k: v[index] for k, v in stored.networks.items()})[
                    f"{name}.{kind}"
                ]
                for kind in ("running_mean", "running_var")
            ]
            for ours, exact in zip(found, kept[layer], strict=True):
                np.testing.assert_allclose(ours, exact, rtol=1e-5, atol=1e-6)
    mean = stored.networks["5.running_mean"].mean(dim=0)
    torch.testing.assert_close(fresh.real_state["5.running_mean"], mean)


def test_prediction_uses_them():
    fresh = refresh_batchnorm(network(), posterior(), X, num_samples=4)
    result = predict(network(), fresh, X[:20], num_samples=4, keep_samples=True)
    for index in range(4):
        weights = draw(fresh, index)
        _, statistics = plain_forward(weights, X)
        logits, _ = plain_forward(weights, X[:20], statistics)
        expected = softmax(logits, axis=1)
        np.testing.assert_allclose(result.samples[index], expected, rtol=1e-4, atol=1e-6)
    mode = predict(network(), fresh, X[:20], method="mode").probs
    _, statistics = plain_forward(fresh.mode(), X)
    logits, _ = plain_forward(fresh.mode(), X[:20], statistics)
    np.testing.assert_allclose(mode, softmax(logits, axis=1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("count", "seed", "average"), [(5, 0, 2), (3, 1, 3)])
def test_networks_that_are_not_covered_use_averages_and_say_so(count, seed, average):
    fresh = refresh_batchnorm(network(), posterior(), X, num_samples=3)
    with pytest.warns(UserWarning, match=rf"num_samples={count}, seed={seed}\) covers"):
        result = predict(network(), fresh, X, num_samples=count, seed=seed, keep_samples=True)
    plain = BernoulliPosterior(fresh.natural_param, fresh.real_state)
    averages = predict(network(), plain, X, num_samples=count, seed=seed, keep_samples=True)
    np.testing.assert_array_equal(result.samples[-1], averages.samples[-1])
    assert result.metadata["networks_on_averages"] == average
    assert "networks_on_averages" not in averages.metadata
    assert "networks_on_averages" not in predict(network(), fresh, X, num_samples=3).metadata


def test_models_without_batchnorm_pass_through():
    plain = BernoulliPosterior({"weight": torch.zeros(2, 5)}, {}, {})
    assert refresh_batchnorm(nn.Linear(5, 2, bias=False), plain, X) is plain
    assert batchnorm_disagreement(nn.Linear(5, 2, bias=False), plain, X) == {}


def test_nothing_else_changes():
    before, model = posterior(note="kept"), network().train()
    state = copy.deepcopy(model.state_dict())
    buffers = {name: value.clone() for name, value in before.real_state.items()}
    fresh = refresh_batchnorm(model, before, X, num_samples=2)
    assert model.training
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert all(torch.equal(buffers[name], value) for name, value in before.real_state.items())
    assert before.batchnorm is None
    assert fresh.metadata == {"note": "kept"}
    assert all(torch.equal(before.natural_param[n], v) for n, v in fresh.natural_param.items())


def test_normalisation_is_applied():
    normalisation = {"mean": [1.0] * 5, "std": [2.0] * 5}
    fresh = refresh_batchnorm(network(), posterior(normalisation=normalisation), X, num_samples=1)
    by_hand = refresh_batchnorm(network(), posterior(), (X - 1) / 2, num_samples=1)
    torch.testing.assert_close(
        fresh.batchnorm.networks["1.running_mean"], by_hand.batchnorm.networks["1.running_mean"]
    )


def test_they_travel_with_the_file(tmp_path):
    fresh = refresh_batchnorm(network(), posterior(), X, num_samples=3, seed=2)
    fresh.save(tmp_path / "p.safetensors")
    loaded = bbnn_uq.load(tmp_path / "p.safetensors")
    assert (loaded.batchnorm.seed, loaded.batchnorm.num_networks) == (2, 3)
    for ours, theirs in (
        (fresh.batchnorm.networks, loaded.batchnorm.networks),
        (fresh.batchnorm.mode, loaded.batchnorm.mode),
    ):
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_fit_does_it_for_the_networks_that_predict_draws_by_default():
    fitted = bbnn_uq.fit(network(), (X, torch.arange(200) % 3), epochs=1)
    assert (fitted.batchnorm.seed, fitted.batchnorm.num_networks) == (0, 32)
    predict(network(), fitted, X)  # no warning, which would be an error here


def test_disagreement_is_the_shift_in_standard_deviations():
    calm = refresh_batchnorm(network(), posterior(), X, num_samples=8)
    averaged = batchnorm_disagreement(network(), calm, X, num_samples=8)
    assert set(averaged) == {"1", "5"}
    stale = BernoulliPosterior(
        calm.natural_param,
        calm.real_state | {"1.running_mean": calm.real_state["1.running_mean"] + 100.0},
    )
    shifted = batchnorm_disagreement(network(), stale, X, num_samples=8)
    variance = calm.real_state["1.running_var"].double() + 1e-5
    drawn = calm.batchnorm.networks["1.running_mean"].double()
    mean = calm.real_state["1.running_mean"].double()
    expected = float(((drawn - mean) ** 2 / variance).mean().sqrt())
    assert averaged["1"] == pytest.approx(expected, rel=1e-4)
    expected = float(((drawn - mean - 100.0) ** 2 / variance).mean().sqrt())
    assert shifted["1"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"num_samples": 0}, "num_samples"),
        ({"seed": -1}, "seed"),
        ({"num_inputs": 1}, "num_inputs"),
        ({"data": X[:1]}, "1 input"),
    ],
)
def test_bad_arguments_are_refused(options, match):
    arguments = {"data": X} | options
    with pytest.raises(ValueError, match=match):
        refresh_batchnorm(network(), posterior(), arguments.pop("data"), **arguments)


def test_a_large_network_takes_its_inputs_in_batches(monkeypatch):
    # 4 + 4 + 4 + 4 + 3 + 3 numbers in the layers, and 3 in the whole.
    monkeypatch.setattr("bbnn_uq.inference.batchnorm.MOST_ACTIVATIONS", 25 * 50)
    ordered = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    fresh = refresh_batchnorm(network(), posterior(), X, num_samples=1).batchnorm
    weights = draw(posterior(), 0)
    kept = [plain_forward(weights, part)[1] for part in X[ordered].split(50)]
    for layer, name in enumerate(("1", "5")):
        for moment, kind in enumerate(("running_mean", "running_var")):
            expected = np.mean([each[layer][moment] for each in kept], axis=0)
            found = fresh.networks[f"{name}.{kind}"][0]
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count", [7, 199])
def test_no_batch_is_a_single_input(count, monkeypatch):
    monkeypatch.setattr("bbnn_uq.inference.batchnorm.MOST_ACTIVATIONS", 1)
    fresh = refresh_batchnorm(network(), posterior(), X[:count], num_samples=1).batchnorm
    # The first layer's mean is that of all inputs, however they are split.
    hidden = X[:count].double() @ draw(posterior(), 0)["0.weight"].double().T
    np.testing.assert_allclose(
        fresh.networks["1.running_mean"][0], hidden.mean(dim=0), rtol=1e-5, atol=1e-5
    )
