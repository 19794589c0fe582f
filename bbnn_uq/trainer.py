"""One training run: a model, its optimizers, and everything that the next epoch depends on."""

from __future__ import annotations

import importlib.metadata
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader

from bbnn_uq.inputs import normalise, outputs_of
from bbnn_uq.likelihoods import Likelihood, Softmax
from bbnn_uq.optim import BayesBiNN
from bbnn_uq.posterior import BernoulliPosterior

__all__ = ["Trainer"]


class Trainer:
    """A training run, used by :func:`bbnn_uq.fit`.

    Args:
        model: trained in place.
        loader: gives batches (inputs, targets), or with ``weighted`` (inputs, targets, weights).
        likelihood: of the targets; its own parameters are trained as well.
        names: of the parameters that become binary.
        recipe: arguments of :class:`bbnn_uq.BayesBiNN`.
        schedule: ``epochs``, ``batch_size``, ``real_lr``, ``kl_warmup``, ``prior`` and ``seed``.
        normalisation: of the inputs, or None.
        prior: λ₀ by name, or None.
        init: λ at the start by name, or None.
        augment: applied to each batch of inputs before they are normalised, or None.
        weighted: whether each input comes with a weight of its loss.
        device: where the model is.
    """

    def __init__(
        self,
        model: nn.Module,
        loader: DataLoader,
        likelihood: Likelihood,
        names: list[str],
        *,
        recipe: dict[str, Any],
        schedule: dict[str, Any],
        normalisation: dict[str, list[float]] | None,
        prior: BernoulliPosterior | Mapping[str, Tensor] | None,
        init: BernoulliPosterior | Mapping[str, Tensor] | None,
        augment: Callable[[Tensor], Tensor] | None,
        weighted: bool,
        device: torch.device,
    ) -> None:
        self.model, self.loader, self.names = model, loader, names
        self.likelihood, self.augment, self.weighted = likelihood, augment, weighted
        self.device = device
        self.fingerprint = ""  # of what the recipe does not say, for checkpoints
        self.normalisation = normalisation
        self.kl_weight = recipe["kl_weight"]
        self.warmup_steps = round(schedule["kl_warmup"] * schedule["epochs"] * len(loader))
        parameters = dict(model.named_parameters())
        self.bayesbinn = BayesBiNN(
            [(name, parameters[name]) for name in names],
            prior=prior,
            init=init,
            generator=torch.Generator(device).manual_seed(schedule["seed"]),
            **recipe,
        )
        real = [p for name, p in parameters.items() if name not in names]
        real += [p for p in likelihood.parameters() if p.requires_grad]
        self.adam = torch.optim.Adam(real, lr=schedule["real_lr"]) if real else None
        self.optimizers = [o for o in (self.bayesbinn, self.adam) if o is not None]
        steps = schedule["epochs"] * len(loader)
        self.schedulers = [CosineAnnealingLR(optimizer, steps) for optimizer in self.optimizers]
        self.metadata: dict[str, Any] = {"recipe": recipe | schedule}
        if normalisation is not None:
            self.metadata["normalisation"] = normalisation
        versions = {name: importlib.metadata.version(name) for name in ("bbnn-uq", "torch")}
        self.metadata["versions"] = versions
        self.history: list[dict[str, Any]] = []
        self.steps = 0

    def posterior(self) -> BernoulliPosterior:
        """The posterior as it stands."""
        natural = self.bayesbinn.natural_param
        if not all(bool(value.isfinite().all()) for value in natural.values()):
            raise ValueError("natural parameters became infinite in training; lower lr or real_lr")
        likelihood = {"likelihood": self.likelihood.to_metadata()}
        return BernoulliPosterior(natural, self.real_state(), self.metadata | likelihood)

    def real_state(self) -> dict[str, Tensor]:
        """Real-valued parameters and buffers, by name."""
        state = dict(self.model.named_buffers()) | dict(self.model.named_parameters())
        return {name: value for name, value in state.items() if name not in self.names}

    def train_epoch(self) -> tuple[float, float]:
        """One pass over the data: mean loss and quality of the networks drawn on the way."""
        total, quality, seen = 0.0, 0.0, 0
        for batch in self.loader:
            x, y, weights = batch if self.weighted else (*batch, None)
            targets = self.likelihood.check_targets(y.to(self.device), len(x), "data y")
            inputs = normalise(_augmented(x.to(self.device), self.augment), self.normalisation)
            weights = None if weights is None else weights.to(self.device)
            loss, reached = self._train_batch(self._cast(inputs), targets, weights)
            if not math.isfinite(loss):
                raise ValueError(f"the training loss became {loss}; lower lr or real_lr")
            total += loss * len(y)
            quality += reached * len(y)
            seen += len(y)
        return total / seen, quality / seen

    def _cast(self, inputs: Tensor) -> Tensor:
        """Real-valued inputs in the type of the weights, as ``predict`` has them."""
        weights = self.bayesbinn.param_groups[0]["params"][0]
        return inputs.to(weights.dtype) if inputs.is_floating_point() else inputs

    def _train_batch(
        self, inputs: Tensor, targets: Tensor, weights: Tensor | None
    ) -> tuple[float, float]:
        quality = 0.0

        def closure() -> Tensor:
            nonlocal quality
            self.bayesbinn.zero_grad()
            outputs = outputs_of(self.model, inputs)
            loss = self.likelihood(outputs, targets, weights)
            if self.steps == 1 and isinstance(self.likelihood, Softmax):
                _warn_if_probabilities(outputs.detach())
            loss.backward()
            quality += float(self.likelihood.quality(outputs.detach(), targets))
            return loss.detach()

        self.steps += 1
        if self.steps <= self.warmup_steps:
            for group in self.bayesbinn.param_groups:
                group["kl_weight"] = self.kl_weight * self.steps / self.warmup_steps
        if self.adam is not None:
            self.adam.zero_grad()
        loss = float(self.bayesbinn.step(closure))
        if self.adam is not None:
            # Real-valued gradients have added up over the draws of the step.
            _divide_gradients(self.adam, self.bayesbinn.num_samples)
            self.adam.step()
        for scheduler in self.schedulers:
            scheduler.step()
        return loss, quality / self.bayesbinn.num_samples

    def state(self) -> dict[str, Any]:
        """Everything that the next epoch depends on, random streams included."""
        return {
            "metadata": self.metadata,
            "fingerprint": self.fingerprint,
            "history": self.history,
            "steps": self.steps,
            "model": self.model.state_dict(),
            "likelihood": self.likelihood.state_dict(),
            "buffers": dict(self.model.named_buffers()),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "schedulers": [scheduler.state_dict() for scheduler in self.schedulers],
            "streams": [generator.get_state() for generator in self._generators()],
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state`.

        Raises:
            ValueError: it is of another recipe.
        """
        ours, theirs = self.metadata["recipe"], state["metadata"]["recipe"]
        different = [key for key in ours if ours[key] != theirs.get(key)]
        if different or self.fingerprint != state["fingerprint"]:
            what = ", ".join(f"{key} {theirs.get(key)!r}, now {ours[key]!r}" for key in different)
            raise ValueError(
                f"the checkpoint is of another run ({what or 'other data, model or prior'}); use "
                "the same arguments, or another checkpoint_dir"
            )
        self.history, self.steps = state["history"], state["steps"]
        self.model.load_state_dict(state["model"])
        self.likelihood.load_state_dict(state["likelihood"])
        for name, buffer in self.model.named_buffers():
            buffer.copy_(state["buffers"][name])
        for ours, theirs in zip(self.optimizers, state["optimizers"], strict=True):
            ours.load_state_dict(theirs)
        for ours, theirs in zip(self.schedulers, state["schedulers"], strict=True):
            ours.load_state_dict(theirs)
        for generator, stream in zip(self._generators(), state["streams"], strict=True):
            generator.set_state(stream)
        torch.set_rng_state(state["torch"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"], self.device)

    def _generators(self) -> list[torch.Generator]:
        order = getattr(self.loader, "generator", None)
        return [g for g in (self.bayesbinn.generator, order) if g is not None]


def _augmented(inputs: Tensor, augment: Callable[[Tensor], Tensor] | None) -> Tensor:
    if augment is None:
        return inputs
    changed = augment(inputs)
    if not isinstance(changed, Tensor) or changed.shape != inputs.shape:
        found = tuple(changed.shape) if isinstance(changed, Tensor) else type(changed).__name__
        raise ValueError(
            f"augment must return a batch of the shape that it got, {tuple(inputs.shape)}, got "
            f"{found}"
        )
    if changed.is_floating_point() and not bool(torch.isfinite(changed).all()):
        raise ValueError("augment returned NaN or infinite values; check it on a batch of inputs")
    return changed


def _warn_if_probabilities(logits: Tensor) -> None:
    if bool((logits >= 0).all()) and bool((logits.sum(dim=1) - 1).abs().max() < 1e-4):
        warnings.warn(
            "the model's outputs are positive and sum to 1: they look like probabilities, and "
            "logits are wanted; leave out the last softmax",
            stacklevel=2,
        )


def _divide_gradients(optimizer: torch.optim.Optimizer, count: int) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None and count > 1:
                parameter.grad /= count
