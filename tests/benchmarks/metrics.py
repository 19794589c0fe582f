"""Seconds and memory of each metric beside scikit-learn's or torchmetrics' nearest, and bootstraps.

    .venv/bin/python tests/benchmarks/metrics.py --out docs/benchmarks/metrics.json
    .venv/bin/python tests/benchmarks/metrics.py --only ece nll --dtype float32

Prints the tables of docs/benchmarks/metrics.md. One repetition runs ours and the rivals in turn,
the order reversed every time; a factor is the median over repetitions of our time over the rival's,
with its quartiles. Memory is what a process of its own holds at most beyond what it held before the
call, over the size of the input; all modules are loaded beforehand. Needs Linux for memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.calibration
import sklearn.metrics
import torch
import torchmetrics.functional.classification as tm
from inference_memory import forget_peak, machine, resident
from inference_rivals import quartiles
from scipy.stats import norm

from bbnn_uq import metrics
from bbnn_uq._files import atomic_path

SIZE, CLASSES, NETWORKS = 1_000_000, 10, 10
ASKED = 2.0  # times the rival's seconds
ASKED_MEMORY = 4.0  # times the input


class Data:
    """Probabilities (N, C) and labels, and what is made of them, in one floating type."""

    def __init__(self, dtype: str, size: int = SIZE) -> None:
        generator = np.random.default_rng(0)
        probs = generator.dirichlet(np.full(CLASSES, 0.3), size)
        softer = np.cumsum(0.8 * probs + 0.2 / CLASSES, axis=1)
        self.labels = (generator.random((size, 1)) > softer).sum(axis=1).clip(max=CLASSES - 1)
        self.probs = probs.astype(dtype)
        self.tensors = torch.from_numpy(self.probs), torch.from_numpy(self.labels)
        self.confidence = self.probs.max(axis=1)
        self.correct = self.probs.argmax(axis=1) == self.labels
        self.id_scores = generator.normal(size=size // 2).astype(dtype)
        self.ood_scores = generator.normal(1.0, size=size // 2).astype(dtype)
        self.scores = np.concatenate([self.id_scores, self.ood_scores])
        self.is_ood = np.arange(size // 2 * 2) >= size // 2
        self.mean = generator.normal(size=size).astype(dtype)
        self.std = generator.uniform(0.5, 2.0, size).astype(dtype)
        self.targets = (self.mean + self.std * generator.normal(size=size)).astype(dtype)
        few = generator.dirichlet(np.full(CLASSES, 0.3), (NETWORKS, size // NETWORKS))
        self.samples = few.astype(dtype)

    @property
    def pair(self) -> tuple[np.ndarray, np.ndarray]:
        return self.probs, self.labels

    @property
    def normal(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.mean, self.std, self.targets


def _torch_information(samples: np.ndarray) -> torch.Tensor:
    each = torch.from_numpy(samples)
    entropy = torch.distributions.Categorical(probs=each).entropy
    return torch.distributions.Categorical(probs=each.mean(dim=0)).entropy() - entropy().mean(dim=0)


def _sklearn_ood(d: Data) -> tuple[Any, ...]:
    return (
        sklearn.metrics.roc_auc_score(d.is_ood, d.scores),
        sklearn.metrics.average_precision_score(d.is_ood, d.scores),
        sklearn.metrics.average_precision_score(~d.is_ood, -d.scores),
        sklearn.metrics.roc_curve(d.is_ood, d.scores, drop_intermediate=False),
        sklearn.metrics.roc_curve(~d.is_ood, -d.scores, drop_intermediate=False),
    )


def _failure_auroc(d: Data) -> float:
    """AUROC of confidence against correctness: sorts as risk and coverage do."""
    return float(sklearn.metrics.roc_auc_score(d.correct, d.confidence))


def _each_class(d: Data) -> list[torch.Tensor]:
    probs, labels = d.tensors
    return [
        tm.binary_calibration_error(probs[:, c], (labels == c).long(), n_bins=15)
        for c in range(CLASSES)
    ]


@dataclass(frozen=True)
class Case:
    """One metric, what a user would take instead, and which array counts as the input."""

    ours: Callable[[Data], Any]
    rivals: dict[str, Callable[[Data], Any]]
    inputs: Callable[[Data], tuple[np.ndarray, ...]] = lambda d: (d.probs,)


def _calibration_curve(strategy: str) -> Callable[[Data], Any]:
    return lambda d: sklearn.calibration.calibration_curve(
        d.correct, d.confidence, n_bins=15, strategy=strategy
    )


def _brier(d: Data) -> float:
    return float(sklearn.metrics.brier_score_loss(d.labels, d.probs))


def _plain_crps(d: Data) -> float:
    z = (d.targets - d.mean) / d.std
    inner = z * (2.0 * norm.cdf(z) - 1.0) + 2.0 * norm.pdf(z) - 1.0 / np.sqrt(np.pi)
    return float(np.mean(d.std * inner))


SORTED = {"scikit-learn roc_auc_score of the confidence": _failure_auroc}
REGRESSION: dict[str, Callable[[Data], Any]] = {
    "torch gaussian_nll_loss": lambda d: torch.nn.functional.gaussian_nll_loss(
        *(torch.from_numpy(a) for a in (d.mean, d.targets, d.std**2)), full=True
    )
}
CASES: dict[str, Case] = {
    "accuracy": Case(
        lambda d: metrics.accuracy(*d.pair),
        {
            "torchmetrics multiclass_accuracy": lambda d: tm.multiclass_accuracy(
                *d.tensors, CLASSES, average="micro"
            ),
            "scikit-learn accuracy_score": lambda d: sklearn.metrics.accuracy_score(
                d.labels, d.probs.argmax(axis=1)
            ),
        },
    ),
    "nll": Case(
        lambda d: metrics.nll(*d.pair),
        {"scikit-learn log_loss": lambda d: sklearn.metrics.log_loss(d.labels, d.probs)},
    ),
    "brier": Case(lambda d: metrics.brier(*d.pair), {"scikit-learn brier_score_loss": _brier}),
    "brier_decomposition": Case(
        lambda d: metrics.brier_decomposition(*d.pair), {"scikit-learn brier_score_loss": _brier}
    ),
    "ece": Case(
        lambda d: metrics.ece(*d.pair),
        {
            "torchmetrics multiclass_calibration_error": lambda d: tm.multiclass_calibration_error(
                *d.tensors, CLASSES, n_bins=15
            )
        },
    ),
    "ece, quantile bins": Case(
        lambda d: metrics.ece(*d.pair, binning="quantile"),
        {"scikit-learn calibration_curve": _calibration_curve("quantile")},
    ),
    "ece, debiased": Case(
        lambda d: metrics.ece(*d.pair, norm="l2", debias=True),
        {
            "torchmetrics multiclass_calibration_error": lambda d: tm.multiclass_calibration_error(
                *d.tensors, CLASSES, n_bins=15, norm="l2"
            )
        },
    ),
    "classwise_ece": Case(
        lambda d: metrics.classwise_ece(*d.pair),
        {"torchmetrics binary_calibration_error by class": _each_class},
    ),
    "smooth_ece": Case(
        lambda d: metrics.smooth_ece(*d.pair),
        {"scikit-learn calibration_curve": _calibration_curve("quantile")},
    ),
    "reliability_curve": Case(
        lambda d: metrics.reliability_curve(*d.pair),
        {"scikit-learn calibration_curve": _calibration_curve("uniform")},
    ),
    "aurc": Case(lambda d: metrics.aurc(*d.pair), SORTED),
    "augrc": Case(lambda d: metrics.augrc(*d.pair), SORTED),
    "excess_aurc": Case(lambda d: metrics.excess_aurc(*d.pair), SORTED),
    "risk_at_coverage": Case(lambda d: metrics.risk_at_coverage(*d.pair, 0.8), SORTED),
    "risk_coverage_curve": Case(lambda d: metrics.risk_coverage_curve(*d.pair), SORTED),
    "predictive_entropy": Case(
        lambda d: metrics.predictive_entropy(d.probs),
        {
            "torch Categorical.entropy": lambda d: torch.distributions.Categorical(
                probs=d.tensors[0]
            ).entropy()
        },
    ),
    "mutual_information": Case(
        lambda d: metrics.mutual_information(d.samples),
        {"torch Categorical.entropy, twice": lambda d: _torch_information(d.samples)},
        lambda d: (d.samples,),
    ),
    "ood_metrics": Case(
        lambda d: metrics.ood_metrics(d.id_scores, d.ood_scores),
        {"scikit-learn, five calls": _sklearn_ood},
        lambda d: (d.id_scores, d.ood_scores),
    ),
    "rmse": Case(
        lambda d: metrics.rmse(d.mean, d.targets),
        {
            "scikit-learn root_mean_squared_error": (
                lambda d: sklearn.metrics.root_mean_squared_error(d.targets, d.mean)
            )
        },
        lambda d: (d.mean, d.targets),
    ),
    "gaussian_nll": Case(lambda d: metrics.gaussian_nll(*d.normal), REGRESSION, lambda d: d.normal),
    "crps_gaussian": Case(
        lambda d: metrics.crps_gaussian(*d.normal),
        {"its formula with scipy.stats.norm": _plain_crps},
        lambda d: d.normal,
    ),
}

BOOTSTRAPPED: dict[str, Any] = {
    "accuracy": metrics.accuracy,
    "nll": metrics.nll,
    "brier": metrics.brier,
    "ece": metrics.ece,
    "ece l2": partial(metrics.ece, norm="l2"),
    "ece max": partial(metrics.ece, norm="max"),
    "ece debiased": partial(metrics.ece, norm="l2", debias=True),
    "ece quantile": partial(metrics.ece, binning="quantile"),
    "classwise_ece": metrics.classwise_ece,
    "smooth_ece": metrics.smooth_ece,
    "aurc": metrics.aurc,
    "augrc": metrics.augrc,
    "excess_aurc": metrics.excess_aurc,
    "risk at 80 %": partial(metrics.risk_at_coverage, coverage=0.8),
    "risk at 95 %": partial(metrics.risk_at_coverage, coverage=0.95),
}


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def compare(case: Case, data: Data, repeats: int) -> dict[str, Any]:
    """Seconds of ours, and our seconds over each rival's."""
    contestants = {"ours": case.ours, **case.rivals}
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for repetition in range(repeats + 1):
        for name in list(contestants)[:: 1 if repetition % 2 else -1]:
            taken[name].append(seconds(lambda call=contestants[name]: call(data)))
    kept = {name: np.array(values[1:]) for name, values in taken.items()}
    return {
        "seconds": quartiles(kept["ours"]),
        "ratio": {name: quartiles(kept["ours"] / kept[name]) for name in case.rivals},
    }


def memory_once(name: str, dtype: str) -> dict[str, float]:
    """MiB that the call adds at most, and MiB of its input."""
    case = CASES[name]
    case.ours(Data(dtype, 1000))
    data = Data(dtype)
    forget_peak()
    before = resident("VmRSS")
    case.ours(data)
    size = sum(array.nbytes for array in case.inputs(data)) / 2**20
    return {"added": resident("VmHWM") - before, "input": size}


def memory(name: str, dtype: str) -> float:
    """Memory that one call adds, over the size of its input."""
    command = [sys.executable, __file__, "--memory", name, "--dtype", dtype]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout)
    return found["added"] / found["input"]


def bootstrap(repeats: int) -> dict[str, Any]:
    """Seconds of 1,000 resamples of 10,000 x 10 probabilities: one metric, and all at once."""
    probs, labels = Data("float64", 10_000).pair

    def run(chosen: dict[str, Any]) -> list[float]:
        call = partial(metrics.classification_intervals, probs, labels, metrics=chosen)
        return quartiles(np.array([seconds(call) for _ in range(repeats)]))

    each = {name: run({name: metric}) for name, metric in BOOTSTRAPPED.items()}
    generator = np.random.default_rng(0)
    inside, outside = generator.normal(size=10_000), generator.normal(1.0, size=10_000)
    of_scores = [seconds(lambda: metrics.ood_intervals(inside, outside)) for _ in range(repeats)]
    return {
        "each": each,
        "all": run(BOOTSTRAPPED),
        "ood_intervals": quartiles(np.array(of_scores)),
    }


def shown(values: list[float]) -> str:
    low, middle, high = values
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


def print_tables(found: dict[str, Any]) -> None:
    for dtype, rows in found["metrics"].items():
        print(f"\n## {SIZE:,} × {CLASSES} in {dtype}\n")
        print("| metric | ms | rival | our time over the rival's | memory over the input's |")
        print("|---|---|---|---|---|")
        for name, row in rows.items():
            for rival, ratio in row["ratio"].items():
                ours = f"{1e3 * row['seconds'][1]:.0f}"
                held = f"{row['memory']:.1f}"
                print(f"| {name} | {ours} | {rival} | {shown(ratio)} | {held} |")
    if "bootstrap" in found:
        resampled = found["bootstrap"]
        print("\n## 1,000 resamples of 10,000 × 10 probabilities\n")
        print("| metrics | s |\n|---|---|")
        for name, values in resampled["each"].items():
            print(f"| {name} | {shown(values)} |")
        print(f"| all {len(resampled['each'])} at once | {shown(resampled['all'])} |")
        print(f"| ood_intervals, 10,000 against 10,000 | {shown(resampled['ood_intervals'])} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=[*CASES, "bootstrap"])
    parser.add_argument("--dtype", choices=["float64", "float32"])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    parser.add_argument("--memory", choices=list(CASES), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    if arguments.memory:
        print(json.dumps(memory_once(arguments.memory, arguments.dtype)))
        return
    found: dict[str, Any] = {"machine": machine(), "metrics": {}}
    for dtype in [arguments.dtype] if arguments.dtype else ["float64", "float32"]:
        data = Data(dtype)
        found["metrics"][dtype] = {
            name: compare(case, data, arguments.repeats) | {"memory": memory(name, dtype)}
            for name, case in CASES.items()
            if arguments.only is None or name in arguments.only
        }
    if arguments.only is None or "bootstrap" in arguments.only:
        found["bootstrap"] = bootstrap(3)
    print_tables(found)
    if arguments.out:
        with atomic_path(arguments.out) as temporary:
            temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
