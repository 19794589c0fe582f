"""Dropout left on in drawn networks: what it does to the posteriors of the uncertainty benchmark.

    .venv/bin/python tests/benchmarks/dropout.py

Takes the 40-epoch `straight_through` posteriors that `make bench-uncertainty` left (three seeds,
trained with dropout 0.1) and predicts the 6,000 held-out training images, and four corruptions of
2,000 of them, with 32 networks: as `predict` does, and with a dropout mask for each network and
input. No test image and no OOD set is looked at. Means over seeds, and the paired difference with
its 95 % t interval.
"""

from __future__ import annotations

import numpy as np
import torch
import uncertainty_data
from scipy import stats
from torch import nn
from torch.func import functional_call
from uncertainty import chosen, run_path
from uncertainty_methods import NUM_NETWORKS, build

import bbnn_uq
from bbnn_uq import BernoulliPosterior, Predictive, metrics
from bbnn_uq.inputs import normalise

EPOCHS, SEEDS = 40, 3
SCORES = ("entropy", "mutual_information", "mutual_information@3")
NAMES = ("accuracy %", "NLL", "ECE %", "AUROC H", "AUROC MI", "AUROC MI@3")


@torch.no_grad()
def predictive(posterior: BernoulliPosterior, x: np.ndarray, dropout: float) -> Predictive:
    model = build(dropout).eval()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.train(dropout > 0)
    inputs = normalise(torch.from_numpy(x), posterior.metadata["normalisation"]).float()
    torch.manual_seed(0)
    samples = []
    for index in range(NUM_NETWORKS):
        state = posterior.state_of(index, seed=0) | bbnn_uq.draw(posterior, index)
        logits = functional_call(model, state, (inputs,))
        samples.append(torch.softmax(logits.double(), dim=1).numpy())
    return Predictive.from_samples(np.stack(samples))


def measured(
    posterior: BernoulliPosterior, data: uncertainty_data.Data, dropout: float
) -> list[float]:
    x, labels = data.validation
    inside = predictive(posterior, x, dropout)
    outside = [predictive(posterior, each, dropout) for each in data.corrupted.values()]
    aurocs = [
        float(np.mean([metrics.ood_metrics(inside.score(s), o.score(s)).auroc for o in outside]))
        for s in SCORES
    ]
    probs = inside.probs
    ece = 100 * metrics.ece(probs, labels)
    return [100 * metrics.accuracy(probs, labels), metrics.nll(probs, labels), ece, *aurocs]


def main() -> None:
    torch.set_num_threads(1)
    data = uncertainty_data.load()
    recipe = chosen(EPOCHS, "straight_through")
    rows: dict[str, list[list[float]]] = {"off": [], "on": []}
    for seed in range(SEEDS):
        posterior = bbnn_uq.load(run_path(EPOCHS, "straight_through", recipe, seed))
        assert isinstance(posterior, BernoulliPosterior)
        for name, rate in (("off", 0.0), ("on", recipe["dropout"])):
            rows[name].append(measured(posterior, data, rate))
    print("| dropout | " + " | ".join(NAMES) + " |\n|---" + "|---" * len(NAMES) + "|")
    for name, values in rows.items():
        print(f"| {name} | " + " | ".join(f"{m:.4f}" for m in np.mean(values, axis=0)) + " |")
    change = np.array(rows["on"]) - np.array(rows["off"])
    half = stats.t.ppf(0.975, SEEDS - 1) * stats.sem(change)
    cells = [f"{m:+.4f} ± {h:.4f}" for m, h in zip(change.mean(axis=0), half, strict=True)]
    print("| on − off | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
