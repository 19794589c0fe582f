"""RegressionPredictive: mean and spread of real-valued predictions, and how they accumulate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from bbnn_uq._checks import check_choice, check_count, check_real_array
from bbnn_uq.network_average import NetworkAverage
from bbnn_uq.network_sums import check_groups, check_same_state

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["RegressionAccumulator", "RegressionPredictive"]

SCORES = ("epistemic_std", "std", "aleatoric_std")


@dataclass(frozen=True, eq=False)
class RegressionPredictive(NetworkAverage):
    """The Monte Carlo predictive of real targets, as mean and standard deviations.

    Networks s = 1 … S give Gaussians N(m_s, v_s). Their mixture has the mean m = (1 / S) Σ m_s and,
    by the law of total variance, the variance (1 / S) Σ (m_s − m)² + (1 / S) Σ v_s: what networks
    disagree about (epistemic, less with more data) and the noise that they expect (aleatoric).

    Args:
        mean: of the targets, (N,) or (N, D), in their units, like all that follows.
        epistemic_std: square root of the variance of m_s over networks.
        aleatoric_std: square root of the mean of v_s.
        num_samples: number of networks S.
        seed: of the networks.
        method: ``monte_carlo`` or ``mode``.
        metadata: JSON values: posterior summary, precision, device, seconds, …
        samples: m_s of each network, (S, N) or (S, N, D), when they were kept.
        group_sums: the moments over the networks of each of G groups, name → (G, N, ·), from
            which :meth:`of_groups` and ``leave_out`` are made; network s is in group s mod G.
            Empty when the networks were not grouped.

    Example:
        >>> predictive = RegressionPredictive(
        ...     np.array([1.0]), np.array([3.0]), np.array([4.0]), 32, 0, "monte_carlo"
        ... )
        >>> predictive.std
        array([5.])
    """

    mean: Float64[np.ndarray, "inputs ..."]
    epistemic_std: Float64[np.ndarray, "inputs ..."]
    aleatoric_std: Float64[np.ndarray, "inputs ..."]
    num_samples: int
    seed: int | None
    method: str
    metadata: dict[str, Any] = field(default_factory=dict)
    samples: Float[np.ndarray, "networks inputs ..."] | None = None
    group_sums: dict[str, np.ndarray] = field(default_factory=dict)

    _ARRAYS: ClassVar = ("mean", "epistemic_std", "aleatoric_std", "samples")
    _REQUIRED: ClassVar = ("mean", "epistemic_std", "aleatoric_std")

    def __repr__(self) -> str:
        return (
            f"RegressionPredictive({self._size()}, {self.num_samples} networks, "
            f"method {self.method!r})"
        )

    @property
    def std(self) -> np.ndarray:
        """Standard deviation of the predictive, √(epistemic² + aleatoric²)."""
        return np.hypot(self.epistemic_std, self.aleatoric_std)

    @property
    def mean_std_error(self) -> np.ndarray | None:
        """Monte Carlo standard error of ``mean``, √(Σ_s (m_s − m)² / (S (S − 1))), of its shape.

        None for fewer than two networks and for the mode, whose mean is no random draw.
        """
        if self.num_samples < 2 or self.method == "mode":
            return None
        return self.epistemic_std / math.sqrt(self.num_samples - 1)

    def of_groups(self, groups: Iterable[int]) -> RegressionPredictive:
        """The predictive of the networks of some groups alone, without kept samples.

        Args:
            groups: numbers in [0, G), at least one; the order does not matter.

        Raises:
            ValueError: there are no such groups.
        """
        chosen = check_groups(groups, self.num_groups)
        moments = _combined({name: values[chosen] for name, values in self.group_sums.items()})
        return _from_moments(
            moments,
            int(moments["seen"].max()),
            vector=self.mean.ndim == 2,
            seed=self.seed,
            method=self.method,
            metadata=self.metadata,
        )

    def score(self, name: str) -> np.ndarray:
        """A score by name, (N,): higher means more out-of-distribution.

        Args:
            name: ``epistemic_std``, ``std`` or ``aleatoric_std``; for targets of D dimensions the
                root of the sum of their squares.

        Raises:
            ValueError: the name is unknown.
        """
        spread = getattr(self, check_choice(name, "score", SCORES))
        return spread if spread.ndim == 1 else np.sqrt(np.square(spread).sum(axis=1))

    def to_frame(self, targets: Any = None) -> pd.DataFrame:
        """One row for each input, or each of its D targets, for pandas and seaborn.

        Args:
            targets: true targets, of the shape of ``mean``, where they are known.

        Returns:
            A table with the columns ``input`` (its position), for targets of D dimensions
            ``dimension``, with targets ``target`` and ``error`` (mean − target), and ``mean``,
            ``epistemic_std``, ``aleatoric_std`` and ``std``, in the targets' units.

        Raises:
            ValueError: the targets have another shape or are not finite.

        Example:
            >>> predictive = RegressionPredictive(
            ...     np.array([1.0]), np.array([3.0]), np.array([4.0]), 32, 0, "monte_carlo"
            ... )
            >>> predictive.to_frame([1.5])
               input  target  error  mean  epistemic_std  aleatoric_std  std
            0      0     1.5   -0.5   1.0            3.0            4.0  5.0
        """
        import pandas as pd  # late: predicting needs none of it

        positions = np.indices(self.mean.shape)
        columns = dict(zip(("input", "dimension"), positions, strict=False))
        if targets is not None:
            checked = check_real_array(targets, "targets")
            if checked.shape != self.mean.shape:
                raise ValueError(
                    f"targets must have the shape of mean, {self.mean.shape}, got {checked.shape}"
                )
            columns |= {"target": checked, "error": self.mean - checked}
        columns |= self._per_input()
        return pd.DataFrame({name: values.ravel() for name, values in columns.items()})

    def _per_input(self) -> dict[str, np.ndarray]:
        return {name: getattr(self, name) for name in (*self._REQUIRED, "std")}

    def _size(self) -> str:
        targets = f", {self.mean.shape[1]} targets" if self.mean.ndim == 2 else ""
        return f"{len(self.mean):,} inputs{targets}"

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]
    ) -> RegressionPredictive:
        """From what :meth:`to_arrays` and :meth:`about` gave.

        Raises:
            KeyError, ValueError: an array is missing, or they differ in shape.
        """
        if len({arrays[key].shape for key in cls._REQUIRED}) > 1:
            raise ValueError("arrays differ in shape")
        return super().from_arrays(arrays, about)


class RegressionAccumulator:
    """Moments over networks from which a :class:`RegressionPredictive` is made, in one pass.

    Squared deviations are updated as in Welford 1962: sums of squares would cancel where the
    targets' mean is large beside their spread. Networks are added one after the other, so that
    the moments are the same to the last bit however networks and inputs are split into calls.
    They are float64 and take 8 G N (3 D + 1) bytes.

    Args:
        num_inputs: N.
        num_targets: D.
        device: where the moments come from.
        vector: whether targets have an axis of their own, (N, D), rather than being (N,).
        num_groups: G; network s belongs to group s mod G, and the predictive can be had without
            any one group.

    Example:
        >>> accumulator = RegressionAccumulator(1, 1, torch.device("cpu"))
        >>> means = torch.tensor([[[1.0]], [[3.0]]])
        >>> accumulator.add(slice(0, 1), range(2), means, torch.ones(2, 1, 1))
        >>> accumulator.finish(num_samples=2, seed=0, method="monte_carlo").std
        array([1.41421356])
    """

    def __init__(
        self,
        num_inputs: int,
        num_targets: int,
        device: torch.device,
        *,
        vector: bool = False,
        num_groups: int = 1,
    ) -> None:
        self.width = num_targets
        shape = (check_count(num_groups, "num_groups"), num_inputs)
        columns = {"seen": 1, "mean": num_targets, "squares": num_targets, "variance": num_targets}
        self._moments = {
            name: torch.zeros(*shape, width, dtype=torch.float64, device=device)
            for name, width in columns.items()
        }
        self._vector = vector

    def add(
        self,
        rows: slice,
        networks: range,
        mean: Float[Tensor, "networks inputs targets"],
        std: Float[Tensor, "networks inputs targets"],
    ) -> None:
        """Add m_s and √v_s of the networks of these numbers for the inputs ``rows``."""
        groups = [values[:, rows].unbind(0) for values in self._moments.values()]
        means, variances = mean.double().unbind(0), std.double().square().unbind(0)
        for network, m, v in zip(networks, means, variances, strict=True):
            seen, average, squares, variance = (each[network % len(each)] for each in groups)
            change = m - average
            average.add_(change / seen.add_(1))
            squares.add_(change * (m - average))
            variance.add_(v)

    @staticmethod
    def sample(mean: Tensor, std: Tensor) -> Tensor:
        """What is kept of each network: its means."""
        del std
        return mean

    def sums(self) -> dict[str, Tensor]:
        """The state by name: what :meth:`merge` takes. The tensors are not copied."""
        return dict(self._moments)

    def merge(self, sums: dict[str, Tensor]) -> None:
        """Take in the state of an accumulator of the same arguments that saw other networks."""
        check_same_state(sums, self._moments)
        merged = _merged(self._moments, {k: v.to(self._moments[k].device) for k, v in sums.items()})
        for name, values in merged.items():
            self._moments[name].copy_(values)

    def standard_error(self, num_samples: int) -> float:
        """Standard error of the mean in units of the predictive's std, at S networks so far.

        √(mean of Σ_s (m_s − m)² / (S (S − 1)) / mean of std²), both means over inputs and target
        dimensions: a share, without the targets' unit. 0 where std is 0 everywhere.

        Raises:
            ValueError: ``num_samples`` is below 2.
        """
        count = check_count(num_samples, "num_samples", minimum=2)
        moments = _combined(self._by_name())
        squares, variance = moments["squares"].mean(), moments["variance"].mean()
        if squares == 0.0:
            return 0.0
        return math.sqrt(squares / (count - 1) / (squares + variance))

    def _by_name(self) -> dict[str, np.ndarray]:
        return {name: values.cpu().numpy().copy() for name, values in self._moments.items()}

    def finish(
        self,
        *,
        num_samples: int,
        seed: int,
        method: str,
        metadata: dict[str, Any] | None = None,
        samples: np.ndarray | None = None,
    ) -> RegressionPredictive:
        """Divide the sums by the number of networks that were added, numbers 0 … S − 1.

        The predictive keeps the groups when there are several and each has a network.
        """
        groups = self._by_name()
        return _from_moments(
            _combined(groups),
            num_samples,
            vector=self._vector,
            seed=seed,
            method=method,
            metadata=metadata or {},
            samples=samples if samples is None or self._vector else samples[..., 0],
            group_sums=groups if 1 < len(groups["seen"]) <= num_samples else {},
        )


def _merged(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    """Moments over two sets of networks together; exact where one of them is empty.

    δ = m_b − m_a;  m = m_a + δ n_b / n;  M = M_a + M_b + δ² n_a n_b / n  (Chan, Golub, LeVeque
    1983), of NumPy arrays or tensors.
    """
    seen = a["seen"] + b["seen"]
    share = b["seen"] / seen.clip(1)
    change = b["mean"] - a["mean"]
    return {
        "seen": seen,
        "mean": a["mean"] + change * share,
        "squares": a["squares"] + b["squares"] + change**2 * (a["seen"] * share),
        "variance": a["variance"] + b["variance"],
    }


def _combined(groups: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Moments (N, ·) over the networks of all groups (G, N, ·), one group after the other."""
    each = (
        {name: values[g] for name, values in groups.items()} for g in range(len(groups["seen"]))
    )
    return reduce(_merged, each)


def _from_moments(
    moments: Mapping[str, np.ndarray], num_samples: int, *, vector: bool, **others: Any
) -> RegressionPredictive:
    def shaped(values: np.ndarray) -> np.ndarray:
        return values if vector else values[:, 0]

    return RegressionPredictive(
        mean=shaped(moments["mean"]),
        epistemic_std=shaped(np.sqrt(moments["squares"] / num_samples)),
        aleatoric_std=shaped(np.sqrt(moments["variance"] / num_samples)),
        num_samples=num_samples,
        **others,
    )
