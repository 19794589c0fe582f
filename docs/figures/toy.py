"""What the two toy figures share: the network, the point estimate and the two recipes."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR

import bbnn_uq
from bbnn_uq import BernoulliPosterior
from bbnn_uq.inference import refresh_batchnorm
from bbnn_uq.inputs import compute_normalisation, normalise, seeded_torch
from bbnn_uq.likelihoods import Gaussian, as_likelihood
from bbnn_uq.models import OutputScale
from bbnn_uq.optim import STEAdam
from bbnn_uq.training import binary_parameters

NETWORKS = 100
REAL_LR = 0.03  # fit's
STE_LR = 0.01

# Relaxed draws at τ = 1, five a step, λ from ±15 and the whole KL term: the paper's toy recipe.
PAPER: dict[str, Any] = {
    "estimator": "concrete",
    "temperature": 1.0,
    "num_samples": 5,
    "init_scale": 15.0,
    "kl_weight": 1.0,
}
# Σ α over the steps of the paper's recipe. Where the data are silent the KL term takes λ from 15
# to 15 exp(−Σ α) = 2.2, a flip probability of 1 %. With 1.5 it ends at 3.3, or 0.1 %, and a drawn
# network is nearly the mode; with 3 at 0.7, or 20 %, and the networks fit the data worse.
DECAY = 1.9
# For comparison: the estimator that fit defaults to, tempered, with a step at which λ settles.
STRAIGHT_THROUGH: dict[str, Any] = {
    "estimator": "straight_through",
    "lr": 0.3,
    "kl_weight": 3e-3,
}


def network(in_features: int, seed: int) -> nn.Sequential:
    """The paper's tanh network, in_features-64-64-1, with biases in its first layer.

    With weights ±1 and no bias, a first layer with BatchNorm has 2^D different features of D
    inputs, half of them mirror images of the rest: for one input a single curve and its mirror
    image. So its units have real-valued biases, and start spread over normalised inputs rather
    than all at their mean. The other layers are those of :class:`bbnn_uq.models.MLP`: BatchNorm
    without affine parameters, and one learned scale at the end.

    Args:
        in_features: D.
        seed: of the biases.
    """

    def batchnorm(features: int) -> nn.BatchNorm1d:
        return nn.BatchNorm1d(features, eps=1e-4, momentum=0.15, affine=False)

    first = nn.Linear(in_features, 64)
    generator = torch.Generator().manual_seed(seed)
    nn.init.uniform_(first.bias, -2.0, 2.0, generator=generator)
    return nn.Sequential(
        first,
        nn.Tanh(),
        nn.Linear(64, 64, bias=False),
        batchnorm(64),
        nn.Tanh(),
        nn.Linear(64, 1, bias=False),
        batchnorm(1),
        OutputScale(),
    )


def recipes(steps: int) -> dict[str, dict[str, Any]]:
    """Arguments of :func:`bbnn_uq.fit` by the names that the tables have for them."""
    # fit's cosine has a mean of ½.
    return {
        "paper's recipe": PAPER | {"lr": 2.0 * DECAY / steps},
        "straight-through": STRAIGHT_THROUGH,
    }


def train_posterior(
    data: tuple[Tensor, Tensor], likelihood: str, recipe: Mapping[str, Any], steps: int, seed: int
) -> BernoulliPosterior:
    """`steps` full-batch steps of :func:`bbnn_uq.fit`."""
    return bbnn_uq.fit(
        network(data[0].shape[1], seed),
        data,
        epochs=steps,
        batch_size=len(data[0]),
        likelihood=likelihood,
        normalise=True,
        batchnorm_networks=NETWORKS,
        seed=seed,
        **recipe,
    )


def train_ste(
    data: tuple[Tensor, Tensor], likelihood: str, steps: int, seed: int
) -> BernoulliPosterior:
    """A network trained by STE-Adam, as a posterior with all its mass there.

    Both step sizes fall to 0 along a cosine, as in :func:`bbnn_uq.fit`.
    """
    x, y = data
    model, loss = network(x.shape[1], seed).train(), as_likelihood(likelihood)
    if isinstance(loss, Gaussian):
        loss.fit_targets(y, normalise=True)
    moments = compute_normalisation(x)
    inputs = normalise(x, moments)
    binary = set(binary_parameters(model))
    weights = {name: p for name, p in model.named_parameters() if name in binary}
    real = [p for name, p in model.named_parameters() if name not in binary]
    generator = torch.Generator().manual_seed(seed)
    optimizers: list[Optimizer] = [
        STEAdam(weights.values(), lr=STE_LR, generator=generator),
        Adam([*real, *loss.parameters()], lr=REAL_LR),
    ]
    schedulers = [CosineAnnealingLR(each, steps) for each in optimizers]
    with seeded_torch(seed, torch.device("cpu")):
        for _ in range(steps):
            for each in optimizers:
                each.zero_grad()
            loss(model(inputs), y).backward()
            for each in (*optimizers, *schedulers):
                each.step()
    state = {name: value for name, value in model.state_dict().items() if name not in binary}
    # σ(−2·50) is 0 to the last digit: every network drawn from it is this one.
    point = BernoulliPosterior(
        {name: 50.0 * p.detach() for name, p in weights.items()},
        state,
        {"normalisation": moments, "likelihood": loss.to_metadata()},
    )
    return refresh_batchnorm(model, point, x, num_samples=1)


def stopped_early(posterior: BernoulliPosterior, steps: int) -> dict[str, float]:
    """How much of a posterior's spread is a matter of when training stopped.

    Without data each step only takes λ to (1 − α ρ) λ, from ±`init_scale` towards the prior's 0.
    Where |λ| is still about that at the end, the flip probability says how long training was.
    """
    recipe = posterior.metadata["recipe"]
    shares = 0.5 * (1.0 + np.cos(np.pi * np.arange(steps) / steps))
    left = np.prod(1.0 - recipe["lr"] * recipe["kl_weight"] * shares)
    untouched = recipe["init_scale"] * float(left)
    size = torch.cat([value.abs().flatten() for value in posterior.natural_param.values()])
    return {
        "bits per weight": posterior.bits_per_weight(),
        "median abs λ": float(size.median()),
        "abs λ without data": untouched,
        "weights within 10 % of that": float(((size / untouched - 1).abs() < 0.1).double().mean()),
    }


def table(first: str, rows: Mapping[str, Mapping[str, float]]) -> None:
    """Print a Markdown table: a row by name, a column for each of its numbers."""
    columns = list(next(iter(rows.values())))
    print("| " + " | ".join([first, *columns]) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for name, values in rows.items():
        print(f"| {name} | " + " | ".join(f"{values[column]:.3f}" for column in columns) + " |")
    print()


def name_panels(axes: Sequence[Axes], names: Sequence[str], pad: float) -> None:
    """Letters and titles, as far above the axes as their legends are high, in points."""
    for ax, letter, name in zip(axes, "abcdefgh", names, strict=False):
        ax.set_title(letter, loc="left", fontweight="bold", pad=pad)
        ax.set_title(name, pad=pad)
        ax.label_outer()


def arguments(description: str, steps: int, argv: Sequence[str] | None) -> argparse.Namespace:
    """The scripts' options."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder")
    parser.add_argument("--seed", type=int, default=0, help="of data, biases and draws")
    parser.add_argument("--steps", type=int, default=steps, help="of training, full batch")
    chosen = parser.parse_args(argv)
    chosen.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # the tensors are small: more threads cost more than they bring
    return chosen
