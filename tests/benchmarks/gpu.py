"""Monte Carlo binary networks on a GPU: drawing, few inputs, and many, beside matrix products.

    python tests/benchmarks/gpu.py --out docs/benchmarks/gpu.json

Needs a CUDA device and Triton. The network is the paper's, 784-2048-2048-2048-10 with BatchNorm
statistics of each network; the inputs are normal numbers. Bits are compared with the CPU's before
anything is timed, and the script fails where they differ. Kernels are compiled in an empty cache,
and a call's first seconds are reported apart. Short work is timed by events on the device, with
all that the host does between launches; predictions and the authors' loop by a clock, from inputs
on the CPU to probabilities on the CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

import bbnn_uq
from bbnn_uq import BernoulliPosterior, models, philox
from bbnn_uq._files import atomic_path
from bbnn_uq.inference.kernels import draw_and_multiply
from bbnn_uq.philox import triton_stream
from bbnn_uq.philox.torch_stream import positive_weights_torch

DEVICE = "cuda"
SEED = 0
NETWORKS = 100
INPUTS = 10_000
BATCH = 1000
FEATURES, HIDDEN, CLASSES = 784, (2048,) * 3, 10
DRAWN_AT_ONCE = 16
FEW_INPUTS = (1, 2, 4, 8, 16)
PRODUCTS = (2048, 8192)
PRECISIONS = ("float32", "bfloat16")

Rows = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Layer:
    """One linear layer's thresholds on the device, and the BatchNorm that follows it."""

    name: str
    shape: tuple[int, int]
    thresholds: philox.Thresholds  # on the CPU
    head: Tensor
    tail: Tensor
    address: int
    mean: Tensor  # (networks, 1, features)
    scale: Tensor


# --- The network ---------------------------------------------------------------------------------


def build() -> tuple[nn.Module, BernoulliPosterior, Tensor]:
    generator = torch.Generator().manual_seed(SEED)
    x = torch.randn(INPUTS, FEATURES, generator=generator)
    model = models.MLP(FEATURES, HIDDEN, CLASSES)
    natural = {
        name: 1.5 * torch.randn(value.shape, generator=generator)
        for name, value in model.named_parameters()
        if value.ndim == 2
    }
    real = {name: value for name, value in model.state_dict().items() if name not in natural}
    posterior = BernoulliPosterior(natural, real)
    return model, bbnn_uq.refresh_batchnorm(model, posterior, x, num_samples=NETWORKS), x


def layers_of(model: nn.Module, posterior: BernoulliPosterior) -> list[Layer]:
    assert posterior.batchnorm is not None
    statistics = posterior.batchnorm.networks
    layers = []
    for name, value in posterior.natural_param.items():
        linear = name.removesuffix(".weight")
        norm = linear.replace("linear", "norm").replace("output", "output_norm")
        module = model.get_submodule(norm)
        assert isinstance(module, nn.BatchNorm1d)
        mean = statistics[f"{norm}.running_mean"][:, None].to(DEVICE)
        variance = statistics[f"{norm}.running_var"][:, None].to(DEVICE)
        thresholds = philox.thresholds(value.double().numpy())
        head, tail = (torch.from_numpy(each).to(DEVICE) for each in thresholds)
        layer = Layer(
            name, (value.shape[0], value.shape[1]), thresholds, head, tail,
            philox.parameter_address(name), mean, torch.rsqrt(variance + module.eps),
        )  # fmt: skip
        layers.append(layer)
    return layers


# --- Measuring -----------------------------------------------------------------------------------


def first_seconds(call: Callable[[], Any]) -> float:
    """Of the first call, until the device has finished: compilation included."""
    torch.cuda.synchronize()
    started = time.perf_counter()
    call()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def on_device(call: Callable[[], Any], repeats: int = 30) -> dict[str, float]:
    """Seconds of a call on the device's clock, after three that are not counted."""
    for _ in range(3):
        call()
    seconds = []
    for _ in range(repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        end.synchronize()
        seconds.append(begin.elapsed_time(end) / 1e3)
    return quartiles(seconds)


def on_host(call: Callable[[], Any], repeats: int = 5) -> dict[str, float]:
    """Seconds of a call on the host's clock, the first call apart."""
    first = first_seconds(call)
    return {"first": first} | quartiles([first_seconds(call) for _ in range(repeats)])


def quartiles(seconds: list[float]) -> dict[str, float]:
    low, median, high = np.quantile(seconds, (0.25, 0.5, 0.75)).tolist()
    return {"seconds": median, "lower": low, "upper": high}


# --- What is measured ----------------------------------------------------------------------------


def check_bits(layers: list[Layer], posterior: BernoulliPosterior) -> int:
    """Compare drawn weights with the CPU's; the number of weights that were compared."""
    compared = 0
    for index in (0, 1, NETWORKS - 1):
        placed = bbnn_uq.draw(posterior, index, seed=SEED, device=DEVICE)
        for layer in layers:
            key = (SEED, index)
            positive = philox.positive_weights(layer.thresholds, key, layer.address)
            expected = torch.from_numpy(positive).to(DEVICE)
            # A type that is not timed later on, whose kernel would be compiled here already.
            out = torch.zeros(expected.shape, dtype=torch.float16, device=DEVICE)
            triton_stream.draw_weights(layer.head, layer.tail, key, layer.address, out)
            plain = positive_weights_torch(layer.head, layer.tail, key, layer.address)
            sign = expected.half() * 2 - 1
            for name, same in {
                "Triton": torch.equal(out, sign),
                "torch": torch.equal(plain, expected),
                "draw": torch.equal(placed[layer.name].reshape(-1), sign.float()),
            }.items():
                if not same:
                    sys.exit(f"{name} and the CPU draw different bits of {layer.name}, {index}")
            compared += positive.size
    return compared


def drawing(layers: list[Layer]) -> Rows:
    """All weights of some networks, written to memory."""
    rows: Rows = {}
    weights = sum(layer.head.numel() for layer in layers)
    for dtype in (torch.int8, torch.bfloat16, torch.float32):
        shapes = [(DRAWN_AT_ONCE, layer.head.numel()) for layer in layers]
        outs = [torch.empty(shape, dtype=dtype, device=DEVICE) for shape in shapes]

        def draw_all(outs: list[Tensor] = outs) -> None:
            for layer, out in zip(layers, outs, strict=True):
                triton_stream.draw_weights(layer.head, layer.tail, (SEED, 0), layer.address, out)

        compile_seconds = first_seconds(draw_all)
        found = on_device(draw_all)
        rate = DRAWN_AT_ONCE * weights / found["seconds"]
        name = f"Triton, {DRAWN_AT_ONCE} networks, {str(dtype).removeprefix('torch.')}"
        rows[name] = found | {"first": compile_seconds, "weights per second": rate}

    def draw_plainly() -> None:
        for layer in layers:
            positive_weights_torch(layer.head, layer.tail, (SEED, 0), layer.address)

    found = on_device(draw_plainly, repeats=10)
    rows["torch operations, 1 network"] = found | {"weights per second": weights / found["seconds"]}
    return rows


def few_inputs(layer: Layer) -> Rows:
    """One layer of all networks: drawn where it is used, or drawn to memory and multiplied."""
    rows: Rows = {}
    out_features, in_features = layer.shape
    key = (SEED, 0)
    drawn = torch.empty((NETWORKS, layer.head.numel()), dtype=torch.bfloat16, device=DEVICE)
    weights = drawn.view(NETWORKS, out_features, in_features).mT
    for inputs in FEW_INPUTS:
        x = torch.randn((NETWORKS, inputs, in_features), device=DEVICE)
        rounded = x.bfloat16()

        def fused(x: Tensor = x) -> Tensor:
            return draw_and_multiply(x, layer.head, layer.tail, key, layer.address, NETWORKS)

        def apart(rounded: Tensor = rounded) -> Tensor:
            triton_stream.draw_weights(layer.head, layer.tail, key, layer.address, drawn)
            return torch.bmm(rounded, weights)

        compile_seconds = first_seconds(fused)
        rows[f"M = {inputs}, fused"] = on_device(fused) | {"first": compile_seconds}
        rows[f"M = {inputs}, drawn and multiplied"] = on_device(apart)
        exact = torch.bmm(x.double(), weights.double())
        error = (fused().double() - exact).abs().max() / exact.abs().max()
        rows[f"M = {inputs}, fused"]["relative error"] = float(error)
    return rows


def fused_probabilities(layers: list[Layer], scale: Tensor, x: Tensor) -> Tensor:
    """The mean over the networks of their class probabilities."""
    for i, layer in enumerate(layers):
        x = draw_and_multiply(x, layer.head, layer.tail, (SEED, 0), layer.address, NETWORKS)
        x = (x - layer.mean) * layer.scale
        if i + 1 < len(layers):
            x = torch.relu_(x)
    return torch.softmax(x * scale, dim=-1).mean(dim=0)


def one_input(
    model: nn.Module, posterior: BernoulliPosterior, layers: list[Layer], x: Tensor
) -> Rows:
    """One input through all networks."""
    placed = x[:1].to(DEVICE)
    scale = posterior.real_state["output_scale.scale"].to(DEVICE)

    def fused() -> Tensor:
        return fused_probabilities(layers, scale, placed)

    compile_seconds = first_seconds(fused)
    rows = {"fused": on_device(fused) | {"first": compile_seconds}}
    exact = predicting(model, posterior, x[:1], "float64", "cpu")()
    assert isinstance(exact, bbnn_uq.Predictive)
    rows["fused"]["largest error"] = float(np.abs(fused().cpu().numpy() - exact.probs).max())
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        fused()
    rows["fused, replayed as a graph"] = on_device(graph.replay)
    for precision in PRECISIONS:
        rows[f"predict, {precision}"] = on_host(predicting(model, posterior, x[:1], precision))
    return rows


def predicting(
    model: nn.Module, posterior: BernoulliPosterior, x: Tensor, precision: str, device: str = DEVICE
) -> Callable[[], Any]:
    return lambda: bbnn_uq.predict(
        model, posterior, x, num_samples=NETWORKS, seed=SEED, precision=precision, device=device
    )


def product_rates() -> Rows:
    """Square bfloat16 products of normal numbers with ±1."""
    rows: Rows = {}
    for size in PRODUCTS:
        a = torch.randn(size, size, device=DEVICE).bfloat16()
        b = torch.where(torch.rand(size, size, device=DEVICE) < 0.5, 1.0, -1.0).bfloat16()
        out = torch.empty_like(a)
        found = on_device(lambda a=a, b=b, out=out: torch.mm(a, b, out=out))
        rows[str(size)] = found | {"operations per second": 2 * size**3 / found["seconds"]}
    return rows


def many_inputs(model: nn.Module, posterior: BernoulliPosterior, x: Tensor, peak: float) -> Rows:
    """All inputs through all networks."""
    rows: Rows = {}
    operations = 2.0 * len(x) * posterior.num_weights * NETWORKS
    for precision in PRECISIONS:
        found = on_host(predicting(model, posterior, x, precision))
        rows[f"predict, {precision}"] = found
    rows["authors' loop, float32"] = on_host(authors(model, posterior, x), repeats=3)
    loop = rows["authors' loop, float32"]["seconds"]
    for row in rows.values():
        row["share of the peak"] = operations / row["seconds"] / peak
        row["times faster than the loop"] = loop / row["seconds"]
    return rows


def authors(model: nn.Module, posterior: BernoulliPosterior, x: Tensor) -> Callable[[], Any]:
    """The evaluation of BayesBiNN's authors: float Bernoulli draws anew for every batch.

    For every batch and every network σ(2λ), torch.bernoulli, 2b − 1 put in the place of the
    model's parameters, forward, softmax.
    """
    copied = models.MLP(FEATURES, HIDDEN, CLASSES).to(DEVICE).eval()
    copied.load_state_dict(model.state_dict() | posterior.real_state)
    natural = parameters_to_vector(posterior.natural_param.values()).to(DEVICE)
    binary = [copied.get_parameter(name) for name in posterior.natural_param]
    generator = torch.Generator(DEVICE).manual_seed(1)

    @torch.no_grad()
    def run() -> Tensor:
        probabilities = []
        for batch in x.split(BATCH):
            placed = batch.to(DEVICE)
            total = torch.zeros(len(batch), CLASSES, device=DEVICE)
            for _ in range(NETWORKS):
                noise = torch.bernoulli(torch.sigmoid(2 * natural), generator=generator)
                vector_to_parameters(2 * noise - 1, binary)
                total += torch.softmax(copied(placed), dim=1)
            probabilities.append((total / NETWORKS).cpu())
        return torch.cat(probabilities)

    return run


# --- Report --------------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(DEVICE)
    return {
        "gpu": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory": properties.total_memory,
        "cores": os.cpu_count(),
        "cuda": torch.version.cuda,
        "torch": torch.__version__,
        "triton": triton_stream.triton.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def print_table(title: str, rows: Rows) -> None:
    extra = list(dict.fromkeys(name for row in rows.values() for name in row))
    extra = [name for name in extra if name not in ("seconds", "lower", "upper", "first")]
    print(f"\n{title}\n")
    print("| " + " | ".join(["", "ms", "quartiles", "first call, s", *extra]) + " |")
    print("|---" * (4 + len(extra)) + "|")
    for name, row in rows.items():
        cells = [
            name,
            f"{1e3 * row['seconds']:.4g}",
            f"{1e3 * row['lower']:.4g}–{1e3 * row['upper']:.4g}",
            f"{row['first']:.2f}" if "first" in row else "",
            *(f"{row[each]:.3g}" if each in row else "" for each in extra),
        ]
        print("| " + " | ".join(cells) + " |", flush=True)


def measure() -> dict[str, Any]:
    found: dict[str, Any] = {"machine": machine()}
    print(", ".join(f"{name} {value}" for name, value in found["machine"].items()), flush=True)
    model, posterior, x = build()
    layers = layers_of(model, posterior)
    found["weights"] = posterior.num_weights
    found["bits compared"] = check_bits(layers, posterior)
    print(f"{found['bits compared']:,} weights have the CPU's bits", flush=True)

    def table(name: str, title: str, rows: Rows) -> Rows:
        found[name] = rows
        print_table(title, rows)
        return rows

    products = table("products", "bfloat16 products, size", product_rates())
    peak = max(row["operations per second"] for row in products.values())
    table("drawing", f"Drawing networks of {posterior.num_weights:,} weights", drawing(layers))
    title = f"A layer of {layers[1].shape[0]} × {layers[1].shape[1]} in {NETWORKS} networks"
    table("few inputs", title, few_inputs(layers[1]))
    table("one input", f"1 × {NETWORKS}", one_input(model, posterior, layers, x))
    title = f"{len(x):,} × {NETWORKS}"
    table("many inputs", title, many_inputs(model, posterior, x, peak))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/gpu.json"))
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("this benchmark needs a CUDA device, and torch finds none here")
    if not triton_stream.available():
        sys.exit("this benchmark needs Triton: pip install triton")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TRITON_CACHE_DIR"] = cache  # an empty one: compilation is measured
        found = measure()
    with atomic_path(arguments.out) as temporary:
        temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
