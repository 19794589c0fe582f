"""A model's architecture as a function of its weights, apart from the user's object."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from bbnn_uq.inference.precision import PRECISIONS, resolve_precision
from bbnn_uq.posterior import Posterior

__all__ = ["Architecture", "batchnorm_layers"]


class Architecture:
    """The forward pass of a model for any weights, on one device and in one precision.

    The user's model is copied without its tensors and put in evaluation mode; it is not kept.

    Args:
        model: any module that returns logits.
        posterior: whose names and shapes are those of the model.
        probe: one input, to see whether the model takes float64.
        precision: as :func:`bbnn_uq.predict` takes it.
        device: where to compute.

    Raises:
        ValueError: the posterior does not fit the model, the precision is unknown, or a BatchNorm
            layer keeps no statistics.
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
        self.module = _skeleton(model)
        self._device = device

        def accepts_float64() -> bool:
            self._dtype = torch.float64
            member = posterior.member(0)
            try:
                self.forward(member.state_of(None) | member.mode())(probe)
            except (RuntimeError, TypeError, ValueError):
                return False
            return True

        self.precision = resolve_precision(
            precision,
            num_weights=posterior.member(0).num_weights,
            device=device,
            accepts_float64=precision == "auto" and accepts_float64(),
        )
        self._dtype = PRECISIONS[self.precision]

    def placed(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Copies of the tensors on the device, floating ones in the precision."""
        return {name: self._placed(value) for name, value in state.items()}

    def forward(self, state: dict[str, Tensor]) -> Callable[[Tensor], Tensor]:
        """The forward pass with these weights, parameters and buffers."""
        placed = self.placed(state)
        return lambda x: functional_call(self.module, placed, (self._placed(x),))

    def _placed(self, value: Tensor) -> Tensor:
        dtype = self._dtype if value.is_floating_point() else None
        return value.to(device=self._device, dtype=dtype)


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
