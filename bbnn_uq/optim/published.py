"""The authors' optimizer, step by step, for reproducing published numbers only.

The released code of Meng, Bachmann, Khan 2020 departs from the paper's equations:

- s = N (1 − w² + 1e−10) / τ / (1 − μ² + 1e−10), in the parameters' own precision. At the published
  τ = 1e−10 float32 has w² = μ² = 1, and s is made of the two stabilisers alone: N / τ.
- μ = tanh λ is that of the λ before the last step.
- The KL term is inside the momentum: m ← β m + (1 − β) {N s ⊙ g + ρ (λ − λ₀)}, with Adam's bias
  correction, λ ← λ − α m / (1 − βᵗ).

|λ| jumps to about 1e7 in one step and the posterior is a point mass from then on: what runs is Bop
with threshold 0. Use another estimator to get uncertainty.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from bbnn_uq.optim.estimator import Gradients, State

__all__ = ["published", "published_update_"]

_STABILISER = 1e-10


@contextmanager
def published(
    parameters: list[nn.Parameter],
    states: list[State],
    *,
    temperature: float,
    generator: torch.Generator,
) -> Iterator[Gradients]:
    """Evaluate at relaxed draws with the authors' scale; arguments as for every estimator.

    Example:
        >>> weight = nn.Parameter(torch.zeros(2))
        >>> states = [{"natural_param": torch.tensor([-10.0, 10.0])}]
        >>> with published(
        ...     [weight], states, temperature=1e-10, generator=torch.Generator()
        ... ) as gradients:
        ...     weight.sum().backward()
        ...     gradients()  # nothing is left but 1 / τ
        [tensor([1.0000e+10, 1.0000e+10])]
    """
    scales: list[Tensor] = []
    with torch.no_grad():
        for parameter, state in zip(parameters, states, strict=True):
            natural_param = state["natural_param"]
            mean = torch.tanh(state.get("previous_natural_param", natural_param))
            uniform = torch.empty_like(natural_param).uniform_(generator=generator)
            noise = torch.log(uniform / (1.0 - uniform)) / 2.0
            weights = torch.tanh((noise + natural_param) / temperature)
            numerator = 1.0 - weights * weights + _STABILISER
            scales.append(numerator / temperature / (1.0 - mean * mean + _STABILISER))
            parameter.copy_(weights)
    yield lambda: [
        None if parameter.grad is None else scale * parameter.grad
        for parameter, scale in zip(parameters, scales, strict=True)
    ]


def published_update_(
    state: State, gradient: Tensor, *, lr: float, momentum: float, kl_weight: float
) -> None:
    """One step of the authors' rule, in place.

    Args:
        state: ``natural_param``, ``momentum_average``, ``step`` (counted from 1), and where there
            is a prior ``prior_natural_param``.
        gradient: N s ⊙ g.
        lr: α.
        momentum: β in [0, 1).
        kl_weight: ρ.
    """
    natural_param, average = state["natural_param"], state["momentum_average"]
    pull = natural_param - state.get("prior_natural_param", 0.0)
    average.mul_(momentum).add_(gradient + kl_weight * pull, alpha=1.0 - momentum)
    state["previous_natural_param"] = natural_param.clone()
    natural_param.add_(average, alpha=-lr / (1.0 - momentum ** state["step"]))
