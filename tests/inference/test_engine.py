"""The engine beyond a plain loop: precisions, groups, streams, files, and as many as needed."""

import inspect
import threading

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from bbnn_uq import (
    BernoulliPosterior,
    PosteriorMixture,
    Predictive,
    Predictor,
    RegressionPredictive,
    data,
    draw,
    fit,
    metrics,
    models,
    predict,
    refresh_batchnorm,
)
from bbnn_uq.inference.architecture import Architecture
from bbnn_uq.inference.engine import Engine
from bbnn_uq.inference.settings import Options, Settings
from bbnn_uq.input_stream import InputStream

CPU = torch.device("cpu")


def problem(model, shape, inputs=40, seed=0, scale=1.0):
    """A posterior with BatchNorm statistics of its networks, and inputs."""
    torch.manual_seed(seed)
    state = model.state_dict()
    binary = {n for n, p in model.named_parameters() if n.endswith("weight") and p.ndim > 1}
    natural = {name: scale * torch.randn_like(state[name]) for name in sorted(binary)}
    real = {name: value for name, value in state.items() if name not in binary}
    x = torch.randn(inputs, *shape)
    posterior = BernoulliPosterior(natural, real)
    return model, refresh_batchnorm(model, posterior, torch.randn(60, *shape), num_samples=64), x


def mlp(**options):
    return problem(models.MLP(20, (30, 17), 5), (20,), **options)


def convnet(**options):
    return problem(models.ConvNet((2, 8, 8), 4, width=0.25), (2, 8, 8), **options)


class Attention(nn.Module):
    """Weights in operations that have no fast path, and two paths through the network."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(6, 8, bias=False)
        self.mixing = nn.Parameter(torch.zeros(8, 8))
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        h = torch.relu(self.inner(x))
        return self.last(h + torch.softmax(h @ self.mixing, dim=-1))


def attention(**options):
    return problem_of_attention(**options)


def problem_of_attention(inputs=40):
    torch.manual_seed(0)
    model = Attention()
    natural = {n: torch.randn_like(model.state_dict()[n]) for n in ("inner.weight", "mixing")}
    real = {n: v for n, v in model.state_dict().items() if n not in natural}
    return model, BernoulliPosterior(natural, real), torch.randn(inputs, 6)


PROBLEMS = {"mlp": mlp, "convnet": convnet, "attention": attention}


def same(one, two):
    """Equal to the last bit in all that was accumulated."""
    ours, theirs = one.to_arrays(), two.to_arrays()
    assert ours.keys() == theirs.keys()
    for key, values in ours.items():
        np.testing.assert_array_equal(values, theirs[key], err_msg=key)


@pytest.fixture(scope="module")
def digits():
    """A posterior trained for a few seconds, and test inputs with labels."""
    train, test = (data.load_data("digits", split=split) for split in ("train", "test"))
    model = models.MLP(64, (96, 96), 10)
    posterior = fit(model, (train.x, train.y), epochs=15, seed=0)
    return model, posterior, torch.from_numpy(test.x), test.y


@pytest.mark.parametrize("precision", ["int8", "bfloat16"])
def test_low_precision_is_within_its_bounds_on_trained_networks(digits, precision):
    model, posterior, x, y = digits
    exact = predict(model, posterior, x, precision="float64")
    rounded = predict(model, posterior, x, precision=precision)
    assert rounded.metadata["precision"] == precision
    assert 0 < np.abs(rounded.probs - exact.probs).max() <= 0.02
    for metric in (metrics.nll, metrics.ece):
        assert abs(metric(rounded.probs, y) - metric(exact.probs, y)) <= 1e-3


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("precision", ["float64", "float32", "bfloat16", "int8"])
def test_every_precision_is_near_the_plain_loop(name, precision):
    model, posterior, x = PROBLEMS[name]()
    if name == "attention" and precision == "bfloat16":
        posterior = BernoulliPosterior(posterior.natural_param, posterior.real_state)
    model.eval()
    logits = []
    for index in range(8):
        weights = draw(posterior, index) | posterior.state_of(index)
        with torch.no_grad():
            logits.append(torch.func.functional_call(model, weights, (x,)))
    expected = torch.softmax(torch.stack(logits).double(), dim=-1).mean(dim=0).numpy()
    result = predict(model, posterior, x, num_samples=8, precision=precision)
    bound = {"float64": 1e-5, "float32": 1e-5, "bfloat16": 0.03, "int8": 0.06}[precision]
    assert np.abs(result.probs - expected).max() < bound


@pytest.mark.parametrize("name", ["mlp", "convnet"])
@pytest.mark.parametrize("inputs", [1, 3, 40])
def test_in_int8_batches_budgets_and_keeping_change_no_bit(name, inputs):
    model, posterior, x = PROBLEMS[name](inputs=inputs)
    options = {"num_samples": 8, "precision": "int8"}
    whole = predict(model, posterior, x, **options)
    same(predict(model, posterior, x, batch_size=2, **options), whole)
    for budget in (2**31, None):
        predictor = Predictor(model, posterior, memory_budget=budget, **options)
        same(predictor.predict(x), whole)
        same(predictor.predict(x), whole)
    tight = next(b for b in range(2**16, 2**24, 2**12) if plan_of(model, posterior, x, b, "int8"))
    same(predict(model, posterior, x, memory_budget=tight, **options), whole)


def plan_of(model, posterior, x, budget, precision):
    settings = Settings.checked(
        posterior, num_samples=8, seed=0, method="monte_carlo", precision=precision, device=CPU,
        memory_budget=budget,
    )  # fmt: skip
    engine = Engine(model, posterior, settings, x[:1])
    try:
        return engine.plan(InputStream(x), Options.checked())
    except ValueError:
        return None


@pytest.mark.parametrize("precision", ["float64", "int8"])
def test_kept_networks_are_ready_packed_or_drawn_as_the_budget_allows(precision):
    model, posterior, x = problem(models.MLP(100, (200,), 5), (100,), inputs=3)
    expected = predict(model, posterior, x, num_samples=64, precision=precision)
    found = set()
    for budget in (2**26, 900_000, 600_000) if precision == "int8" else (2**26, 1_400_000):
        predictor = Predictor(
            model, posterior, num_samples=64, precision=precision, memory_budget=budget, warm_up=x
        )
        found.add(predictor.plan(x).networks)
        np.testing.assert_allclose(predictor.predict(x).probs, expected.probs, rtol=1e-12)
    assert {"ready", "packed"} <= found


def test_networks_run_at_once_are_those_run_alone():
    model, posterior, x = mlp(inputs=3)
    together = predict(model, posterior, x, num_samples=12)
    assert "12 at a time" in together.metadata["plan"]
    alone = predict(model, posterior, x, num_samples=12, batch_size=1)
    assert "one after the other" in alone.metadata["plan"]
    np.testing.assert_allclose(together.probs, alone.probs, rtol=1e-12)


def test_members_of_a_mixture_keep_their_networks_in_groups():
    model, first, x = mlp(inputs=3)
    _, second, _ = mlp(seed=1)
    mixture = PosteriorMixture([first, second, first])
    result = predict(model, mixture, x, num_samples=10, keep_samples=True)
    assert "4 at a time" in result.metadata["plan"] or "10 at a time" in result.metadata["plan"]
    for index in range(10):
        one = predict(
            model, mixture.member(index), x, num_samples=index + 1, keep_samples=True
        ).samples
        np.testing.assert_allclose(result.samples[index], one[index], rtol=1e-6)
    warm = Predictor(model, mixture, num_samples=10).predict(x, keep_samples=True)
    np.testing.assert_allclose(warm.samples, result.samples, rtol=1e-6)


def test_a_model_that_groups_would_break_is_run_one_by_one():
    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.norm = nn.Linear(4, 3, bias=False), nn.BatchNorm1d(3)

        def forward(self, x):
            return self.norm(self.layer(x)) - self.norm.running_mean

    model, posterior, x = problem(Shifted(), (4,), inputs=2)
    result = predict(model, posterior, x, num_samples=6)
    assert "one after the other" in result.metadata["plan"]


def test_auto_precision_depends_on_model_and_device_only(monkeypatch):
    monkeypatch.setattr("bbnn_uq.inference.architecture.SMALL_MODEL", 100)
    monkeypatch.setattr("bbnn_uq.inference.precision.SMALL_MODEL", 100)
    monkeypatch.setattr("bbnn_uq.inference.precision._has_int8_instructions", lambda: True)
    model, posterior, x = mlp()
    for inputs in (x[:1], x):
        for budget in (2**22, 2**31):
            result = predict(model, posterior, inputs, num_samples=2, memory_budget=budget)
            assert result.metadata["precision"] == "int8"
    regression = BernoulliPosterior(
        posterior.natural_param,
        posterior.real_state,
        {"likelihood": {"name": "gaussian", "noise": 1.0, "vector": True, "shift": [0.0] * 5,
                        "scale": [1.0] * 5, "log_noise": [0.0] * 5}},
    )  # fmt: skip
    assert predict(model, regression, x, num_samples=2).metadata["precision"] == "float32"
    other, posterior, x = attention()
    assert predict(other, posterior, x, num_samples=2).metadata["precision"] == "float32"
    monkeypatch.setattr("bbnn_uq.inference.precision._has_int8_instructions", lambda: False)
    model, posterior, x = mlp()
    assert predict(model, posterior, x, num_samples=2).metadata["precision"] == "float32"


def test_a_precision_that_no_layer_takes_is_refused():
    class Product(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3, 4))

        def forward(self, x):
            return x @ self.weight.t()

    posterior = BernoulliPosterior({"weight": torch.zeros(3, 4)})
    with pytest.raises(ValueError, match="use float32"):
        predict(Product(), posterior, torch.zeros(2, 4), precision="int8")


@pytest.mark.parametrize("method", ["monte_carlo", "local", "mode"])
def test_a_predictor_is_predict_and_serves_threads_at_once(method):
    model, posterior, x = mlp()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    options = {"num_samples": 8, "seed": 0, "method": method}
    requests = [x[:1], x[3:9], x]
    expected = [predict(model, posterior, each, **options) for each in requests]
    predictor = Predictor(model, posterior, **options)
    results = {}

    def ask(number):
        for i, each in enumerate(requests):
            results[number, i] = predictor.predict(each)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 12
    for (_, i), result in results.items():
        same(result, expected[i])
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_predictor_needs_a_number_of_networks():
    model, posterior, _ = mlp()
    with pytest.raises(ValueError, match="num_samples must be a number"):
        inspect.unwrap(Predictor.__init__)(
            object.__new__(Predictor), model, posterior, num_samples="auto"
        )


def test_as_many_networks_as_the_tolerance_needs():
    model, posterior, x = mlp()
    posterior = BernoulliPosterior(posterior.natural_param, posterior.real_state)
    rough = predict(model, posterior, x, num_samples="auto", tolerance=0.03)
    fine = predict(model, posterior, x, num_samples="auto", tolerance=0.015)
    for result, tolerance in ((rough, 0.03), (fine, 0.015)):
        assert np.sqrt(np.mean(result.probs_std_error**2)) <= tolerance
        fewer = predict(model, posterior, x, num_samples=result.num_samples - 16 or 2)
        assert np.sqrt(np.mean(fewer.probs_std_error**2)) > tolerance
        same(predict(model, posterior, x, num_samples=result.num_samples), result)
    # The error falls as one over the root of S: half of it takes four times as many.
    assert 2.5 < fine.num_samples / rough.num_samples < 6


def test_a_tolerance_out_of_reach_is_reported(monkeypatch):
    monkeypatch.setattr("bbnn_uq.inference.block.MOST_SAMPLES", 32)
    model, posterior, x = mlp()
    with pytest.warns(UserWarning, match="after 32 networks, above the tolerance of 1e-05"):
        result = predict(model, posterior, x, num_samples="auto", tolerance=1e-5)
    assert result.num_samples == 32


def blocks_of(model, posterior, x, count, precision="float64"):
    """A budget with which the inputs are read in so many blocks or more."""
    for budget in range(2**17, 2**24, 2**13):
        plan = plan_of(model, posterior, x, budget, precision)
        if plan is not None:
            assert plan.block * count <= len(x), plan
            return budget
    raise AssertionError


def test_blocks_of_inputs_give_the_same_in_memory_and_on_disk(tmp_path):
    model, posterior, x = mlp(inputs=6000)
    options = {"num_samples": 3, "score_temperatures": (1.0, 3.0)}
    whole = predict(model, posterior, x, **options)
    budget = blocks_of(model, posterior, x, 2)
    forms = {"memory": x, "mapped": tmp_path / "x.npy", "npz": tmp_path / "x.npz"}
    np.save(forms["mapped"], x.numpy())
    np.savez(forms["npz"], x=x.numpy(), y=np.zeros(6000))
    forms["memmap"] = np.load(forms["mapped"], mmap_mode="r")
    for name, form in forms.items():
        parts = predict(model, posterior, form, memory_budget=budget, **options)
        assert "in blocks of" in parts.metadata["plan"]
        np.testing.assert_allclose(parts.probs, whole.probs, rtol=1e-9, err_msg=name)
        score = "mutual_information@3"
        np.testing.assert_allclose(parts.score(score), whole.score(score), atol=1e-12)
    out = tmp_path / "deep" / "predictions.npz"
    streamed = predict(model, posterior, forms["npz"], memory_budget=budget, out=out, **options)
    assert isinstance(streamed.probs, np.memmap)
    np.testing.assert_allclose(streamed.probs, whole.probs, rtol=1e-9)
    np.testing.assert_allclose(Predictive.load(out).energy, whole.energy, rtol=1e-9)
    assert [file.name for file in out.parent.iterdir()] == ["predictions.npz"]


def test_samples_and_groups_survive_blocks():
    model, posterior, x = mlp(inputs=6000)
    options = {"num_samples": 4, "keep_samples": True, "num_groups": 2}
    whole = predict(model, posterior, x, **options)
    parts = predict(model, posterior, x, memory_budget=blocks_of(model, posterior, x, 2), **options)
    assert "in blocks of" in parts.metadata["plan"]
    np.testing.assert_allclose(parts.samples, whole.samples, rtol=1e-5)
    for ours, theirs in zip(parts.leave_out, whole.leave_out, strict=True):
        np.testing.assert_allclose(ours.probs, theirs.probs, rtol=1e-9)


def test_a_loader_larger_than_what_is_read_ahead_is_streamed(monkeypatch):
    monkeypatch.setattr("bbnn_uq.input_stream.READ_AHEAD", 1000)
    model, posterior, x = mlp()
    loader = DataLoader(TensorDataset(x, torch.arange(40)), batch_size=7)
    result = predict(model, posterior, loader, num_samples=3)
    assert "a stream of inputs" in result.metadata["plan"]
    np.testing.assert_allclose(
        result.probs, predict(model, posterior, x, num_samples=3).probs, rtol=1e-9
    )


def test_a_stop_on_the_way_leaves_no_file(tmp_path, monkeypatch):
    model, posterior, x = mlp(inputs=6000)
    x[5500] = torch.nan
    np.save(tmp_path / "x.npy", x.numpy())
    out = tmp_path / "out.npz"
    budget = blocks_of(model, posterior, x[:5000], 2)
    with pytest.raises(ValueError, match="20 NaN"):
        predict(model, posterior, tmp_path / "x.npy", memory_budget=budget, out=out, num_samples=2)
    assert [file.name for file in tmp_path.iterdir()] == ["x.npy"]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"memory_budget": 1000}, "memory_budget of 0.0 MiB does not hold one network"),
        ({"memory_budget": 0}, "memory_budget"),
        ({"num_samples": "many"}, "num_samples as a string must be one of auto"),
        ({"tolerance": 0.0}, "tolerance"),
        ({"num_groups": 0}, "num_groups"),
        ({"method": "local", "precision": "int8"}, "must be one of auto, float32, float64"),
        ({"precision": "exact"}, "precision must be one of auto"),
        ({"process_group": "world"}, "torchrun"),
        ({"inputs": "nowhere.npy"}, "no file 'nowhere.npy'"),
        ({"keep_samples": True, "out": "x.npz"}, "out cannot be had with keep_samples"),
    ],
)
def test_bad_arguments_are_refused(options, match, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, posterior, x = mlp()
    with pytest.raises(ValueError, match=match):
        predict(model, posterior, options.pop("inputs", x) if "inputs" in options else x, **options)
    assert not list(tmp_path.iterdir())


def test_compressed_and_damaged_files_are_named(tmp_path):
    model, posterior, x = mlp()
    np.savez_compressed(tmp_path / "small.npz", x=x.numpy())
    (tmp_path / "bad.npy").write_bytes(b"no array")
    (tmp_path / "bad.npz").write_bytes(b"no archive")
    np.savez(tmp_path / "other.npz", images=x.numpy())
    for name, match in (
        ("small.npz", "compressed; write it with np.savez"),
        ("bad.npy", "cannot be read"),
        ("bad.npz", "damaged"),
        ("other.npz", "no array 'x'"),
    ):
        with pytest.raises(ValueError, match=match):
            predict(model, posterior, tmp_path / name)


def test_local_marginals_are_those_of_drawn_networks(digits):
    model, posterior, x, y = digits
    posterior = BernoulliPosterior(
        posterior.natural_param, posterior.real_state, posterior.metadata
    )
    drawn = predict(model, posterior, x, num_samples=512, precision="float64")
    local = predict(model, posterior, x, num_samples=512, method="local")
    # BatchNorm's averages for its own statistics, Gaussian pre-activations: small, and no noise.
    assert np.abs(local.probs - drawn.probs).mean() < 0.01
    assert abs(metrics.nll(local.probs, y) - metrics.nll(drawn.probs, y)) < 0.02
    assert local.mutual_information.mean() > 0.5 * drawn.mutual_information.mean()
    assert local.method == "local"


def test_local_splits_change_no_probability():
    model, posterior, x = mlp()
    whole = predict(model, posterior, x, num_samples=6, method="local")
    parts = predict(model, posterior, x, num_samples=6, method="local", batch_size=3)
    np.testing.assert_allclose(parts.probs, whole.probs, rtol=1e-9)
    mixture = PosteriorMixture([posterior, posterior])
    both = predict(model, mixture, x, num_samples=6, method="local")
    np.testing.assert_allclose(both.probs, whole.probs, rtol=1e-9)


def test_real_targets_in_blocks(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 1))
    x = torch.randn(4000, 3)
    y = x.sum(dim=1)
    posterior = fit(model, (x[:200], y[:200]), epochs=2, likelihood="gaussian")
    whole = predict(model, posterior, x, num_samples=5)
    budget = blocks_of(model, posterior, x, 2)
    out = tmp_path / "out.npz"
    parts = predict(model, posterior, x, num_samples=5, memory_budget=budget, out=out)
    np.testing.assert_allclose(parts.std, whole.std, rtol=1e-9)
    assert isinstance(RegressionPredictive.load(out), RegressionPredictive)
    enough = predict(model, posterior, x, num_samples="auto", tolerance=0.2)
    assert enough.num_samples % 16 == 0


def test_the_architecture_takes_what_it_can_in_int8():
    model, posterior, x = attention()
    architecture = Architecture(model, posterior, x[:1], "int8", CPU)
    assert architecture.products == {"inner.weight"}
    assert architecture.weight_dtype("mixing") == torch.float32
