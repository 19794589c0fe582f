"""Time and memory of the accumulators beside torchmetrics, on 1,000,000 inputs in batches.

    python tests/benchmarks/accumulators.py [THREADS]

prints the tables of `docs/at_scale.md`. Rivals take turns within each repetition, and each gets
the least of its times, so that other work on the machine does not favour one of them.
"""

from __future__ import annotations

import os
import platform
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torchmetrics.classification import (
    BinaryAUROC,
    MulticlassAccuracy,
    MulticlassCalibrationError,
)

from bbnn_uq.metrics.accumulators import ClassificationAccumulator
from bbnn_uq.metrics.histogram_metrics import ood_metrics_from_histograms
from bbnn_uq.metrics.score_histogram import ScoreHistogram

NUM_INPUTS, NUM_CLASSES, NUM_REPEATS = 1_000_000, 10, 5


def least_seconds(tasks: dict[str, Callable[[], object]]) -> dict[str, float]:
    least = dict.fromkeys(tasks, float("inf"))
    for _ in range(NUM_REPEATS):
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            least[name] = min(least[name], time.perf_counter() - start)
    return least


def in_batches(target: Any, size: int, *arrays: Any) -> Any:
    """The target after all batches, and after what it leaves for the end."""
    ours = isinstance(target, ClassificationAccumulator | ScoreHistogram)
    update = target.add if ours else target.update
    for start in range(0, NUM_INPUTS, size):
        update(*(array[start : start + size] for array in arrays))
    if not isinstance(target, ScoreHistogram):
        _ = target.result() if ours else target.compute()
    return target


def main() -> None:
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else os.cpu_count() or 1)
    generator = np.random.default_rng(0)
    rows = generator.dirichlet(np.full(NUM_CLASSES, 0.2), NUM_INPUTS)
    drawn = (rows.cumsum(axis=1) > generator.random((NUM_INPUTS, 1))).argmax(axis=1)
    probs, labels = torch.from_numpy(rows.astype(np.float32)), torch.from_numpy(drawn)
    scores = torch.from_numpy(generator.normal(size=NUM_INPUTS))
    is_ood = torch.from_numpy(generator.integers(2, size=NUM_INPUTS))
    likelihood = torch.sigmoid(scores)  # torchmetrics takes probabilities, or guesses logits

    print(f"{platform.machine()}, {os.cpu_count()} CPU cores, {torch.get_num_threads()} threads")
    rivals: dict[str, tuple[Callable[[], Any], tuple[torch.Tensor, ...]]] = {
        "ClassificationAccumulator": (
            lambda: ClassificationAccumulator(NUM_CLASSES), (probs, labels)
        ),
        "MulticlassCalibrationError": (
            lambda: MulticlassCalibrationError(NUM_CLASSES), (probs, labels)
        ),
        "MulticlassAccuracy": (lambda: MulticlassAccuracy(NUM_CLASSES), (probs, labels)),
        "ScoreHistogram": (ScoreHistogram, (scores,)),
        "BinaryAUROC(thresholds=200)": (
            lambda: BinaryAUROC(thresholds=200), (likelihood, is_ood)
        ),
    }  # fmt: skip
    for size in (100_000, 1_000):
        tasks: dict[str, Callable[[], object]] = {
            name: lambda make=make, arrays=arrays, size=size: in_batches(make(), size, *arrays)
            for name, (make, arrays) in rivals.items()
        }
        for name, seconds in least_seconds(tasks).items():
            print(f"{size:>7} a batch  {name:30} {seconds:8.3f} s", flush=True)

    tracemalloc.start()
    accumulator = in_batches(ClassificationAccumulator(NUM_CLASSES), 1_000, probs, labels)
    inside, outside = ScoreHistogram(), ScoreHistogram()
    inside.add(scores[is_ood == 0])
    outside.add(scores[is_ood == 1] + 1.0)
    kept, peak = tracemalloc.get_traced_memory()
    print(f"kept {kept / 1e6:.1f} MB, at most {peak / 1e6:.1f} MB")
    ranked = {
        "aurc": accumulator.aurc(),
        "augrc": accumulator.augrc(),
        "quantile_ece": accumulator.quantile_ece(),
        **ood_metrics_from_histograms(inside, outside),
    }
    for name, bounded in ranked.items():
        print(f"{name:16} {bounded.value:.6f}, bounds {bounded.high - bounded.low:.1e} wide")


if __name__ == "__main__":
    main()
