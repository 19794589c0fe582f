"""What BatchNorm statistics of single networks do to the demo's posterior, over five seeds.

.venv/bin/python tests/benchmarks/batchnorm.py
"""

import numpy as np
import torch
from scipy import stats

from bbnn_uq import fit, metrics, models, predict
from bbnn_uq.data import load_data

SEEDS = range(5)
SCORES = ("entropy", "mutual_information", "mutual_information@3")


def measure(seed: int, batchnorm_networks: int) -> list[float]:
    train, test = (load_data("digits-low", split=split) for split in ("train", "test"))
    far = load_data("photo-patches", split="test")
    model = models.build("mlp:128x2", train.input_shape, train.num_classes)
    posterior = fit(
        model, (train.x, train.y), epochs=100, batch_size=32, lr=1.0, real_lr=0.1, kl_weight=1e-3,
        normalise=True, seed=seed, batchnorm_networks=batchnorm_networks,
    )  # fmt: skip
    inside, outside = (
        predict(model, posterior, data.x, score_temperatures=(1.0, 3.0)) for data in (test, far)
    )
    aurocs = [metrics.ood_metrics(inside.score(s), outside.score(s)).auroc for s in SCORES]
    nll = metrics.nll(inside.probs, test.y)
    return [metrics.accuracy(inside.probs, test.y), nll, *aurocs]


def main() -> None:
    torch.set_num_threads(1)
    print("| BatchNorm statistics | accuracy | NLL | " + " | ".join(SCORES) + " |")
    print("|---|---|---|---|---|---|")
    for name, networks in (("running averages", 0), ("of each network", 32)):
        rows = np.array([measure(seed, networks) for seed in SEEDS])
        half = stats.t.ppf(0.975, len(rows) - 1) * stats.sem(rows)
        cells = [f"{m:.3f} ± {h:.3f}" for m, h in zip(rows.mean(axis=0), half, strict=True)]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
