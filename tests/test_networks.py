"""draw: the same bits everywhere, and the right probabilities."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch

from bbnn_uq import BernoulliPosterior, draw


@pytest.fixture
def posterior():
    generator = torch.Generator().manual_seed(0)
    return BernoulliPosterior(
        {
            "layer.weight": torch.randn(40, 30, generator=generator),
            "conv.weight": torch.randn(4, 3, 3, 3, generator=generator).double(),
        },
        {},
        {},
    )


def test_shape_dtype_and_values(posterior):
    network = draw(posterior, 0)
    assert network.keys() == posterior.natural_param.keys()
    for name, value in network.items():
        like = posterior.natural_param[name]
        assert (value.shape, value.dtype) == (like.shape, like.dtype)
        assert set(value.unique().tolist()) == {-1.0, 1.0}


def test_golden_bits():
    # These bits are part of the file format. If this fails, the stream has changed: that needs a
    # new format version, not a new value here.
    fixed = BernoulliPosterior({"w": torch.arange(-2500, 2500).view(50, 100) / 1024}, {}, {})
    bits = np.packbits([draw(fixed, i, seed=12345)["w"].numpy() > 0 for i in (0, 1, 2**40)])
    assert hashlib.sha256(bits.tobytes()).hexdigest() == (
        "8d06b50aeb370be908eae6df7d62eb24664f5c0f75ae14f4304b8aef439743bb"
    )


def test_a_network_depends_on_its_number_alone(posterior):
    forward = [draw(posterior, i, seed=4) for i in range(5)]
    backward = [draw(posterior, i, seed=4) for i in reversed(range(5))][::-1]
    for one, other in zip(forward, backward, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(forward[0]["layer.weight"], forward[1]["layer.weight"])
    other_seed = draw(posterior, 0, seed=5)
    assert not torch.equal(forward[0]["layer.weight"], other_seed["layer.weight"])


def test_a_parameter_does_not_depend_on_its_neighbours_or_their_order(posterior):
    alone = BernoulliPosterior({"conv.weight": posterior.natural_param["conv.weight"]}, {}, {})
    assert torch.equal(draw(alone, 3)["conv.weight"], draw(posterior, 3)["conv.weight"])


def test_a_new_process_draws_the_same(posterior, tmp_path):
    posterior.save(tmp_path / "p.safetensors")
    code = (
        "import bbnn_uq, sys, hashlib\n"
        f"n = bbnn_uq.draw(bbnn_uq.load({str(tmp_path / 'p.safetensors')!r}), 7, seed=9)\n"
        "b = b''.join(n[k].float().numpy().tobytes() for k in sorted(n))\n"
        "print(hashlib.sha256(b).hexdigest())"
    )
    theirs = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    network = draw(posterior, 7, seed=9)
    ours = b"".join(network[name].float().numpy().tobytes() for name in sorted(network))
    assert hashlib.sha256(ours).hexdigest() == theirs


def test_frequencies_over_networks_match_the_posterior(posterior):
    count = 2000
    share = sum(draw(posterior, i)["layer.weight"] > 0 for i in range(count)).double() / count
    p = torch.sigmoid(2 * posterior.natural_param["layer.weight"].double())
    z = (share - p) / (p * (1 - p) / count).sqrt()
    # 1,200 standard normal values: mean within 4 / sqrt(1200), variance within 4 standard errors.
    assert abs(float(z.mean())) < 4 / np.sqrt(z.numel())
    assert abs(float(z.var()) - 1) < 4 * np.sqrt(2 / z.numel())


def test_certain_weights_never_flip():
    certain = BernoulliPosterior({"w": torch.tensor([1e3, -1e3]).repeat(50_000)}, {}, {})
    for index in range(20):
        assert torch.equal(draw(certain, index)["w"], certain.mode()["w"])


@pytest.mark.parametrize(
    ("index", "seed", "error"),
    [(-1, 0, ValueError), (0, -1, ValueError), (2**64, 0, ValueError), (0.5, 0, TypeError)],
)
def test_bad_addresses_are_refused(posterior, index, seed, error):
    with pytest.raises(error, match=r"index|seed"):
        draw(posterior, index, seed=seed)
