"""Predictive: what a sampled network predicts, and how sure it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from jaxtyping import Float, Float64

from bbnn_uq import network_sums
from bbnn_uq._checks import check_labels, check_probs, check_samples
from bbnn_uq.metrics import uncertainty
from bbnn_uq.network_average import NetworkAverage
from bbnn_uq.scores import (
    FALLING_SCORES,
    LOGIT_SCORES,
    PLAIN_SCORES,
    SAMPLE_SCORES,
    SCORES,
    Softened,
    parse_score,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Predictive", "from_sums"]

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
        softened: temperature → :class:`~bbnn_uq.scores.Softened`, for scores such as
            ``mutual_information@3``.
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
        return (
            f"Predictive({self._size()}, {self.num_samples} networks, "
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
            >>> import torch
            >>> from bbnn_uq.predictive_sums import PredictiveAccumulator
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
        return from_sums(sums, seed=self.seed, method=self.method, metadata=self.metadata)

    def available_scores(self, *, softened: bool = False) -> tuple[str, ...]:
        """Names that :meth:`score` takes for this predictive, at temperature 1.

        With one network the scores that compare networks are constant and left out, and so are
        those that are infinite for some input, where a network gives a class exactly 0.

        Args:
            softened: whether to name those at the accumulated temperatures too, such as
                ``mutual_information@3``.
        """
        missing: set[str] = set()
        if self.expected_entropy is None or self.num_samples < 2:
            missing.update(SAMPLE_SCORES)
        for name in ("logit_variance", "pairwise_kl", *LOGIT_SCORES):
            values = getattr(self, name)
            if values is None or not np.isfinite(values).all():
                missing.add(name)
        names = [name for name in SCORES if name not in missing]
        if softened:
            names += [
                # The shortest text that reads back as this number: 3, not 3.0.
                f"{name}@{str(temperature).removesuffix('.0')}"
                for temperature in self.softened
                for name in names
                if name not in PLAIN_SCORES
            ]
        return tuple(names)

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
        return -value if kind in FALLING_SCORES and value is not None else value

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

    def to_frame(self, labels: Any = None) -> pd.DataFrame:
        """One row for each input, for pandas and seaborn.

        Args:
            labels: true classes (N,), integers in [0, C), where they are known.

        Returns:
            A table with the columns ``input`` (its position), ``predicted`` (class), with labels
            ``label`` and ``correct``, and each of :meth:`available_scores`, softened ones too.
            They are in their own units and signs: ``confidence``, ``margin`` and ``max_logit``
            are not negated as in :meth:`score`.

        Raises:
            ValueError: the labels are no such classes.

        Example:
            >>> predictive = Predictive.from_probs([[0.9, 0.1], [0.4, 0.6]])
            >>> predictive.to_frame([0, 0])[["input", "predicted", "correct", "confidence"]]
               input  predicted  correct  confidence
            0      0          0     True         0.9
            1      1          1    False         0.6
        """
        import pandas as pd  # late: predicting needs none of it

        predicted = self.probs.argmax(axis=1)
        columns = {"input": np.arange(len(predicted)), "predicted": predicted}
        if labels is not None:
            inputs, classes = self.probs.shape
            columns["label"] = check_labels(labels, num_inputs=inputs, num_classes=classes)
            columns["correct"] = columns["label"] == predicted
        return pd.DataFrame(columns | self._per_input())

    def _per_input(self) -> dict[str, np.ndarray]:
        return {
            name: -self.score(name) if parse_score(name)[0] in FALLING_SCORES else self.score(name)
            for name in self.available_scores(softened=True)
        }

    def _size(self) -> str:
        inputs, classes = self.probs.shape
        return f"{inputs:,} inputs, {classes} classes"

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


def from_sums(sums: Mapping[str, np.ndarray], *, method: str, **others: Any) -> Predictive:
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
