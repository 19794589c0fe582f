"""Two moons: where a point estimate is sure, where drawn networks disagree.

Writes two-moons.png and prints the tables of docs/paper.md:

    .venv/bin/python docs/figures/two_moons.py
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
import toy
from scipy.spatial import cKDTree
from sklearn.datasets import make_moons
from torch import Tensor

from bbnn_uq import BernoulliPosterior, Predictive, metrics, plots, predict

WIDTH, HEIGHT = (-2.5, 3.5), (-2.0, 2.5)
FAR = 1.0  # distance to the nearest training point, beyond which no moon reaches

Predictives = dict[str, tuple[Predictive, Predictive]]


def moons(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Points (count, 2) and classes (count,)."""
    x, y = make_moons(count, noise=0.1, random_state=seed)
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y)


def plane() -> tuple[np.ndarray, np.ndarray, Tensor]:
    """Coordinates along both axes, and all points of the grid."""
    x1, x2 = np.linspace(*WIDTH, 121), np.linspace(*HEIGHT, 91)
    points = np.stack(np.meshgrid(x1, x2), axis=-1).reshape(-1, 2)
    return x1, x2, torch.tensor(points, dtype=torch.float32)


def predictives(
    posterior: BernoulliPosterior, inputs: Sequence[Tensor], method: str, seed: int
) -> tuple[Predictive, ...]:
    """Of the mode, or of the mean over drawn networks."""
    # fit has measured BatchNorm statistics of the networks of seed 0, whatever its own seed.
    model = toy.network(2, seed)
    return tuple(
        predict(model, posterior, x, method=method, num_samples=toy.NETWORKS) for x in inputs
    )


def facts(
    at_data: Predictive, on_grid: Predictive, labels: Tensor, far: np.ndarray
) -> dict[str, float]:
    """One row of the table."""
    return {
        "accuracy": metrics.accuracy(at_data.probs, labels),
        "NLL (nats)": metrics.nll(at_data.probs, labels),
        "entropy at data (nats)": at_data.predictive_entropy.mean(),
        "entropy far away (nats)": on_grid.predictive_entropy[far].mean(),
        "disagreement at data (nats)": disagreement(at_data).mean(),
        "disagreement far away (nats)": disagreement(on_grid)[far].mean(),
    }


def disagreement(predictive: Predictive) -> np.ndarray:
    """Mutual information; a single network does not disagree with itself."""
    found = predictive.mutual_information
    return np.zeros(len(predictive.probs)) if found is None else found


def figure(grid: dict[str, Predictive], points: Tensor, labels: Tensor) -> plt.Figure:
    """Three surfaces of P(y = 1), and the mutual information of the last."""
    x1, x2, _ = plane()
    fig, axes = plt.subplots(1, 4, figsize=(12.0, 3.6), sharey=True)
    shape, data = (len(x2), len(x1)), {"points": points, "labels": labels}
    for ax, predictive in zip(axes, grid.values(), strict=False):
        plots.probability_surface(x1, x2, predictive.probs[:, 1].reshape(shape), ax, **data)
    last = disagreement(list(grid.values())[-1]).reshape(shape)
    plots.uncertainty_surface(x1, x2, last, axes[3], label="mutual information (nats)", **data)
    for ax in axes:
        ax.set_aspect("equal")
    toy.name_panels(axes, [*grid, "where they disagree"], pad=22)
    return fig


def main(argv: Sequence[str] | None = None) -> None:
    """Train, print and draw."""
    chosen = toy.arguments(str(__doc__).splitlines()[0], 3000, argv)
    data = moons(200, chosen.seed)
    held_out, labels = moons(2000, chosen.seed + 1000)
    grid = plane()[2]
    far = cKDTree(data[0]).query(grid)[0] > FAR
    ste = toy.train_ste(data, "binary", chosen.steps, chosen.seed)
    posteriors = {
        name: toy.train_posterior(data, "binary", recipe, chosen.steps, chosen.seed)
        for name, recipe in toy.recipes(chosen.steps).items()
    }
    found = {"STE-Adam": predictives(ste, (held_out, grid), "mode", chosen.seed)}
    for name, posterior in posteriors.items():
        for kind, method in (("mode", "mode"), ("mean", "monte_carlo")):
            found[f"{name}, {kind}"] = predictives(posterior, (held_out, grid), method, chosen.seed)
    toy.table("network", {name: facts(*both, labels, far) for name, both in found.items()})
    toy.table(
        "posterior", {name: toy.stopped_early(p, chosen.steps) for name, p in posteriors.items()}
    )
    shown = {
        "one network, STE-Adam": found["STE-Adam"][1],
        "mode of the posterior": found["paper's recipe, mode"][1],
        f"mean of {toy.NETWORKS} drawn networks": found["paper's recipe, mean"][1],
    }
    with plt.style.context("bbnn_uq.plots.figure"):
        fig = figure(shown, *data)
        fig.savefig(chosen.out / "two-moons.png", dpi=120, pil_kwargs={"optimize": True})
    plt.close(fig)


if __name__ == "__main__":
    main()
