"""How many labels a recalibration needs: change in NLL on new inputs, by size of the split.

Ten classes. "calibrated" probabilities need nothing, "overconfident" ones a temperature of 1.8,
"confused" ones a full linear map of their logarithms.

    python tests/benchmarks/recalibration_sizes.py
"""

from __future__ import annotations

import warnings

import numpy as np
from scipy.special import softmax

from bbnn_uq.metrics import nll
from bbnn_uq.recalibration import (
    DirichletCalibration,
    IsotonicCalibration,
    TemperatureScaling,
    VectorScaling,
)

METHODS = (TemperatureScaling, VectorScaling, DirichletCalibration, IsotonicCalibration)
SIZES = (100, 200, 500, 2000, 10_000)
NUM_CLASSES, NUM_TESTED, REPETITIONS = 10, 20_000, 10

_MAP = np.random.default_rng(5)
WEIGHTS = np.diag(_MAP.uniform(0.4, 0.9, NUM_CLASSES)) + _MAP.normal(0, 0.1, (NUM_CLASSES,) * 2)
SHIFT = _MAP.normal(0, 0.7, NUM_CLASSES)

TRUTHS = {
    "calibrated": lambda logs: logs,
    "overconfident": lambda logs: logs / 1.8,
    "confused": lambda logs: logs @ WEIGHTS.T + SHIFT,
}


def sample(kind: str, num_inputs: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities about as sure as a network's with 75 % accuracy, and labels of the truth."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 1.5, (num_inputs, NUM_CLASSES))
    logits[np.arange(num_inputs), generator.integers(NUM_CLASSES, size=num_inputs)] += 4.0
    probs = softmax(logits, axis=1)
    truth = softmax(TRUTHS[kind](np.log(probs)), axis=1)
    labels = (truth.cumsum(axis=1) < generator.random((num_inputs, 1))).sum(axis=1)
    return probs, labels.clip(max=NUM_CLASSES - 1)


def main() -> None:
    """Print the table of docs/recalibration.md: mean change in NLL, and the worst of all splits."""
    names = " | ".join(method.__name__ for method in METHODS)
    print(f"| probabilities | N | {names} |\n|{'---|' * (len(METHODS) + 2)}")
    for kind in TRUTHS:
        new_probs, new_labels = sample(kind, NUM_TESTED, 10**6)
        before = nll(new_probs, new_labels)
        for size in SIZES:
            cells = []
            for method in METHODS:
                changes = []
                for seed in range(REPETITIONS):
                    try:
                        fitted = method().fit(*sample(kind, size, seed))
                    except ValueError:  # a class with too few labels
                        continue
                    changes.append(nll(fitted.transform(new_probs), new_labels) - before)
                cell = f"{np.mean(changes):+.3f} ({max(changes):+.3f})" if changes else "refused"
                cells.append(cell)
            print(f"| {kind} | {size:,} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("error")
    main()
