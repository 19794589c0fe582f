"""BernoulliPosterior: diagnostics, validation and its file."""

import json
import os

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import bbnn_uq
from bbnn_uq import BernoulliPosterior, CollapsedPosteriorWarning, PosteriorFormatError
from bbnn_uq.posterior import warn_if_collapsed


@pytest.fixture
def posterior():
    generator = torch.Generator().manual_seed(0)
    natural = {
        "a.weight": torch.randn(3, 4, generator=generator),
        "b.weight": torch.randn(2, 3, generator=generator) * 10,
    }
    real = {"b.bias": torch.ones(2), "norm.num_batches_tracked": torch.tensor(3)}
    return BernoulliPosterior(natural, real, {"architecture": {"model": "mlp:3x1"}, "n": [1, 2.5]})


def test_diagnostics_are_averages_over_weights_not_layers(posterior):
    flat = torch.cat([value.flatten() for value in posterior.natural_param.values()]).double()
    p = torch.sigmoid(2 * flat)
    bits = -(torch.special.xlogy(p, p) + torch.special.xlogy(1 - p, 1 - p)) / np.log(2)
    assert posterior.num_weights == 18
    assert posterior.bits_per_weight() == pytest.approx(float(bits.mean()), abs=1e-9)
    assert posterior.flip_rate() == pytest.approx(float(torch.minimum(p, 1 - p).mean()), abs=1e-9)
    saturated = float((torch.minimum(p, 1 - p) < 2**-24).double().mean())
    assert posterior.saturated_share() == pytest.approx(saturated)
    assert 0 < saturated < 1
    summary = posterior.summary()
    assert summary["layers"]["a.weight"]["shape"] == [3, 4]
    assert summary["bits_per_weight"] == posterior.bits_per_weight()
    json.dumps(summary)


def test_kl_against_uniform_prior_is_the_missing_entropy(posterior):
    missing = posterior.num_weights * np.log(2) * (1 - posterior.bits_per_weight())
    assert posterior.kl() == pytest.approx(missing, rel=1e-9)
    assert posterior.kl(posterior) == 0.0
    assert posterior.kl(posterior.natural_param) == 0.0
    assert posterior.kl(1.0) != posterior.kl(0.0)
    with pytest.raises(ValueError, match=r"prior has no 'a.weight'"):
        posterior.kl({"b.weight": torch.zeros(2, 3)})


def test_it_is_a_value_apart_from_its_sources():
    source = torch.zeros(3)
    posterior = BernoulliPosterior({"w": source}, {}, {})
    source += 5
    assert posterior.natural_param["w"].tolist() == [0, 0, 0]
    with pytest.raises(AttributeError):
        posterior.metadata = {}


@pytest.mark.parametrize(
    ("natural", "real", "metadata", "error", "match"),
    [
        ({}, {}, {}, ValueError, "natural_param is empty"),
        ({"w": torch.zeros(2, dtype=torch.int64)}, {}, {}, TypeError, "must be floating"),
        ({"w": torch.tensor([np.nan])}, {}, {}, ValueError, "must be finite"),
        ({"w": torch.zeros(0)}, {}, {}, ValueError, "not empty"),
        ({"w": torch.zeros(1)}, {"w": torch.zeros(1)}, {}, ValueError, "both"),
        ({"w": torch.zeros(1)}, {}, {"x": {1, 2}}, TypeError, "JSON"),
        ({"w": torch.zeros(1)}, {}, {"x": float("nan")}, TypeError, "JSON"),
    ],
)
def test_invalid_posteriors_are_refused(natural, real, metadata, error, match):
    with pytest.raises(error, match=match):
        BernoulliPosterior(natural, real, metadata)


def test_file_round_trip_is_exact(posterior, tmp_path):
    path = tmp_path / "deep" / "posterior.safetensors"
    posterior.save(path)
    loaded = bbnn_uq.load(path)
    assert loaded.metadata == posterior.metadata
    for ours, theirs in (
        (posterior.natural_param, loaded.natural_param),
        (posterior.real_state, loaded.real_state),
    ):
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            assert theirs[name].dtype == value.dtype
            assert torch.equal(theirs[name], value)
    assert [file.name for file in path.parent.iterdir()] == ["posterior.safetensors"]


def test_parameters_that_share_memory_can_be_saved(tmp_path):
    both = torch.randn(2, 3)
    BernoulliPosterior({"a": both[0], "b": both.T}, {"c": both}, {}).save(tmp_path / "p")
    assert torch.equal(bbnn_uq.load(tmp_path / "p").natural_param["b"], both.T)


def test_failed_save_leaves_the_old_file(posterior, tmp_path, monkeypatch):
    path = tmp_path / "p.safetensors"
    posterior.save(path)
    before = path.read_bytes()

    def broken(tensors, file, metadata):
        file.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("bbnn_uq.posterior_file.save_file", broken)
    with pytest.raises(KeyboardInterrupt):
        posterior.save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["p.safetensors"]


def test_missing_file_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing.safetensors.*does not exist"):
        bbnn_uq.load(tmp_path / "nothing.safetensors")


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_truncated_files_are_refused(posterior, tmp_path, keep):
    path = tmp_path / "p.safetensors"
    posterior.save(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(PosteriorFormatError, match=r"p.safetensors.*truncated"):
        bbnn_uq.load(path)


@pytest.mark.parametrize(
    ("header", "match"),
    [
        (None, "no bbnn-uq posterior"),
        ("{", "damaged"),
        ("[]", "damaged"),
        (json.dumps({"format_version": 99, "kind": "posterior"}), "format version 99.*upgrade"),
        (json.dumps({"format_version": "1", "kind": "posterior"}), "format version '1'"),
        (json.dumps({"format_version": 1, "kind": "cake", "metadata": {}}), "holds a 'cake'"),
        (json.dumps({"format_version": 1, "kind": "posterior"}), "damaged"),
        (
            json.dumps({"format_version": 1, "kind": "posterior", "members": [{}]}),
            "no valid posterior",
        ),
    ],
)
def test_foreign_and_newer_files_are_refused(tmp_path, header, match):
    path = tmp_path / "p.safetensors"
    metadata = {"other": "x"} if header is None else {"bbnn_uq": header}
    save_file({"natural_param/w": torch.zeros(2)}, path, metadata=metadata)
    with pytest.raises(PosteriorFormatError, match=match):
        bbnn_uq.load(path)


def test_a_file_with_invalid_values_is_refused(tmp_path):
    path = tmp_path / "p.safetensors"
    header = json.dumps({"format_version": 1, "kind": "posterior", "members": [{"metadata": {}}]})
    save_file({"natural_param/w": torch.tensor([np.inf])}, path, metadata={"bbnn_uq": header})
    with pytest.raises(PosteriorFormatError, match="finite"):
        bbnn_uq.load(path)


def test_collapse_is_named_with_the_remedy():
    alive = BernoulliPosterior({"w": torch.full((10,), 2.0)}, {}, {})
    dead = BernoulliPosterior({"w": torch.full((10,), 4.5e7)}, {}, {})
    warn_if_collapsed(alive)  # warnings are errors here
    with pytest.warns(CollapsedPosteriorWarning, match="larger kl_weight"):
        warn_if_collapsed(dead)
    assert (alive.collapsed, dead.collapsed) == (False, True)
    assert dead.bits_per_weight() == 0.0
