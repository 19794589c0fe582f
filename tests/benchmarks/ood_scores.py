"""AUROC of all OOD scores: of predictives, of features, and combined. A Markdown table.

    .venv/bin/python tests/benchmarks/ood_scores.py [--data digits-defaults] [--seeds 5]

Features are fitted on the training inputs, combinations on inputs that are held out from them, and
neither sees an OOD input. The members of the combinations were chosen before anything was measured.
"""

import argparse

import numpy as np
import torch
from scipy import stats

from bbnn_uq import fit, metrics, models, predict
from bbnn_uq.data import load_data
from bbnn_uq.inference.features import feature_scores
from bbnn_uq.metrics import ood_intervals
from bbnn_uq.ood_scores import (
    CombinedScore,
    GaussianMixtureScore,
    MahalanobisScore,
    NearestNeighboursScore,
    PredictiveScore,
    RelativeMahalanobisScore,
)

PREDICTIVE = (
    "entropy", "mutual_information", "mutual_information@3", "energy", "max_logit", "confidence"
)  # fmt: skip
FEATURES = {
    "Mahalanobis": MahalanobisScore(),
    "relative Mahalanobis": RelativeMahalanobisScore(),
    "Gaussian mixture": GaussianMixtureScore(),
    "nearest neighbours": NearestNeighboursScore(bank_size=10_000),
}
# One of each kind of evidence: how unsure, how much networks differ, how far, how lonely.
FOUR = ("entropy", "mutual_information@3", "Mahalanobis", "nearest neighbours")
# Measured beside the others; the combinations were chosen without them.
FURTHER = ("margin", "pairwise_kl", "logit_variance")
COMBINED = {"combined, four": FOUR, "combined, all": (*PREDICTIVE, *FEATURES)}
ROWS = (*PREDICTIVE, *FURTHER, *FEATURES, *COMBINED)
NETWORKS, FEATURE_NETWORKS = 32, 8

DIGITS = ("digits-low", ("digits-high", "photo-patches"))
SETS = {
    "digits": DIGITS,
    "digits-defaults": DIGITS,
    "fashion-mnist": ("fashion-mnist", ("mnist-5k", "noise")),
}
RECIPES = {
    "digits": (
        "mlp:128x2",
        200,
        {"epochs": 100, "batch_size": 32, "lr": 1.0, "real_lr": 0.1, "kl_weight": 1e-3},
    ),
    # What somebody gets who sets nothing but the length: many bits per weight are left.
    "digits-defaults": ("mlp:128x2", 200, {"epochs": 30, "batch_size": 32}),
    "fashion-mnist": ("mlp:256x3", 5000, {"epochs": 20, "batch_size": 128, "kl_weight": 1e-3}),
}


def measure(data: str, seed: int) -> tuple[float, dict[str, dict[str, metrics.Interval]], dict]:
    """Accuracy, OOD set → score → interval of the AUROC, and combination → weights."""
    inside, outside = SETS[data]
    train, test = (load_data(inside, split=split) for split in ("train", "test"))
    spec, num_held_out, recipe = RECIPES[data]
    order = np.random.default_rng(seed).permutation(len(train.x))
    held_out, used = order[:num_held_out], order[num_held_out:]
    shape = train.input_shape
    model = models.build(spec, shape, train.num_classes)
    posterior = fit(model, (train.x[used], train.y[used]), normalise=True, seed=seed, **recipe)
    sets = {"held out": train.x[held_out], "test": test.x}
    for name in outside:
        # A set that takes any shape is asked for that of the training data.
        options = {"input_shape": shape} if name in ("photo-patches", "noise") else {}
        sets[name] = load_data(name, split="test", **options).x

    predictives = {
        name: predict(
            model, posterior, x, num_samples=NETWORKS, score_temperatures=(1.0, 3.0)
        )
        for name, x in sets.items()
    }  # fmt: skip
    scores = feature_scores(
        model, posterior, FEATURES, train.x[used], train.y[used], sets, num_samples=FEATURE_NETWORKS
    )
    for score in (*PREDICTIVE, *FURTHER):
        fitted = PredictiveScore(score).fit(predictives["held out"])
        for name, predictive in predictives.items():
            scores[name][score] = fitted.score(predictive)
    weights = {}
    for combined, members in COMBINED.items():
        fitted = CombinedScore().fit({each: scores["held out"][each] for each in members})
        weights[combined] = fitted.weights
        for own in scores.values():
            own[combined] = fitted.score({each: own[each] for each in members})
    return (
        metrics.accuracy(predictives["test"].probs, test.y),
        {
            name: {
                row: ood_intervals(scores["test"][row], scores[name][row])["auroc"] for row in ROWS
            }
            for name in outside
        },
        weights,
    )


def cell(intervals: list[metrics.Interval]) -> str:
    """Mean over seeds ± its 95 % interval over seeds, and the mean interval over test inputs."""
    values = [each.value for each in intervals]
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values) if len(values) > 1 else np.nan
    low, high = (np.mean([getattr(each, end) for each in intervals]) for end in ("low", "high"))
    return f"{np.mean(values):.3f} ± {half:.3f} [{low:.3f}, {high:.3f}]"


def main() -> None:
    """Train, score and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=SETS, default="digits")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = [measure(options.data, seed) for seed in range(options.seeds)]
    outside = SETS[options.data][1]
    print(f"Accuracy {cell([metrics.Interval(a, a, a) for a, *_ in results]).split(' [')[0]}\n")
    print("| score | " + " | ".join(outside) + " |\n|---|" + "---|" * len(outside))
    for row in ROWS:
        cells = [cell([aurocs[name][row] for _, aurocs, _ in results]) for name in outside]
        print(f"| {row} | " + " | ".join(cells) + " |")
    for combined, members in COMBINED.items():
        means = {m: np.mean([weights[combined][m] for *_, weights in results]) for m in members}
        shown = ", ".join(f"{name} {mean:.2f}" for name, mean in means.items())
        print(f"\nWeights of '{combined}', mean over seeds: {shown}")


if __name__ == "__main__":
    main()
