"""RegressionPredictive: mean and spread of real-valued predictions, and how they accumulate."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from bbnn_uq._checks import check_choice
from bbnn_uq.npz_file import reading_npz, write_npz

__all__ = ["RegressionAccumulator", "RegressionPredictive"]

SCORES = ("epistemic_std", "std", "aleatoric_std")


@dataclass(frozen=True, eq=False)
class RegressionPredictive:
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

    def __repr__(self) -> str:
        return (
            f"RegressionPredictive({len(self.mean):,} inputs, {self.num_samples} networks, "
            f"method {self.method!r})"
        )

    @property
    def std(self) -> np.ndarray:
        """Standard deviation of the predictive: √(epistemic² + aleatoric²)."""
        return np.hypot(self.epistemic_std, self.aleatoric_std)

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

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to an ``.npz`` file, whole or not at all.

        Example:
            >>> import tempfile
            >>> from pathlib import Path
            >>> path = Path(tempfile.mkdtemp()) / "predictive.npz"
            >>> one = np.ones(2)
            >>> RegressionPredictive(one, one, one, 32, 0, "monte_carlo").save(path)
            >>> RegressionPredictive.load(path).mean
            array([1., 1.])
        """
        about = {
            "num_samples": self.num_samples,
            "seed": self.seed,
            "method": self.method,
            "metadata": self.metadata,
        }
        write_npz(path, {key: getattr(self, key) for key in _ARRAYS}, about)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> RegressionPredictive:
        """Read what :meth:`save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is truncated, or no file of :meth:`save`.
        """
        with reading_npz(path, "RegressionPredictive.save") as (arrays, about):
            if len({arrays[key].shape for key in _ARRAYS[:3]}) > 1:
                raise ValueError("arrays differ in shape")
            return cls(**arrays, **about)


_ARRAYS = ("mean", "epistemic_std", "aleatoric_std", "samples")


class RegressionAccumulator:
    """Moments over networks from which a :class:`RegressionPredictive` is made, in one pass.

    Squared deviations are updated as in Welford 1962: sums of squares would cancel where the
    targets' mean is large beside their spread.

    Args:
        num_inputs: N.
        num_targets: D.
        device: where the moments come from.
        vector: whether targets have an axis of their own, (N, D), rather than being (N,).

    Example:
        >>> accumulator = RegressionAccumulator(1, 1, torch.device("cpu"))
        >>> accumulator.add(slice(0, 1), torch.tensor([[1.0]]), torch.ones(1, 1))
        >>> accumulator.add(slice(0, 1), torch.tensor([[3.0]]), torch.ones(1, 1))
        >>> accumulator.finish(num_samples=2, seed=0, method="monte_carlo").std
        array([1.41421356])
    """

    def __init__(
        self, num_inputs: int, num_targets: int, device: torch.device, *, vector: bool = False
    ) -> None:
        def zeros(columns: int) -> Tensor:
            return torch.zeros(num_inputs, columns, dtype=torch.float64, device=device)

        self._mean, self._squares, self._variance = (zeros(num_targets) for _ in range(3))
        self._seen = zeros(1)
        self._vector = vector

    def add(self, rows: slice, mean: Tensor, std: Tensor) -> None:
        """Add one network's m_s and √v_s, each (n, D), for the inputs ``rows``."""
        self._seen[rows] += 1
        change = mean.double() - self._mean[rows]
        self._mean[rows] += change / self._seen[rows]
        self._squares[rows] += change * (mean.double() - self._mean[rows])
        self._variance[rows] += std.double().square()

    @staticmethod
    def sample(mean: Tensor, std: Tensor) -> Tensor:
        """What is kept of one network: its means."""
        del std
        return mean

    def finish(
        self,
        *,
        num_samples: int,
        seed: int,
        method: str,
        metadata: dict[str, Any] | None = None,
        samples: np.ndarray | None = None,
    ) -> RegressionPredictive:
        """Divide the sums by the number of networks that were added."""

        def shaped(values: Tensor) -> np.ndarray:
            array = values.cpu().numpy()
            return array if self._vector else array[:, 0]

        return RegressionPredictive(
            mean=shaped(self._mean),
            epistemic_std=shaped((self._squares / num_samples).sqrt()),
            aleatoric_std=shaped((self._variance / num_samples).sqrt()),
            num_samples=num_samples,
            seed=seed,
            method=method,
            metadata=metadata or {},
            samples=samples if samples is None or self._vector else samples[..., 0],
        )
