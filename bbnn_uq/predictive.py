"""Predictive: what a sampled network predicts and how sure it is; and how it is accumulated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from bbnn_uq import network_sums
from bbnn_uq._checks import check_count, check_probs, check_samples
from bbnn_uq.metrics import uncertainty
from bbnn_uq.network_average import NetworkAverage
from bbnn_uq.scores import (
    LOGIT_SCORES,
    PLAIN_SCORES,
    SAMPLE_SCORES,
    SCORES,
    Softened,
    parse_score,
)

__all__ = ["Predictive", "PredictiveAccumulator"]

_PARTS = tuple(each.name for each in fields(Softened))
_TINY = np.finfo(np.float64).tiny


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
        pairwise_kl: mean Kullback-Leibler divergence between softmax(z) of two different
            networks, nats, (N,); None when unknown, as for fewer than two networks.
        logit_variance: variance over networks of the logits about their mean over classes,
            averaged over classes, (N,); None when unknown, as for fewer than two networks.
        max_logit: mean over networks of the largest logit, (N,); None when made from
            probabilities.
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
    pairwise_kl: Float64[np.ndarray, " inputs"] | None = None
    logit_variance: Float64[np.ndarray, " inputs"] | None = None
    max_logit: Float64[np.ndarray, " inputs"] | None = None
    group_sums: dict[str, np.ndarray] = field(default_factory=dict)

    _ARRAYS: ClassVar = (
        "probs", "expected_entropy", "variation_ratio", "energy", "samples", "probs_std_error",
        "pairwise_kl", "logit_variance", "max_logit",
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
        several = count > 1
        return cls(
            probs=checked.mean(axis=0),
            expected_entropy=uncertainty.expected_entropy(checked),
            variation_ratio=uncertainty.variation_ratio(checked),
            energy=None,
            num_samples=count,
            seed=None,
            method="foreign",
            metadata=metadata or {},
            samples=checked,
            probs_std_error=checked.std(axis=0, ddof=1) / np.sqrt(count) if several else None,
            pairwise_kl=uncertainty.pairwise_kl(checked) if several else None,
            logit_variance=uncertainty.logit_variance(checked) if several else None,
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
    def corrected_mutual_information(self) -> np.ndarray | None:
        """Mutual information without most of its bias for few networks, nats, (N,).

        ½ Σ_c (standard error of p_c)² / p_c more than :attr:`mutual_information`, as in
        :func:`bbnn_uq.metrics.mutual_information` with ``correct_bias``; None where there is no
        ``probs_std_error``. For comparisons between numbers of networks.

        Example:
            >>> predictive = Predictive.from_samples([[[0.9, 0.1]], [[0.5, 0.5]]])
            >>> predictive.corrected_mutual_information.round(3)
            array([0.197])
        """
        plain, error = self.mutual_information, self.probs_std_error
        if plain is None or error is None:
            return None
        # Where p is 0 so is its error.
        return plain + 0.5 * (error**2 / np.maximum(self.probs, _TINY)).sum(axis=1)

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
        return Softened(self.probs, self.expected_entropy, self.energy, self.pairwise_kl)

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

        With one network the scores that compare networks are constant and left out, and so are
        those that are infinite for some input, where a network gives a class exactly 0.
        """
        missing: set[str] = set()
        if self.expected_entropy is None or self.num_samples < 2:
            missing.update(SAMPLE_SCORES)
        for name in ("logit_variance", "pairwise_kl", *LOGIT_SCORES):
            values = getattr(self, name)
            if values is None or not np.isfinite(values).all():
                missing.add(name)
        return tuple(name for name in SCORES if name not in missing)

    def score(self, name: str) -> np.ndarray:
        """A score by name, (N,): higher means more out-of-distribution.

        ``entropy``, ``mutual_information``, ``expected_entropy``, ``variation_ratio``,
        ``logit_variance``, ``pairwise_kl`` and ``energy`` as they are; ``confidence``, ``margin``
        and ``max_logit`` negated. A suffix ``@T`` takes the score at logits divided by T:
        ``mutual_information@3``.

        Args:
            name: of the score; ``predictive_entropy`` is taken for ``entropy``.

        Raises:
            ValueError: the name is unknown, or this predictive lacks what the score needs.
        """
        kind, temperature = parse_score(name)
        view = self._as_they_are if temperature == 1.0 else self._softened(name, temperature)
        value = self._value(kind, view)
        if value is None:
            needs = "logits" if kind in LOGIT_SCORES else "the probabilities of each network"
            if kind in ("logit_variance", "pairwise_kl"):
                needs += ", at least two"
            raise ValueError(
                f"score {name!r} needs {needs}, which this predictive does not have; it offers "
                + ", ".join(self.available_scores())
            )
        return value

    def _value(self, kind: str, view: Softened) -> np.ndarray | None:
        source = self if kind in PLAIN_SCORES else view
        value = getattr(source, "predictive_entropy" if kind == "entropy" else kind)
        falls = kind in ("confidence", "margin", "max_logit")
        return -value if falls and value is not None else value

    def _softened(self, name: str, temperature: float) -> Softened:
        if temperature in self.softened:
            return self.softened[temperature]
        if self.samples is None:
            raise ValueError(
                f"score {name!r} was not accumulated; predict with "
                f"score_temperatures=(1.0, {temperature:g}) or keep_samples=True"
            )
        # softmax(z / T) is p^(1/T) normalised, so kept probabilities give every temperature.
        relative = self.samples / self.samples.max(axis=-1, keepdims=True).astype(np.float64)
        powers = relative ** (1.0 / temperature)
        softer = powers / powers.sum(axis=-1, keepdims=True)
        divergence = uncertainty.pairwise_kl(softer) if len(softer) > 1 else None
        return Softened(softer.mean(axis=0), uncertainty.expected_entropy(softer), None, divergence)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The arrays that there are, by their names in the file; inputs as in the base class."""
        softened = {
            f"softened/{temperature!r}/{part}": getattr(view, part)
            for temperature, view in self.softened.items()
            for part in _PARTS
        }
        present = {key: values for key, values in softened.items() if values is not None}
        return super().to_arrays() | present

    @classmethod
    def _further_fields(cls, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
        names = [key.split("/")[1] for key in arrays if key.startswith("softened/")]
        softened: dict[float, Any] = {
            float(name): Softened(
                arrays[f"softened/{name}/probs"],
                *(arrays.get(f"softened/{name}/{part}") for part in _PARTS[1:]),
            )
            for name in dict.fromkeys(names)
        }
        return {"softened": softened}


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
        return _from_sums(
            sums,
            seed=seed,
            method=method,
            metadata=metadata or {},
            samples=samples,
            group_sums=kept,
        )


def _from_sums(sums: Mapping[str, np.ndarray], *, method: str, **others: Any) -> Predictive:
    """The predictive of named sums; those of earlier versions' files are fewer."""
    count = int(sums["num_networks"])
    disagreeing = count > 1 and "below_top" in sums
    temperatures = [float(name.split("/")[0]) for name in sums if name.endswith("/probs")]
    views = {
        t: Softened(
            probs=sums[f"{t!r}/probs"] / count,
            expected_entropy=sums[f"{t!r}/expected_entropy"] / count,
            energy=sums[f"{t!r}/energy"] / count,
            pairwise_kl=network_sums.pairwise_kl(sums, t, count) if disagreeing else None,
        )
        for t in temperatures
    }
    main = views.pop(1.0)
    random = count > 1 and method != "mode" and "squares" in sums
    return Predictive(
        probs=main.probs,
        expected_entropy=main.expected_entropy,
        variation_ratio=1.0 - sums["votes"].max(axis=-1) / count,
        energy=main.energy,
        num_samples=count,
        method=method,
        softened=views,
        probs_std_error=network_sums.std_error(sums, count) if random else None,
        pairwise_kl=main.pairwise_kl,
        logit_variance=network_sums.logit_variance(sums, count) if disagreeing else None,
        max_logit=sums["max_logit"] / count if "max_logit" in sums else None,
        **others,
    )
