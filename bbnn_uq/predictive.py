"""Predictive: what a sampled network predicts and how sure it is; and how it is accumulated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from bbnn_uq import metrics, network_sums
from bbnn_uq._checks import check_count, check_probs, check_samples
from bbnn_uq.network_average import NetworkAverage
from bbnn_uq.network_sums import PARTS
from bbnn_uq.scores import SAMPLE_SCORES, SCORES, Softened, parse_score

__all__ = ["Predictive", "PredictiveAccumulator"]


@dataclass(frozen=True, eq=False)
class Predictive(NetworkAverage):
    """The Monte Carlo predictive distribution of N inputs over C classes, and its uncertainty.

    Probabilities are averaged over networks, never logits (Meng, Bachmann, Khan 2020, equation
    18). Entropies are in nats.

    Args:
        probs: mean over networks of softmax(z), float64 (N, C).
        expected_entropy: mean over networks of the entropy of softmax(z), (N,); None when only
            averaged probabilities are known.
        variation_ratio: share of networks whose class is not the most voted one, (N,) in [0, 1);
            None when unknown.
        energy: mean over networks of −logsumexp(z), (N,); None when made from probabilities.
        num_samples: number of networks S.
        seed: of the networks; None for foreign predictions.
        method: ``monte_carlo``, ``mode``, or ``foreign``.
        metadata: JSON values: posterior summary, precision, device, seconds, …
        softened: temperature → :class:`Softened`, for scores such as ``mutual_information@3``.
        samples: softmax(z) of each network, (S, N, C), when they were kept.
        probs_std_error: Monte Carlo standard error of ``probs``,
            √(Σ_s (p_s − p)² / (S (S − 1))), (N, C); None for fewer than two networks, for the
            mode, and for averaged probabilities alone.
        group_sums: sums over the networks of each of G groups, name → (G, …), from which
            :meth:`of_groups` and ``leave_out`` are made; network s is in group s mod G. Empty
            when the networks were not grouped.

    Example:
        >>> predictive = Predictive.from_samples([[[0.9, 0.1]], [[0.5, 0.5]]])
        >>> predictive.probs
        array([[0.7, 0.3]])
        >>> predictive.mutual_information.round(3)
        array([0.102])
        >>> predictive.score("confidence")  # negated: higher means more out-of-distribution
        array([-0.7])
    """

    probs: Float64[np.ndarray, "inputs classes"]
    expected_entropy: Float64[np.ndarray, " inputs"] | None
    variation_ratio: Float64[np.ndarray, " inputs"] | None
    energy: Float64[np.ndarray, " inputs"] | None
    num_samples: int
    seed: int | None
    method: str
    metadata: dict[str, Any] = field(default_factory=dict)
    softened: dict[float, Softened] = field(default_factory=dict)
    samples: Float[np.ndarray, "networks inputs classes"] | None = None
    probs_std_error: Float64[np.ndarray, "inputs classes"] | None = None
    group_sums: dict[str, np.ndarray] = field(default_factory=dict)

    _ARRAYS: ClassVar = (
        "probs", "expected_entropy", "variation_ratio", "energy", "samples", "probs_std_error"
    )  # fmt: skip
    _REQUIRED: ClassVar = ("probs",)

    def __repr__(self) -> str:
        inputs, classes = self.probs.shape
        return (
            f"Predictive({inputs:,} inputs, {classes} classes, {self.num_samples} networks, "
            f"method {self.method!r}, scores {', '.join(self.available_scores())})"
        )

    @classmethod
    def from_samples(cls, samples: Any, *, metadata: dict[str, Any] | None = None) -> Predictive:
        """From the class probabilities of S networks, (S, N, C), of whatever source.

        Raises:
            ValueError: the samples are no probabilities of that shape.
        """
        checked = check_samples(samples).copy()  # a frozen value, whatever the caller's array does
        count = len(checked)
        return cls(
            probs=checked.mean(axis=0),
            expected_entropy=metrics.expected_entropy(checked),
            variation_ratio=metrics.variation_ratio(checked),
            energy=None,
            num_samples=count,
            seed=None,
            method="foreign",
            metadata=metadata or {},
            samples=checked,
            probs_std_error=checked.std(axis=0, ddof=1) / np.sqrt(count) if count > 1 else None,
        )

    @classmethod
    def from_probs(cls, probs: Any, *, metadata: dict[str, Any] | None = None) -> Predictive:
        """From class probabilities (N, C) alone; scores that need networks are not available.

        Raises:
            ValueError: they are no probabilities of that shape.

        Example:
            >>> Predictive.from_probs([[0.5, 0.5]]).predictive_entropy.round(4)
            array([0.6931])
        """
        checked = check_probs(probs).copy()
        return cls(checked, None, None, None, 1, None, "foreign", metadata or {})

    @property
    def predictive_entropy(self) -> np.ndarray:
        """Entropy of the averaged probabilities, nats, (N,)."""
        return self._as_they_are.predictive_entropy

    @property
    def mutual_information(self) -> np.ndarray | None:
        """Predictive minus expected entropy, nats, (N,), at least 0; biased low for small S."""
        return self._as_they_are.mutual_information

    @property
    def confidence(self) -> np.ndarray:
        """Largest averaged probability, (N,)."""
        return self._as_they_are.confidence

    @property
    def margin(self) -> np.ndarray:
        """Difference of the two largest averaged probabilities, (N,)."""
        return self._as_they_are.margin

    @property
    def _as_they_are(self) -> Softened:
        return Softened(self.probs, self.expected_entropy, self.energy)

    def of_groups(self, groups: Iterable[int]) -> Predictive:
        """The predictive of the networks of some groups alone, without kept samples.

        Args:
            groups: numbers in [0, G), at least one; the order does not matter.

        Raises:
            ValueError: there are no such groups.

        Example:
            >>> accumulator = PredictiveAccumulator(
            ...     1, 2, (1.0,), torch.device("cpu"), num_groups=2
            ... )
            >>> accumulator.add(slice(0, 1), range(2), torch.tensor([[[0.0, 0.0]], [[9.0, 0.0]]]))
            >>> both = accumulator.finish(num_samples=2, seed=0, method="monte_carlo")
            >>> both.of_groups([0]).probs
            array([[0.5, 0.5]])
        """
        chosen = network_sums.check_groups(groups, self.num_groups)
        sums = {
            name: network_sums.add_up(values[chosen]) for name, values in self.group_sums.items()
        }
        return _from_sums(sums, seed=self.seed, method=self.method, metadata=self.metadata)

    def available_scores(self) -> tuple[str, ...]:
        """Names that :meth:`score` takes for this predictive, at temperature 1.

        With one network the scores that compare networks are constant and left out.
        """
        missing: set[str] = set()
        if self.expected_entropy is None or self.num_samples < 2:
            missing.update(SAMPLE_SCORES)
        if self.energy is None:
            missing.add("energy")
        return tuple(name for name in SCORES if name not in missing)

    def score(self, name: str) -> np.ndarray:
        """A score by name, (N,): higher means more out-of-distribution.

        ``entropy``, ``mutual_information``, ``expected_entropy``, ``variation_ratio`` and
        ``energy`` as they are; ``confidence`` and ``margin`` negated. A suffix ``@T`` takes the
        score at logits divided by T: ``mutual_information@3``.

        Args:
            name: of the score; ``predictive_entropy`` is taken for ``entropy``.

        Raises:
            ValueError: the name is unknown, or this predictive lacks what the score needs.
        """
        kind, temperature = parse_score(name)
        view = self._as_they_are if temperature == 1.0 else self._softened(name, temperature)
        value = {
            "entropy": lambda: view.predictive_entropy,
            "mutual_information": lambda: view.mutual_information,
            "expected_entropy": lambda: view.expected_entropy,
            "confidence": lambda: -view.confidence,
            "margin": lambda: -view.margin,
            "variation_ratio": lambda: self.variation_ratio,
            "energy": lambda: view.energy,
        }[kind]()
        if value is None:
            needs = "logits" if kind == "energy" else "the probabilities of each network"
            raise ValueError(
                f"score {name!r} needs {needs}, which this predictive does not have; it offers "
                + ", ".join(self.available_scores())
            )
        return value

    def _softened(self, name: str, temperature: float) -> Softened:
        if temperature in self.softened:
            return self.softened[temperature]
        if self.samples is None:
            raise ValueError(
                f"score {name!r} was not accumulated; predict with "
                f"score_temperatures=(1.0, {temperature:g}) or keep_samples=True"
            )
        # softmax(z / T) is p^(1/T) normalised, so kept probabilities give every temperature.
        powers = self.samples.astype(np.float64) ** (1.0 / temperature)
        softer = powers / powers.sum(axis=-1, keepdims=True)
        return Softened(softer.mean(axis=0), metrics.expected_entropy(softer), None)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The arrays that there are, by their names in the file; inputs as in the base class."""
        softened = {
            f"softened/{temperature!r}/{part}": getattr(view, part)
            for temperature, view in self.softened.items()
            for part in PARTS
        }
        present = {key: values for key, values in softened.items() if values is not None}
        return super().to_arrays() | present

    @classmethod
    def _further_fields(cls, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
        names = [key.split("/")[1] for key in arrays if key.startswith("softened/")]
        softened: dict[float, Any] = {
            float(name): Softened(
                arrays[f"softened/{name}/probs"],
                *(arrays.get(f"softened/{name}/{part}") for part in PARTS[1:]),
            )
            for name in dict.fromkeys(names)
        }
        return {"softened": softened}


class PredictiveAccumulator:
    """Sums over networks from which a :class:`Predictive` is made: memory O(G · N · C), not O(S).

    The terms of several networks are computed at once and added network by network, so that the
    sums are the same to the last bit however networks and inputs are split into calls. They are
    float64 and take 8 G N (2 C + (2 C + 1) · number of temperatures) bytes.

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
        width = network_sums.num_columns(num_classes, self._temperatures)
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
            kept = {name: values.copy() for name, values in groups.items() if name != "squares"}
        random = num_samples > 1 and method != "mode"
        return _from_sums(
            sums,
            seed=seed,
            method=method,
            metadata=metadata or {},
            samples=samples,
            probs_std_error=network_sums.std_error(sums, num_samples) if random else None,
            group_sums=kept,
        )


def _from_sums(sums: Mapping[str, np.ndarray], **others: Any) -> Predictive:
    count = int(sums["num_networks"])
    temperatures = [name.removesuffix("/probs") for name in sums if name.endswith("/probs")]
    views = {
        float(t): Softened(*(sums[f"{t}/{part}"] / count for part in PARTS)) for t in temperatures
    }
    main = views.pop(1.0)
    return Predictive(
        probs=main.probs,
        expected_entropy=main.expected_entropy,
        variation_ratio=1.0 - sums["votes"].max(axis=-1) / count,
        energy=main.energy,
        num_samples=count,
        softened=views,
        **others,
    )
