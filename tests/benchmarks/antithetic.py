"""Do antithetic draws lower the variance of a gradient? Two draws a step, paired or independent.

    .venv/bin/python tests/benchmarks/antithetic.py

Both networks of an antithetic pair come from one uniform number per weight, u and 1 − u: weights
that are undecided take opposite signs. The table holds the variance of the pair's mean gradient
in μ, summed over the weights of a layer, antithetic divided by independent: on one minibatch of
Fashion-MNIST (the noise of the draws alone), and over random minibatches (all the noise that
training sees). Measured at the start, where every weight flips with probability 0.12, and after
training.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

import bbnn_uq
from bbnn_uq import bernoulli, models
from bbnn_uq.data import load_data
from bbnn_uq.inputs import compute_normalisation, normalise

BATCH, PAIRS, TEMPERATURE = 100, 300, 0.5
LAYERS = ("linear1", "linear2", "linear3", "output")


def gradients(
    model: nn.Module,
    natural: dict[str, Tensor],
    uniforms: dict[str, Tensor],
    data: tuple,
    kind: str,
) -> dict[str, Tensor]:
    """One estimate of ∇_μ by layer, from given uniform numbers."""
    x, y = data
    weights, scales = {}, {}
    for name, value in natural.items():
        u = uniforms[name].clamp(1e-6, 1 - 1e-6)
        logistic = value + 0.5 * (u.log() - torch.log1p(-u))
        if kind == "straight_through":
            weights[name], scales[name] = torch.where(logistic > 0, 1.0, -1.0), 1.0
        else:
            relaxed = logistic / TEMPERATURE
            weights[name] = torch.tanh(relaxed)
            scales[name] = torch.exp(
                bernoulli.concrete_log_scale(value, relaxed, temperature=TEMPERATURE)
            )
        weights[name].requires_grad_()
    loss = nn.functional.cross_entropy(functional_call(model, weights, (x,)), y)
    found = torch.autograd.grad(loss, list(weights.values()))
    return {name: scales[name] * each for name, each in zip(weights, found, strict=True)}


def ratios(model: nn.Module, natural: dict[str, Tensor], data: tuple, kind: str, *, fixed: bool):
    """Variance of the mean over an antithetic pair / over an independent one, by layer."""
    x, y = data
    generator = torch.Generator().manual_seed(0)
    sums: dict[bool, dict[str, list[Tensor]]] = {}
    for antithetic in (True, False):
        total = {name: [torch.zeros_like(v), torch.zeros_like(v)] for name, v in natural.items()}
        for pair in range(PAIRS):
            rows = torch.arange(BATCH) if fixed else torch.randint(
                len(x), (BATCH,), generator=generator
            )  # fmt: skip
            first = {n: torch.rand(v.shape, generator=generator) for n, v in natural.items()}
            second = {
                n: 1 - u if antithetic else torch.rand(u.shape, generator=generator)
                for n, u in first.items()
            }
            both = [gradients(model, natural, u, (x[rows], y[rows]), kind) for u in (first, second)]
            for name in natural:
                mean = (both[0][name] + both[1][name]) / 2
                change = mean - total[name][0]
                total[name][0] += change / (pair + 1)
                total[name][1] += change * (mean - total[name][0])
        sums[antithetic] = total
    return [
        float(sums[True][f"{layer}.weight"][1].sum() / sums[False][f"{layer}.weight"][1].sum())
        for layer in LAYERS
    ]


def main() -> None:
    torch.set_num_threads(1)
    data = load_data("fashion-mnist", split="train")
    order = np.random.default_rng(0).permutation(len(data.x))[:10_000]
    x, y = torch.from_numpy(data.x[order]), torch.from_numpy(data.y[order])
    inputs = normalise(x, compute_normalisation(x))
    print("| estimator | when | minibatch | " + " | ".join(LAYERS) + " |")
    print("|---|---|---|" + "---|" * len(LAYERS))
    for when, epochs in (("start", 0), ("10 epochs", 10)):
        torch.manual_seed(0)
        model = models.build("mlp:256x3", (1, 28, 28), 10, dropout=0.0)
        lr = 0.1 if epochs else 0.0
        posterior = bbnn_uq.fit(
            model, (inputs, y), epochs=epochs or 1, batch_size=BATCH, kl_weight=1e-2, lr=lr
        )
        model.load_state_dict(dict(posterior.real_state) | posterior.mode())
        natural = posterior.natural_param
        for kind in ("straight_through", "concrete"):
            for fixed in (True, False):
                found = ratios(model.train(), natural, (inputs, y), kind, fixed=fixed)
                cells = " | ".join(f"{each:.2f}" for each in found)
                print(f"| {kind} | {when} | {'one' if fixed else 'random'} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
