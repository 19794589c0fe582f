"""Regression in one dimension: error bars at the data, in a gap and outside.

Writes regression-1d.png and prints the tables of docs/paper.md:

    .venv/bin/python docs/figures/regression_1d.py

The data are synthetic, of the kind of Snelson's set, which the paper uses and which is not
redistributed here: 200 noisy values of a smooth function on [0, 6].
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
import toy
from torch import Tensor

from bbnn_uq import BernoulliPosterior, metrics, plots, predict
from bbnn_uq.regression import RegressionPredictive

NOISE = 0.25
GAP, END = (2.2, 3.8), 6.0
WIDTH = (-1.5, 7.5)
MARGIN = 0.2  # beside the data, where they still say much


def function(x: np.ndarray) -> np.ndarray:
    """What the networks are to find."""
    return np.sin(1.7 * x) + 0.45 * np.sin(4.1 * x + 0.5)


def sample(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (count,), uniform on [0, 6] without the gap, and noisy targets (count,)."""
    generator = np.random.default_rng(seed)
    x = generator.uniform(0.0, END - (GAP[1] - GAP[0]), count)
    x[x > GAP[0]] += GAP[1] - GAP[0]
    return x, function(x) + NOISE * generator.normal(size=count)


def column(x: np.ndarray) -> Tensor:
    """Inputs as the network takes them."""
    return torch.tensor(x[:, None], dtype=torch.float32)


def regions(x: np.ndarray) -> dict[str, np.ndarray]:
    """Which points lie at data, in the gap and outside."""
    gap = (x > GAP[0]) & (x < GAP[1])
    outside = (x < 0.0) | (x > END)
    inner = (x > GAP[0] + MARGIN) & (x < GAP[1] - MARGIN)
    return {
        "data": ~gap & ~outside,
        "gap": inner,
        "outside": (x < -MARGIN) | (x > END + MARGIN),
    }


def facts(
    posterior: BernoulliPosterior, x_grid: np.ndarray, method: str, seed: int
) -> tuple[dict[str, float], RegressionPredictive]:
    """One row of the table, and what is drawn."""
    x, y = sample(2000, seed + 1000)
    # fit has measured BatchNorm statistics of the networks of seed 0, whatever its own seed.
    model = toy.network(1, seed)
    at_data, on_grid = (
        predict(model, posterior, column(each), method=method, num_samples=toy.NETWORKS)
        for each in (x, x_grid)
    )
    row = {
        "RMSE": float(np.sqrt(metrics.mse(at_data.mean, y))),
        "NLL (nats)": metrics.gaussian_nll(at_data.mean, at_data.std, y),
        "targets within ±2 std": share(np.abs(y - at_data.mean) <= 2.0 * at_data.std),
        "noise std": float(at_data.aleatoric_std.mean()),
    }
    inside = np.abs(function(x_grid) - on_grid.mean) <= 2.0 * on_grid.epistemic_std
    where = regions(x_grid)
    row |= {
        f"epistemic std, {name}": float(on_grid.epistemic_std[rows].mean())
        for name, rows in where.items()
    }
    row |= {f"function in its band, {name}": share(inside[rows]) for name, rows in where.items()}
    return row, on_grid


def share(held: np.ndarray) -> float:
    """Of the entries that are true."""
    return float(held.mean())


def figure(
    x: np.ndarray,
    shown: dict[str, RegressionPredictive],
    data: tuple[np.ndarray, np.ndarray],
) -> plt.Figure:
    """A panel for each predictive, with grey grounds where there are no data."""
    fig, axes = plt.subplots(1, len(shown), figsize=(11.0, 3.7), sharey=True)
    for ax, predictive in zip(axes, shown.values(), strict=True):
        for low, high in ((WIDTH[0], 0.0), GAP, (END, WIDTH[1])):
            ax.axvspan(low, high, color="0.94", linewidth=0)
        plots.regression_band(x, predictive, ax, data=data, function=function(x))
        ax.set_ylim(-2.6, 2.6)
        ax.text(sum(GAP) / 2, 2.4, "no data", ha="center", va="top", fontsize="small")
    toy.name_panels(axes, list(shown), pad=38)
    return fig


def main(argv: Sequence[str] | None = None) -> None:
    """Train, print and draw."""
    chosen = toy.arguments(str(__doc__).splitlines()[0], 5000, argv)
    x, y = sample(200, chosen.seed)
    data = (column(x), torch.tensor(y, dtype=torch.float32))
    x_grid = np.linspace(*WIDTH, 361)
    posteriors = {
        name: toy.train_posterior(data, "gaussian", recipe, chosen.steps, chosen.seed)
        for name, recipe in toy.recipes(chosen.steps).items()
    }
    ste = toy.train_ste(data, "gaussian", chosen.steps, chosen.seed)
    found = {"STE-Adam": facts(ste, x_grid, "mode", chosen.seed)}
    for name, posterior in posteriors.items():
        found[f"{name}, mode"] = facts(posterior, x_grid, "mode", chosen.seed)
        found[f"{name}, mean"] = facts(posterior, x_grid, "monte_carlo", chosen.seed)
    print(f"The true noise std is {NOISE}, the lowest RMSE that can be expected.\n")
    toy.table("network", {name: row for name, (row, _) in found.items()})
    toy.table(
        "posterior", {name: toy.stopped_early(p, chosen.steps) for name, p in posteriors.items()}
    )
    shown = {
        "one network, STE-Adam": found["STE-Adam"][1],
        "mode of the posterior": found["paper's recipe, mode"][1],
        f"mean of {toy.NETWORKS} drawn networks": found["paper's recipe, mean"][1],
    }
    with plt.style.context("bbnn_uq.plots.figure"):
        fig = figure(x_grid, shown, (x, y))
        fig.savefig(chosen.out / "regression-1d.png", dpi=130, pil_kwargs={"optimize": True})
    plt.close(fig)


if __name__ == "__main__":
    main()
