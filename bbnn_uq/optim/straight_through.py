"""Straight-through estimator: hard draws, and the gradient in w taken for the gradient in μ.

w ~ q(w), ∇_μ E_q[ℓ] ≈ ∇_w ℓ(w): the factor s / N of Lemma 1 (Meng, Bachmann, Khan 2020) replaced
by its mean, which tends to 1 as τ → 0. Exact where the loss is affine in each weight; biased
elsewhere. Works for every operation that has a gradient.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from bbnn_uq import bernoulli

__all__ = ["straight_through"]


def straight_through(
    natural_param: Float[Tensor, "..."], *, temperature: float, generator: torch.Generator
) -> tuple[Float[Tensor, "..."], None]:
    """Weights to evaluate the loss at, and no scale: ∇_μ ≈ g.

    Args:
        natural_param: λ, any shape.
        temperature: not used; the weights are hard.
        generator: source of the draw, on the device of λ.

    Example:
        >>> straight_through(
        ...     torch.tensor([-20.0, 20.0]), temperature=1.0, generator=torch.Generator()
        ... )
        (tensor([-1.,  1.]), None)
    """
    del temperature
    return bernoulli.hard_sample(natural_param, generator), None
