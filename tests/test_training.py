"""fit: what it learns, what it leaves alone, and what it says."""

import copy
import inspect
import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from bbnn_uq import CollapsedPosteriorWarning, fit, metrics, models, predict
from bbnn_uq.augment import RandomCropFlip
from bbnn_uq.training import binary_parameters


def blobs(count=300, seed=0):
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % 3
    centres = torch.tensor([[2.0, 0, 0, 1], [0, 2.0, 1, 0], [-2.0, -2.0, 0, 0]])
    return centres[y] + torch.randn(count, 4, generator=generator), y


def model():
    return models.build("mlp:16x1", (4,), 3)


def test_it_learns_and_sampling_pays():
    network = model()
    posterior = fit(network, blobs(), epochs=30, batch_size=50, normalise=True)
    x, y = blobs(seed=1)
    mean = predict(network, posterior, x).probs
    mode = predict(network, posterior, x, method="mode").probs
    assert metrics.accuracy(mean, y) > 0.87
    assert posterior.flip_rate() > 0.005
    assert metrics.nll(mean, y) < metrics.nll(mode, y) + 0.02


@pytest.mark.parametrize("estimator", ["straight_through", "concrete"])
def test_every_estimator_learns(estimator):
    network = model()
    posterior = fit(network, blobs(), epochs=30, batch_size=50, estimator=estimator)
    x, y = blobs(seed=1)
    assert metrics.accuracy(predict(network, posterior, x).probs, y) > 0.85
    assert posterior.metadata["recipe"]["estimator"] == estimator


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_inputs_of_any_real_type(dtype):
    x, y = blobs()
    x = x.numpy().astype(dtype)
    ours = fit(model(), (x, y), epochs=2)
    theirs = fit(model(), (x.astype(np.float32), y), epochs=2)
    for name, value in ours.natural_param.items():
        assert torch.equal(value, theirs.natural_param[name])


def test_several_draws_a_step():
    posterior = fit(model(), blobs(), epochs=3, num_samples=3)
    assert posterior.metadata["recipe"]["num_samples"] == 3


def test_the_same_seed_gives_the_same_posterior_and_the_global_stream_is_left_alone():
    network = model()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = fit(network, blobs(), epochs=2, seed=5)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(2)
    second = fit(network, blobs(), epochs=2, seed=5)
    third = fit(network, blobs(), epochs=2, seed=6)
    for name, value in first.natural_param.items():
        assert torch.equal(value, second.natural_param[name])
        assert not torch.equal(value, third.natural_param[name])
    for name, value in first.real_state.items():
        assert torch.equal(value, second.real_state[name])


def test_the_users_model_is_left_unchanged():
    network = model().eval()
    before = copy.deepcopy(network.state_dict())
    fit(network, blobs(), epochs=1)
    assert not network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_every_form_of_data_trains_alike():
    class Pairs(Dataset):
        def __len__(self):
            return 300

        def __getitem__(self, index):
            x, y = blobs()
            return x[index], y[index]

    x, y = blobs()
    network = model()
    options = {"epochs": 1, "batch_size": 100}
    arrays = fit(network, (x.numpy(), y.numpy().astype(np.int32)), **options)
    tensors = fit(network, (x, y), **options)
    dataset = fit(network, Pairs(), **options)
    loader = fit(network, DataLoader(TensorDataset(x, y), batch_size=100), **options)
    for posterior in (tensors, dataset, loader):
        assert posterior.natural_param.keys() == arrays.natural_param.keys()
        assert posterior.metadata["recipe"]["num_data"] == 300
    assert all(torch.equal(v, arrays.natural_param[k]) for k, v in tensors.natural_param.items())


@pytest.mark.parametrize("likelihood", ["softmax", "gaussian"])
def test_a_weight_of_two_counts_an_input_twice(likelihood):
    x, y = blobs(30)
    y = y if likelihood == "softmax" else x[:, 0] + 1
    weights = np.arange(30) % 4 / 2 + 0.5  # twice as many are whole
    outputs = 3 if likelihood == "softmax" else 1
    network = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, outputs)).double()
    # One batch an epoch, and nothing that sees batches: the same objective at every step.
    options = {"epochs": 5, "batch_size": 1000, "likelihood": likelihood}
    weighted = fit(network, (x, y), sample_weight=2 * weights, **options)
    copies = torch.from_numpy(2 * weights).long()
    repeated = [values.repeat_interleave(copies, dim=0) for values in (x, y)]
    expected = fit(network, tuple(repeated), **options)
    for name, value in expected.natural_param.items():
        torch.testing.assert_close(weighted.natural_param[name], value, rtol=1e-6, atol=1e-6)
    halved = fit(network, (x, y), sample_weight=weights, **options)
    name = "0.weight"
    assert not torch.allclose(halved.natural_param[name], expected.natural_param[name], rtol=1e-3)


@pytest.mark.parametrize(
    ("weights", "error", "match"),
    [
        (np.ones(3), ValueError, r"sample_weight must have shape \(300,\), one per input, got"),
        (np.full(300, -1.0), ValueError, "sample_weight must be at least 0.* from -1 to -1"),
        (np.zeros(300), ValueError, "above 0 for some input"),
        (np.full(300, np.nan), ValueError, "sample_weight must be finite"),
        (["a"] * 300, TypeError, "sample_weight must hold real numbers"),
    ],
)
def test_bad_sample_weights_are_refused(weights, error, match):
    with pytest.raises(error, match=match):
        fit(model(), blobs(), epochs=1, sample_weight=weights)


def test_sample_weights_go_with_arrays_and_loaders_give_pairs():
    with pytest.raises(TypeError, match="sample_weight needs data as a pair"):
        fit(model(), TensorDataset(*blobs()), epochs=1, sample_weight=np.ones(300))
    triples = TensorDataset(*blobs(), torch.arange(300))  # no weights: a number of the input
    with pytest.raises(ValueError, match="unpack"):
        fit(model(), triples, epochs=1)


def test_binary_weights_are_those_of_linear_and_convolution_layers():
    network = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.LazyLinear(4), nn.LayerNorm(4),
        nn.Linear(4, 2),
    )  # fmt: skip
    network(torch.zeros(2, 1, 5, 5))
    assert binary_parameters(network) == ["0.weight", "3.weight", "5.weight"]
    x, y = torch.rand(8, 1, 5, 5), torch.arange(8) % 2
    posterior = fit(network, (x, y), epochs=1, binary=["5.weight"])
    assert list(posterior.natural_param) == ["5.weight"]
    expected = {n for n, _ in [*network.named_parameters(), *network.named_buffers()]}
    assert set(posterior.real_state) == expected - {"5.weight"}
    with pytest.raises(ValueError, match=r"\['nope'\]"):
        fit(network, (x, y), epochs=1, binary=["nope"])
    with pytest.raises(ValueError, match="no linear or convolution layer"):
        fit(nn.Flatten(), (x, y), epochs=1)


def test_outputs_that_are_probabilities_are_noticed():
    network = nn.Sequential(nn.Linear(4, 3), nn.Softmax(dim=1))
    with pytest.warns(UserWarning, match="leave out the last softmax"):
        fit(network, blobs(), epochs=1)


def test_init_is_where_training_starts_and_does_not_pull():
    network = model()
    first = fit(network, blobs(), epochs=5)
    still = fit(network, blobs(), epochs=1, init=first, lr=0.0)
    assert all(torch.equal(v, first.natural_param[k]) for k, v in still.natural_param.items())
    # Data that say nothing (one class, constant inputs): only the prior moves λ.
    nothing = (torch.zeros(60, 4), torch.zeros(60, dtype=torch.int64))
    options = {"epochs": 40, "batch_size": 60, "kl_weight": 1.0, "momentum": 0.0}
    uniform = fit(network, nothing, init=first, **options)
    kept = fit(network, nothing, prior=first, **options)
    assert uniform.kl() < 0.2 * first.kl()
    assert kept.kl(first) < 1e-3 * uniform.kl(first)


def test_prior_is_where_training_starts_and_is_pulled_to():
    network = model()
    first = fit(network, blobs(), epochs=5)
    still = fit(network, blobs(), epochs=1, prior=first, lr=0.0)
    assert all(torch.equal(v, first.natural_param[k]) for k, v in still.natural_param.items())
    tied = fit(network, blobs(seed=3), epochs=5, prior=first, kl_weight=5.0)
    free = fit(network, blobs(seed=3), epochs=5, prior=first, kl_weight=0.0)
    assert tied.kl(first) < free.kl(first)


def test_epochs_are_reported():
    records = []
    x, y = blobs(seed=1)
    fit(model(), blobs(), epochs=3, val=(x, y), on_epoch=records.append)
    assert [record["epoch"] for record in records] == [1, 2, 3]
    json.dumps(records)
    assert records[-1]["loss"] < records[0]["loss"]
    assert {"accuracy", "bits_per_weight", "flip_rate", "seconds", "val_nll"} <= records[0].keys()
    assert 0.5 < records[-1]["val_accuracy"] <= 1.0


def test_validation_data_change_nothing():
    network, x_y = model(), blobs(seed=1)
    plain = fit(network, blobs(), epochs=2)
    watched = fit(network, blobs(), epochs=2, val=TensorDataset(*x_y))
    assert all(torch.equal(v, watched.natural_param[k]) for k, v in plain.natural_param.items())


def test_normalisation_is_that_of_the_training_inputs():
    x, y = blobs()
    posterior = fit(model(), (x * 100 + 7, y), epochs=1, normalise=True)
    stored = posterior.metadata["normalisation"]
    np.testing.assert_allclose(stored["mean"], (x * 100 + 7).mean(0), rtol=1e-5)
    np.testing.assert_allclose(stored["std"], (x * 100).std(0, correction=0), rtol=1e-5)
    assert "normalisation" not in fit(model(), (x, y), epochs=1).metadata


def test_collapse_is_said():
    with pytest.warns(CollapsedPosteriorWarning, match="larger kl_weight"):
        fit(model(), blobs(), epochs=2, lr=1e4, kl_weight=0.0)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"epochs": 0}, ValueError, "epochs"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"lr": -1.0}, ValueError, "lr"),
        ({"real_lr": 0.0}, ValueError, "real_lr"),
        ({"estimator": "concret"}, ValueError, "did you mean 'concrete'"),
        ({"seed": -3}, ValueError, "seed"),
        ({"device": "cuda:99"}, ValueError, "device"),
        ({"data": (torch.zeros(4, 4), torch.full((4,), 3))}, ValueError, "label 3.*classes 0 to 2"),
        ({"data": (torch.zeros(4, 4), torch.zeros(4))}, TypeError, "integer"),
        ({"data": (torch.full((4, 4), np.inf), torch.zeros(4).long())}, ValueError, "finite"),
        ({"data": torch.zeros(4, 4)}, TypeError, "pair"),
        ({"val": torch.zeros(4, 4)}, TypeError, "val"),
        (
            {"data": (torch.zeros(9, 5), torch.zeros(9).long())},
            ValueError,
            r"the model failed on inputs of shape \(9, 5\)",
        ),
        ({"real_lr": 1e30, "lr": 1e30}, ValueError, r"lower lr or real_lr"),
    ],
)
def test_bad_arguments_are_refused(options, error, match):
    arguments = {"epochs": 3, "data": blobs()} | options
    data = arguments.pop("data")
    with pytest.raises(error, match=match):
        fit(model(), data, **arguments)


def test_an_interrupt_leaves_the_model_and_the_stream_as_they_were():
    network = model()
    before = copy.deepcopy(network.state_dict())
    state = torch.get_rng_state()

    def interrupt(record):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(network, blobs(), epochs=3, on_epoch=interrupt)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())


def test_a_late_kl_term_leaves_fewer_bits():
    strong = fit(model(), blobs(), epochs=4, kl_weight=1.0, lr=0.05, seed=1)
    late = fit(model(), blobs(), epochs=4, kl_weight=1.0, lr=0.05, seed=1, kl_warmup=1.0)
    none = fit(model(), blobs(), epochs=4, kl_weight=0.0, lr=0.05, seed=1)
    assert none.bits_per_weight() < late.bits_per_weight() < strong.bits_per_weight()


def test_max_change_bounds_a_step():
    start = fit(model(), blobs(), epochs=1, lr=0.0, momentum=0.0)
    options = {"epochs": 1, "batch_size": 300, "momentum": 0.0, "kl_weight": 0.0, "lr": 10.0}
    free = fit(model(), blobs(), **options)
    bounded = fit(model(), blobs(), max_change=0.05, **options)

    def moved(posterior):
        return max(
            float((value - start.natural_param[name]).abs().max())
            for name, value in posterior.natural_param.items()
        )

    assert moved(free) > 1.0
    assert moved(bounded) == pytest.approx(0.05, rel=1e-4)


def test_augmentation_sees_raw_batches_and_is_in_the_recipe():
    seen = []

    def negated(batch):
        seen.append(batch)
        return -batch

    x, y = blobs()
    options = {"epochs": 2, "batch_size": 50, "normalise": True}
    plain = fit(model(), (x, y), **options)
    same = fit(model(), (x, y), augment=lambda batch: batch.clone(), **options)
    other = fit(model(), (x, y), augment=negated, num_data=3000, **options)
    name = "linear1.weight"
    assert torch.equal(plain.natural_param[name], same.natural_param[name])
    assert not torch.equal(plain.natural_param[name], other.natural_param[name])
    assert other.metadata["recipe"]["num_data"] == 3000
    assert other.metadata["recipe"]["augment"].endswith("negated>")
    assert plain.metadata["recipe"]["augment"] is None
    assert [tuple(batch.shape) for batch in seen] == [(50, 4)] * 12
    first_epoch = torch.cat(seen[:6])
    assert torch.equal(first_epoch.sort(dim=0).values, x.sort(dim=0).values)


@pytest.mark.parametrize(
    ("augment", "match"),
    [(lambda batch: batch[:, :3], r"\(128, 4\), got \(128, 3\)"), (lambda batch: 1, "got int")],
)
def test_augmentation_keeps_the_shape(augment, match):
    with pytest.raises(ValueError, match=match):
        fit(model(), blobs(), epochs=1, augment=augment)


def test_an_interrupted_run_goes_on_with_the_crops_that_were_due(tmp_path):
    def stop(record):
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    images = torch.randn(60, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    data = images, torch.arange(60) % 2
    network = models.build("mlp:8x1", (1, 6, 6), 2)
    options = {"epochs": 4, "batch_size": 20, "augment": RandomCropFlip(2)}
    whole = fit(network, data, **options)
    with pytest.raises(KeyboardInterrupt):
        fit(network, data, checkpoint_dir=tmp_path, on_epoch=stop, **options)
    resumed = fit(network, data, checkpoint_dir=tmp_path, **options)
    assert whole.metadata["recipe"]["augment"] == "RandomCropFlip(padding=2, flip=True)"
    for name, value in whole.natural_param.items():
        assert torch.equal(value, resumed.natural_param[name])
    with pytest.raises(ValueError, match=r"another run.*padding=2.*padding=1"):
        fit(network, data, checkpoint_dir=tmp_path, **(options | {"augment": RandomCropFlip(1)}))


def test_numbers_of_numpy_are_numbers():
    unchecked = inspect.unwrap(fit)  # tests check annotations as well, users do not
    ours = unchecked(
        model(), blobs(), epochs=np.int64(2), seed=np.int64(1), lr=np.float32(0.5),
        num_data=np.int64(300), max_change=np.float32(1.0),
    )  # fmt: skip
    theirs = fit(model(), blobs(), epochs=2, seed=1, lr=0.5, max_change=1.0)
    assert ours.metadata == theirs.metadata


def test_another_normalisation_is_another_run(tmp_path):
    fit(model(), blobs(), epochs=1, checkpoint_dir=tmp_path)
    with pytest.raises(ValueError, match=r"another run.*normalise False, now True"):
        fit(model(), blobs(), epochs=1, checkpoint_dir=tmp_path, normalise=True)


@pytest.mark.parametrize("augment", [RandomCropFlip, 5])
def test_augmentation_is_a_function(augment):
    with pytest.raises(TypeError, match=r"a function of a batch, such as RandomCropFlip\(\)"):
        inspect.unwrap(fit)(model(), blobs(), epochs=1, augment=augment)


def test_augmentation_gives_numbers():
    with pytest.raises(ValueError, match="augment returned NaN"):
        fit(model(), blobs(), epochs=1, augment=lambda batch: batch * torch.nan)
