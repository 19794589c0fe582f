"""Predictions in parts: the figures of one call, whatever happens between the parts."""

import numpy as np
import pytest
import torch
from torch import nn

from bbnn_uq import BernoulliPosterior, PosteriorMixture, RegressionPredictive, predict
from bbnn_uq.inference import parts as parts_module
from bbnn_uq.inference.engine import Engine
from bbnn_uq.inference.parts import InParts
from bbnn_uq.likelihoods import as_likelihood
from bbnn_uq.npz_file import GrowingArrays

TEMPERATURES = (1.0, 3.0)


def model_of(outputs):
    return nn.Sequential(nn.Linear(6, 5, bias=False), nn.ReLU(), nn.Linear(5, outputs, bias=False))


def posterior_of(seed, outputs=3, **metadata):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"0.weight": (5, 6), "2.weight": (outputs, 5)}
    natural = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    moments = {"mean": [0.1] * 6, "std": [2.0] * 6}
    return BernoulliPosterior(natural, {}, {"normalisation": moments, **metadata})


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)


@pytest.fixture
def small(monkeypatch):
    """Parts of eight inputs or so, where one would hold thousands."""
    monkeypatch.setattr(parts_module, "PART_BYTES", 2**14)


def in_parts(posterior, x, folder, **options):
    options = {"num_samples": 9, "num_groups": 3, "score_temperatures": TEMPERATURES} | options
    outputs = posterior.member(0).natural_param["2.weight"].shape[0]
    parts = InParts(model_of(outputs), posterior, num_inputs=len(x), device="cpu", **options)
    return parts.predict(x, folder)


def stop_in(monkeypatch, part):
    """Let a run be interrupted while its part of this number is computed."""
    original = Engine.run

    def run(self, *arguments, **options):
        for number, result in enumerate(original(self, *arguments, **options)):
            if number == part:
                raise KeyboardInterrupt
            yield result

    monkeypatch.setattr(Engine, "run", run)
    return lambda: monkeypatch.setattr(Engine, "run", original)


def same(a, b):
    arrays = a.to_arrays(), b.to_arrays()
    assert arrays[0].keys() == arrays[1].keys()
    for key, values in arrays[0].items():
        assert values.dtype == arrays[1][key].dtype
        np.testing.assert_array_equal(values, arrays[1][key], err_msg=key)
    about = a.about(), b.about()
    for each in about:
        each["metadata"] = {k: v for k, v in each["metadata"].items() if k != "seconds"}
    assert about[0] == about[1]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("method", ["monte_carlo", "local", "mode"])
def test_parts_have_the_figures_of_predict(method, x, tmp_path):
    posterior = posterior_of(0)
    options = {"method": method, "num_groups": 1 if method == "mode" else 3}
    got = in_parts(posterior, x, tmp_path, **options)
    assert GrowingArrays(tmp_path).rows == 50
    whole = predict(
        model_of(3), posterior, x, num_samples=9, device="cpu",
        score_temperatures=TEMPERATURES, **options,
    )  # fmt: skip
    arrays = got.to_arrays()
    assert arrays.keys() == whole.to_arrays().keys()
    for key, values in whole.to_arrays().items():
        np.testing.assert_allclose(arrays[key], values, rtol=1e-12, atol=1e-12, err_msg=key)
    assert got.score("mutual_information@3").shape == (50,)
    assert len(got.leave_out) == (0 if method == "mode" else 3)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize(("part", "method"), [(1, "monte_carlo"), (4, "monte_carlo"), (2, "local")])
def test_a_run_that_was_stopped_ends_with_the_same_bits(
    part, method, mixed, x, tmp_path, monkeypatch
):
    posterior = posterior_of(0)
    if mixed:
        posterior = PosteriorMixture([posterior, posterior_of(1)])
    undo = stop_in(monkeypatch, part)
    with pytest.raises(KeyboardInterrupt):
        in_parts(posterior, x, tmp_path / "stopped", method=method)
    undo()
    rows = GrowingArrays(tmp_path / "stopped").rows
    assert 0 < rows < 50
    resumed = in_parts(posterior, x, tmp_path / "stopped", method=method)
    same(resumed, in_parts(posterior, x, tmp_path / "whole", method=method))


@pytest.mark.usefixtures("small")
def test_what_is_there_is_not_computed_again(x, tmp_path, monkeypatch):
    posterior = posterior_of(0)
    first = in_parts(posterior, x, tmp_path)

    def never(*_, **__):
        raise AssertionError

    monkeypatch.setattr(Engine, "run", never)
    same(in_parts(posterior, x, tmp_path), first)


@pytest.mark.usefixtures("small")
def test_a_half_written_part_is_cut_off(x, tmp_path, monkeypatch):
    posterior = posterior_of(0)
    whole = in_parts(posterior, x, tmp_path / "whole")
    undo = stop_in(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        in_parts(posterior, x, tmp_path / "half")
    undo()
    for file in (tmp_path / "half").glob("*.values"):
        with file.open("ab") as values:
            values.write(b"half a row")
    same(in_parts(posterior, x, tmp_path / "half"), whole)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("fault", ["short", "changed", "gone", "no JSON"])
def test_damage_is_named(fault, x, tmp_path):
    posterior = posterior_of(0)
    in_parts(posterior, x, tmp_path)
    probs = tmp_path / "probs.values"
    content = probs.read_bytes()
    if fault == "gone":
        probs.unlink()
    elif fault == "no JSON":
        (tmp_path / "progress.json").write_text("{")
    else:
        probs.write_bytes(content[:-1] if fault == "short" else b"\x00" + content[1:])
    with pytest.raises(ValueError, match=r"is damaged .* delete that folder to start over"):
        in_parts(posterior, x, tmp_path)


def test_another_precision_is_refused(x, tmp_path):
    in_parts(posterior_of(0), x, tmp_path, precision="float64")
    with pytest.raises(ValueError, match=r"was computed in float64, and here .* in float32"):
        in_parts(posterior_of(0), x, tmp_path, precision="float32")


@pytest.mark.usefixtures("small")
def test_real_targets(x, tmp_path):
    gaussian = as_likelihood("gaussian")
    gaussian.fit_targets(torch.tensor([3.0, 5.0, 1.0]), normalise=True)
    posterior = posterior_of(0, 1, likelihood=gaussian.to_metadata())
    got = in_parts(posterior, x, tmp_path, score_temperatures=(1.0,))
    whole = predict(model_of(1), posterior, x, num_samples=9, num_groups=3, device="cpu")
    assert isinstance(got, RegressionPredictive)
    np.testing.assert_allclose(got.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(got.epistemic_std, whole.epistemic_std, rtol=1e-9)
    np.testing.assert_allclose(got.leave_out[0].std, whole.leave_out[0].std, rtol=1e-9)


def test_large_results_stay_on_disk_and_come_without_groups(x, tmp_path, monkeypatch):
    posterior = posterior_of(0)
    small = in_parts(posterior, x, tmp_path / "small")
    assert small.num_groups == 3
    assert not isinstance(small.probs, np.memmap)
    monkeypatch.setattr(parts_module, "LARGE_BYTES", 1000)
    large = in_parts(posterior, x, tmp_path / "large")
    assert isinstance(large.probs, np.memmap)
    assert large.num_groups == 0
    np.testing.assert_allclose(large.probs, small.probs, rtol=1e-12)


def test_networks_are_drawn_once_for_all_sets(x, tmp_path, monkeypatch):
    posterior = posterior_of(0)
    made = []
    original = Engine.__init__

    def counted(self, *arguments, **options):
        made.append(options)
        original(self, *arguments, **options)

    monkeypatch.setattr(Engine, "__init__", counted)
    parts = InParts(model_of(3), posterior, num_inputs=100, num_samples=4, device="cpu")
    first = parts.predict(x, tmp_path / "a")
    parts.predict(x[:7] + 1, tmp_path / "b")
    assert made == [{"keep": True}]
    assert first.probs.shape == (50, 3)


def test_the_size_of_a_part_depends_on_shapes_alone(x):
    """A run goes on in the same parts: with more inputs or networks of the same shapes too."""
    sizes = []
    for inputs, count in ((x, 4), (np.concatenate([x] * 20), 9)):
        parts = InParts(
            model_of(3), posterior_of(0), num_inputs=len(inputs), num_samples=count, device="cpu"
        )
        stream = parts_module.InputStream(inputs)
        sizes.append(parts.part_size(stream, parts._ready(stream)))
    columns = 3 * 3 + 2 + (3 + 2)
    assert sizes == [parts_module.PART_BYTES // (12 * 6 + 4 * 8 * columns)] * 2


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"num_samples": 0}, "num_samples must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"score_temperatures": (0.0,)}, "score_temperatures must be greater than 0"),
        ({"method": "vote"}, "method must be one of"),
    ],
)
def test_arguments_are_checked_before_anything_is_read(options, reason):
    with pytest.raises(ValueError, match=reason):
        InParts(model_of(3), posterior_of(0), num_inputs=1, **options)


def test_a_loader_without_a_length_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("bbnn_uq.input_stream.READ_AHEAD", 10)
    data = torch.utils.data.TensorDataset(torch.zeros(9, 6))
    loader = torch.utils.data.DataLoader(data, 2)
    parts = InParts(model_of(3), posterior_of(0), num_inputs=9, num_samples=2, device="cpu")
    with pytest.raises(ValueError, match="inputs must have a length; pass an array"):
        parts.predict(loader, tmp_path)
