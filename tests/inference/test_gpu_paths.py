"""What runs on a GPU, on the CPU: torch's drawing, and networks drawn within their products.

The kernels themselves are tested in Triton's interpreter (test_kernels.py, test_philox_gpu.py).
"""

import numpy as np
import pytest
import torch

from bbnn_uq import BernoulliPosterior, PosteriorMixture, draw, models, philox
from bbnn_uq.inference import kernels
from bbnn_uq.inference.architecture import Architecture
from bbnn_uq.inference.products import Undrawn
from bbnn_uq.inference.runners import Networks
from bbnn_uq.inference.sources import Buffers, Drawn, Fused
from bbnn_uq.networks import draw_on_gpu
from bbnn_uq.philox import triton_stream

CPU = torch.device("cpu")


def problem(seed=0):
    torch.manual_seed(seed)
    model = models.MLP(20, (30, 17), 5)
    natural = {n: torch.randn_like(p) for n, p in model.named_parameters() if p.ndim == 2}
    real = {n: v for n, v in model.state_dict().items() if n not in natural}
    return model, BernoulliPosterior(natural, real), torch.randn(4, 20)


@pytest.mark.parametrize("dtype", [torch.int8, torch.bfloat16, torch.float32])
def test_plain_torch_draws_the_same_bits(monkeypatch, dtype):
    monkeypatch.setattr(triton_stream, "available", lambda: False)
    _, first, _ = problem()
    _, second, _ = problem(1)
    mixture = PosteriorMixture([first, second])
    for networks in (range(3, 6), range(1, 8, 2)):
        posterior = first if networks.step == 1 else mixture
        out = {
            name: torch.empty(len(networks), *value.shape, dtype=dtype)
            for name, value in first.natural_param.items()
        }
        draw_on_gpu(posterior, networks, seed=2**63, out=out)
        for position, index in enumerate(networks):
            for name, weight in draw(posterior, index, seed=2**63).items():
                assert torch.equal(out[name][position].to(weight.dtype), weight)


def in_numpy(x, head, tail, key, address, num_networks):
    """The kernel's arithmetic, with NumPy's weights."""
    thresholds = philox.Thresholds(head.numpy(), tail.numpy())
    seed, first = key
    weights = [
        philox.positive_weights(thresholds, (seed, first + s), address) * 2.0 - 1.0
        for s in range(num_networks)
    ]
    weights = torch.from_numpy(np.stack(weights)).float().view(num_networks, -1, x.shape[-1])
    assert x.shape[-2] <= kernels.MOST_INPUTS
    return x.float() @ weights.transpose(1, 2)


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.1)])
@pytest.mark.parametrize("rows", [1, 4, 40])
def test_weights_drawn_within_their_products_are_the_networks(
    monkeypatch, precision, tolerance, rows
):
    monkeypatch.setattr(kernels, "draw_and_multiply", in_numpy)
    model, posterior, x = problem()
    x = torch.randn(rows, 20)
    architecture = Architecture(model, posterior, x[:1], precision, CPU)
    drawn = Drawn(architecture, posterior, seed=5)
    runs = []
    for source in (Fused(drawn, architecture, posterior), drawn):
        runner = Networks(architecture, source, 1)
        with torch.no_grad():
            runs.append(torch.cat([run(x, 0) for _, run in runner.groups(range(2, 8), 3)]))
    torch.testing.assert_close(runs[0], runs[1], rtol=tolerance, atol=tolerance)
    one = Networks(architecture, Fused(drawn, architecture, posterior), 1)
    ((_, run),) = one.groups(range(2, 3), 1)
    with torch.no_grad():
        torch.testing.assert_close(run(x, 0), runs[1][:1], rtol=tolerance, atol=tolerance)


def test_undrawn_weights_take_no_memory():
    _, posterior, _ = problem()
    thresholds = philox.thresholds(posterior.natural_param["linear1.weight"].double().numpy())
    on_device = tuple(torch.from_numpy(each) for each in thresholds)
    weights = Undrawn.of((1000, 30, 20), torch.bfloat16, on_device, (0, 0), 7)
    assert (weights.shape, weights.dtype) == ((1000, 30, 20), torch.bfloat16)
    assert weights.untyped_storage().nbytes() == 2


def test_buffers_give_networks_their_places():
    model, posterior, x = problem()
    for precision in ("int8", "float32"):
        architecture = Architecture(model, posterior, x[:1], precision, CPU)
        buffers = Buffers(architecture, 3)
        states = Drawn(architecture, posterior, seed=1).states(range(4, 7), buffers)
        for position, index in enumerate(range(4, 7)):
            for name, weight in draw(posterior, index, seed=1).items():
                assert torch.equal(states[name][position].float(), weight)
