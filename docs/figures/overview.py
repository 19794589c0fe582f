"""What the package is about, in three panels: writes overview.png, which the README shows.

    .venv/bin/python docs/figures/overview.py

Digits 0 to 7 are known; 8 and 9, and patches of photographs, are strange. The recipe is that of
``bbnn-uq demo``, whose choice docs/benchmarks/demo.md tells.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from bbnn_uq import (
    BernoulliPosterior,
    CollapsedPosteriorWarning,
    fit,
    metrics,
    models,
    plots,
    predict,
)
from bbnn_uq.data import load_data

RECIPE = {"lr": 1.0, "real_lr": 0.1, "kl_weight": 1e-3}
PUBLISHED = {
    "estimator": "published",
    "lr": 1e-4,
    "temperature": 1e-10,
    "init_scale": 10.0,
    "kl_weight": 1.0,
}
EDGES = np.geomspace(1e-2, 1e8, 61)


def histogram(posterior: BernoulliPosterior) -> tuple[np.ndarray, np.ndarray]:
    """Of |λ| over all weights."""
    size = torch.cat([value.abs().flatten() for value in posterior.natural_param.values()])
    return np.histogram(size.clamp(EDGES[0], EDGES[-1]).numpy(), EDGES)


def figure(
    posteriors: Mapping[str, BernoulliPosterior], scores: Mapping[str, np.ndarray]
) -> plt.Figure:
    """λ of both posteriors; scores of the known set, which is the first, and of strange ones."""
    inside, *strange = scores
    curves = {name: metrics.roc_curve(scores[inside], scores[name]) for name in strange}
    fig, axes = plt.subplots(1, 3, figsize=(12.0, 3.9), width_ratios=(1.1, 1.1, 0.9))
    plots.natural_param_histograms({k: histogram(v) for k, v in posteriors.items()}, axes[0])
    plots.ood_histograms(scores, axes[1], score="entropy")
    plots.roc_curves(curves, axes[2])
    # A set looks the same in both panels: the first colour and dash are those of the ID set.
    legend = axes[2].get_legend()
    for name, style in zip(strange, list(plt.rcParams["axes.prop_cycle"])[1:], strict=False):
        for line in (*axes[2].lines, *legend.legend_handles):
            if line.get_label() == name:
                line.set(**style)
    return fig


def main(arguments: Sequence[str] | None = None) -> None:
    """Train both, draw the networks of ours, and write the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)

    train, test = (load_data("digits-low", split=split) for split in ("train", "test"))
    model = models.build("mlp:128x2", train.input_shape, train.num_classes, dropout=0.1)
    common = {"epochs": chosen.epochs, "batch_size": 32, "normalise": True, "seed": 0}
    posterior = fit(model, (train.x, train.y), **common, **RECIPE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapsedPosteriorWarning)
        published = fit(model, (train.x, train.y), **common, **PUBLISHED)

    shown = {
        "digits 0–7": test.x,
        **{name: load_data(name, split="test").x for name in ("digits-high", "photo-patches")},
    }
    scores = {name: predict(model, posterior, x).predictive_entropy for name, x in shown.items()}
    chosen.out.mkdir(parents=True, exist_ok=True)
    with plt.style.context("bbnn_uq.plots.figure"):
        figure({"bbnn-uq": posterior, "published recipe": published}, scores).savefig(
            chosen.out / "overview.png", pil_kwargs={"optimize": True}
        )


if __name__ == "__main__":
    main()
