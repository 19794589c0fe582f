"""Local reparameterisation: pre-activations drawn instead of weights.

For a layer a = W x with independent w_ij ~ Bernoulli(μ_ij), the mean of a is μ x and its variance
(1 − μ²) x², so by the central limit theorem a ≈ μ x + √((1 − μ²) x²) ⊙ ε with ε ~ N(0, 1), and
∇_μ E_q[ℓ] follows by ordinary differentiation (Kingma, Salimans, Welling 2015, arXiv 1506.02557;
for binary weights Shayer, Levi, Fetaya 2018, arXiv 1710.07739). Every input sees noise of its own,
which averages out over a minibatch. The Gaussian is an approximation; it is good for layers with
many inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode, resolve_name

from bbnn_uq import bernoulli
from bbnn_uq.optim.estimator import Gradients, State

__all__ = ["local"]

_LINEAR_OPS = (functional.linear, functional.conv1d, functional.conv2d, functional.conv3d)
"""Operations (input, weight, bias=None, …) that are linear in the weight."""

# Where all μ = ±1 the variance is 0, and the square root has no gradient there.
_SMALLEST_VARIANCE = 1e-12


@contextmanager
def local(
    parameters: list[nn.Parameter],
    states: list[State],
    *,
    temperature: float,
    generator: torch.Generator,
) -> Iterator[Gradients]:
    """Evaluate at drawn pre-activations. The arguments are those of every estimator.

    Works on any model whose binary parameters are weights of linear or convolution layers,
    without rewriting it: within the block, these operations compute the mean and the variance of
    their output, and draw.

    Raises:
        ValueError: another differentiable operation uses a binary parameter.

    Example:
        >>> layer = nn.Linear(2, 1, bias=False)
        >>> with local(
        ...     [layer.weight], [{"natural_param": torch.zeros(1, 2)}], temperature=1.0,
        ...     generator=torch.Generator().manual_seed(0),
        ... ) as gradients:
        ...     layer(torch.tensor([[3.0, 4.0]])).sum().backward()
        ...     gradients()[0]  # at μ = 0 the variance does not change with μ
        tensor([[3., 4.]])
    """
    del temperature
    means = [bernoulli.mean(state["natural_param"]).requires_grad_() for state in states]
    table = {id(parameter): mean for parameter, mean in zip(parameters, means, strict=True)}
    with _LocalReparameterisation(table, generator):
        yield lambda: [mean.grad for mean in means]


class _LocalReparameterisation(TorchFunctionMode):
    """Within it, linear operations on known weights give drawn pre-activations."""

    def __init__(self, means: dict[int, Tensor], generator: torch.Generator) -> None:
        super().__init__()
        self._means = means
        self._generator = generator

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        if func in _LINEAR_OPS:
            x = named.pop("input") if "input" in named else args[0]
            rest = list(args[1:] if "input" not in (kwargs or {}) else args)
            weight = named.pop("weight") if "weight" in named else rest.pop(0)
            if id(weight) in self._means:
                bias = named.pop("bias", None) if not rest else rest.pop(0)
                return self._draw(func, x, self._means[id(weight)], bias, rest, named)
        result = func(*args, **named)
        self._refuse(func, (*args, *named.values()), result)
        return result

    def _draw(
        self,
        func: Callable[..., Tensor],
        x: Tensor,
        mean: Tensor,
        bias: Tensor | None,
        rest: list[Any],
        named: dict[str, Any],
    ) -> Tensor:
        centre = func(x, mean, bias, *rest, **named)
        variance = func(x * x, 1.0 - mean * mean, None, *rest, **named)
        noise = torch.empty_like(centre).normal_(generator=self._generator)
        return centre + variance.clamp_min(_SMALLEST_VARIANCE).sqrt() * noise

    def _refuse(self, func: Any, inputs: tuple[Any, ...], result: Any) -> None:
        """Other operations may look at a weight (its shape, its gradient), not compute with it."""
        if not isinstance(result, Tensor) or result.grad_fn is None:
            return
        flat = [
            each
            for group in inputs
            for each in (group if isinstance(group, (list, tuple)) else [group])
        ]
        if any(id(each) in self._means for each in flat):
            name = resolve_name(func) or getattr(func, "__name__", str(func))
            # A TypeError would be taken for "operator not supported" by x @ w and lost.
            raise ValueError(
                f"estimator 'local' has no rule for the operation {name} on a binary weight; use "
                "estimator='straight_through', which works for every operation"
            )
