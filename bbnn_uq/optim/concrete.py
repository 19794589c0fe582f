"""The paper's estimator: a relaxed draw and the scale of Lemma 1, in log space.

w = tanh((λ + δ) / τ), ∇_μ E_q[ℓ] ≈ (s / N) ⊙ ∇_w ℓ(w), s / N = (1 − w²) / (τ (1 − tanh² λ))
(Meng, Bachmann, Khan 2020, equations 7 to 13). Exact as τ → 0, with a variance that grows as
1 / τ; biased at large τ, since the loss is seen at weights that are not binary.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from bbnn_uq import bernoulli

__all__ = ["concrete"]


def concrete(
    natural_param: Float[Tensor, "..."], *, temperature: float, generator: torch.Generator
) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
    """Relaxed weights to evaluate the loss at, and the scale s / N that turns g into ∇_μ.

    Args:
        natural_param: λ, any shape.
        temperature: τ > 0.
        generator: source of the noise, on the device of λ.

    Example:
        >>> weights, scale = concrete(
        ...     torch.zeros(4), temperature=0.5, generator=torch.Generator().manual_seed(0)
        ... )
        >>> bool((weights.abs() < 1).all()), bool((scale > 0).all())
        (True, True)
    """
    weights, relaxed = bernoulli.concrete_sample(
        natural_param, temperature=temperature, generator=generator
    )
    log_scale = bernoulli.concrete_log_scale(natural_param, relaxed, temperature=temperature)
    return weights, torch.exp(log_scale)
