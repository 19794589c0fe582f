"""What every estimator of ∇_μ E_q[ℓ] looks like: one evaluation of the loss, from λ to gradients.

An estimator is a context manager around one evaluation of the closure. On entry it puts drawn
weights into the parameters (or stands in for them); the closure computes the minibatch-mean loss
and calls ``backward``; afterwards :meth:`Draw.gradients` gives an estimate of ∇_μ E_q[ℓ] for each
parameter, to be multiplied by N, or None where the closure gave no gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

__all__ = ["Estimator", "Gradients", "State"]

State = dict[str, Any]
"""What the optimizer keeps for a parameter: ``natural_param`` is λ, of the parameter's shape."""

Gradients = Callable[[], list[Tensor | None]]
"""Called after the closure: ∇_μ E_q[ℓ] by parameter."""


class Estimator(Protocol):
    """Signature of an estimator."""

    def __call__(
        self,
        parameters: list[nn.Parameter],
        states: list[State],
        *,
        temperature: float,
        generator: torch.Generator,
    ) -> AbstractContextManager[Gradients]:
        """Prepare one evaluation of the closure.

        Args:
            parameters: of the model, the binary ones.
            states: of each.
            temperature: τ > 0, for relaxed draws.
            generator: source of the noise, on the device of λ.
        """
        ...
