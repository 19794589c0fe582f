"""A model's architecture as a function of its weights, apart from the user's object."""

from __future__ import annotations

import contextlib
import copy
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from bbnn_uq.inference.precision import (
    PRECISIONS,
    SMALL_MODEL,
    exact_precision,
    fast_precision,
)
from bbnn_uq.inference.products import NetworkProducts, ProductRecorder
from bbnn_uq.inputs import outputs_of
from bbnn_uq.likelihoods import Classification, as_likelihood
from bbnn_uq.posterior import Posterior

__all__ = ["Architecture", "batchnorm_layers"]


class Architecture:
    """The forward pass of a model for any weights, on one device and in one precision.

    The user's model is copied without its tensors and put in evaluation mode; it is not kept.
    Each thread computes with a copy of its own.

    Args:
        model: any module that returns logits.
        posterior: whose names and shapes are those of the model.
        probe: one input, to see which types and products the model takes.
        precision: as :func:`bbnn_uq.predict` takes it, or ``exact`` for what ``auto`` gives
            without low-precision products.
        device: where to compute.

    Raises:
        ValueError: the posterior does not fit the model, none of the model's layers can be
            computed in the precision, or a BatchNorm layer keeps no statistics.
    """

    def __init__(
        self,
        model: nn.Module,
        posterior: Posterior,
        probe: Tensor,
        precision: str,
        device: torch.device,
    ) -> None:
        _check_fits(model, posterior)
        self._skeleton = _skeleton(model)
        self._threads = threading.local()
        self.device = device
        member = posterior.member(0)
        self.weight_shapes = {n: v.shape for n, v in member.natural_param.items()}
        self.state_shapes = self.weight_shapes | {n: v.shape for n, v in member.real_state.items()}
        self.products: frozenset[str] = frozenset()
        if precision in ("auto", "exact"):
            self._choose(posterior, probe, fast=precision == "auto")
        else:
            self._set(precision, posterior, probe)
            if self.low_precision and not self.products:
                raise ValueError(
                    f"precision {precision!r} is for linear layers and convolutions, and the "
                    "model uses its binary weights in none of them; use float32"
                )

    def _choose(self, posterior: Posterior, probe: Tensor, *, fast: bool) -> None:
        """The fastest precision for large models, whose products outweigh all else."""
        num_weights = sum(shape.numel() for shape in self.weight_shapes.values())
        exact = exact_precision(
            num_weights=num_weights,
            device=self.device,
            accepts_float64=lambda: self._accepts_float64(posterior, probe),
        )
        # Real targets have no bound as probabilities have, so nothing is rounded unasked.
        classes = as_likelihood(posterior.member(0).metadata.get("likelihood"))
        if fast and num_weights > SMALL_MODEL and isinstance(classes, Classification):
            self._set(fast_precision(self.device), posterior, probe)
            if self.products == self.weight_shapes.keys():
                return
        self._set(exact, posterior, probe)

    def _set(self, precision: str, posterior: Posterior, probe: Tensor) -> None:
        self.precision = precision
        self._dtype, self._weight_dtype = PRECISIONS[precision]
        self.products = self.recorded(posterior, probe) if self.low_precision else frozenset()

    def recorded(self, posterior: Posterior, probe: Tensor) -> frozenset[str]:
        """Weights that the model uses in linear layers and convolutions only."""
        try:  # shapes are enough for most models
            return self._recorded(posterior, probe, torch.device("meta"))
        except (RuntimeError, TypeError, ValueError):
            return self._recorded(posterior, probe, self.device)

    def _recorded(
        self, posterior: Posterior, probe: Tensor, device: torch.device
    ) -> frozenset[str]:
        member = posterior.member(0)
        weights, state, x = (
            {name: value.to(device, self._dtype_of(value)) for name, value in tensors.items()}
            for tensors in (member.natural_param, member.real_state, {"x": probe})
        )
        with ProductRecorder(weights, self._weight_dtype) as recorder:
            outputs_of(lambda x: functional_call(self.module, state | weights, (x,)), x["x"])
        return recorder.products()

    def _accepts_float64(self, posterior: Posterior, probe: Tensor) -> bool:
        self._dtype = self._weight_dtype = torch.float64
        member = posterior.member(0)
        try:
            self.forward(self.placed(member.state_of(None) | member.mode()))(probe)
        except (RuntimeError, TypeError, ValueError):
            return False
        return True

    @property
    def low_precision(self) -> bool:
        """Whether weights are of a smaller type than activations."""
        return self._weight_dtype != self._dtype

    @property
    def dtype(self) -> torch.dtype:
        """Type of the activations."""
        return self._dtype

    @property
    def module(self) -> nn.Module:
        """This thread's copy of the model, in evaluation mode and without tensors."""
        if not hasattr(self._threads, "module"):
            self._threads.module = copy.deepcopy(self._skeleton)
        return self._threads.module

    def weight_dtype(self, name: str) -> torch.dtype:
        """Type that a weight is computed in."""
        return self._weight_dtype if name in self.products else self._dtype

    def placed(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Copies of the tensors on the device, floating ones in the type of the activations."""
        return {name: self._placed(value) for name, value in state.items()}

    def forward(self, state: dict[str, Tensor]) -> Callable[[Tensor], Tensor]:
        """The forward pass with these weights, parameters and buffers, which have been placed.

        They may be those of several networks, see :mod:`bbnn_uq.inference.products`.
        """
        module = self.module
        names = self.weight_shapes.keys() & state.keys()
        grouped = any(state[name].ndim > len(self.weight_shapes[name]) for name in names)

        def run(x: Tensor) -> Tensor:
            with NetworkProducts() if self.low_precision or grouped else contextlib.nullcontext():
                return functional_call(module, state, (self._placed(x),))

        return run

    def _placed(self, value: Tensor) -> Tensor:
        # Meta tensors have no values to move: they are there for shapes.
        device = value.device if value.is_meta else self.device
        return value.to(device=device, dtype=self._dtype_of(value))

    def _dtype_of(self, value: Tensor) -> torch.dtype:
        return self._dtype if value.is_floating_point() else value.dtype


def batchnorm_layers(model: nn.Module) -> dict[str, _BatchNorm]:
    """The BatchNorm layers that keep running statistics, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    }


def _skeleton(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose parameters and buffers take no memory."""
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            raise ValueError(
                f"model's BatchNorm {name!r} keeps no running statistics, so a prediction would "
                "depend on the other inputs of its batch; build it with track_running_stats=True"
            )
    placeholders: dict[int, Any] = {
        id(p): nn.Parameter(torch.empty_like(p, device="meta"), requires_grad=False)
        for p in model.parameters()
    }
    placeholders |= {id(b): torch.empty_like(b, device="meta") for b in model.buffers()}
    return copy.deepcopy(model, placeholders).eval()


def _check_fits(model: nn.Module, posterior: Posterior) -> None:
    member = posterior.member(0)
    wanted = {name: p.shape for name, p in [*model.named_parameters(), *model.named_buffers()]}
    found = {name: p.shape for name, p in (member.natural_param | member.real_state).items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            ours, theirs = (
                tuple(shapes[name]) if name in shapes else "missing" for shapes in (wanted, found)
            )
            raise ValueError(
                f"posterior does not fit the model: {name!r} is {ours} in the model and {theirs} "
                "in the posterior; build the model as it was when the posterior was fitted"
            )
