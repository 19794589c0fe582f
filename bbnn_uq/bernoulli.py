"""Bernoulli distributions over {−1, +1}, in the natural parameter λ.

A weight w ∈ {−1, +1} with P(w = +1) = p has natural parameter λ = ½ ln(p / (1 − p)), hence
p = σ(2λ), mean μ = tanh λ and variance 1 − μ² = sech² λ (Meng, Bachmann, Khan 2020, section 3).
λ is kept rather than p or μ, since in float32 tanh(9.1) = 1 and σ(18) = 1: everything here goes
through log-space forms that neither overflow nor lose the distribution at |λ| = 1000.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

__all__ = [
    "concrete_log_scale",
    "concrete_sample",
    "entropy",
    "flip_probability",
    "hard_sample",
    "kl_divergence",
    "log_sech_squared",
    "mean",
    "mode",
    "variance",
]


def mean(natural_param: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Mean of w: μ = tanh λ, in [−1, 1].

    Example:
        >>> mean(torch.tensor([0.0, 1000.0]))
        tensor([0., 1.])
    """
    return torch.tanh(natural_param)


def mode(natural_param: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Most probable weight: sign λ, and +1 where λ = 0.

    Example:
        >>> mode(torch.tensor([-0.1, -0.0]))
        tensor([-1.,  1.])
    """
    return _signs(natural_param + 0.0)  # λ = −0.0 counts as 0.0


def log_sech_squared(natural_param: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Log-variance: ln sech² λ = 2 (ln 2 − |λ| − ln(1 + e^(−2|λ|))).

    Example:
        >>> log_sech_squared(torch.tensor(1000.0))
        tensor(-1998.6136)
    """
    magnitude = natural_param.abs()
    return 2.0 * (math.log(2.0) - magnitude - torch.log1p(torch.exp(-2.0 * magnitude)))


def variance(natural_param: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Variance of w: 1 − μ² = sech² λ, without the cancellation of 1 − tanh² λ.

    Example:
        >>> bool(variance(torch.tensor(20.0)) > 0)  # 1 - tanh(20) ** 2 is 0 in float32
        True
    """
    return torch.exp(log_sech_squared(natural_param))


def flip_probability(natural_param: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Probability that a drawn weight differs from the mode: σ(−2|λ|), in [0, ½].

    Example:
        >>> flip_probability(torch.tensor([0.0, 5.0]))
        tensor([5.0000e-01, 4.5398e-05])
    """
    return torch.sigmoid(-2.0 * natural_param.abs())


def entropy(natural_param: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Entropy of w in nats: ln(1 + e^(−2|λ|)) + 2|λ| σ(−2|λ|), in [0, ln 2].

    Example:
        >>> entropy(torch.tensor([0.0, 1000.0]))
        tensor([0.6931, 0.0000])
    """
    flip = flip_probability(natural_param)
    # The logarithm is −ln(1 − σ(−2|λ|)).
    return 2.0 * natural_param.abs() * flip - torch.log1p(-flip)


def kl_divergence(
    natural_param: Float[Tensor, "..."], prior_natural_param: Float[Tensor, "..."] | float = 0.0
) -> float:
    """KL(q ‖ p) in nats, summed over the weights in float64; at least 0.

    For one weight, with q = σ(2λ) and p = σ(2λ₀):
    q ln(q / p) + (1 − q) ln((1 − q) / (1 − p)), each logarithm by log-sigmoid. A float32 sum
    loses about 1 % and can turn negative when the two nearly agree.

    Args:
        natural_param: λ of q, any shape.
        prior_natural_param: λ₀ of p, of the same shape, or one number for all weights.

    Example:
        >>> round(kl_divergence(torch.tensor([1000.0])), 4)  # a certain bit against a fair coin
        0.6931
    """
    q = natural_param.double()
    p = torch.as_tensor(prior_natural_param, dtype=torch.float64, device=q.device)
    plus = torch.sigmoid(2.0 * q) * (logsigmoid(2.0 * q) - logsigmoid(2.0 * p))
    minus = torch.sigmoid(-2.0 * q) * (logsigmoid(-2.0 * q) - logsigmoid(-2.0 * p))
    return max(0.0, float((plus + minus).sum()))


def hard_sample(
    natural_param: Float[Tensor, "..."], generator: torch.Generator
) -> Float[Tensor, "..."]:
    """One w ∈ {−1, +1} per entry, +1 with probability σ(2λ).

    For training, where speed on the parameter's device counts. Networks that must come out the
    same everywhere are drawn by :func:`bbnn_uq.draw`.

    Example:
        >>> hard_sample(torch.tensor([-50.0, 50.0]), torch.Generator().manual_seed(0))
        tensor([-1.,  1.])
    """
    uniform = torch.rand(
        natural_param.shape,
        generator=generator,
        dtype=natural_param.dtype,
        device=natural_param.device,
    )
    # +1 where 1 − u ≤ p. u − 1 is exact and the sign of a sum is, so p = 0 and 1 are certain.
    # torch.bernoulli of a tensor is five times slower on a CPU.
    return _signs(uniform.sub_(1.0).add_(torch.sigmoid(2.0 * natural_param)))


def concrete_sample(
    natural_param: Float[Tensor, "..."], *, temperature: float, generator: torch.Generator
) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
    """A relaxed weight and its pre-activation: w = tanh(z), z = (λ + δ) / τ (equations 7 and 8).

    δ = ½ ln(ε / (1 − ε)) with ε ~ U(0, 1) is logistic noise; as τ → 0, w becomes a draw
    from the Bernoulli distribution itself.

    Args:
        natural_param: λ, any shape.
        temperature: τ > 0.
        generator: source of ε, on the device of ``natural_param``.

    Returns:
        (w, z), both of the shape of λ; z is what :func:`concrete_log_scale` needs, since w
        itself saturates.

    Example:
        >>> w, z = concrete_sample(
        ...     torch.zeros(3), temperature=0.5, generator=torch.Generator().manual_seed(0)
        ... )
        >>> bool(torch.equal(w, torch.tanh(z)))
        True
    """
    epsilon = torch.rand(
        natural_param.shape, generator=generator, device=natural_param.device, dtype=torch.float64
    )
    # rand may return 0, whose logit is -inf; the smallest positive value it can return is 2^-53.
    noise = 0.5 * torch.logit(epsilon.clamp_min(2.0**-54)).to(natural_param.dtype)
    relaxed = (natural_param + noise) / temperature
    return torch.tanh(relaxed), relaxed


def concrete_log_scale(
    natural_param: Float[Tensor, "..."],
    relaxed: Float[Tensor, "..."],
    *,
    temperature: float,
) -> Float[Tensor, "..."]:
    """ln(s / N) of Lemma 1, which turns a gradient in w into one in μ: ∇_μ ≈ s ⊙ g.

    s / N = (1 − w²) / (τ (1 − tanh² λ)) with w = tanh z (equations 11 to 13), computed as
    ln sech² z − ln τ − ln sech² λ: no stabilisers, and exact where both variances vanish.

    Args:
        natural_param: λ, any shape.
        relaxed: z = (λ + δ) / τ from :func:`concrete_sample`.
        temperature: τ > 0.

    Example:
        >>> concrete_log_scale(torch.tensor(500.0), torch.tensor(500.0), temperature=1.0)
        tensor(0.)
    """
    return log_sech_squared(relaxed) - math.log(temperature) - log_sech_squared(natural_param)


def _signs(values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """−1 for negative values and −0.0, +1 for others; four times as fast as torch.where."""
    return torch.copysign(torch.ones((), dtype=values.dtype, device=values.device), values)
