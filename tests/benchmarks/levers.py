"""The levers of the recipe one at a time, on held-out training images of Fashion-MNIST.

    .venv/bin/python tests/benchmarks/levers.py --epochs 10
    .venv/bin/python tests/benchmarks/levers.py --epochs 40 --rows dropout

`straight_through` on the model of the uncertainty benchmark, 784-256-256-256-10, batch 100. The
start is kl_weight 0.01 without dropout and what `fit` has by default; each row changes what it
names. Rows of the group "loop" train in a loop of their own, with what `fit` does not offer. The
6,000 held-out images are those of the uncertainty benchmark; no test image is looked at. One row is
one seed: differences of a few thousandths in NLL are noise, as the rows of other seeds show.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
import uncertainty_data
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

import bbnn_uq
from bbnn_uq import metrics, models
from bbnn_uq.inputs import compute_normalisation, normalise, training_batches
from bbnn_uq.training import binary_parameters

START: dict[str, Any] = {"kl_weight": 1e-2, "dropout": 0.0, "seed": 0, "width": 256}
ROWS: dict[str, list[dict[str, Any]]] = {
    "seeds": [{}, {"seed": 1}, {"seed": 2}],
    "steps": [
        {"lr": 0.03},
        {"lr": 0.3},
        {"lr": 1.0, "init_scale": 3.0},
        {"lr": 0.03, "init_scale": 0.3},
        {"real_lr": 0.01},
        {"real_lr": 0.1},
        {"momentum": 0.8},
        {"momentum": 0.95},
        {"max_change": 0.03},
        {"max_change": 0.3},
        {"max_change": 1.0},
    ],
    "start": [{"init_scale": 0.3}, {"init_scale": 3.0}, {"init_scale": 3.0, "seed": 1}],
    "draws": [{"num_samples": 2}, {"num_samples": 2, "lr": 0.3}],
    "kl": [{"kl_warmup": 0.5}, {"kl_weight": 2e-2, "init_scale": 3.0}],
    "width": [{"width": 512}],
    "dropout": [{"dropout": 0.1}],
    "loop": [
        {"loop": "as fit"},
        {"loop": "kl_weight falls from 0.02 to 0.005", "kl": (2e-2, 5e-3)},
        {"loop": "kl_weight rises from 0.005 to 0.02", "kl": (5e-3, 2e-2)},
        {"loop": "lr of the first layer / 3", "rates": {"linear1.weight": 1 / 3}},
        {"loop": "lr of the first layer × 3", "rates": {"linear1.weight": 3.0}},
        {"loop": "lr of the last layer / 3", "rates": {"output.weight": 1 / 3}},
        {"loop": "lr constant, λ averaged over the last third", "average": True},
    ],
}


def train_in_a_loop(
    model: nn.Module,
    data: tuple[np.ndarray, np.ndarray],
    epochs: int,
    *,
    kl: tuple[float, float] = (1e-2, 1e-2),
    rates: dict[str, float] | None = None,
    average: bool = False,
) -> bbnn_uq.BernoulliPosterior:
    """What `fit` does, with a KL weight that moves linearly, step sizes by layer, or averaged λ."""
    x = torch.from_numpy(data[0])
    moments = compute_normalisation(x)
    inputs = normalise(x, moments)
    loader, size = training_batches((inputs, torch.from_numpy(data[1])), 100, 0)
    binary = binary_parameters(model)
    named = dict(model.named_parameters())
    groups = [
        {"params": [(name, named[name])], "lr": 0.1 * (rates or {}).get(name, 1.0)}
        for name in binary
    ]
    optimizer = bbnn_uq.BayesBiNN(
        groups, num_data=size, lr=0.1, generator=torch.Generator().manual_seed(0)
    )
    adam = torch.optim.Adam([p for name, p in named.items() if name not in binary], lr=0.03)
    steps = epochs * len(loader)
    schedulers = [CosineAnnealingLR(adam, steps)]
    if not average:
        schedulers.append(CosineAnnealingLR(optimizer, steps))
    sums = {name: torch.zeros_like(named[name]) for name in binary}
    step, counted = 0, 0
    torch.manual_seed(0)
    for _ in range(epochs):
        for batch, labels in loader:
            share = step / steps
            for group in optimizer.param_groups:
                group["kl_weight"] = kl[0] + share * (kl[1] - kl[0])

            def closure(batch=batch, labels=labels) -> torch.Tensor:
                model.zero_grad()
                loss = nn.functional.cross_entropy(model(batch), labels)
                loss.backward()
                return loss.detach()

            optimizer.step(closure)
            adam.step()
            for scheduler in schedulers:
                scheduler.step()
            step += 1
            if average and 3 * step > 2 * steps:
                counted += 1
                for name, value in optimizer.natural_param.items():
                    sums[name] += value
    natural = {n: v / counted for n, v in sums.items()} if average else optimizer.natural_param
    real = {name: value for name, value in model.state_dict().items() if name not in binary}
    posterior = bbnn_uq.BernoulliPosterior(natural, real, {"normalisation": moments})
    return bbnn_uq.refresh_batchnorm(model, posterior, x)


def measure(changes: dict[str, Any], epochs: int, data: uncertainty_data.Data) -> dict[str, float]:
    options = START | changes
    dropout, width, seed = (options.pop(key) for key in ("dropout", "width", "seed"))
    torch.manual_seed(seed)
    model = models.build(f"mlp:{width}x3", (1, 28, 28), 10, dropout=dropout)
    if options.pop("loop", None):
        del options["kl_weight"]
        posterior = train_in_a_loop(model, data.train, epochs, **options)
    else:
        posterior = bbnn_uq.fit(
            model, data.train, epochs=epochs, batch_size=100, normalise=True, seed=seed, **options
        )
    x, labels = data.validation
    mean, mode = (
        bbnn_uq.predict(model, posterior, x, method=method, precision="float32")
        for method in ("monte_carlo", "mode")
    )
    assert isinstance(mean, bbnn_uq.Predictive)
    assert isinstance(mode, bbnn_uq.Predictive)
    return {
        "accuracy %": 100 * metrics.accuracy(mean.probs, labels),
        "NLL": metrics.nll(mean.probs, labels),
        "NLL, mode": metrics.nll(mode.probs, labels),
        "ECE %": 100 * metrics.ece(mean.probs, labels),
        "bits per weight": posterior.bits_per_weight(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rows", nargs="*", choices=tuple(ROWS), default=list(ROWS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = uncertainty_data.load()
    digits = {"accuracy %": 2, "NLL": 4, "NLL, mode": 4, "ECE %": 2, "bits per weight": 3}
    print("| change | " + " | ".join(digits) + " |\n|---" + "|---" * len(digits) + "|")
    for group in arguments.rows:
        for changes in ROWS[group]:
            found = measure(changes, arguments.epochs, data)
            name = changes.get("loop") or ", ".join(f"{k} {v:g}" for k, v in changes.items())
            cells = " | ".join(f"{found[key]:.{places}f}" for key, places in digits.items())
            print(f"| {name or 'none'} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
