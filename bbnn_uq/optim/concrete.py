"""The paper's estimator: a relaxed draw and the scale of Lemma 1, in log space.

w = tanh((λ + δ) / τ), ∇_μ E_q[ℓ] ≈ (s / N) ⊙ ∇_w ℓ(w), s / N = (1 − w²) / (τ (1 − tanh² λ))
(Meng, Bachmann, Khan 2020, equations 7 to 13). Exact as τ → 0, with a variance that grows as
1 / τ; biased at large τ, since the loss is seen at weights that are not binary.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from bbnn_uq import bernoulli
from bbnn_uq.optim.estimator import Gradients, State

__all__ = ["concrete"]


@contextmanager
def concrete(
    parameters: list[nn.Parameter],
    states: list[State],
    *,
    temperature: float,
    generator: torch.Generator,
) -> Iterator[Gradients]:
    """Evaluate at relaxed draws: ∇_μ ≈ (s / N) ⊙ g. The arguments are those of every estimator.

    Example:
        >>> weight = nn.Parameter(torch.zeros(4))
        >>> states = [{"natural_param": torch.zeros(4)}]
        >>> with concrete(
        ...     [weight], states, temperature=0.5, generator=torch.Generator().manual_seed(0)
        ... ) as gradients:
        ...     weight.sum().backward()
        ...     bool((weight.abs() < 1).all()), bool((gradients()[0] > 0).all())
        (True, True)
    """
    log_scales = []
    with torch.no_grad():
        for parameter, state in zip(parameters, states, strict=True):
            natural_param = state["natural_param"]
            weights, relaxed = bernoulli.concrete_sample(
                natural_param, temperature=temperature, generator=generator
            )
            log_scales.append(
                bernoulli.concrete_log_scale(natural_param, relaxed, temperature=temperature)
            )
            parameter.copy_(weights)
    yield lambda: [
        None if parameter.grad is None else torch.exp(log_scale) * parameter.grad
        for parameter, log_scale in zip(parameters, log_scales, strict=True)
    ]
