"""How the demo's recipe was chosen: cross-validated NLL on the training split of digits-low.

The script sees neither the test split nor an OOD set; docs/benchmarks/demo.md says what had been
seen before. Prints the table of docs/benchmarks/demo.md:

    .venv/bin/python tests/benchmarks/demo_recipe.py
"""

import numpy as np
import torch
from sklearn.model_selection import StratifiedKFold

from bbnn_uq import fit, metrics, models, predict
from bbnn_uq.data import load_data

RECIPES = [
    {"lr": lr, "kl_weight": kl_weight, "batch_size": batch_size}
    for lr in (0.1, 0.3, 1.0)
    for kl_weight in (1e-3, 3e-3, 1e-2)
    for batch_size in (32, 64)
]
FOLDS, EPOCHS, REAL_LR = 5, 100, 0.1


def evaluate(recipe: dict) -> tuple[list[float], float]:
    data = load_data("digits-low", split="train")
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=1).split(data.x, data.y)
    rows = []
    for seed, (train, held_out) in enumerate(folds):
        model = models.build("mlp:128x2", data.input_shape, data.num_classes)
        posterior = fit(
            model, (data.x[train], data.y[train]), epochs=EPOCHS, real_lr=REAL_LR,
            normalise=True, seed=seed, **recipe,
        )  # fmt: skip
        labels = data.y[held_out]
        mean = predict(model, posterior, data.x[held_out]).probs
        mode = predict(model, posterior, data.x[held_out], method="mode").probs
        rows.append(
            [
                metrics.accuracy(mean, labels),
                metrics.nll(mean, labels),
                metrics.nll(mode, labels),
                metrics.ece(mean, labels),
                posterior.bits_per_weight(),
            ]
        )
    error = np.std([row[1] for row in rows], ddof=1) / np.sqrt(FOLDS)
    return np.mean(rows, axis=0).tolist(), float(error)


def main() -> None:
    torch.set_num_threads(1)
    print("| lr | kl_weight | batch | accuracy | NLL, mean | NLL, mode | ECE | bits per weight |")
    print("|---|---|---|---|---|---|---|---|")
    results = []
    for recipe in RECIPES:
        (accuracy, nll, nll_mode, ece, bits), error = evaluate(recipe)
        results.append((nll, recipe))
        cells = [f"{value:g}" for value in recipe.values()]
        cells += [f"{accuracy:.4f}", f"{nll:.4f} ± {error:.4f}"]
        cells += [f"{value:.4f}" for value in (nll_mode, ece, bits)]
        print("| " + " | ".join(cells) + " |", flush=True)
    print(f"\nTaken: {min(results, key=lambda row: row[0])[1]}")


if __name__ == "__main__":
    main()
