"""Methods of the uncertainty benchmark: how each is trained, saved, read back and predicts.

All share the model (784-256-256-256-10, BatchNorm, learnable output scale), the order of the data
for a seed, the batch size, the number of epochs and a cosine schedule. Point estimates keep the
epoch with the lowest validation NLL (early stopping). MC dropout is full-precision training whose
networks are sampled with dropout.
"""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

import bbnn_uq
from bbnn_uq import CollapsedPosteriorWarning, Predictive, metrics, models
from bbnn_uq.inputs import compute_normalisation, normalise, training_batches
from bbnn_uq.optim import Bop, STEAdam
from bbnn_uq.training import binary_parameters

BATCH_SIZE, NUM_NETWORKS, REAL_LR = 100, 32, 0.01
TEMPERATURES = (1.0, 2.0, 3.0, 5.0)
POSTERIORS = ("straight_through", "local", "concrete", "published")


def _grid(**axes: tuple[Any, ...]) -> list[dict[str, Any]]:
    configs: list[dict[str, Any]] = [{}]
    for key, values in axes.items():
        configs = [config | {key: value} for config in configs for value in values]
    return configs


GRIDS: dict[str, list[dict[str, Any]]] = {
    "published": _grid(lr=(1e-4, 1e-3), dropout=(0.0, 0.1, 0.2)),
    "ste": _grid(lr=(1e-3, 3e-3, 1e-2), dropout=(0.0, 0.05, 0.1, 0.2)),
    "bop": _grid(lr=(1e-4, 1e-3), dropout=(0.0, 0.1, 0.2)),
    "full_precision": _grid(lr=(1e-3, 3e-3, 1e-2), dropout=(0.0, 0.05, 0.1, 0.2)),
    "mc_dropout": _grid(lr=(1e-3, 3e-3, 1e-2), dropout=(0.05, 0.1, 0.2, 0.4)),
    "straight_through": _grid(kl_weight=(5e-3, 1e-2, 2e-2), dropout=(0.0, 0.05)),
    "local": _grid(kl_weight=(5e-3, 1e-2, 2e-2), dropout=(0.0, 0.05)),
    "concrete": _grid(kl_weight=(5e-3, 1e-2), temperature=(0.3, 0.6, 1.0)),
}
LONG_GRIDS: dict[str, list[dict[str, Any]]] = {
    "published": _grid(lr=(1e-3,), dropout=(0.1,)),
    "ste": _grid(lr=(3e-4, 1e-3, 3e-3), dropout=(0.1, 0.2, 0.3)),
    "bop": _grid(lr=(1e-3,), dropout=(0.0, 0.1)),
    "full_precision": _grid(lr=(3e-4, 1e-3, 3e-3), dropout=(0.1, 0.2, 0.3)),
    "mc_dropout": _grid(lr=(3e-4, 1e-3, 3e-3), dropout=(0.1, 0.2, 0.3)),
    "straight_through": _grid(kl_weight=(5e-3, 1e-2, 2e-2), dropout=(0.1, 0.2)),
    "local": _grid(kl_weight=(1e-2,), dropout=(0.05, 0.1)),
    "concrete": _grid(kl_weight=(1e-2,), temperature=(1.0,)),
}
FIXED: dict[str, dict[str, Any]] = {
    "published": {
        "init_scale": 10.0, "temperature": 1e-10, "kl_weight": 1.0, "momentum": 0.9,
        "real_lr": REAL_LR,
    },
    "straight_through": {"dropout": 0.05},
    "local": {"dropout": 0.05},
    "concrete": {"dropout": 0.05},
}  # fmt: skip
STORAGE_BITS = {"full_precision": 32, "mc_dropout": 32}


def build(dropout: float) -> nn.Module:
    """The benchmark's model."""
    return models.build("mlp:256x3", (1, 28, 28), 10, dropout=dropout)


def train(method: str, config: dict[str, Any], seed: int, epochs: int, data: Any, path: Path):
    """Train and save; returns the seconds that training took."""
    torch.manual_seed(seed)
    options = FIXED.get(method, {}) | config
    dropout = options.pop("dropout")
    model = build(dropout)
    started = time.perf_counter()
    if method in POSTERIORS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CollapsedPosteriorWarning)
            posterior = bbnn_uq.fit(
                model, data.train, epochs=epochs, batch_size=BATCH_SIZE, normalise=True,
                estimator=method, seed=seed, **options,
            )  # fmt: skip
        posterior.save(path)
    else:
        state = _train_point(model, method, options, seed, epochs, data)
        save_file(state, path)
    return time.perf_counter() - started


def _train_point(
    model: nn.Module, method: str, options: dict[str, Any], seed: int, epochs: int, data: Any
) -> dict[str, torch.Tensor]:
    """Ordinary training with early stopping; the best state with the normalisation beside it."""
    x, y = (torch.from_numpy(part) for part in data.train)
    moments = compute_normalisation(x)
    loader, _ = training_batches((normalise(x, moments), y), BATCH_SIZE, seed)
    held_out = (normalise(torch.from_numpy(data.validation[0]), moments), data.validation[1])
    binary = set(binary_parameters(model))
    weights = [p for name, p in model.named_parameters() if name in binary]
    real = [p for name, p in model.named_parameters() if name not in binary]
    generator = torch.Generator().manual_seed(seed)
    if method == "ste":
        optimizer = STEAdam(weights, lr=options["lr"], generator=generator)
    elif method == "bop":
        optimizer = Bop(weights, lr=options["lr"], threshold=1e-8, generator=generator)
    else:
        optimizer = torch.optim.Adam(weights, lr=options["lr"])
    optimizers = [optimizer, torch.optim.Adam(real, lr=REAL_LR)]
    schedulers = [CosineAnnealingLR(each, epochs * len(loader)) for each in optimizers]
    best, lowest = {}, float("inf")
    for _ in range(epochs):
        model.train()
        for inputs, labels in loader:
            model.zero_grad()
            nn.functional.cross_entropy(model(inputs), labels).backward()
            for each in (*optimizers, *schedulers):
                each.step()
        model.eval()
        nll = metrics.nll(_probabilities(model, held_out[0]), held_out[1])
        if nll < lowest:
            lowest = nll
            best = {name: value.clone() for name, value in model.state_dict().items()}
    for key, values in moments.items():
        best[f"normalisation.{key}"] = torch.tensor(values, dtype=torch.float64)
    return best


def predict(method: str, paths: list[Path], inputs: np.ndarray, dropout: float) -> Predictive:
    """The predictive of one run, or of an ensemble or a mixture of several."""
    if method in POSTERIORS:
        members = [bbnn_uq.load(path) for path in paths]
        posterior = members[0] if len(members) == 1 else bbnn_uq.PosteriorMixture(members)
        return bbnn_uq.predict(
            build(dropout), posterior, inputs, num_samples=NUM_NETWORKS, precision="float32",
            score_temperatures=TEMPERATURES,
        )  # fmt: skip
    return Predictive.from_samples(
        np.concatenate([_samples(method, path, inputs, dropout) for path in paths])
    )


def predict_mode(path: Path, inputs: np.ndarray, dropout: float) -> Predictive:
    """The predictive of a posterior's mode, with BatchNorm statistics of its own."""
    posterior = bbnn_uq.load(path)
    return bbnn_uq.predict(build(dropout), posterior, inputs, method="mode", precision="float32")


def _samples(method: str, path: Path, inputs: np.ndarray, dropout: float) -> np.ndarray:
    state = load_file(path)
    moments = {key: state.pop(f"normalisation.{key}").tolist() for key in ("mean", "std")}
    model = build(dropout)
    model.load_state_dict(state)
    model.eval()
    x = normalise(torch.from_numpy(inputs), moments)
    if method != "mc_dropout":
        return _probabilities(model, x)[None]
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.train()
    torch.manual_seed(0)
    return np.stack([_probabilities(model, x) for _ in range(NUM_NETWORKS)])


@torch.no_grad()
def _probabilities(model: nn.Module, x: torch.Tensor) -> np.ndarray:
    parts = [torch.softmax(model(each).double(), dim=1) for each in x.split(2000)]
    return torch.cat(parts).numpy()
