"""What `inference.py` times: a posterior with inputs, plain ways to run it, and the machine itself.

The rivals do what others do for the same prediction, as plainly and as fast as that allows:

- ``authors``: the evaluation loop of BayesBiNN's authors (`utils/train_utils.py` and
  `get_mc_predictions`): for every batch and every network σ(2λ), torch.bernoulli, 2b − 1 put in
  the place of the model's parameters, forward, softmax. It keeps one network, not a list of all.
- ``vmap``: torch.func.vmap over stacked networks, each drawn once for all batches, by torch.rand,
  which is faster than torch.bernoulli.
- ``bayesian-torch``: that library's Gaussian layers, which draw all weights anew in each forward.
"""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.utils import parameters_to_vector, vector_to_parameters

import bbnn_uq
from bbnn_uq import BernoulliPosterior, models

NUM_CLASSES = 10
BATCH = 1000
STACK_BYTES = 2 * 2**30
PRODUCT = 2048
PRODUCTS = ("float32", "bfloat16", "int8")


def nothing() -> None:
    return None


@dataclass(frozen=True)
class Runner:
    """Something to time: ``run(prepare())``, of which only ``run`` is timed."""

    run: Callable[[Any], Any]
    prepare: Callable[[], Any] = nothing
    networks: int = 1  # or whatever else one run does: seconds are divided by it


@dataclass(frozen=True)
class Clock:
    repeats: int
    least: float = 0.2  # seconds that each contestant runs in one repetition

    def once(self, runner: Runner) -> tuple[float, Any]:
        """Seconds of one run divided by its networks, and what it returned."""
        seconds, runs, output = 0.0, 0, None
        while seconds < self.least:
            given = runner.prepare()
            started = time.perf_counter()
            output = runner.run(given)
            seconds += time.perf_counter() - started
            runs += 1
            del given
        return seconds / runs / runner.networks, output

    def interleaved(self, runners: dict[str, Runner]) -> tuple[dict[str, np.ndarray], dict]:
        """Seconds by contestant and repetition, and each contestant's last output."""
        seconds, outputs, names = {name: [] for name in runners}, {}, list(runners)
        for repetition in range(self.repeats + 1):
            names.reverse()
            for name in names:
                spent, outputs[name] = self.once(runners[name])
                if repetition > 0:
                    seconds[name].append(spent)
        return {name: np.array(values) for name, values in seconds.items()}, outputs


def quartiles(values: np.ndarray) -> list[float]:
    """First quartile, median and third quartile."""
    return [float(value) for value in np.quantile(values, (0.25, 0.5, 0.75))]


class Problem:
    """A model, a random posterior over its weights, and random inputs."""

    def __init__(self, spec: str, input_shape: tuple[int, ...], num_inputs: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.model = models.build(spec, input_shape, NUM_CLASSES).eval().requires_grad_(False)
        self.x = torch.rand(num_inputs, *input_shape, generator=generator)
        fan_in = 1
        for module in self.model:
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                fan_in = module.weight[0].numel()
            elif isinstance(module, nn.modules.batchnorm._BatchNorm):
                # Of the size that ±1 weights bring about, a little different for each feature.
                noise = torch.randn(2, module.num_features, generator=generator)
                module.running_mean.copy_(noise[0] * 0.1 * fan_in**0.5)
                module.running_var.copy_(noise[1].mul(0.2).exp() * fan_in / 2)
        self.natural = {
            name: 2 * torch.randn(value.shape, generator=generator)
            for name, value in self.model.named_parameters()
            if value.ndim > 1
        }

    def posterior(self) -> BernoulliPosterior:
        """A new value each time: nothing that an earlier call remembers belongs to it."""
        state = self.model.state_dict()
        real = {name: value for name, value in state.items() if name not in self.natural}
        return BernoulliPosterior(self.natural, real)

    def batches(self) -> Iterator[tuple[slice, Tensor]]:
        for start in range(0, len(self.x), BATCH):
            rows = slice(start, start + BATCH)
            yield rows, self.x[rows]

    def outputs_by_layer(self) -> list[tuple[nn.Module, Tensor]]:
        """Every layer's output for one input."""
        seen: list[tuple[nn.Module, Tensor]] = []
        x = self.x[:1]
        for module in self.model:
            x = module(x)
            seen.append((module, x))
        return seen

    def macs(self) -> int:
        """Multiplications of a binary weight, for one input and one network."""
        return sum(
            module.weight[0].numel() * output.numel()
            for module, output in self.outputs_by_layer()
            if isinstance(module, (nn.Linear, nn.Conv2d))
        )


def authors(problem: Problem, networks: int) -> Runner:
    model, generator = copy.deepcopy(problem.model), torch.Generator().manual_seed(1)
    natural = parameters_to_vector(problem.natural.values())
    binary = [model.get_parameter(name) for name in problem.natural]

    def run(_: None) -> Tensor:
        total = torch.zeros(len(problem.x), NUM_CLASSES)
        for rows, x in problem.batches():
            for _network in range(networks):
                noise = torch.bernoulli(torch.sigmoid(2 * natural), generator=generator)
                vector_to_parameters(2 * noise - 1, binary)
                total[rows] += torch.softmax(model(x), dim=1)
        return total / networks

    return Runner(run, networks=networks)


def signs(uniform: Tensor, positive: Tensor) -> Tensor:
    """±1 from uniform numbers, in their place."""
    return uniform.lt_(positive).mul_(2).sub_(1)


def stacked(problem: Problem, networks: int) -> Runner:
    """torch.func.vmap over as many networks as 2 GiB hold, or ``networks`` if they are fewer."""
    model, generator = problem.model, torch.Generator().manual_seed(2)
    # Once, and outside the clock.
    positive = {name: torch.sigmoid(2 * value) for name, value in problem.natural.items()}
    widest = max(output.numel() for _, output in problem.outputs_by_layer())
    numbers = sum(value.numel() for value in positive.values())
    numbers += 3 * widest * min(BATCH, len(problem.x))  # a layer's input, output and a temporary
    chunk = max(1, STACK_BYTES // (4 * numbers))

    def forward(x: Tensor, weights: dict[str, Tensor]) -> Tensor:
        return functional_call(model, weights, (x,))

    def run(_: None) -> Tensor:
        total = torch.zeros(len(problem.x), NUM_CLASSES)
        for start in range(0, networks, chunk):
            count = min(chunk, networks - start)
            drawn = {
                name: signs(torch.rand(count, *p.shape, generator=generator), p)
                for name, p in positive.items()
            }
            for rows, x in problem.batches():
                logits = vmap(partial(forward, x))(drawn)
                total[rows] += torch.softmax(logits, dim=2).sum(dim=0)
        return total / networks

    return Runner(run, networks=networks)


def gaussian(problem: Problem, networks: int) -> Runner | None:
    """bayesian-torch on the same layers with means tanh λ; None when it is not installed."""
    try:
        from bayesian_torch.models.dnn_to_bnn import dnn_to_bnn
    except ImportError:
        return None
    model = copy.deepcopy(problem.model)
    for name, value in problem.natural.items():
        model.get_parameter(name).copy_(torch.tanh(value))
    prior = {"prior_mu": 0.0, "prior_sigma": 1.0, "type": "Reparameterization"}
    start = {"posterior_mu_init": 0.0, "posterior_rho_init": -3.0}
    dnn_to_bnn(model, prior | start | {"moped_enable": True, "moped_delta": 0.5})
    model.eval()

    def run(_: None) -> Tensor:
        total = torch.zeros(len(problem.x), NUM_CLASSES)
        for rows, x in problem.batches():
            for _network in range(networks):
                total[rows] += torch.softmax(model(x), dim=1)
        return total / networks

    return Runner(run, networks=networks)


RIVALS: dict[str, Callable[[Problem, int], Runner | None]] = {
    "authors": authors,
    "vmap": stacked,
    "bayesian-torch": gaussian,
}


def products() -> dict[str, Runner]:
    """The machine's own matrix products, of 2048 × 2048 matrices."""
    generator = torch.Generator().manual_seed(3)
    real = torch.randn(2, PRODUCT, PRODUCT, generator=generator)
    whole = torch.randint(-127, 128, real.shape, dtype=torch.int8, generator=generator)

    def run(operands: Tensor, out: Tensor, _: None) -> None:
        multiply = torch._int_mm if operands.dtype == torch.int8 else torch.mm
        multiply(operands[0], operands[1], out=out)

    results = (real[0].clone(), real[0].bfloat16(), torch.zeros_like(whole[0], dtype=torch.int32))
    found = zip(PRODUCTS, (real, real.bfloat16(), whole), results, strict=True)
    return {f"product {name}": Runner(partial(run, x, out)) for name, x, out in found}


def product_rates(seconds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Operations per second, a multiplication and an addition counting as two."""
    return {name: 2 * PRODUCT**3 / seconds[f"product {name}"] for name in PRODUCTS}


def drawing(problem: Problem) -> dict[str, Runner]:
    """One network of ±1 in float32, probabilities ready: ours and ordinary generators."""
    posterior, counter = problem.posterior(), itertools.count()
    generator, numpy_generator = torch.Generator().manual_seed(4), np.random.default_rng(4)
    positive = {name: torch.sigmoid(2 * value) for name, value in problem.natural.items()}
    arrays = {name: value.numpy() for name, value in positive.items()}

    def by_bernoulli(_: None) -> list[Tensor]:
        return [torch.bernoulli(p, generator=generator).mul_(2).sub_(1) for p in positive.values()]

    def by_rand(_: None) -> list[Tensor]:
        return [signs(torch.rand(p.shape, generator=generator), p) for p in positive.values()]

    def by_numpy(_: None) -> list[np.ndarray]:
        uniform = ((numpy_generator.random(p.shape, dtype=np.float32), p) for p in arrays.values())
        return [np.where(u < p, np.float32(1), np.float32(-1)) for u, p in uniform]

    return {
        "bbnn_uq.draw": Runner(lambda _: bbnn_uq.draw(posterior, next(counter))),
        "torch.bernoulli": Runner(by_bernoulli),
        "torch.rand": Runner(by_rand),
        "NumPy": Runner(by_numpy),
    }


def agreement(networks: int = 2000, largest: float = 5.0) -> dict[str, float]:
    """Whether the rivals compute what `predict` computes, on a small model.

    Returns:
        The largest difference of a mean probability from that of `predict`, in standard errors.
    """
    problem = Problem("mlp:16x2", (1, 5, 4), 32)
    ours = bbnn_uq.predict(
        problem.model, problem.posterior(), problem.x, num_samples=networks, keep_samples=True,
        device="cpu",
    )  # fmt: skip
    error = (2 / networks) ** 0.5 * ours.samples.std(axis=0)
    found = {}
    for name in ("authors", "vmap"):
        runner = RIVALS[name](problem, networks)
        assert runner is not None
        found[name] = float(np.max(np.abs(runner.run(None).numpy() - ours.probs) / error))
        if found[name] > largest:
            raise RuntimeError(f"{name} and predict differ by {found[name]:.1f} standard errors")
    return found
