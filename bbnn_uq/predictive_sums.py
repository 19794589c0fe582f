"""How a Predictive is accumulated: sums over networks, of blocks of inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bbnn_uq import network_sums
from bbnn_uq._checks import check_count
from bbnn_uq.predictive import Predictive, from_sums

__all__ = ["PredictiveAccumulator"]


class PredictiveAccumulator:
    """Sums over networks from which a :class:`Predictive` is made: memory O(G · N · C), not O(S).

    The terms of several networks are computed at once and added network by network, so that the
    sums are the same to the last bit however networks and inputs are split into calls. They are
    float64 and take 8 G N (3 C + 2 + (C + 2) · number of temperatures) bytes.

    Args:
        num_inputs: N.
        num_classes: C.
        temperatures: T of the softened scores; 1 is always there.
        device: where the logits come from.
        num_groups: G; network s belongs to group s mod G, and the predictive can be had without
            any one group.

    Example:
        >>> accumulator = PredictiveAccumulator(1, 2, (1.0,), torch.device("cpu"))
        >>> accumulator.add(slice(0, 1), range(1), torch.tensor([[[0.0, 0.0]]]))
        >>> accumulator.finish(num_samples=1, seed=0, method="monte_carlo").probs
        array([[0.5, 0.5]])
    """

    def __init__(
        self,
        num_inputs: int,
        num_classes: int,
        temperatures: Sequence[float],
        device: torch.device,
        *,
        num_groups: int = 1,
    ) -> None:
        self.width = num_classes
        self._temperatures = tuple(dict.fromkeys((1.0, *temperatures)))
        width = network_sums.num_columns(num_classes, len(self._temperatures))
        shape = (check_count(num_groups, "num_groups"), num_inputs, width)
        self._sums = torch.zeros(shape, dtype=torch.float64, device=device)

    def add(
        self, rows: slice, networks: range, logits: Float[Tensor, "networks inputs classes"]
    ) -> None:
        """Add the logits of the networks of these numbers for the inputs ``rows``, in float64."""
        assert len(networks) == len(logits)
        sums = self._sums[:, rows]
        for some, part in network_sums.blocks(logits):
            groups = sums[:, part].unbind(0)
            each = network_sums.terms(logits[some, part], self._temperatures).unbind(0)
            for network, term in zip(networks[some], each, strict=True):
                groups[network % len(groups)].add_(term)

    @staticmethod
    def sample(logits: Float[Tensor, "... classes"]) -> Float[Tensor, "... classes"]:
        """What is kept of each network: softmax(z)."""
        return torch.softmax(logits.double(), dim=-1)

    def sums(self) -> dict[str, Tensor]:
        """The state by name: what :meth:`merge` takes. The tensors are not copied."""
        return {"sums": self._sums}

    def merge(self, sums: dict[str, Tensor]) -> None:
        """Add the state of an accumulator of the same arguments that saw other networks."""
        network_sums.check_same_state(sums, self.sums())
        self._sums += sums["sums"].to(self._sums.device)

    def standard_error(self, num_samples: int) -> float:
        """Root mean square over inputs and classes of ``probs_std_error``, at S networks so far.

        Raises:
            ValueError: ``num_samples`` is below 2.
        """
        check_count(num_samples, "num_samples", minimum=2)
        groups = self._by_name(num_samples)
        sums = {name: network_sums.add_up(groups[name]) for name in ("1.0/probs", "squares")}
        return float(np.sqrt(np.mean(network_sums.std_error(sums, num_samples) ** 2)))

    def _by_name(self, num_samples: int) -> dict[str, np.ndarray]:
        return network_sums.by_name(self._sums.cpu().numpy(), self._temperatures, num_samples)

    def finish(
        self,
        *,
        num_samples: int,
        seed: int,
        method: str,
        metadata: dict[str, Any] | None = None,
        samples: np.ndarray | None = None,
    ) -> Predictive:
        """Divide the sums by the number of networks that were added, numbers 0 … S − 1.

        The predictive keeps the groups when there are several and each has a network.
        """
        groups = self._by_name(num_samples)
        sums = {name: network_sums.add_up(values) for name, values in groups.items()}
        kept = {}
        if 1 < len(self._sums) <= num_samples:
            kept = {name: values.copy() for name, values in groups.items()}
        return from_sums(
            sums,
            seed=seed,
            method=method,
            metadata=metadata or {},
            samples=samples,
            group_sums=kept,
        )
