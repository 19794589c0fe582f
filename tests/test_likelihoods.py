"""Likelihoods against SciPy and PyTorch, and what fit and predict make of them."""

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import expit, log_softmax
from torch import nn
from torch.func import functional_call
from torch.utils.data import DataLoader, TensorDataset

from bbnn_uq import BernoulliPosterior, PosteriorMixture, draw, fit, load, metrics, predict
from bbnn_uq.continual import train_tasks
from bbnn_uq.likelihoods import Binary, Gaussian, Softmax, as_likelihood
from bbnn_uq.models import OutputScale


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_softmax_and_binary_against_scipy():
    outputs, y = random(7, 3), torch.tensor([0, 1, 2, 2, 1, 0, 0])
    expected = -log_softmax(outputs.numpy(), axis=1)[np.arange(7), y].mean()
    assert float(Softmax()(outputs, y)) == pytest.approx(expected, rel=1e-6)
    f, y = random(7, 1), torch.tensor([0, 1, 1, 1, 0, 0, 1])
    expected = -stats.bernoulli.logpmf(y.numpy(), expit(f.numpy()[:, 0])).mean()
    for outputs in (f, f[:, 0]):
        assert float(Binary()(outputs, y)) == pytest.approx(expected, rel=1e-6)
    assert float(Binary().quality(f, y)) == np.mean((f.numpy()[:, 0] > 0) == y.numpy())


@pytest.mark.parametrize(
    ("likelihood", "outputs", "targets"),
    [
        (Softmax(), random(4, 3), torch.tensor([0, 1, 2, 2])),
        (Binary(), random(4, 1), torch.tensor([0, 1, 1, 0])),
        (Gaussian(0.5), random(4, 1), random(4, seed=1)),
    ],
)
def test_a_weight_is_a_number_of_copies(likelihood, outputs, targets):
    copies = torch.tensor([0, 1, 3, 2])
    repeated = [values.repeat_interleave(copies, dim=0) for values in (outputs, targets)]
    summed = float(likelihood(*repeated)) * 6
    assert float(likelihood(outputs, targets, copies)) * 4 == pytest.approx(summed, rel=1e-6)


@pytest.mark.parametrize("shape", [(50,), (50, 1), (50, 3)])
@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("noise", [0.3, "learned", "predicted"])
def test_gaussian_against_scipy(shape, normalise, noise):
    targets = 20 + 5 * random(*shape, seed=1)
    dimensions = 1 if len(shape) == 1 else shape[1]
    gaussian = Gaussian(noise)
    gaussian.fit_targets(targets, normalise=normalise)
    outputs = random(50, dimensions * (2 if noise == "predicted" else 1), seed=2)
    with torch.no_grad():
        gaussian.log_noise += 0.0 if noise == 0.3 else 0.2
        found = float(gaussian(outputs, targets))
        quality = float(gaussian.quality(outputs, targets))
    y = targets.numpy().reshape(50, -1).astype(float)
    shift, scale = (y.mean(axis=0), y.std(axis=0)) if normalise else (0.0, 1.0)
    f = outputs.numpy().astype(float)
    mean = shift + scale * f[:, :dimensions]
    if noise == 0.3:
        std = np.full_like(y, 0.3)
    else:
        change = 3 * np.tanh(f[:, dimensions:] / 3) if noise == "predicted" else np.zeros_like(y)
        std = scale * np.exp(0.2 + change)
    assert found == pytest.approx(-stats.norm.logpdf(y, mean, std).sum(axis=1).mean(), rel=1e-5)
    assert quality == pytest.approx(np.square(mean - y).mean(), rel=1e-5)
    again = as_likelihood(gaussian.to_metadata())
    torch.testing.assert_close(again(outputs, targets), gaussian(outputs, targets))
    assert again.vector == (len(shape) == 2)


def line(count=400, noise=0.5, seed=0):
    """y = 3 x_1 + noise: one weight of ±1 and a real scale can say that."""
    x = random(count, 4, seed=seed)
    return x, 3 * x[:, 0] + noise * random(count, seed=seed + 1)


def regressor(outputs=1):
    return nn.Sequential(nn.Linear(4, outputs, bias=False), OutputScale())


def network(outputs=1):
    return nn.Sequential(
        nn.Linear(4, 32, bias=False), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, outputs),
        OutputScale(),
    )  # fmt: skip


# Few weights and many data leave little doubt about a weight; small steps stop before that.
UNDECIDED = {"lr": 1e-3, "kl_weight": 1.0}


def test_learned_noise_is_that_of_the_data():
    # With all four weights ±1 and one scale, y = s (±x_1 ± x_2 ± x_3 ± x_4) is the model. Its
    # least-squares fit is s = E[x_1 y] / 4, whatever the other signs, and leaves a residual
    # variance of Var y - 4 s².
    x, y = line(2000)
    posterior = fit(
        regressor(), (x, y), epochs=60, batch_size=100, likelihood="gaussian", lr=0.03,
        kl_weight=0.0, real_lr=0.03,
    )  # fmt: skip
    noise = np.exp(posterior.metadata["likelihood"]["log_noise"][0])
    assert posterior.mode()["0.weight"][0, 0] * posterior.real_state["1.scale"] > 0
    found = predict(regressor(), posterior, x, num_samples=64)
    assert found.aleatoric_std == pytest.approx(np.full(2000, noise), rel=1e-5)
    expected = float((y.var() - (3 / 4) ** 2 * 4).sqrt())
    assert noise == pytest.approx(expected, rel=0.05)


def test_moments_of_the_predictive_by_enumeration():
    natural = torch.tensor([[0.3, -0.8]])
    facts = Gaussian(0.5)
    facts.fit_targets(torch.zeros(2), normalise=False)
    posterior = BernoulliPosterior({"weight": natural}, {}, {"likelihood": facts.to_metadata()})
    x = np.array([[1.0, 2.0], [-1.0, 0.5]])
    found = predict(nn.Linear(2, 1, bias=False), posterior, x, num_samples=4000)
    mu = np.tanh(natural.numpy()[0])
    np.testing.assert_allclose(found.mean, x @ mu, atol=0.1)
    np.testing.assert_allclose(found.epistemic_std**2, x**2 @ (1 - mu**2), rtol=0.05)
    np.testing.assert_allclose(found.aleatoric_std, 0.5)


@pytest.mark.parametrize("vector", [False, True])
def test_moments_are_those_of_the_drawn_networks(vector):
    x, y = line()
    targets = torch.stack([y, -2 * y], dim=1) if vector else y
    dimensions = 2 if vector else 1
    model = regressor(2 * dimensions)
    posterior = fit(
        model, (x, 1000 + targets), epochs=3, likelihood=Gaussian("predicted"), normalise=True,
        **UNDECIDED,
    )  # fmt: skip
    found = predict(model, posterior, x[:9], num_samples=6, batch_size=4, keep_samples=True)
    normalisation = posterior.metadata["normalisation"]
    z = (x[:9].double() - torch.tensor(normalisation["mean"])) / torch.tensor(normalisation["std"])
    facts = posterior.metadata["likelihood"]
    shift, scale, offset = (np.array(facts[key]) for key in ("shift", "scale", "log_noise"))
    means, variances = [], []
    for index in range(6):
        state = posterior.real_state | draw(posterior, index)
        outputs = functional_call(model.double(), {k: v.double() for k, v in state.items()}, z)
        outputs = outputs.detach().numpy()
        means.append(shift + scale * outputs[:, :dimensions])
        change = 3 * np.tanh(outputs[:, dimensions:] / 3)
        variances.append((scale * np.exp(offset + change)) ** 2)
    shape = (9, 2) if vector else (9,)
    np.testing.assert_allclose(found.mean, np.mean(means, axis=0).reshape(shape), rtol=1e-6)
    # float32 shift, scale and offset make the difference.
    np.testing.assert_allclose(
        found.epistemic_std, np.std(means, axis=0).reshape(shape), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(
        found.aleatoric_std, np.sqrt(np.mean(variances, axis=0)).reshape(shape), rtol=1e-5
    )
    np.testing.assert_allclose(found.samples, np.reshape(means, (6, *shape)), rtol=1e-6)
    np.testing.assert_allclose(found.std**2, found.epistemic_std**2 + found.aleatoric_std**2)


def test_predicted_noise_follows_the_data():
    x = random(3000, 4)
    y = x[:, 0] + torch.exp(x[:, 1]) * random(3000, seed=3)
    model = network(outputs=2)
    posterior = fit(
        model, (x, y), epochs=30, batch_size=100, likelihood=Gaussian("predicted"), normalise=True,
        lr=0.01, kl_weight=0.1,
    )  # fmt: skip
    new = random(500, 4, seed=4)
    found = predict(model, posterior, new)
    assert stats.spearmanr(found.aleatoric_std, new[:, 1].numpy()).statistic > 0.8


def test_normalised_targets_change_units_only():
    x, y = line()
    options = {"epochs": 3, "likelihood": "gaussian", "normalise": True} | UNDECIDED
    one = predict(regressor(), fit(regressor(), (x, y), **options), x)
    other = predict(regressor(), fit(regressor(), (x, 7 + 1000 * y), **options), x)
    np.testing.assert_allclose(other.mean, 7 + 1000 * one.mean, rtol=1e-3)
    np.testing.assert_allclose(other.std, 1000 * one.std, rtol=1e-3)


def test_binary_is_softmax_of_zero_and_the_logit():
    x = random(300, 4)
    y = (x[:, 0] > 0).long()
    model = regressor()
    posterior = fit(model, (x, y), epochs=20, batch_size=50, likelihood="binary")
    found = predict(model, posterior, x, keep_samples=True)
    assert found.probs.shape == (300, 2)
    assert metrics.accuracy(found.probs, y) > 0.65
    weights = {k: v.double() for k, v in (posterior.real_state | draw(posterior, 5)).items()}
    logit = functional_call(model.double(), weights, x.double()).detach().numpy()[:, 0]
    np.testing.assert_allclose(found.samples[5, :, 1], expit(logit), atol=1e-6)


def test_history_and_held_out_data_of_a_regression():
    records = []
    x, y = line()
    posterior = fit(
        regressor(), (x, y), epochs=2, likelihood="gaussian", val=(x, y), on_epoch=records.append
    )
    last = records[-1]
    found = predict(regressor(), posterior, x, num_samples=8)
    assert last["val_mse"] == pytest.approx(np.square(found.mean - y.numpy()).mean(), rel=1e-6)
    density = stats.norm.logpdf(y.numpy(), found.mean, found.std)
    assert last["val_nll"] == pytest.approx(-density.mean(), rel=1e-6)
    assert last["mse"] > 0
    assert "accuracy" not in last


def test_loaders_and_files(tmp_path):
    x, y = line()
    loader = DataLoader(
        TensorDataset(x, y.double()), 50, generator=torch.Generator().manual_seed(0)
    )
    posterior = fit(regressor(), loader, epochs=2, likelihood="gaussian", normalise=True)
    posterior.save(tmp_path / "p.safetensors")
    ours, theirs = (
        predict(regressor(), each, x) for each in (posterior, load(tmp_path / "p.safetensors"))
    )
    np.testing.assert_array_equal(ours.mean, theirs.mean)
    np.testing.assert_array_equal(ours.std, theirs.std)


def test_an_interrupted_run_goes_on_with_its_noise(tmp_path):
    def stop(record):
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    x, y = line()
    options = {"epochs": 4, "likelihood": "gaussian"}
    whole = fit(regressor(), (x, y), **options)
    with pytest.raises(KeyboardInterrupt):
        fit(regressor(), (x, y), checkpoint_dir=tmp_path, on_epoch=stop, **options)
    resumed = fit(regressor(), (x, y), checkpoint_dir=tmp_path, **options)
    assert resumed.metadata["likelihood"] == whole.metadata["likelihood"]
    assert torch.equal(resumed.natural_param["0.weight"], whole.natural_param["0.weight"])
    with pytest.raises(ValueError, match="another run"):
        fit(regressor(), (x, y), checkpoint_dir=tmp_path, epochs=4, likelihood=Gaussian(noise=1.0))


def test_members_of_a_mixture_share_the_likelihood():
    x, y = line()
    one, other = (
        fit(regressor(), (x, y), epochs=1, seed=s, likelihood="gaussian", **UNDECIDED)
        for s in (0, 1)
    )
    mixture = PosteriorMixture([one, other])
    found = predict(regressor(), mixture, x, num_samples=2)
    stds = [np.exp(p.metadata["likelihood"]["log_noise"][0]) for p in (one, other)]
    np.testing.assert_allclose(found.aleatoric_std, np.sqrt(np.mean(np.square(stds))), rtol=1e-6)
    fixed = fit(regressor(), (x, y), epochs=1, likelihood=Gaussian(1.0), **UNDECIDED)
    with pytest.raises(ValueError, match="differ in the likelihood"):
        PosteriorMixture([one, fixed])


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: Gaussian(0.0), ValueError, "noise must be greater than 0"),
        (lambda: Gaussian("leaned"), ValueError, "did you mean 'learned'"),
        (lambda: as_likelihood("gausian"), ValueError, "did you mean 'gaussian'"),
        (lambda: as_likelihood(3), TypeError, "a name or a Likelihood, got 3"),
        (lambda: as_likelihood({"name": "gaussian"}), ValueError, "damaged.*noise"),
        (lambda: as_likelihood({"name": "poisson"}), ValueError, "poisson"),
    ],
)
def test_unknown_likelihoods_are_refused(call, error, match):
    with pytest.raises(error, match=match):
        call()


X, Y = line()


@pytest.mark.parametrize(
    ("model", "y", "likelihood", "error", "match"),
    [
        (regressor(), Y, "softmax", TypeError, "likelihood='gaussian'"),
        (regressor(), (Y > 0).long(), "softmax", ValueError, r"\(128, C\) with C >= 2"),
        (regressor(2), (Y > 0).long(), "binary", ValueError, "one logit per input"),
        (regressor(), torch.full((400,), 2), "binary", ValueError, "label 2.*classes 0 to 1"),
        (regressor(2), Y, "gaussian", ValueError, r"means of shape \(128, 1\)"),
        (regressor(), Y, Gaussian("predicted"), ValueError, r"log noise of shape \(128, 2\)"),
        (regressor(), Y * torch.nan, "gaussian", ValueError, "finite, got 400"),
        (regressor(), Y[:9], "gaussian", ValueError, r"\(400,\) or \(400, D\).*\(9,\)"),
        (regressor(), Y > 0, "gaussian", TypeError, "real numbers, got torch.bool"),
    ],
)
def test_targets_and_outputs_have_to_fit_the_likelihood(model, y, likelihood, error, match):
    with pytest.raises(error, match=match):
        fit(model, (X, y), epochs=1, likelihood=likelihood)


def test_what_is_for_classes_only_says_so():
    posterior = fit(regressor(), (X, Y), epochs=1, likelihood="gaussian", **UNDECIDED)
    with pytest.raises(ValueError, match=r"score_temperatures.*\[1.0, 3.0\]"):
        predict(regressor(), posterior, X, score_temperatures=(1.0, 3.0))
    task = (X, (Y > 0).long())
    with pytest.raises(ValueError, match="likelihood must be of classes"):
        train_tasks(regressor(), [(task, task)], epochs=1, likelihood="gaussian")


def test_a_large_offset_costs_no_digits():
    x, y = line()
    options = {"epochs": 3, "likelihood": "gaussian", "normalise": True} | UNDECIDED
    near = predict(regressor(), fit(regressor(), (x, y), **options), x)
    far = predict(regressor(), fit(regressor(), (x, y.double() + 1.7e9), **options), x)
    np.testing.assert_allclose(far.mean - 1.7e9, near.mean, atol=1e-4)


def test_a_likelihood_that_no_file_could_name_is_refused():
    class Sharper(Softmax):
        def logits(self, outputs):
            return 10 * outputs

    with pytest.raises(TypeError, match="got Sharper"):
        fit(regressor(2), (X, (Y > 0).long()), epochs=1, likelihood=Sharper())


def test_held_out_targets_have_the_shape_of_the_others():
    with pytest.raises(ValueError, match=r"val y has shape \(400, 1\) and data y \(400,\)"):
        fit(regressor(), (X, Y), epochs=1, likelihood="gaussian", val=(X, Y[:, None]))


def test_a_loader_of_ones_own_leaves_the_global_stream_alone():
    loader, model = DataLoader(TensorDataset(X, Y), 50, shuffle=True), regressor()
    before = torch.get_rng_state()
    fit(model, loader, epochs=1, likelihood="gaussian", normalise=True, **UNDECIDED)
    assert torch.equal(torch.get_rng_state(), before)
