"""What makes BatchNorm per drawn network better: inputs, shrinkage, other normalisations.

    .venv/bin/python tests/benchmarks/normalisation.py

Posteriors are trained here (10 epochs of Fashion-MNIST, `straight_through`, kl_weight 1e-2, 32
networks). Everything is measured on the 6,000 held-out training images and on four corruptions of
2,000 of them; no test image and no OOD set is looked at. Means over seeds with 95 % t intervals of
the paired difference from the default (4,000 inputs, no shrinkage).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import uncertainty_data
from scipy import stats
from torch import nn

import bbnn_uq
from bbnn_uq import BernoulliPosterior, metrics, models
from bbnn_uq._files import atomic_path

FOLDER = Path("runs/bench-normalisation")
SEEDS = 5
NAMES = ("NLL", "ECE %", "AUROC H", "AUROC MI", "AUROC MI@3")


def build(kind: str) -> nn.Module:
    """The benchmark's model, or the same with LayerNorm for every BatchNorm."""
    model = models.build("mlp:256x3", (1, 28, 28), 10, dropout=0.0)
    if kind == "layernorm":
        for name, module in model.named_children():
            if isinstance(module, nn.BatchNorm1d):
                plain = nn.LayerNorm(module.num_features, elementwise_affine=False)
                setattr(model, name, plain)
    return model


def trained(kind: str, seed: int, data: uncertainty_data.Data) -> BernoulliPosterior:
    path = FOLDER / f"{kind}-{seed}.safetensors"
    if not path.exists():
        torch.manual_seed(seed)
        posterior = bbnn_uq.fit(
            build(kind), data.train, epochs=10, batch_size=100, normalise=True, kl_weight=1e-2,
            seed=seed, batchnorm_networks=0,
        )  # fmt: skip
        posterior.save(path)
    found = bbnn_uq.load(path)
    assert isinstance(found, BernoulliPosterior)
    return found


def shrunk(posterior: BernoulliPosterior, share: float) -> BernoulliPosterior:
    """Each network's statistics moved towards the average over networks by ``share``."""
    own = posterior.batchnorm
    assert own is not None
    networks = {
        name: (1 - share) * values + share * values.mean(dim=0, keepdim=True)
        for name, values in own.networks.items()
    }
    return replace(posterior, batchnorm=replace(own, networks=networks))


def measured(kind: str, posterior: BernoulliPosterior, data: uncertainty_data.Data) -> list[float]:
    def predict(x: np.ndarray) -> bbnn_uq.Predictive:
        found = bbnn_uq.predict(
            build(kind), posterior, x, precision="float32", score_temperatures=(1.0, 3.0)
        )
        assert isinstance(found, bbnn_uq.Predictive)
        return found

    x, y = data.validation
    inside = predict(x)
    outside = [predict(each) for each in data.corrupted.values()]
    aurocs = [
        np.mean([metrics.ood_metrics(inside.score(s), o.score(s)).auroc for o in outside])
        for s in ("entropy", "mutual_information", "mutual_information@3")
    ]
    return [metrics.nll(inside.probs, y), 100 * metrics.ece(inside.probs, y), *aurocs]


def main() -> None:
    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    data = uncertainty_data.load()
    rows: dict[str, list[list[float]]] = {}
    for seed in range(SEEDS):
        plain = trained("batchnorm", seed, data)
        fresh = {
            count: bbnn_uq.refresh_batchnorm(
                build("batchnorm"), plain, data.train, num_inputs=count
            )
            for count in (250, 1000, 4000, 16000)
        }
        variants = {"4,000 inputs (default)": fresh[4000], "running averages": plain}
        variants |= {f"{count:,} inputs": each for count, each in fresh.items() if count != 4000}
        for share in (0.25, 0.5, 1.0):
            variants[f"4,000 inputs, shrunk by {share:g}"] = shrunk(fresh[4000], share)
        for name, posterior in variants.items():
            rows.setdefault(name, []).append(measured("batchnorm", posterior, data))
        other = measured("layernorm", trained("layernorm", seed, data), data)
        rows.setdefault("LayerNorm in place of BatchNorm", []).append(other)
        print(f"seed {seed} done", flush=True)
    table = ["| statistics | " + " | ".join(NAMES) + " |", "|---|" + "---|" * len(NAMES)]
    default = np.array(rows["4,000 inputs (default)"])
    for name, values in rows.items():
        array = np.array(values)
        change = array - default
        half = stats.t.ppf(0.975, SEEDS - 1) * stats.sem(change)
        cells = [
            f"{m:.4f}" if name.endswith("(default)") else f"{m:.4f} ({d:+.4f} ± {h:.4f})"
            for m, d, h in zip(array.mean(axis=0), change.mean(axis=0), half, strict=True)
        ]
        table.append(f"| {name} | " + " | ".join(cells) + " |")
    text = "\n".join(table) + "\n"
    print(text)
    with atomic_path(FOLDER / "table.md") as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
