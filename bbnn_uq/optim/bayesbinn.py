"""BayesBiNN: the Bayesian learning rule for Bernoulli posteriors over binary weights.

Meng, Bachmann, Khan, "Training Binary Neural Networks using the Bayesian Learning Rule", ICML
2020, arXiv 2002.10778.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from bbnn_uq import bernoulli
from bbnn_uq._checks import check_choice, check_count, check_real
from bbnn_uq.optim.concrete import concrete
from bbnn_uq.optim.straight_through import straight_through
from bbnn_uq.posterior import BernoulliPosterior

__all__ = ["ESTIMATORS", "BayesBiNN", "bayesian_learning_rule_"]

ESTIMATORS: dict[str, Callable[..., tuple[Tensor, Tensor | None]]] = {
    "straight_through": straight_through,
    "concrete": concrete,
}
"""Estimator name → function (λ, *, temperature, generator) → (weights, s / N or None for 1)."""


def bayesian_learning_rule_(
    natural_param: Float[Tensor, "*shape"],
    momentum_average: Float[Tensor, "*shape"],
    gradient: Float[Tensor, "*shape"],
    *,
    step: int,
    lr: float,
    momentum: float,
    kl_weight: float,
    prior_natural_param: Float[Tensor, "*shape"] | None = None,
) -> None:
    """One step in place: λ ← λ − α {m̂ + ρ (λ − λ₀)} (equation 4, with a weight ρ on the KL term).

    m ← β m + (1 − β) ∇_μ E_q[Σ ℓ] and m̂ = m / (1 − βᵗ), a bias-corrected moving average. At ρ = 1
    and β = 0 it is the paper's λ ← (1 − α) λ − α {∇_μ E_q[Σ ℓ] − λ₀}.

    Args:
        natural_param: λ, changed.
        momentum_average: m, zero before the first step, changed.
        gradient: an estimate of ∇_μ E_q[Σ ℓ], summed over the N data, of the shape of λ.
        step: t, counted from 1.
        lr: α.
        momentum: β, in [0, 1).
        kl_weight: ρ.
        prior_natural_param: λ₀; 0 when not given.

    Example:
        >>> natural_param = torch.tensor([1.0])
        >>> bayesian_learning_rule_(
        ...     natural_param, torch.zeros(1), torch.tensor([4.0]),
        ...     step=1, lr=0.1, momentum=0.9, kl_weight=1.0,
        ... )
        >>> natural_param
        tensor([0.5000])
    """
    momentum_average.mul_(momentum).add_(gradient, alpha=1.0 - momentum)
    natural_param.mul_(1.0 - lr * kl_weight)
    if prior_natural_param is not None:
        natural_param.add_(prior_natural_param, alpha=lr * kl_weight)
    natural_param.add_(momentum_average, alpha=-lr / (1.0 - momentum**step))


class BayesBiNN(Optimizer):
    """Optimizer that turns parameters into Bernoulli posteriors over binary weights.

    Each step draws weights from q, lets the closure compute the loss and its gradient g there,
    and moves λ by :func:`bayesian_learning_rule_` with ∇_μ E_q[Σ ℓ] ≈ s ⊙ g, where s is N times the
    estimator's scale. Afterwards the parameters hold the mode sign λ. Parameters that should
    stay real-valued belong in an ordinary optimizer beside this one, stepped after it.

    Args:
        named_params: pairs (name, parameter), such as ``model.named_parameters()`` gives, or
            parameter groups whose ``params`` are such pairs. The names become those of the
            posterior.
        num_data: N, size of the training set (times the augmentation factor); the closure's
            loss is a mean over its minibatch.
        lr: α, at least 0.
        estimator: ``straight_through`` (hard draws, s = N) or ``concrete`` (relaxed draws, s of
            Lemma 1).
        num_samples: draws per step; each calls the closure once and their gradients are averaged.
        momentum: β in [0, 1) of the bias-corrected moving average.
        kl_weight: ρ ≥ 0, the weight of KL(q ‖ prior); below 1 gives a tempered posterior.
        temperature: τ > 0 of the relaxation; used by ``concrete``.
        init_scale: |λ| at the start, with random signs; used where no prior is given.
        prior: λ₀ by name, as a dictionary or a posterior of the previous task; λ starts there.
            ``None`` is the uniform prior, λ₀ = 0.
        generator: source of all random numbers, on the parameters' device; one seeded with 0
            when not given.

    Raises:
        TypeError, ValueError: an argument is out of its range, a parameter has no name, or the
            prior lacks one or has it in another shape.

    Example:
        >>> model = nn.Linear(3, 1, bias=False)
        >>> x, y = torch.eye(3), torch.tensor([[1.0], [-1.0], [1.0]])
        >>> optimizer = BayesBiNN(model.named_parameters(), num_data=3, lr=0.1)
        >>> def closure():
        ...     optimizer.zero_grad()
        ...     loss = nn.functional.mse_loss(model(x), y)
        ...     loss.backward()
        ...     return loss
        >>> for _ in range(50):
        ...     _ = optimizer.step(closure)
        >>> model.weight.data
        tensor([[ 1., -1.,  1.]])
    """

    def __init__(
        self,
        named_params: Iterable[Any],
        *,
        num_data: int,
        lr: float,
        estimator: str = "straight_through",
        num_samples: int = 1,
        momentum: float = 0.9,
        kl_weight: float = 3e-3,
        temperature: float = 0.5,
        init_scale: float = 1.0,
        prior: BernoulliPosterior | Mapping[str, Tensor] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        if check_real(momentum, "momentum", minimum=0.0) >= 1.0:
            raise ValueError(f"momentum must lie in [0, 1), got {momentum}")
        check_real(init_scale, "init_scale", minimum=0.0)
        defaults = {
            "num_data": check_count(num_data, "num_data"),
            "lr": check_real(lr, "lr", minimum=0.0),
            "estimator": check_choice(estimator, "estimator", ESTIMATORS),
            "momentum": float(momentum),
            "kl_weight": check_real(kl_weight, "kl_weight", minimum=0.0),
            "temperature": check_real(temperature, "temperature", above=0.0),
        }
        super().__init__(named_params, defaults)
        if any("param_names" not in group for group in self.param_groups):
            raise ValueError(
                "named_params must hold (name, parameter) pairs; pass model.named_parameters()"
            )
        self.num_samples = check_count(num_samples, "num_samples")
        device = self.param_groups[0]["params"][0].device
        self.generator = generator or torch.Generator(device).manual_seed(0)
        priors = prior.natural_param if isinstance(prior, BernoulliPosterior) else prior
        for name, parameter in self._named():
            self.state[parameter] = self._initial_state(name, parameter, init_scale, priors)
        self._set_mode()

    def _initial_state(
        self,
        name: str,
        parameter: Tensor,
        init_scale: float,
        priors: Mapping[str, Tensor] | None,
    ) -> dict[str, Any]:
        state: dict[str, Any] = {"step": 0, "momentum_average": torch.zeros_like(parameter)}
        if priors is None:
            coin = bernoulli.hard_sample(torch.zeros_like(parameter), self.generator)
            return state | {"natural_param": init_scale * coin}
        if name not in priors or priors[name].shape != parameter.shape:
            found = tuple(priors[name].shape) if name in priors else "nothing"
            raise ValueError(
                f"prior must hold {name!r} of shape {tuple(parameter.shape)}, got {found}; "
                "it has to come from the same architecture"
            )
        prior = priors[name].detach().to(parameter)
        return state | {"natural_param": prior.clone(), "prior_natural_param": prior.clone()}

    def _named(self) -> Iterable[tuple[str, nn.Parameter]]:
        for group in self.param_groups:
            yield from zip(group["param_names"], group["params"], strict=True)

    @property
    def natural_param(self) -> dict[str, Tensor]:
        """λ by parameter name (copies)."""
        return {
            name: self.state[parameter]["natural_param"].clone()
            for name, parameter in self._named()
        }

    @torch.no_grad()
    def _set_mode(self) -> None:
        for _, parameter in self._named():
            parameter.copy_(bernoulli.mode(self.state[parameter]["natural_param"]))

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Draw, evaluate the closure, move λ and leave the mode in the parameters.

        A parameter that the closure gave no gradient is left as it is. Gradients of real-valued
        parameters are those of the closure's last call.

        Args:
            closure: clears gradients, computes the minibatch-mean loss, calls ``backward`` and
                returns the loss. It is called ``num_samples`` times.

        Returns:
            The mean of the losses that the closure returned.

        Raises:
            ValueError: there is no closure.
        """
        if closure is None:
            raise ValueError("closure is missing: step needs one, to evaluate the loss at draws")
        gradients: dict[nn.Parameter, Tensor] = {}
        losses = []
        try:
            for _ in range(self.num_samples):
                scales = self._draw()
                with torch.enable_grad():
                    losses.append(closure())
                self._accumulate(gradients, scales)
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter in gradients:
                        self._update(parameter, gradients[parameter], group)
        finally:
            self._set_mode()
        return sum(losses[1:], losses[0]) / self.num_samples

    def _draw(self) -> dict[nn.Parameter, Tensor | None]:
        """Put drawn weights into the parameters; return the scale s / N of each."""
        scales: dict[nn.Parameter, Tensor | None] = {}
        for group in self.param_groups:
            estimate = ESTIMATORS[group["estimator"]]
            for parameter in group["params"]:
                weights, scales[parameter] = estimate(
                    self.state[parameter]["natural_param"],
                    temperature=group["temperature"],
                    generator=self.generator,
                )
                parameter.copy_(weights)
        return scales

    def _accumulate(
        self,
        gradients: dict[nn.Parameter, Tensor],
        scales: dict[nn.Parameter, Tensor | None],
    ) -> None:
        """Add this draw's share of ∇_μ E_q[Σ ℓ] ≈ N mean(s / N ⊙ g)."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                scale = scales[parameter]
                gradient = parameter.grad if scale is None else scale * parameter.grad
                gradient = gradient * (group["num_data"] / self.num_samples)
                if parameter in gradients:
                    gradients[parameter] += gradient
                else:
                    gradients[parameter] = gradient

    def _update(self, parameter: nn.Parameter, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        state["step"] += 1
        bayesian_learning_rule_(
            state["natural_param"],
            state["momentum_average"],
            gradient,
            step=state["step"],
            lr=group["lr"],
            momentum=group["momentum"],
            kl_weight=group["kl_weight"],
            prior_natural_param=state.get("prior_natural_param"),
        )
