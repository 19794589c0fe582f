"""Bop: flip a binary weight when the average of its gradients insists.

m ← (1 − γ) m + γ g; w ← −w where |m| > τ and sign m = sign w (Helwegen, Widdicombe, Geiger, Liu,
Cheng, Nusselder, "Latent Weights Do Not Exist: Rethinking Binarized Neural Network Optimization",
NeurIPS 2019, arXiv 1906.02107, algorithm 1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from bbnn_uq import bernoulli
from bbnn_uq._checks import check_real

__all__ = ["Bop"]


class Bop(Optimizer):
    """Binary optimizer: no latent weights, only an average gradient m and a threshold.

    Args:
        params: parameters that become binary.
        lr: γ in (0, 1], the adaptivity rate; called ``lr`` so that schedulers can change it.
        threshold: τ ≥ 0.
        generator: source of the initial signs; one seeded with 0 when not given.

    Raises:
        TypeError, ValueError: an argument is out of its range.

    Example:
        >>> weight = nn.Parameter(torch.zeros(3))
        >>> optimizer = Bop([weight], lr=0.1, threshold=1e-3)
        >>> def closure():
        ...     optimizer.zero_grad()
        ...     loss = (weight * torch.tensor([-1.0, 1.0, -1.0])).sum()
        ...     loss.backward()
        ...     return loss
        >>> _ = optimizer.step(closure)
        >>> weight.data
        tensor([ 1., -1.,  1.])
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        *,
        lr: float = 1e-3,
        threshold: float = 1e-8,
        generator: torch.Generator | None = None,
    ) -> None:
        defaults = {
            "lr": check_real(lr, "lr", minimum=0.0),
            "threshold": check_real(threshold, "threshold", minimum=0.0),
        }
        if lr > 1.0:
            raise ValueError(f"lr must be at most 1, got {lr}")
        super().__init__(params, defaults)
        device = self.param_groups[0]["params"][0].device
        generator = generator or torch.Generator(device).manual_seed(0)
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.copy_(bernoulli.hard_sample(torch.zeros_like(parameter), generator))
                    self.state[parameter]["average"] = torch.zeros_like(parameter)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Update the average gradients and flip.

        Args:
            closure: clears gradients, computes the loss, calls ``backward`` and returns the loss;
                when not given, the gradients that are there are used.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                average = self.state[parameter]["average"].lerp_(parameter.grad, group["lr"])
                flips = (average.abs() > group["threshold"]) & (average * parameter > 0)
                parameter.mul_(1.0 - 2.0 * flips.to(parameter.dtype))
        return loss
