"""Straight-through estimator: hard draws, and the gradient in w taken for the gradient in μ.

w ~ q(w), ∇_μ E_q[ℓ] ≈ ∇_w ℓ(w): the factor s / N of Lemma 1 (Meng, Bachmann, Khan 2020) replaced
by its mean, which tends to 1 as τ → 0. Exact where the loss is affine in each weight; biased
elsewhere. Works for every operation that has a gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from bbnn_uq import bernoulli
from bbnn_uq.optim.estimator import Gradients, State

__all__ = ["straight_through"]


@contextmanager
def straight_through(
    parameters: list[nn.Parameter],
    states: list[State],
    *,
    temperature: float,
    generator: torch.Generator,
) -> Iterator[Gradients]:
    """Evaluate at hard draws: ∇_μ ≈ g. The arguments are those of every estimator.

    Example:
        >>> weight = nn.Parameter(torch.zeros(2))
        >>> states = [{"natural_param": torch.tensor([-20.0, 20.0])}]
        >>> with straight_through(
        ...     [weight], states, temperature=1.0, generator=torch.Generator()
        ... ) as gradients:
        ...     (weight.detach().clone(), (3 * weight).sum().backward(), gradients())
        (tensor([-1.,  1.]), None, [tensor([3., 3.])])
    """
    del temperature
    with torch.no_grad():
        for parameter, state in zip(parameters, states, strict=True):
            parameter.copy_(bernoulli.hard_sample(state["natural_param"], generator))
    yield lambda: [parameter.grad for parameter in parameters]
