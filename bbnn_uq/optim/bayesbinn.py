"""BayesBiNN: the Bayesian learning rule for Bernoulli posteriors over binary weights.

Meng, Bachmann, Khan, "Training Binary Neural Networks using the Bayesian Learning Rule", ICML
2020, arXiv 2002.10778.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from bbnn_uq import bernoulli
from bbnn_uq._checks import check_choice, check_count, check_real
from bbnn_uq.optim.concrete import concrete
from bbnn_uq.optim.estimator import Estimator
from bbnn_uq.optim.local import local
from bbnn_uq.optim.published import published, published_update_
from bbnn_uq.optim.straight_through import straight_through
from bbnn_uq.posterior import BernoulliPosterior, CollapsedPosteriorWarning

__all__ = ["ESTIMATORS", "BayesBiNN", "bayesian_learning_rule_"]

ESTIMATORS: dict[str, Estimator] = {
    "straight_through": straight_through,
    "local": local,
    "concrete": concrete,
    "published": published,
}
"""Estimators of ∇_μ E_q[ℓ] by name."""


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
    and moves λ by :func:`bbnn_uq.optim.bayesian_learning_rule_` with ∇_μ E_q[Σ ℓ] ≈ s ⊙ g, where
    s is N times the estimator's scale. Afterwards the parameters hold the mode sign λ.
    Parameters that should stay real-valued belong in an ordinary optimizer beside this one,
    stepped after it.

    Args:
        named_params: pairs (name, parameter), such as ``model.named_parameters()`` gives, or
            parameter groups whose ``params`` are such pairs. The names become those of the
            posterior.
        num_data: N, size of the training set (times the augmentation factor); the closure's
            loss is a mean over its minibatch.
        lr: α, at least 0.
        estimator: of ∇_μ: ``straight_through`` (hard draws, any operation), ``local`` (drawn
            pre-activations of linear and convolution layers), ``concrete`` (relaxed draws, s of
            Lemma 1) or ``published`` (the authors' arithmetic, which leaves
            a point mass: a warning says so).
        num_samples: draws per step; each calls the closure once and their gradients are averaged.
        momentum: β in [0, 1) of the bias-corrected moving average.
        kl_weight: ρ ≥ 0, the weight of KL(q ‖ prior); below 1 gives a tempered posterior.
        max_change: bound on how far one gradient may move a λ: α |∇_μ| ≤ ``max_change``, before
            the moving average; none when not given.
        temperature: τ > 0 of the relaxation; used by ``concrete`` and ``published``.
        init_scale: |λ| at the start, with random signs; used without ``prior`` and ``init``.
        prior: λ₀ by name, as a dictionary or a posterior of the previous task. ``None`` is the
            uniform prior, λ₀ = 0.
        init: λ at the start, likewise; the prior when not given, and random signs where there is
            none either.
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
        kl_weight: float = 1e-2,
        max_change: float | None = None,
        temperature: float = 0.5,
        init_scale: float = 1.0,
        prior: BernoulliPosterior | Mapping[str, Tensor] | None = None,
        init: BernoulliPosterior | Mapping[str, Tensor] | None = None,
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
            "max_change": None
            if max_change is None
            else check_real(max_change, "max_change", above=0.0),
            "temperature": check_real(temperature, "temperature", above=0.0),
        }
        super().__init__(named_params, defaults)
        if estimator == "published":
            warnings.warn(
                "estimator 'published' reproduces the authors' code, whose posterior collapses to "
                "a point mass; use straight_through or local to get uncertainty",
                CollapsedPosteriorWarning,
                stacklevel=2,
            )
        if any("param_names" not in group for group in self.param_groups):
            raise ValueError(
                "named_params must hold (name, parameter) pairs; pass model.named_parameters()"
            )
        self.num_samples = check_count(num_samples, "num_samples")
        device = self.param_groups[0]["params"][0].device
        self.generator = generator or torch.Generator(device).manual_seed(0)
        starts = prior if init is None else init
        for name, parameter in self._named():
            state: dict[str, Any] = {"step": 0, "momentum_average": torch.zeros_like(parameter)}
            if starts is None:
                coin = bernoulli.hard_sample(torch.zeros_like(parameter), self.generator)
                state["natural_param"] = init_scale * coin
            else:
                state["natural_param"] = _given(
                    starts, name, parameter, "prior" if init is None else "init"
                )
            if prior is not None:
                state["prior_natural_param"] = _given(prior, name, parameter, "prior")
            self.state[parameter] = state
        self._set_mode()

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
            ValueError: there is no closure, or it gave no parameter a gradient.
        """
        if closure is None:
            raise ValueError("closure is missing: step needs one, to evaluate the loss at draws")
        sums: dict[nn.Parameter, Tensor] = {}
        try:
            losses = [self._evaluate(closure, sums) for _ in range(self.num_samples)]
            if not sums:
                raise ValueError("closure gave no gradient: it has to call backward on the loss")
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter in sums:
                        scale = group["num_data"] / self.num_samples
                        self._update(parameter, sums[parameter].mul_(scale), group)
        finally:
            self._set_mode()
        return sum(losses[1:], losses[0]) / self.num_samples

    def _evaluate(self, closure: Callable[[], Any], sums: dict[nn.Parameter, Tensor]) -> Any:
        """One call of the closure; adds the estimate of ∇_μ E_q[ℓ] to the sums."""
        with ExitStack() as stack:
            estimates = []
            for group in self.param_groups:
                parameters = group["params"]
                draw = ESTIMATORS[group["estimator"]](
                    parameters,
                    [self.state[parameter] for parameter in parameters],
                    temperature=group["temperature"],
                    generator=self.generator,
                )
                estimates.append((parameters, stack.enter_context(draw)))
            with torch.enable_grad():
                loss = closure()
            for parameters, gradients in estimates:
                for parameter, gradient in zip(parameters, gradients(), strict=True):
                    if gradient is None:
                        continue
                    # A copy, since the closure's next call clears the gradient in place.
                    known = sums.get(parameter)
                    sums[parameter] = gradient.clone() if known is None else known.add_(gradient)
        return loss

    def _update(self, parameter: nn.Parameter, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        state["step"] += 1
        if group["max_change"] is not None and group["lr"] > 0:
            bound = group["max_change"] / group["lr"]
            gradient.clamp_(-bound, bound)
        if group["estimator"] == "published":
            rates = {key: group[key] for key in ("lr", "momentum", "kl_weight")}
            published_update_(state, gradient, **rates)
            return
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


def _given(
    source: BernoulliPosterior | Mapping[str, Tensor], name: str, parameter: Tensor, argument: str
) -> Tensor:
    """A copy of λ by name, of the parameter's shape."""
    values = source.natural_param if isinstance(source, BernoulliPosterior) else source
    if name not in values or values[name].shape != parameter.shape:
        found = tuple(values[name].shape) if name in values else "nothing"
        raise ValueError(
            f"{argument} must hold {name!r} of shape {tuple(parameter.shape)}, got {found}; "
            "it has to come from the same architecture"
        )
    return values[name].detach().to(parameter).clone()
