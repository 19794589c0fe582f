"""STE-Adam on augmented images: the point estimate of the VGG benchmark."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from bbnn_uq import metrics
from bbnn_uq.inputs import (
    check_device,
    compute_normalisation,
    normalise,
    seeded_torch,
    training_batches,
)
from bbnn_uq.optim import STEAdam
from bbnn_uq.training import binary_parameters

REAL_LR = 0.03  # fit's

Labelled = tuple[np.ndarray, np.ndarray]


def train_ste(
    model: nn.Module,
    train: Labelled,
    validation: Labelled,
    augment: Callable[[Tensor], Tensor],
    *,
    epochs: int,
    batch_size: int,
    lr: float,
    seed: int,
) -> tuple[Callable[[np.ndarray], np.ndarray], dict[str, Any]]:
    """Train; the class probabilities of the best epoch as a function of inputs, and the facts."""
    device = check_device(None)
    x, y = (torch.from_numpy(part) for part in train)
    moments = compute_normalisation(x)
    loader, _ = training_batches((x, y), batch_size, seed)
    model.to(device)
    optimizers = _optimizers(model, lr, torch.Generator(device).manual_seed(seed))
    schedulers = [CosineAnnealingLR(each, epochs * len(loader)) for each in optimizers]

    @torch.no_grad()
    def probabilities(inputs: np.ndarray) -> np.ndarray:
        model.eval()
        parts = [
            torch.softmax(model(normalise(part.to(device), moments)).double(), dim=1).cpu()
            for part in torch.from_numpy(inputs).split(1000)
        ]
        return torch.cat(parts).numpy()

    best, history = {}, []
    # The stream that fit reads, in the order in which it does: crops and flips are the same.
    with seeded_torch(seed, device):
        for epoch in range(1, epochs + 1):
            started = time.perf_counter()
            model.train()
            for inputs, labels in loader:
                model.zero_grad()
                logits = model(normalise(augment(inputs.to(device)), moments))
                nn.functional.cross_entropy(logits, labels.to(device)).backward()
                for each in (*optimizers, *schedulers):
                    each.step()
            seconds = time.perf_counter() - started
            probs = probabilities(validation[0])
            record = {
                "epoch": epoch,
                "seconds": seconds,
                "val_nll": metrics.nll(probs, validation[1]),
                "val_accuracy": metrics.accuracy(probs, validation[1]),
            }
            print("STE-Adam", record, flush=True)
            if not history or record["val_nll"] < min(each["val_nll"] for each in history):
                best = {name: value.clone() for name, value in model.state_dict().items()}
            history.append(record)
    model.load_state_dict(best)
    seconds = sum(record["seconds"] for record in history)
    return probabilities, {"seconds": seconds, "history": history}


def _optimizers(
    model: nn.Module, lr: float, generator: torch.Generator
) -> list[torch.optim.Optimizer]:
    """STE-Adam for the weights that become binary, Adam for what is real-valued."""
    binary = set(binary_parameters(model))
    weights = [p for name, p in model.named_parameters() if name in binary]
    real = [p for name, p in model.named_parameters() if name not in binary]
    return [STEAdam(weights, lr=lr, generator=generator), torch.optim.Adam(real, lr=REAL_LR)]
