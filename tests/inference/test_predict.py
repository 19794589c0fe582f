"""predict, against the enumeration of all networks and a plainly written loop."""

import copy
import itertools
import tracemalloc

import numpy as np
import pytest
import torch
from scipy.special import entr, logsumexp, softmax
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import bbnn_uq
from bbnn_uq import BernoulliPosterior, draw, predict

X = torch.tensor(np.random.default_rng(0).normal(size=(23, 3)), dtype=torch.float32)


def tiny():
    """A posterior of a network with 3·2 + 2·2 = 10 binary weights, real biases and BatchNorm."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.ReLU(), nn.Linear(2, 2))
    model(torch.randn(50, 3) * 2 + 1)  # running statistics that are not the initial ones
    binary = {"0.weight", "3.weight"}
    state = dict(model.named_parameters()) | dict(model.named_buffers())
    natural = {name: torch.randn_like(state[name]) * 0.7 for name in sorted(binary)}
    real = {name: value for name, value in state.items() if name not in binary}
    return model, BernoulliPosterior(natural, real, {})


def forward(posterior, weights, x):
    """The tiny network written out in NumPy, float64."""
    real = {name: value.double().numpy() for name, value in posterior.real_state.items()}
    first, second = (np.asarray(weights[n], dtype=np.float64) for n in ("0.weight", "3.weight"))
    h = x.double().numpy() @ first.T + real["0.bias"]
    h = (h - real["1.running_mean"]) / np.sqrt(real["1.running_var"] + 1e-5)
    h = np.maximum(h * real["1.weight"] + real["1.bias"], 0)
    return h @ second.T + real["3.bias"]


def test_predictive_matches_the_enumeration_of_all_networks():
    model, posterior = tiny()
    natural = torch.cat([value.flatten() for value in posterior.natural_param.values()]).double()
    plus = torch.sigmoid(2 * natural).numpy()
    exact, second_moment = np.zeros((23, 2)), np.zeros((23, 2))
    expected_entropy = np.zeros(23)
    for signs in itertools.product([-1.0, 1.0], repeat=10):
        w = np.array(signs)
        chance = np.prod(np.where(w > 0, plus, 1 - plus))
        weights = {"0.weight": w[:6].reshape(2, 3), "3.weight": w[6:].reshape(2, 2)}
        p = softmax(forward(posterior, weights, X), axis=1)
        exact += chance * p
        second_moment += chance * p**2
        expected_entropy += chance * entr(p).sum(axis=1)
    count = 4000
    result = predict(model, posterior, X, num_samples=count, seed=1)
    error = np.sqrt((second_moment - exact**2) / count)
    # 23 inputs × 2 classes: 5 standard errors.
    assert np.all(np.abs(result.probs - exact) < 5 * error + 1e-12)
    assert np.abs(result.expected_entropy - expected_entropy).max() < 0.03
    information = entr(exact).sum(axis=1) - expected_entropy
    assert np.abs(result.mutual_information - information).max() < 0.03
    assert information.max() > 0.1


def test_every_quantity_matches_a_plain_loop_over_drawn_networks():
    model, posterior = tiny()
    logits = np.stack([forward(posterior, draw(posterior, i, seed=3), X) for i in range(6)])
    result = predict(
        model, posterior, X, num_samples=6, seed=3, score_temperatures=(1.0, 3.0), keep_samples=True
    )
    p = softmax(logits, axis=2)
    close = {"rtol": 1e-9, "atol": 1e-12}
    np.testing.assert_allclose(result.probs, p.mean(axis=0), **close)
    np.testing.assert_allclose(result.expected_entropy, entr(p).sum(axis=2).mean(axis=0), **close)
    np.testing.assert_allclose(result.energy, -logsumexp(logits, axis=2).mean(axis=0), **close)
    votes = np.stack([np.bincount(column, minlength=2) for column in p.argmax(axis=2).T])
    np.testing.assert_allclose(result.variation_ratio, 1 - votes.max(axis=1) / 6, **close)
    np.testing.assert_allclose(result.samples, p, rtol=1e-6)
    soft = softmax(logits / 3, axis=2)
    information = entr(soft.mean(axis=0)).sum(axis=1) - entr(soft).sum(axis=2).mean(axis=0)
    np.testing.assert_allclose(result.score("mutual_information@3"), information, atol=1e-12)
    energy = -3 * logsumexp(logits / 3, axis=2).mean(axis=0)
    np.testing.assert_allclose(result.score("energy@3"), energy, **close)
    np.testing.assert_allclose(result.score("confidence@3"), -soft.mean(axis=0).max(axis=1))


def test_mode_is_the_network_of_signs():
    model, posterior = tiny()
    result = predict(model, posterior, X, method="mode", num_samples=99)
    p = softmax(forward(posterior, posterior.mode(), X), axis=1)
    np.testing.assert_allclose(result.probs, p, rtol=1e-9)
    assert (result.num_samples, result.method) == (1, "mode")
    np.testing.assert_allclose(result.mutual_information, 0, atol=1e-12)


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_batch_size_changes_nothing(batch_size):
    model, posterior = tiny()
    whole = predict(model, posterior, X, num_samples=5)
    parts = predict(model, posterior, X, num_samples=5, batch_size=batch_size)
    np.testing.assert_allclose(parts.probs, whole.probs, rtol=1e-12)
    np.testing.assert_allclose(parts.energy, whole.energy, rtol=1e-12)


@pytest.mark.parametrize(
    "form",
    [X.numpy(), X.double(), TensorDataset(X), DataLoader(TensorDataset(X, torch.arange(23)), 4)],
    ids=["array", "float64", "dataset", "loader"],
)
def test_every_form_of_inputs_gives_the_same(form):
    model, posterior = tiny()
    expected = predict(model, posterior, X, num_samples=3).probs
    np.testing.assert_allclose(predict(model, posterior, form, num_samples=3).probs, expected)


def test_more_networks_continue_the_same_sequence():
    model, posterior = tiny()
    few = predict(model, posterior, X, num_samples=4, keep_samples=True).samples
    many = predict(model, posterior, X, num_samples=9, keep_samples=True).samples
    assert np.array_equal(few, many[:4])


def test_the_users_model_is_left_unchanged():
    model, posterior = tiny()
    model.train()
    model[1].eval()
    before = copy.deepcopy(model.state_dict())
    flags = [module.training for module in model.modules()]
    predict(model, posterior, X, num_samples=2)
    assert [module.training for module in model.modules()] == flags
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_dropout_is_off_and_the_global_stream_is_not_touched():
    model, posterior = tiny()
    dropping = nn.Sequential(*model, nn.Dropout(0.9)).train()
    state = torch.get_rng_state()
    result = predict(dropping, posterior, X, num_samples=3)
    assert torch.equal(state, torch.get_rng_state())
    np.testing.assert_allclose(result.probs, predict(model, posterior, X, num_samples=3).probs)


def test_shared_layers_and_nested_modules_work():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.ModuleDict({"layer": nn.Linear(3, 3, bias=False)})
            self.again = self.inner["layer"]

        def forward(self, x):
            return self.again(torch.tanh(self.inner["layer"](x)))

    posterior = BernoulliPosterior({"inner.layer.weight": torch.zeros(3, 3)}, {}, {})
    result = predict(Shared(), posterior, X, num_samples=1)
    w = draw(posterior, 0)["inner.layer.weight"].double()
    expected = torch.softmax(torch.tanh(X.double() @ w.T) @ w.T, dim=1)
    np.testing.assert_allclose(result.probs, expected.numpy(), rtol=1e-9)


def test_normalisation_in_the_posterior_is_applied():
    model, posterior = tiny()
    normalisation = {"mean": [1.0, 2.0, 3.0], "std": [2.0, 4.0, 0.5]}
    scaled = BernoulliPosterior(
        posterior.natural_param, posterior.real_state, {"normalisation": normalisation}
    )
    by_hand = (X - torch.tensor([1.0, 2.0, 3.0])) / torch.tensor([2.0, 4.0, 0.5])
    np.testing.assert_allclose(
        predict(model, scaled, X, num_samples=3).probs,
        predict(model, posterior, by_hand, num_samples=3).probs,
        rtol=1e-6,
    )


def test_precision():
    model, posterior = tiny()
    results = {
        name: predict(model, posterior, X, num_samples=3, precision=name)
        for name in ("auto", "float64", "float32")
    }
    assert results["auto"].metadata["precision"] == "float64"
    assert np.array_equal(results["auto"].probs, results["float64"].probs)
    difference = np.abs(results["float32"].probs - results["float64"].probs)
    assert 0 < difference.max() < 1e-5


def test_a_model_that_is_tied_to_float32_runs_in_it_at_auto():
    class Stubborn(nn.Sequential):
        def forward(self, x):
            return super().forward(x.float())

    model, posterior = tiny()
    result = predict(Stubborn(*model), posterior, X, num_samples=2)
    assert result.metadata["precision"] == "float32"
    with pytest.raises(ValueError, match=r"shape \(23, 3\)"):
        predict(Stubborn(*model), posterior, X, num_samples=2, precision="float64")


def test_memory_does_not_grow_with_the_number_of_networks():
    model = nn.Linear(50, 10, bias=False)
    posterior = BernoulliPosterior({"weight": torch.zeros(10, 50)}, {}, {})
    x = torch.randn(500, 50)

    def peak(count):
        tracemalloc.start()
        predict(model, posterior, x, num_samples=count)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(1)
    # Python's and NumPy's allocations; keeping what each network says would be 40 kB a network.
    assert peak(200) < peak(10) + 100_000


def test_images_and_convolutions():
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
        nn.Linear(4 * 36, 3),
    )  # fmt: skip
    x = torch.rand(9, 1, 8, 8)
    posterior = bbnn_uq.fit(model, (x, torch.arange(9) % 3), epochs=2, batch_size=9)
    assert set(posterior.natural_param) == {"0.weight", "4.weight"}
    assert predict(model, posterior, x, num_samples=2).probs.shape == (9, 3)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"num_samples": 0}, ValueError, "num_samples"),
        ({"seed": -1}, ValueError, "seed"),
        ({"method": "mean"}, ValueError, "method must be one of monte_carlo, local, mode"),
        ({"precision": "float16"}, ValueError, "precision"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"score_temperatures": (0.0,)}, ValueError, "score_temperatures"),
        ({"device": "nowhere"}, ValueError, "device"),
        ({"inputs": torch.full((2, 3), np.nan)}, ValueError, "inputs must be finite"),
        ({"inputs": torch.zeros(0, 3)}, ValueError, "inputs"),
    ],
)
def test_bad_arguments_are_refused(options, error, match):
    model, posterior = tiny()
    inputs = options.pop("inputs", X) if "inputs" in options else X
    with pytest.raises(error, match=match):
        predict(model, posterior, inputs, **{k: v for k, v in options.items() if k != "inputs"})


def test_posteriors_of_other_models_are_refused():
    _, posterior = tiny()
    with pytest.raises(ValueError, match=r"'3.bias' is missing in the model"):
        predict(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), posterior, X)
    wide = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2))
    with pytest.raises(ValueError, match=r"'0.bias' is \(5,\) in the model and \(2,\)"):
        predict(wide, posterior, X)


@pytest.mark.parametrize(
    ("tail", "match"),
    [
        (nn.Flatten(0), r"logits of shape \(23, C\)"),
        (nn.Unflatten(1, (1, 2)), r"got \(23, 1, 2\)"),
    ],
)
def test_models_that_give_no_logits_are_refused(tail, match):
    model, posterior = tiny()
    with pytest.raises(ValueError, match=match):
        predict(nn.Sequential(*model, tail), posterior, X)


def test_infinite_logits_are_refused():
    model, posterior = tiny()
    with pytest.raises(ValueError, match="NaN or infinite outputs"):
        predict(model, posterior, X * 1e38, precision="float32")


def test_batch_statistics_of_the_evaluated_batch_are_refused():
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2, track_running_stats=False))
    posterior = bbnn_uq.fit(model, (X, torch.arange(23) % 2), epochs=1, batch_size=23)
    with pytest.raises(ValueError, match="track_running_stats"):
        predict(model, posterior, X)
