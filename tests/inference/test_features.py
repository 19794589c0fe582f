"""Features of drawn networks, against copies of the model that hold a network's weights."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from bbnn_uq import BernoulliPosterior, PosteriorMixture, draw, models, predict, refresh_batchnorm
from bbnn_uq.inference.features import feature_scores, network_features
from bbnn_uq.ood_scores import (
    GaussianMixtureScore,
    MahalanobisScore,
    NearestNeighboursScore,
    RelativeMahalanobisScore,
)

MLP_INPUTS = torch.randn(90, 6, generator=torch.Generator().manual_seed(0)) + 1.0
IMAGES = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = np.arange(90) % 3


def posterior_of(model, seed=0, **metadata):
    """A wide posterior over the weights of all linear and convolution layers."""
    generator = torch.Generator().manual_seed(seed)
    binary = {
        f"{name}.weight" if name else "weight"
        for name, layer in model.named_modules()
        if isinstance(layer, (nn.Linear, nn.Conv2d))
    }
    state = model.state_dict()
    natural = {
        name: torch.randn(value.shape, generator=generator)
        for name, value in state.items()
        if name in binary
    }
    real = {name: value for name, value in state.items() if name not in binary}
    return BernoulliPosterior(natural, real, metadata)


def mlp():
    return models.MLP(6, (5, 4), 3, dropout=0.5)


def refreshed(seed=0, num_samples=4, **metadata):
    posterior = posterior_of(mlp(), seed, **metadata)
    return refresh_batchnorm(mlp(), posterior, MLP_INPUTS, num_samples=num_samples)


def taken_in(model, posterior, index, x, layer, seed=0):
    """The same from a copy of the model that holds the network, in float64."""
    copied = copy.deepcopy(model).double().eval()
    state = posterior.member(index).state_of(index, seed=seed) | draw(posterior, index, seed=seed)
    copied.load_state_dict(state)
    kept = []
    module = copied.get_submodule(layer)
    module.register_forward_pre_hook(lambda module, args: kept.append(args[0].clone()))
    with torch.no_grad():
        copied(x.double())
    return kept[-1].numpy()


@pytest.mark.parametrize("index", [0, 3])
def test_features_are_those_of_the_drawn_network(index):
    posterior = refreshed()
    expected = taken_in(mlp(), posterior, index, MLP_INPUTS, "output")
    found = network_features(mlp(), posterior, MLP_INPUTS, index=index)
    assert (found.shape, found.dtype) == ((90, 4), np.float64)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    hidden = network_features(mlp(), posterior, MLP_INPUTS, index=index, layer="linear2")
    expected = taken_in(mlp(), posterior, index, MLP_INPUTS, "linear2")
    np.testing.assert_allclose(hidden, expected, rtol=1e-12, atol=1e-12)
    other = network_features(mlp(), posterior, MLP_INPUTS, index=1)
    assert not np.allclose(other, found)


def test_features_lead_to_the_logits_of_predict():
    posterior = refreshed()
    predictive = predict(mlp(), posterior, MLP_INPUTS, num_samples=2, keep_samples=True)
    for index in range(2):
        features = network_features(mlp(), posterior, MLP_INPUTS, index=index)
        state = {k: v.double().numpy() for k, v in posterior.state_of(index).items()}
        logits = features @ draw(posterior, index)["output.weight"].double().numpy().T
        logits = (logits - state["output_norm.running_mean"]) / np.sqrt(
            state["output_norm.running_var"] + 1e-4
        )
        probs = np.exp(state["output_scale.scale"] * logits)
        probs /= probs.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(predictive.samples[index], probs, rtol=1e-5)


def test_seeds_and_members_of_a_mixture_are_those_of_draw():
    posterior = posterior_of(mlp())
    found = network_features(mlp(), posterior, MLP_INPUTS, index=2, seed=9)
    expected = taken_in(mlp(), posterior, 2, MLP_INPUTS, "output", seed=9)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    mixture = PosteriorMixture([refreshed(seed) for seed in (0, 1)])
    for index in range(4):
        found = network_features(mlp(), mixture, MLP_INPUTS, index=index)
        expected = taken_in(mlp(), mixture, index, MLP_INPUTS, "output")
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_inputs_are_normalised_as_the_posterior_says():
    normalisation = {"mean": [1.0] * 6, "std": [0.5, 1.0, 2.0, 1.0, 1.0, 1.0]}
    posterior = posterior_of(mlp(), normalisation=normalisation)
    scaled = (MLP_INPUTS - 1.0) / torch.tensor(normalisation["std"])
    found = network_features(mlp(), posterior, MLP_INPUTS, index=0, layer="linear1")
    np.testing.assert_allclose(found, scaled, rtol=1e-12)


def test_batches_do_not_show():
    posterior = refreshed()
    whole = network_features(mlp(), posterior, MLP_INPUTS, index=0)
    split = network_features(mlp(), posterior, MLP_INPUTS, index=0, batch_size=7)
    np.testing.assert_allclose(split, whole, rtol=1e-12)


@pytest.mark.parametrize(
    "convert",
    [
        torch.Tensor.numpy,
        lambda x: torch.utils.data.TensorDataset(x, torch.zeros(len(x))),
        lambda x: torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x), 13),
    ],
    ids=["array", "dataset", "loader"],
)
def test_inputs_in_all_forms(convert):
    posterior = refreshed()
    expected = network_features(mlp(), posterior, MLP_INPUTS, index=0)
    found = network_features(mlp(), posterior, convert(MLP_INPUTS), index=0)
    np.testing.assert_array_equal(found, expected)


def test_maps_are_averaged_over_positions():
    model = models.ConvNet((1, 8, 8), 3, width=0.25)
    posterior = posterior_of(model)
    for layer, channels in (("conv2", 8), ("norm1", 8), ("flatten", 16)):
        maps = taken_in(model, posterior, 1, IMAGES, layer)
        assert maps.ndim == 4
        found = network_features(model, posterior, IMAGES, index=1, layer=layer)
        assert found.shape == (40, channels)
        np.testing.assert_allclose(found, maps.mean(axis=(2, 3)), rtol=1e-12, atol=1e-12)
    found = network_features(model, posterior, IMAGES, index=1)
    expected = taken_in(model, posterior, 1, IMAGES, "output")
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


class Custom(nn.Module):
    """Linear layers in another order than they run, one of them twice, on sequences."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 2)
        self.shared = nn.Linear(4, 4)
        self.act = nn.ReLU(inplace=True)
        self.unused = nn.Linear(4, 4)
        self.lookup = nn.Linear(4, 4, bias=False)

    def forward(self, x):
        x = self.shared(x)
        self.act(x)
        x = self.shared(input=x)
        x = x + nn.functional.linear(x, self.lookup.weight)
        return self.head(x).mean(dim=1)


def test_custom_models():
    model, x = Custom(), torch.randn(12, 3, 4, generator=torch.Generator().manual_seed(1))
    posterior = posterior_of(model)
    weights = {name: w.double().numpy() for name, w in draw(posterior, 0).items()}
    bias = posterior.real_state["shared.bias"].double().numpy()
    inside = x.double().numpy() @ weights["shared.weight"].T + bias  # before the ReLU in place
    second = np.maximum(inside, 0.0)  # what the second call takes in
    last = second @ weights["shared.weight"].T + bias
    last = last + last @ weights["lookup.weight"].T
    for layer, expected in (("shared", second), (None, last), ("head", last)):
        found = network_features(model, posterior, x, index=0, layer=layer)
        np.testing.assert_allclose(found, expected.mean(axis=1), rtol=1e-9, atol=1e-9)
    # Before any other layer the second axis has the features.
    found = network_features(model, posterior, x, index=0, layer="act")
    np.testing.assert_allclose(found, inside.mean(axis=2), rtol=1e-9, atol=1e-9)
    for layer in ("unused", "lookup"):
        with pytest.raises(ValueError, match=f"does not call layer '{layer}'; name another"):
            network_features(model, posterior, x, index=0, layer=layer)


def test_layers_that_work_in_place_do_not_change_features():
    model = nn.Sequential(
        nn.Linear(6, 4, bias=False), nn.ReLU(inplace=True), nn.Linear(4, 2, bias=False)
    )
    posterior = posterior_of(model)
    expected = MLP_INPUTS.double().numpy() @ draw(posterior, 0)["0.weight"].double().numpy().T
    assert (expected < 0.0).any()
    found = network_features(model, posterior, MLP_INPUTS, index=0, layer="1")
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_layers_that_cannot_be_taken_are_named():
    posterior = posterior_of(mlp())
    with pytest.raises(ValueError, match=r"layer must be one of .*did you mean 'linear2'"):
        network_features(mlp(), posterior, MLP_INPUTS, index=0, layer="linaer2")
    convolution = nn.Sequential(nn.Conv2d(1, 2, 8, bias=False), nn.Flatten())
    plain = posterior_of(convolution)
    with pytest.raises(ValueError, match=r"no linear layer, .* one of 0, 1"):
        network_features(convolution, plain, IMAGES, index=0)
    assert network_features(convolution, plain, IMAGES, index=0, layer="1").shape == (40, 2)
    flat = nn.Sequential(nn.Linear(6, 2, bias=False), nn.Flatten(0), nn.Identity())
    with pytest.raises(ValueError, match=r"features \(n, D\) or maps .* got \(180,\)"):
        network_features(flat, posterior_of(flat), MLP_INPUTS, index=0, layer="2")


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"index": -1}, ValueError, "index"),
        ({"index": 0, "seed": 2**64}, ValueError, "seed"),
        ({"index": 0, "batch_size": 0}, ValueError, "batch_size"),
        ({"index": 0, "device": "cudda"}, ValueError, "device 'cudda'"),
        ({"index": 0, "inputs": MLP_INPUTS[:, :5]}, ValueError, "model failed on inputs of shape"),
        ({"index": 0, "inputs": MLP_INPUTS * float("nan")}, ValueError, "inputs must be finite"),
        ({"index": 0, "model": models.MLP(6, (5, 5), 3)}, ValueError, "does not fit the model"),
    ],
)
def test_bad_arguments_are_refused(options, error, match):
    arguments = {"model": mlp(), "inputs": MLP_INPUTS} | options
    model, inputs = arguments.pop("model"), arguments.pop("inputs")
    with pytest.raises(error, match=match):
        network_features(model, posterior_of(mlp()), inputs, **arguments)


def test_networks_without_statistics_of_their_own_are_warned_of():
    posterior = refreshed(num_samples=2)
    assert network_features(mlp(), posterior, MLP_INPUTS, index=1).shape == (90, 4)
    with pytest.warns(UserWarning, match=r"networks 0 to 1 of seed 0, and networks 2 to 4"):
        network_features(mlp(), posterior, MLP_INPUTS, index=4)
    score = {"nearest": NearestNeighboursScore(2)}
    with pytest.warns(UserWarning, match=r"num_samples=3, seed=0\) covers"):
        feature_scores(mlp(), posterior, score, MLP_INPUTS, None, {"x": MLP_INPUTS}, num_samples=3)


def all_scores():
    return {
        "mahalanobis": MahalanobisScore(),
        "relative": RelativeMahalanobisScore(),
        "mixture": GaussianMixtureScore(),
        "nearest": NearestNeighboursScore(3, bank_size=50),
    }


@pytest.mark.parametrize("mixture", [False, True])
def test_streamed_scores_are_those_of_stacked_features(mixture):
    members = [refreshed(seed, num_samples=5) for seed in (0, 1)]
    posterior = PosteriorMixture(members) if mixture else members[0]
    sets = {"inside": MLP_INPUTS + 0.1, "outside": 5.0 * MLP_INPUTS[:30].flip(1)}
    scores = all_scores()
    found = feature_scores(
        mlp(), posterior, scores, MLP_INPUTS, LABELS, sets, num_samples=5, layer="linear2"
    )

    def stacked(x):
        return np.stack(
            [network_features(mlp(), posterior, x, index=s, layer="linear2") for s in range(5)]
        )

    for name, score in all_scores().items():
        score.fit(stacked(MLP_INPUTS), LABELS)
        for key, x in sets.items():
            assert found[key][name].shape == (len(x),)
            np.testing.assert_allclose(found[key][name], score.score(stacked(x)), rtol=1e-12)
        with pytest.raises(ValueError, match="not fitted"):
            scores[name].score(MLP_INPUTS)  # copies were


def test_any_object_with_fit_and_score_will_do():
    class Norm:
        def fit(self, outputs, labels=None):
            self.mean = outputs.mean(axis=0)
            return self

        def score(self, outputs):
            return np.abs(outputs - self.mean).sum(axis=1)

    posterior = posterior_of(mlp())
    found = feature_scores(
        mlp(), posterior, {"norm": Norm()}, MLP_INPUTS, None, {"x": MLP_INPUTS}, num_samples=2
    )
    expected = 0.0
    for index in range(2):
        features = network_features(mlp(), posterior, MLP_INPUTS, index=index)
        expected = expected + np.abs(features - features.mean(axis=0)).sum(axis=1) / 2
    np.testing.assert_allclose(found["x"]["norm"], expected)


def test_models_and_random_streams_are_left_as_they_were():
    model, posterior = mlp().train(), refreshed()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    network_features(model, posterior, MLP_INPUTS, index=0)
    feature_scores(
        model, posterior, all_scores(), MLP_INPUTS, LABELS, {"x": MLP_INPUTS}, num_samples=2
    )
    with pytest.raises(ValueError, match="model failed"):
        network_features(model, posterior, MLP_INPUTS[:, :2], index=0)
    assert model.training
    assert all(module.training for module in model.modules())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("changed", "error", "match"),
    [
        ({"scores": {}}, TypeError, "scores must map at least one name"),
        ({"scores": {"a": MahalanobisScore}}, TypeError, r"scores\['a'\] must be an object with"),
        ({"scores": {"a": np.linalg.norm}}, TypeError, "scores"),
        ({"inputs": {}}, TypeError, "inputs must map at least one name"),
        ({"fit_labels": None}, ValueError, "labels is missing"),
        ({"num_samples": 0}, ValueError, "num_samples"),
    ],
)
def test_wrong_scores_are_named(changed, error, match):
    arguments = {
        "scores": all_scores(),
        "fit_inputs": MLP_INPUTS,
        "fit_labels": LABELS,
        "inputs": {"x": MLP_INPUTS},
    }
    with pytest.raises(error, match=match):
        feature_scores(mlp(), posterior_of(mlp()), **(arguments | changed))
