"""The uncertainty benchmark: BayesBiNN posteriors beside tuned point estimates and ensembles.

    .venv/bin/python tests/benchmarks/uncertainty.py --epochs 10 --seeds 5
    .venv/bin/python tests/benchmarks/uncertainty.py --epochs 40 --seeds 3

Trains what is missing under runs/bench-uncertainty (it may be stopped and started again), evaluates
it, and writes docs/benchmarks/uncertainty-EPOCHS.json, from which docs/benchmarks/uncertainty.md is
made. Recipes are chosen by validation NLL with seed 0 (up to twelve per method at 10 epochs, up to
nine at longer budgets), scores by AUROC on corrupted validation images, the temperature of
temperature scaling by validation NLL. With --time it trains each method for a few epochs, one
after the other on an idle machine, for the table's seconds.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import uncertainty_data
import uncertainty_methods as methods
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from uncertainty_table import MEMBERS, best_score, write_tables

from bbnn_uq import Predictive, load, metrics

ROOT = Path("runs/bench-uncertainty")
FIRST_BUDGET = 10
DOCS = Path("docs/benchmarks")
SCORES = [
    f"{kind}@{temperature:g}"
    for kind in ("entropy", "mutual_information", "confidence")
    for temperature in methods.TEMPERATURES
]
RESAMPLES = 1000
PAIRED_OOD = "mnist-5k"
PAIRS = (("mixture", "ste_ensemble"), ("mixture", "full_precision_ensemble"))


@cache
def data() -> uncertainty_data.Data:
    return uncertainty_data.load()


def run_path(epochs: int, method: str, config: dict[str, Any], seed: int) -> Path:
    slug = "-".join(f"{key}={value:g}" for key, value in config.items())
    return ROOT / str(epochs) / method / slug / f"seed-{seed}.safetensors"


def train(job: tuple[int, str, dict[str, Any], int]) -> None:
    """Train one run unless it is there."""
    torch.set_num_threads(1)
    epochs, method, config, seed = job
    path = run_path(*job)
    if path.with_suffix(".json").exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    twin = run_path(epochs, "full_precision", config, seed)
    if method == "mc_dropout" and twin.with_suffix(".json").exists():
        shutil.copy(twin, path)
        seconds = json.loads(twin.with_suffix(".json").read_text())["seconds"]
    else:
        seconds = methods.train(method, config, seed, epochs, data(), path)
    x, y = data().validation
    probs = methods.predict(method, [path], x, dropout_of(method, config)).probs
    facts = {
        "seconds": seconds,
        "nll": metrics.nll(probs, y),
        "accuracy": metrics.accuracy(probs, y),
    }
    path.with_suffix(".json").write_text(json.dumps(facts))
    print(epochs, method, config, seed, facts, flush=True)


def dropout_of(method: str, config: dict[str, Any]) -> float:
    return (methods.FIXED.get(method, {}) | config)["dropout"]


def recipes(epochs: int, method: str) -> list[dict[str, Any]]:
    """What is tried."""
    return (methods.GRIDS if epochs <= FIRST_BUDGET else methods.LONG_GRIDS)[method]


def validation_nll(epochs: int, method: str, config: dict[str, Any]) -> float:
    """Of seed 0, by which recipes are chosen."""
    path = run_path(epochs, method, config, 0).with_suffix(".json")
    return json.loads(path.read_text())["nll"]


def chosen(epochs: int, method: str) -> dict[str, Any]:
    """The recipe with the lowest validation NLL."""
    return min(recipes(epochs, method), key=lambda each: validation_nll(epochs, method, each))


def evaluate(job: tuple[int, str, int | None, int]) -> None:
    """Evaluate a row for one seed (None: an ensemble of all seeds) unless it is there."""
    torch.set_num_threads(1)
    epochs, row, seed, num_seeds = job
    target = evaluation_path(epochs, row, seed)
    if target.exists():
        return
    method = MEMBERS.get(row, row)
    config = chosen(epochs, method)
    seeds = range(num_seeds) if seed is None else [seed]
    paths = [run_path(epochs, method, config, each) for each in seeds]
    dropout = dropout_of(method, config)

    def predictive(x: np.ndarray) -> Predictive:
        return methods.predict(method, paths, x, dropout)

    x, y = data().validation
    validation, test = predictive(x), predictive(data().test[0])
    temperature = best_temperature(validation.probs, y)
    labels = data().test[1]
    scaled = softmax(np.log(np.maximum(test.probs, 1e-300)) / temperature, axis=1)
    facts = [json.loads(path.with_suffix(".json").read_text()) for path in paths]
    ood = {name: predictive(inputs) for name, inputs in data().ood.items()}
    result: dict[str, Any] = {
        "config": config,
        "accuracy": metrics.accuracy(test.probs, labels),
        "nll": metrics.nll(test.probs, labels),
        "ece": metrics.ece(test.probs, labels),
        "ece_if_calibrated": ece_if_calibrated(test.probs),
        "ece_scaled": metrics.ece(scaled, labels),
        "temperature": temperature,
        "seconds": sum(fact["seconds"] for fact in facts),
        "storage_bits": methods.STORAGE_BITS.get(method, 1) * len(paths),
        "corrupted": aurocs(validation, {k: predictive(v) for k, v in data().corrupted.items()}),
        "ood": aurocs(test, ood),
    }
    if method in methods.POSTERIORS:
        members = [load(path) for path in paths]
        result["bits_per_weight"] = float(np.mean([each.bits_per_weight() for each in members]))
        # λ as 8-bit numbers would do; what is stored today is float32.
        result["storage_bits"] = 32 * len(paths)
        if seed is not None:
            mode = methods.predict_mode(paths[0], data().test[0], dropout).probs
            result["nll_mode"] = metrics.nll(mode, labels)
            result["accuracy_mode"] = metrics.accuracy(mode, labels)
    if seed is None:
        save_for_pairs(target.with_suffix(".npz"), test, ood[PAIRED_OOD])
    target.write_text(json.dumps(result))
    print(epochs, row, seed, {k: v for k, v in result.items() if isinstance(v, float)}, flush=True)


def ece_if_calibrated(probs: np.ndarray, draws: int = 100) -> float:
    """The ECE that a perfectly calibrated predictive with these probabilities has on average."""
    generator = np.random.default_rng(0)
    bounds = probs.cumsum(axis=1)
    labels = [
        (generator.random((len(probs), 1)) > bounds[:, :-1]).sum(axis=1) for _ in range(draws)
    ]
    return float(np.mean([metrics.ece(probs, each) for each in labels]))


def time_training(names: list[str]) -> None:
    """Seconds of an epoch, and of what is done once, of each method alone on the machine."""
    torch.set_num_threads(1)
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "run.safetensors")
        for name in names:
            recipe = chosen(FIRST_BUDGET, name)
            one, three = (methods.train(name, recipe, 0, count, data(), path) for count in (1, 3))
            epoch = (three - one) / 2
            seconds[name] = {"epoch": epoch, "once": max(0.0, one - epoch)}
    (DOCS / "uncertainty-seconds.json").write_text(json.dumps(seconds, indent=1) + "\n")
    write_tables(DOCS)


def save_for_pairs(path: Path, test: Predictive, ood: Predictive) -> None:
    """What the comparison of two ensembles needs of each input."""
    scores = {f"id/{name}": test.score(name) for name in SCORES}
    scores |= {f"ood/{name}": ood.score(name) for name in SCORES}
    np.savez(path, probs=test.probs, **scores)


def paired(epochs: int, one: str, other: str) -> dict[str, list[float]]:
    """Differences of two ensembles, with bootstrap intervals over test inputs."""
    names, arrays, scores = (one, other), [], []
    for name in names:
        path = evaluation_path(epochs, name, None)
        arrays.append(np.load(path.with_suffix(".npz")))
        scores.append(best_score([json.loads(path.read_text())]))
    found = metrics.paired_differences(
        arrays[0]["probs"], arrays[1]["probs"], data().test[1], num_resamples=RESAMPLES
    )
    result = {
        name: [found[name].value, found[name].low, found[name].high] for name in ("accuracy", "nll")
    }
    sides = [
        [array[f"{side}/{score}"] for array, score in zip(arrays, scores, strict=True)]
        for side in ("id", "ood")
    ]
    generator = np.random.default_rng(0)

    def difference(inside: np.ndarray, outside: np.ndarray) -> float:
        first, second = (
            metrics.ood_metrics(sides[0][k][inside], sides[1][k][outside]).auroc for k in (0, 1)
        )
        return first - second

    sizes = [len(side[0]) for side in sides]
    resampled = [
        difference(*(generator.integers(size, size=size) for size in sizes))
        for _ in range(RESAMPLES)
    ]
    value = difference(*(np.arange(size) for size in sizes))
    return result | {"auroc": [value, *np.quantile(resampled, [0.025, 0.975]).tolist()]}


def evaluation_path(epochs: int, row: str, seed: int | None) -> Path:
    return ROOT / str(epochs) / f"{row}-{'all' if seed is None else seed}.json"


def best_temperature(probs: np.ndarray, labels: np.ndarray) -> float:
    """Temperature on the log of pooled probabilities, by validation NLL."""
    logits = np.log(np.maximum(probs, 1e-300))
    fitted = minimize_scalar(
        lambda t: metrics.nll(softmax(logits / t, axis=1), labels),
        bounds=(0.2, 5.0),
        method="bounded",
    )
    return float(fitted.x)


def aurocs(inside: Predictive, outside: dict[str, Predictive]) -> dict[str, dict[str, float]]:
    """Set → score → AUROC, for the scores that this predictive has."""
    sets: dict[str, dict[str, float]] = {}
    for name, other in outside.items():
        sets[name] = {}
        for score in SCORES:
            if score.startswith("mutual") and inside.num_samples == 1:
                continue
            sets[name][score] = metrics.ood_metrics(inside.score(score), other.score(score)).auroc
    return sets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--methods", nargs="*", default=list(methods.GRIDS))
    parser.add_argument("--time", action="store_true", help="only measure seconds of training")
    arguments = parser.parse_args()
    if arguments.time:
        time_training(arguments.methods)
        return
    epochs, seeds = arguments.epochs, arguments.seeds
    with ProcessPoolExecutor(arguments.workers) as pool:
        tuning = [(epochs, m, each, 0) for m in arguments.methods for each in recipes(epochs, m)]
        list(pool.map(train, tuning))
        final = [(epochs, m, chosen(epochs, m), s) for s in range(seeds) for m in arguments.methods]
        list(pool.map(train, final))
        rows: list[tuple[int, str, int | None, int]] = [
            (epochs, m, seed, seeds) for m in arguments.methods for seed in range(seeds)
        ]
        rows += [
            (epochs, row, None, seeds)
            for row, method in MEMBERS.items()
            if method in arguments.methods
        ]
        list(pool.map(evaluate, rows))
    results = {
        row: [
            json.loads(evaluation_path(epochs, name, seed).read_text())
            for _, name, seed, _ in rows
            if name == row
        ]
        for row in dict.fromkeys(name for _, name, _, _ in rows)
    }
    machine = f"{platform.machine()}, torch {torch.__version__}, one thread per run"
    DOCS.mkdir(parents=True, exist_ok=True)
    pairs = {
        f"{one} − {other}": paired(epochs, one, other)
        for one, other in PAIRS
        if one in results and other in results
    }
    summary = {
        "epochs": epochs,
        "seeds": seeds,
        "machine": machine,
        "rows": results,
        "paired": pairs,
        "tuning": {
            m: [[each, validation_nll(epochs, m, each)] for each in recipes(epochs, m)]
            for m in arguments.methods
        },
    }
    (DOCS / f"uncertainty-{epochs}.json").write_text(json.dumps(summary, indent=1) + "\n")
    write_tables(DOCS)


if __name__ == "__main__":
    main()
