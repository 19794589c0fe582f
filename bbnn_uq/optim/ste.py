"""STE-Adam: the point estimate that most binary networks are trained with.

Latent real weights v, w = sign v in the forward pass, the gradient in w taken for that in v, Adam
on v, and v clipped to [−1, 1] (Hubara, Courbariaux, Soudry, El-Yaniv, Bengio, "Binarized Neural
Networks", NeurIPS 2016, arXiv 1602.02830).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from bbnn_uq import bernoulli
from bbnn_uq._checks import check_real

__all__ = ["STEAdam"]


class STEAdam(Optimizer):
    """Straight-through gradients into latent weights, by Adam; parameters hold the signs.

    Args:
        params: parameters that become binary.
        lr: Adam's step size on the latent weights.
        init_scale: standard deviation of the latent weights at the start, before clipping.
        generator: source of the initial latent weights; one seeded with 0 when not given.

    Raises:
        TypeError, ValueError: an argument is out of its range.

    Example:
        >>> weight = nn.Parameter(torch.zeros(3))
        >>> optimizer = STEAdam([weight], lr=0.1)
        >>> def closure():
        ...     optimizer.zero_grad()
        ...     loss = ((weight - torch.tensor([1.0, -1.0, 1.0])) ** 2).sum()
        ...     loss.backward()
        ...     return loss
        >>> for _ in range(20):
        ...     _ = optimizer.step(closure)
        >>> weight.data
        tensor([ 1., -1.,  1.])
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        *,
        lr: float,
        init_scale: float = 0.1,
        generator: torch.Generator | None = None,
    ) -> None:
        check_real(init_scale, "init_scale", above=0.0)
        super().__init__(params, {"lr": check_real(lr, "lr", minimum=0.0)})
        parameters = [p for group in self.param_groups for p in group["params"]]
        generator = generator or torch.Generator(parameters[0].device).manual_seed(0)
        self._latent: dict[nn.Parameter, Tensor] = {}
        for parameter in parameters:
            start = torch.empty_like(parameter).normal_(std=init_scale, generator=generator)
            self._latent[parameter] = nn.Parameter(start.clamp_(-1.0, 1.0))
        self._adam = Adam(list(self._latent.values()), lr=lr)
        self._set_signs()

    @torch.no_grad()
    def _set_signs(self) -> None:
        for parameter, latent in self._latent.items():
            parameter.copy_(bernoulli.mode(latent))

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Evaluate the closure at the signs and move the latent weights.

        Args:
            closure: clears gradients, computes the loss, calls ``backward`` and returns the loss;
                when not given, the gradients that are there are used.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for parameter, latent in self._latent.items():
            latent.grad = parameter.grad
        self._adam.param_groups[0]["lr"] = self.param_groups[0]["lr"]
        self._adam.step()
        for latent in self._latent.values():
            latent.clamp_(-1.0, 1.0)
        self._set_signs()
        return loss
