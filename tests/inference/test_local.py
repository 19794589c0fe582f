"""Local reparameterisation, against enumeration, unfolded convolutions and a plain loop."""

import copy
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from scipy.special import erfinv
from scipy.stats import kstest
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from bbnn_uq import BernoulliPosterior, draw
from bbnn_uq.inference.local import LocalReparameterisation
from bbnn_uq.models import MLP, ConvNet

CPU = torch.device("cpu")


def parts(model, binary=("weight",), *, spread=0.7):
    """Random λ of the parameters whose names end in ``binary``, and everything else."""
    generator = torch.Generator().manual_seed(0)
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    natural = {
        name: torch.randn(value.shape, generator=generator, dtype=torch.float64) * spread
        for name, value in tensors.items()
        if name.endswith(binary)
    }
    real = {name: value.detach() for name, value in tensors.items() if name not in natural}
    return natural, real


def local(model, natural, real, *, dtype=torch.float64):
    skeleton = copy.deepcopy(model).eval().to("meta")
    return LocalReparameterisation(skeleton, natural, real, dtype=dtype, device=CPU)


def normals(seed, network, number, call, units):
    """The documented noise of one row, unit by unit, in float64."""
    noise = np.empty(units)
    for unit in range(units):
        block, place = divmod(network * units + unit, 8)
        # NumPy counts up before it computes: its counter block gives the words of block + 1.
        bits = np.random.Philox(
            key=np.array([seed, number], dtype=np.uint64),
            counter=np.array([block, 0, call, 2**63], dtype=np.uint64),
        )
        word = int(bits.random_raw(4)[place // 2])
        k = (word >> (32 * (place % 2)) & 0xFFFFFFFF) >> 8
        signed = k - 2**24 if k >= 2**23 else k
        noise[unit] = np.sqrt(2) * erfinv((signed + 0.5) / 2**23)
    return noise


def unit_noise(units):
    """A model that returns its noise: one input of 1 and λ = 0."""
    return local(nn.Linear(1, units, bias=False), {"weight": torch.zeros(units, 1)}, {})


def test_noise_is_the_documented_stream():
    found = unit_noise(5).outputs(torch.ones(2, 1), range(2, 6), seed=7, first_input=11)
    for row, network in enumerate(range(2, 6)):
        for column in range(2):
            expected = normals(7, network, 11 + column, 0, 5)
            np.testing.assert_allclose(found[row, column], expected, rtol=1e-12)


def test_noise_is_standard_normal():
    found = unit_noise(100).outputs(torch.ones(20, 1), range(100), seed=1).flatten().numpy()
    assert kstest(found, "norm").pvalue > 0.01
    for shift in (1, 100, 2000):  # neighbouring units, inputs and networks: 4 standard errors
        assert abs(np.corrcoef(found[shift:], found[:-shift])[0, 1]) < 4 / found.size**0.5


@pytest.mark.parametrize("units", [1, 7, 8, 13])
def test_noise_does_not_depend_on_how_it_is_split(units):
    noise = unit_noise(units)
    x = torch.ones(6, 1)
    whole = noise.outputs(x, range(10), seed=3, first_input=4)
    by_network = [noise.outputs(x, range(*at), seed=3, first_input=4) for at in ((0, 3), (3, 10))]
    by_input = [
        noise.outputs(x[at : at + 2], range(10), seed=3, first_input=4 + at) for at in (0, 2, 4)
    ]
    assert torch.equal(torch.cat(by_network), whole)
    assert torch.equal(torch.cat(by_input, dim=1), whole)
    assert torch.equal(noise.outputs(x, range(1, 10, 3), seed=3, first_input=4), whole[1::3])


def test_seeds_inputs_networks_and_layers_have_noise_of_their_own():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = (nn.Linear(1, 4, bias=False) for _ in range(2))

        def forward(self, x):
            return torch.cat([self.first(x), self.second(x)], dim=1)

    natural = {"first.weight": torch.zeros(4, 1), "second.weight": torch.zeros(4, 1)}
    noise = local(Twice(), natural, {})
    values = [noise.outputs(torch.ones(3, 1), range(5), seed=seed).flatten() for seed in (0, 1)]
    assert len(set(torch.cat(values).tolist())) == 2 * 5 * 3 * 8
    assert torch.equal(noise.outputs(torch.ones(3, 1), range(5), seed=1).flatten(), values[1])


def test_moments_of_a_linear_layer_match_the_enumeration_of_all_networks():
    model = nn.Linear(3, 2)
    natural, real = parts(model)
    natural["weight"][0, 0] = 50.0  # a certain weight
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    plus = torch.sigmoid(2 * natural["weight"])
    mean, square = torch.zeros(4, 2).double(), torch.zeros(4, 2).double()
    for signs in itertools.product([-1.0, 1.0], repeat=6):
        w = torch.tensor(signs, dtype=torch.float64).view(2, 3)
        chance = torch.where(w > 0, plus, 1 - plus).prod()
        a = x @ w.T + real["bias"]
        mean += chance * a
        square += chance * a**2
    variance = square - mean**2
    count = 20_000
    found = local(model, natural, real).outputs(x, range(count), seed=2)
    # 8 means and 8 variances: 4 standard errors.
    assert torch.all((found.mean(dim=0) - mean).abs() < 4 * (variance / count).sqrt())
    assert torch.all((found.var(dim=0) / variance - 1).abs() < 4 * (2 / count) ** 0.5)


@pytest.mark.parametrize(
    "options",
    [
        {"stride": 2, "padding": 1},
        {"dilation": 2, "groups": 2, "bias": False},
        {"padding": 1, "padding_mode": "circular"},
    ],
    ids=["stride", "groups", "circular"],
)
def test_convolution_matches_the_unfolded_one(options):
    model = nn.Conv2d(4, 6, 3, **options)
    natural, real = parts(model)
    x = torch.randn(2, 4, 7, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = local(model, natural, real).outputs(x, range(3), seed=5)

    padding, groups = options.get("padding", 0), options.get("groups", 1)
    mode = "circular" if "padding_mode" in options else "constant"
    padded = functional.pad(x, (padding,) * 4, mode=mode)
    columns = functional.unfold(
        padded, 3, dilation=options.get("dilation", 1), stride=options.get("stride", 1)
    ).unflatten(1, (groups, -1))
    mu = torch.tanh(natural["weight"]).flatten(1).unflatten(0, (groups, -1))
    mean = torch.einsum("gok,ngkp->ngop", mu, columns).flatten(1, 2)
    if "bias" in real:
        mean = mean + real["bias"][:, None]
    std = torch.einsum("gok,ngkp->ngop", 1 - mu**2, columns**2).flatten(1, 2).sqrt()
    for s, i in itertools.product(range(3), range(2)):
        noise = torch.tensor(normals(5, s, i, 0, mean[i].numel())).view_as(mean[i])
        torch.testing.assert_close(found[s, i].flatten(1), mean[i] + std[i] * noise)


class Branches(nn.Module):
    """Residual connections from the input and from noisy units, and a layer used twice."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 2, bias=False)

    def forward(self, x):
        h = x + self.a(x)
        return self.b(torch.relu(self.a(input=h))) + self.b(x) * x[:, :1]


def test_branches_and_shared_layers_match_a_plain_loop():
    natural, real = parts(Branches())
    x = np.random.default_rng(0).normal(size=(4, 3))
    found = local(Branches(), natural, real).outputs(torch.tensor(x), range(3), seed=9)
    weight = {name: value.numpy() for name, value in natural.items()}
    bias = {"a": real["a.bias"].double().numpy(), "b": 0.0}

    def layer(name, value, s, i, call):
        natural_param = weight[f"{name}.weight"]
        noise = normals(9, s, i, call, len(natural_param))
        std = np.sqrt((value**2) @ np.cosh(natural_param).T ** -2.0)
        return value @ np.tanh(natural_param).T + bias[name] + std * noise

    for s, i in itertools.product(range(3), range(4)):
        h = x[i] + layer("a", x[i], s, i, 0)
        h = layer("b", np.maximum(layer("a", h, s, i, 1), 0), s, i, 2)
        np.testing.assert_allclose(found[s, i], h + layer("b", x[i], s, i, 3) * x[i, 0], rtol=1e-9)


@pytest.mark.parametrize("kind", ["mlp", "convnet"])
def test_outputs_do_not_depend_on_how_they_are_split(kind):
    model = MLP(64, (32, 16), 3) if kind == "mlp" else ConvNet((1, 8, 8), 3, width=0.125)
    x = torch.rand(5, 1, 8, 8)
    network = local(model, *parts(model))
    whole = network.outputs(x, range(6), seed=1)
    rows = [
        torch.cat([network.outputs(x[i : i + 1], range(*at), seed=1, first_input=i)
                   for at in ((0, 1), (1, 4), (4, 6))])
        for i in range(5)
    ]  # fmt: skip
    torch.testing.assert_close(torch.cat(rows, dim=1), whole, rtol=1e-10, atol=1e-12)
    assert whole.shape == (6, 5, 3)


def drawn(model, natural, real, x, count):
    """Class probabilities (count, N, C) of networks that are drawn, each run plainly."""
    model = copy.deepcopy(model).eval()
    posterior = BernoulliPosterior({k: v.float() for k, v in natural.items()}, real)
    found = []
    with torch.no_grad():
        for index in range(count):
            model.load_state_dict(real | draw(posterior, index, seed=1))
            found.append(model(x).softmax(dim=1))
    return torch.stack(found).double()


def narrow():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 3)), 8


def wide():
    model = MLP(64, (256, 128), 10)
    for norm, variance in (("norm1", 64.0), ("norm2", 128.0), ("output_norm", 64.0)):
        model.get_submodule(norm).running_var.fill_(variance)
    return model, 64


@pytest.mark.parametrize(("build", "gaussian_error"), [(narrow, 0.03), (wide, 0.002)])
def test_class_probabilities_match_drawn_networks(build, gaussian_error):
    # The error that is the Gaussian's, seen at 1,000,000 narrow and 200,000 wide networks: .027
    # (there are 8 and 6 terms in a sum) and .001.
    model, features = build()
    natural, real = parts(model)
    x = torch.randn(6, features, generator=torch.Generator().manual_seed(1))
    count = 1500
    exact = drawn(model, natural, real, x, count)
    found = local(model, natural, real).outputs(x, range(count), seed=1).softmax(dim=2)
    for power in (1, 2):  # the spread over networks is in the second moment
        first, second = exact**power, found**power
        error = ((first.var(dim=0) + second.var(dim=0)) / count).sqrt()
        difference = (first.mean(dim=0) - second.mean(dim=0)).abs()
        assert torch.all(difference < 4 * error + gaussian_error)


def test_variance_of_nearly_certain_weights_in_float32():
    # 1 − tanh²(10) is 0 in float32, and sech² 10 = 8.2e−9.
    natural = {"weight": torch.tensor([[10.0, -10.0]])}
    x = torch.ones(1, 2)  # the means cancel, and what is left is noise
    network = local(nn.Linear(2, 1, bias=False), natural, {}, dtype=torch.float32)
    found = network.outputs(x, range(2000), seed=0)
    assert found.dtype == torch.float32
    expected = 2**0.5 / np.cosh(10.0)
    assert abs(float(found.std()) / expected - 1) < 4 * (0.5 / 2000) ** 0.5


def test_weights_that_are_large_and_not_contiguous():
    natural = torch.randn(700, 400, generator=torch.Generator().manual_seed(0)).double().T
    x = torch.randn(1, 700, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = local(nn.Linear(700, 400, bias=False), {"weight": natural}, {}).outputs(
        x, range(1), seed=0
    )
    std = (x**2 @ natural.cosh().pow(-2).T).sqrt()
    expected = x @ natural.tanh().T + std * torch.tensor(normals(0, 0, 0, 0, 400))
    torch.testing.assert_close(found[0], expected)


def test_both_precisions_have_the_same_noise():
    model = MLP(20, (30, 30), 4)
    x = torch.randn(3, 20, generator=torch.Generator().manual_seed(0))
    single, double = (
        local(model, *parts(model), dtype=dtype).outputs(x, range(8), seed=0)
        for dtype in (torch.float32, torch.float64)
    )
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-5)


class Rows(TorchFunctionMode):
    """Number of rows of each product."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is functional.linear:
            self.seen.append(len(args[0]))
        return func(*args, **(kwargs or {}))


def test_products_of_the_first_layer_are_computed_once_for_all_networks():
    network = local(model := MLP(6, (5, 5), 3), *parts(model))
    with Rows() as rows:
        network.outputs(torch.rand(2, 6), range(4), seed=0)
    assert rows.seen == [2, 2, 8, 8, 8, 8]


def test_outputs_leave_nothing_behind():
    network = local(model := MLP(6, (5, 5), 3), *parts(model))
    state = torch.get_rng_state()
    first = network.outputs(torch.ones(2, 6), range(4), seed=0)
    network.outputs(torch.zeros(3, 6), range(7), seed=1)
    assert torch.equal(network.outputs(torch.ones(2, 6), range(4), seed=0), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.is_meta for p in network._module.parameters())


def test_threads_share_an_object_but_not_its_module():
    model = MLP(30, (40, 40), 3)
    network = local(model, *parts(model))
    x = torch.randn(40, 30, generator=torch.Generator().manual_seed(0))
    expected = network.outputs(x, range(20), seed=0)
    own = threading.local()

    def one(i):
        if not hasattr(own, "module"):
            own.module = copy.deepcopy(model).eval().to("meta")
        return network.outputs(x[i : i + 1], range(20), seed=0, first_input=i, module=own.module)

    with ThreadPoolExecutor(4) as pool:
        found = torch.cat(list(pool.map(one, range(40))), dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_another_module_runs_in_place_of_the_first():
    network = local(model := nn.Sequential(nn.Linear(3, 2)), *parts(model))
    x = torch.rand(2, 3)
    squared = type("Squared", (nn.Sequential,), {"forward": lambda self, x: self[0](x) ** 2})
    found = network.outputs(x, range(2), seed=0, module=squared(nn.Linear(3, 2)))
    torch.testing.assert_close(found, network.outputs(x, range(2), seed=0) ** 2)


class Computes(nn.Module):
    """One linear layer by any function of its input, weight and bias."""

    def __init__(self, function):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(3, 3)), nn.Parameter(torch.ones(3))
        self.function = function

    def forward(self, x):
        return self.function(x, self.weight, self.bias)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x, w, b: x @ w, "matmul"),
        (lambda x, w, b: functional.linear(x, w.sign(), b), "sign"),
        (lambda x, w, b: functional.linear(x, w.data), "data"),
        (lambda x, w, b: functional.linear(w, w), "linear"),
        (lambda x, w, b: torch.cat([x, w]), "cat"),
        (lambda x, w, b: x * sum(w.chunk(3)[0]), "chunk"),
        (lambda x, w, b: x * w.norm().item(), "norm"),
        (lambda x, w, b: functional.linear(input=x, weight=w, bias=w[0]), "getitem"),
        (lambda x, w, b: torch.addmm(b, mat1=x, mat2=w), "addmm"),
    ],
)
def test_other_operations_on_binary_weights_are_refused(function, name):
    network = local(model := Computes(function), *parts(model))
    with pytest.raises(ValueError, match=rf"operation \S*{name}.* use method='monte_carlo'"):
        network.outputs(torch.rand(2, 3), range(2), seed=0)


def test_binary_biases_are_refused():
    model = Computes(functional.linear)
    network = local(model, *parts(model, ("weight", "bias")))
    with pytest.raises(ValueError, match=r"operation \S*linear on a binary weight"):
        network.outputs(torch.rand(2, 3), range(2), seed=0)


def test_a_weight_may_be_looked_at():
    def function(x, w, b):
        assert w.shape == (3, 3)
        assert w.dim() == 2
        return functional.linear(x.to(w.device, w.dtype), w, b)

    network = local(model := Computes(function), *parts(model))
    plain = local(model := Computes(functional.linear), *parts(model))
    x = torch.rand(2, 3)
    expected = plain.outputs(x, range(2), seed=0)
    assert torch.equal(network.outputs(x, range(2), seed=0), expected)


def test_layers_whose_input_has_no_batch_in_front_are_refused():
    network = local(model := Computes(lambda x, w, b: functional.linear(x.T[:, :3], w)),
                    *parts(model))  # fmt: skip
    with pytest.raises(ValueError, match=r"\(3, 3\) for 2 networks × 2 inputs; use method="):
        network.outputs(torch.rand(2, 3), range(2), seed=0)
