"""Permuted Fashion-MNIST: what prior chaining saves from being forgotten.

Trains the paper's network for continual learning, 784-100-100-10, on permuted tasks in turn, with
the previous posterior as prior, with a uniform prior (the paper's baseline), and with no pull,
and prints the tables of docs/benchmarks/continual.md:

    .venv/bin/python tests/benchmarks/continual.py --out runs/continual.json

Each run is written when it is done; the same command goes on where it stopped. The recipe is that
of a few trials on scikit-learn's digits; nothing was tuned on Fashion-MNIST.
"""

import argparse
import json
import math
import os
import platform
from itertools import product
from pathlib import Path

import numpy as np
import scipy.stats
import torch

from bbnn_uq import models
from bbnn_uq._files import atomic_path
from bbnn_uq.continual import ContinualResult, permuted_pixels, train_tasks
from bbnn_uq.data import load_data

RECIPE = {"batch_size": 100, "lr": 0.03, "kl_weight": 1.0, "normalise": True}
VARIANTS = {
    "chained prior": {"chain_prior": True},
    "uniform prior": {"chain_prior": False},
    "no pull": {"chain_prior": True, "prior_weight": 0.0},  # on later tasks
}


def tasks(count):
    """One task after another, each made when it is asked for."""
    train, test = (load_data("fashion-mnist", split=split) for split in ("train", "test"))
    for x_train, x_test in zip(
        permuted_pixels(train.x, count), permuted_pixels(test.x, count), strict=True
    ):
        yield (x_train, train.y), (x_test, test.y)


def run(setting, seed, variant):
    result = train_tasks(
        models.build("mlp:100x2", (1, 28, 28), 10),
        tasks(setting["tasks"]),
        epochs=setting["epochs"],
        batchnorm=setting["batchnorm"],
        seed=seed,
        **RECIPE,
        **variant,
    )
    triangle = [row[: j + 1].tolist() for j, row in enumerate(result.accuracy)]
    entropy = {name: values.tolist() for name, values in result.weight_entropy.items()}
    return {"accuracy": triangle, "weight_entropy": entropy}


def restored(record):
    rows = record["accuracy"]
    accuracy = np.array([row + [math.nan] * (len(rows) - len(row)) for row in rows])
    entropy = {name: np.array(values) for name, values in record["weight_entropy"].items()}
    return ContinualResult((), accuracy, entropy)


def complete(path, setting, seeds):
    """Run what the file lacks, and write it after each run."""
    state = {"setting": setting, "machine": machine(), "runs": {}}
    if path is not None and path.exists():
        state = json.loads(path.read_text())
        if state["setting"] != setting:
            raise SystemExit(f"{path} holds runs of {state['setting']}; name another file")
    for seed, (name, variant) in product(range(seeds), VARIANTS.items()):
        key = f"seed {seed}, {name}"
        if key not in state["runs"]:
            state["runs"][key] = run(setting, seed, variant)
            if path is not None:
                with atomic_path(path) as temporary:
                    temporary.write_text(json.dumps(state, indent=1))
    return {
        name: [restored(state["runs"][f"seed {seed}, {name}"]) for seed in range(seeds)]
        for name in VARIANTS
    }


def machine():
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{platform.machine()}, {os.cpu_count()} cores, {gpu}, torch {torch.__version__}"


def cell(values, digits=3):
    """Mean over seeds with the half-width of its 95 % t interval."""
    mean, count = np.mean(values), len(values)
    if count < 2:
        return f"{mean:.{digits}f}"
    half = scipy.stats.t.ppf(0.975, count - 1) * np.std(values, ddof=1) / math.sqrt(count)
    return f"{mean:.{digits}f} ± {half:.{digits}f}"


def table(title, first, columns, rows):
    """A Markdown table; each row holds an array (seeds, columns)."""
    print(f"\n{title}\n\n| {first} | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for name, values in rows.items():
        print(f"| {name} | " + " | ".join(cell(column) for column in np.transpose(values)) + " |")


def report(results):
    num_tasks = next(iter(results.values()))[0].num_tasks
    after = [f"{number} task{'s' if number > 1 else ''}" for number in range(1, num_tasks + 1)]

    def each(of):
        rows = {name: np.array([of(result) for result in runs]) for name, runs in results.items()}
        first, *others = rows
        return rows | {f"{first} − {other}": rows[first] - rows[other] for other in others}

    table("Mean accuracy over the tasks seen, after", "", after, each(lambda r: r.mean_accuracy))
    table("Accuracy on the newest task, after", "", after, each(lambda r: r.accuracy.diagonal()))
    if num_tasks > 1:
        earlier = [f"task {number}" for number in range(1, num_tasks)] + ["mean"]
        forgetting = each(lambda r: [*r.forgetting_by_task, r.forgetting])
        table("Forgetting at the end, of", "", earlier, forgetting)
    layers = {
        f"{name}, {layer}": np.array([result.weight_entropy[layer] for result in runs])
        for name, runs in results.items()
        for layer in runs[0].weight_entropy
    }
    table("Mean entropy of a weight in bits, after", "", after, layers)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=5, help="per task")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--batchnorm", choices=("last", "task"), default="last")
    parser.add_argument("--out", type=Path, help="JSON file of the runs, added to")
    arguments = parser.parse_args()
    setting = {name: getattr(arguments, name) for name in ("tasks", "epochs", "batchnorm")}
    results = complete(arguments.out, setting | {"recipe": RECIPE}, arguments.seeds)
    print(f"Mean ± half-width of the 95 % t interval over {arguments.seeds} seeds; {machine()}")
    report(results)


if __name__ == "__main__":
    main()
