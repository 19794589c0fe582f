"""How often the 95 % interval of the ECE holds the true calibration error.

Binary predictions with confidence c ~ U(0.5, 1) that are right with probability c − gap: the true
error is the gap, as long as c − gap stays a probability. Prints a table for docs/conventions.md:

    .venv/bin/python tests/benchmarks/ece_coverage.py
"""

import numpy as np

from bbnn_uq import metrics

SIMULATIONS = 300


def coverage(gap: float, count: int) -> float:
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(SIMULATIONS):
        confidence = generator.uniform(0.5, 1.0, count)
        right = generator.random(count) < confidence - gap
        probs = np.stack([confidence, 1.0 - confidence], axis=1)
        interval = metrics.classification_intervals(probs, np.where(right, 0, 1))["ece"]
        held += interval.low <= gap <= interval.high
    return held / SIMULATIONS


def main() -> None:
    counts = (300, 2000)
    print("| true error | " + " | ".join(f"n = {count:,}" for count in counts) + " |")
    print("|---|" + "---|" * len(counts))
    for gap in (0.0, 0.02, 0.05, 0.1):
        cells = " | ".join(f"{coverage(gap, count):.2f}" for count in counts)
        print(f"| {gap:g} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
