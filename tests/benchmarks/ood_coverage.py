"""How often intervals of the OOD metrics hold the truth, and how often p-values find nothing there.

Scores of ID inputs are N(0, 1), of OOD inputs N(shift, 1), 300 of each: the true detection error is
Phi(-shift / 2). Two scores that are compared share half of their variance. Prints the tables that
the docstrings of `ood_intervals` and `compare_ood_scores` quote:

    .venv/bin/python tests/benchmarks/ood_coverage.py
"""

import numpy as np
from scipy.stats import norm

from bbnn_uq import metrics
from bbnn_uq.metrics._resampling import evaluate_resamples, make_interval
from bbnn_uq.metrics.ood import ood_kernel

SIMULATIONS, COUNT = 300, 300


def error(shift: float) -> float:
    return float(norm.cdf(-shift / 2))


def held(shift: float) -> tuple[float, float]:
    """Shares of basic and of percentile intervals that hold the true detection error."""
    generator = np.random.default_rng(0)
    basic = percentile = 0
    for _ in range(SIMULATIONS):
        scores = generator.normal(size=COUNT), generator.normal(shift, size=COUNT)
        interval = metrics.ood_intervals(*scores)["detection_error"]
        basic += interval.low <= error(shift) <= interval.high
        values, resampled = evaluate_resamples(ood_kernel(*scores), [COUNT, COUNT], 1000, 0)
        name = "detection_error"
        interval = make_interval(values[name], resampled[name], 0.95)
        percentile += interval.low <= error(shift) <= interval.high
    return basic / SIMULATIONS, percentile / SIMULATIONS


def compared(shift_a: float, shift_b: float) -> tuple[dict[str, float], float]:
    """By metric the share of p-values below 0.05; and how often the error's difference is held."""
    generator = np.random.default_rng(1)
    rejected, covered = dict.fromkeys(metrics.ood_metrics([0.0], [1.0]).__dict__, 0), 0
    truth = error(shift_a) - error(shift_b)
    for _ in range(SIMULATIONS):
        shared = generator.normal(size=2 * COUNT) * np.sqrt(0.5)
        noise = generator.normal(size=(2, 2 * COUNT)) * np.sqrt(0.5)
        both = [
            (scores[:COUNT], scores[COUNT:] + shift)
            for scores, shift in zip(shared + noise, (shift_a, shift_b), strict=True)
        ]
        found = metrics.compare_ood_scores(*both[0], *both[1])
        for name, difference in found.items():
            rejected[name] += difference.p_value < 0.05
        difference = found["detection_error"]
        covered += difference.low <= truth <= difference.high
    return {name: n / SIMULATIONS for name, n in rejected.items()}, covered / SIMULATIONS


def main() -> None:
    print("| shift | basic | percentile |\n|---|---|---|")
    for shift in (0.0, 0.5, 1.0, 2.0, 3.0):
        print("| {:g} | {:.2f} | {:.2f} |".format(shift, *held(shift)), flush=True)
    for shifts in ((1.0, 1.0), (2.0, 2.0), (0.0, 1.0), (0.0, 2.0)):
        rejected, covered = compared(*shifts)
        print(f"\nShifts {shifts}: difference of the detection error held in {covered:.2f}")
        if shifts[0] == shifts[1]:
            print("p < 0.05:", ", ".join(f"{name} {share:.3f}" for name, share in rejected.items()))


if __name__ == "__main__":
    main()
