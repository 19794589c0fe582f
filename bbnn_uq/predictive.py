"""Predictive: what a sampled network predicts and how sure it is; and how it is accumulated."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from bbnn_uq import metrics
from bbnn_uq._checks import check_choice, check_probs, check_samples
from bbnn_uq.metrics.uncertainty import entropy_gap
from bbnn_uq.npz_file import reading_npz, write_npz

__all__ = ["Predictive", "PredictiveAccumulator", "Softened", "parse_score"]

SCORES = (
    "entropy",
    "mutual_information",
    "expected_entropy",
    "confidence",
    "margin",
    "variation_ratio",
    "energy",
)
"""Names of scores, each higher for inputs that look more out-of-distribution."""

_SAMPLE_SCORES = ("mutual_information", "expected_entropy", "variation_ratio")


@dataclass(frozen=True, eq=False)
class Softened:
    """The predictive at logits divided by a temperature T, for scores only.

    Args:
        probs: mean over networks of softmax(z / T), (N, C).
        expected_entropy: mean over networks of the entropy of softmax(z / T), nats, (N,).
        energy: mean over networks of −T logsumexp(z / T), (N,), or None without logits.
    """

    probs: Float64[np.ndarray, "inputs classes"]
    expected_entropy: Float64[np.ndarray, " inputs"] | None
    energy: Float64[np.ndarray, " inputs"] | None


@dataclass(frozen=True, eq=False)
class Predictive:
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
        checked = check_samples(samples)
        return cls(
            probs=checked.mean(axis=0),
            expected_entropy=metrics.expected_entropy(checked),
            variation_ratio=metrics.variation_ratio(checked),
            energy=None,
            num_samples=len(checked),
            seed=None,
            method="foreign",
            metadata=metadata or {},
            samples=checked,
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
        return cls(check_probs(probs), None, None, None, 1, None, "foreign", metadata or {})

    @property
    def predictive_entropy(self) -> np.ndarray:
        """Entropy of the averaged probabilities, nats, (N,)."""
        return metrics.predictive_entropy(self.probs)

    @property
    def mutual_information(self) -> np.ndarray | None:
        """Predictive minus expected entropy, nats, (N,), at least 0; biased low for small S."""
        return _mutual_information(self.probs, self.expected_entropy)

    @property
    def confidence(self) -> np.ndarray:
        """Largest averaged probability, (N,)."""
        return self.probs.max(axis=1)

    @property
    def margin(self) -> np.ndarray:
        """Difference of the two largest averaged probabilities, (N,)."""
        return _margin(self.probs)

    def available_scores(self) -> tuple[str, ...]:
        """Names that :meth:`score` takes for this predictive, at temperature 1.

        With one network the scores that compare networks are constant and left out.
        """
        missing: set[str] = set()
        if self.expected_entropy is None or self.num_samples < 2:
            missing.update(_SAMPLE_SCORES)
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
        if temperature == 1.0:
            view = Softened(self.probs, self.expected_entropy, self.energy)
        else:
            view = self._softened(name, temperature)
        value = {
            "entropy": lambda: metrics.predictive_entropy(view.probs),
            "mutual_information": lambda: _mutual_information(view.probs, view.expected_entropy),
            "expected_entropy": lambda: view.expected_entropy,
            "confidence": lambda: -view.probs.max(axis=1),
            "margin": lambda: -_margin(view.probs),
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

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to an ``.npz`` file, whole or not at all.

        Example:
            >>> import tempfile
            >>> from pathlib import Path
            >>> path = Path(tempfile.mkdtemp()) / "predictive.npz"
            >>> Predictive.from_probs([[0.25, 0.75]]).save(path)
            >>> Predictive.load(path).probs
            array([[0.25, 0.75]])
        """
        arrays: dict[str, np.ndarray | None] = {
            "probs": self.probs,
            "expected_entropy": self.expected_entropy,
            "variation_ratio": self.variation_ratio,
            "energy": self.energy,
            "samples": self.samples,
        }
        for temperature, view in self.softened.items():
            for key in ("probs", "expected_entropy", "energy"):
                arrays[f"softened/{temperature!r}/{key}"] = getattr(view, key)
        about = {
            "num_samples": self.num_samples,
            "seed": self.seed,
            "method": self.method,
            "metadata": self.metadata,
        }
        write_npz(path, arrays, about)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Predictive:
        """Read what :meth:`save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is truncated, or no file of :meth:`save`.
        """
        with reading_npz(path, "Predictive.save") as (arrays, about):
            return cls(
                probs=arrays.pop("probs"),
                expected_entropy=arrays.pop("expected_entropy", None),
                variation_ratio=arrays.pop("variation_ratio", None),
                energy=arrays.pop("energy", None),
                samples=arrays.pop("samples", None),
                softened=_read_softened(arrays),
                **about,
            )


class PredictiveAccumulator:
    """Sums over networks from which a :class:`Predictive` is made: memory O(N · C), not O(S).

    Args:
        num_inputs: N.
        num_classes: C.
        temperatures: T of the softened scores; 1 is always there.
        device: where the logits come from.

    Example:
        >>> accumulator = PredictiveAccumulator(1, 2, (1.0,), torch.device("cpu"))
        >>> accumulator.add(slice(0, 1), torch.tensor([[0.0, 0.0]]))
        >>> accumulator.finish(num_samples=1, seed=0, method="monte_carlo").probs
        array([[0.5, 0.5]])
    """

    def __init__(
        self,
        num_inputs: int,
        num_classes: int,
        temperatures: Sequence[float],
        device: torch.device,
    ) -> None:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        self._votes = zeros(num_inputs, num_classes)
        self._sums = {
            temperature: (zeros(num_inputs, num_classes), zeros(num_inputs), zeros(num_inputs))
            for temperature in dict.fromkeys((1.0, *temperatures))
        }

    def add(self, rows: slice, logits: Float[Tensor, "inputs classes"]) -> None:
        """Add one network's logits for the inputs ``rows``; computed in float64."""
        wide = logits.double()
        self._votes[rows] += torch.nn.functional.one_hot(wide.argmax(1), wide.shape[1])
        for temperature, (probs, entropies, energies) in self._sums.items():
            softened = wide / temperature
            normaliser = softened.logsumexp(dim=1)
            p = torch.exp(softened - normaliser[:, None])
            probs[rows] += p
            entropies[rows] += torch.special.entr(p).sum(dim=1)
            energies[rows] -= temperature * normaliser

    @staticmethod
    def sample(logits: Float[Tensor, "inputs classes"]) -> Float[Tensor, "inputs classes"]:
        """What is kept of one network: softmax(z)."""
        return torch.softmax(logits.double(), dim=1)

    def finish(
        self,
        *,
        num_samples: int,
        seed: int,
        method: str,
        metadata: dict[str, Any] | None = None,
        samples: np.ndarray | None = None,
    ) -> Predictive:
        """Divide the sums by the number of networks that were added."""
        views = {
            temperature: Softened(*((part / num_samples).cpu().numpy() for part in parts))
            for temperature, parts in self._sums.items()
        }
        main = views.pop(1.0)
        return Predictive(
            probs=main.probs,
            expected_entropy=main.expected_entropy,
            variation_ratio=1.0 - (self._votes.amax(dim=1) / num_samples).cpu().numpy(),
            energy=main.energy,
            num_samples=num_samples,
            seed=seed,
            method=method,
            metadata=metadata or {},
            softened=views,
            samples=samples,
        )


def parse_score(name: str) -> tuple[str, float]:
    """Split a score's name into its kind and its temperature.

    Raises:
        ValueError: the kind is unknown, or the temperature is not a positive number.

    Example:
        >>> parse_score("mutual_information@3")
        ('mutual_information', 3.0)
    """
    kind, at, suffix = name.partition("@")
    kind = check_choice("entropy" if kind == "predictive_entropy" else kind, "score", SCORES)
    if not at:
        return kind, 1.0
    # float() would also take "1_0", " 3" or "inf", and the spelling goes into file names.
    plain = re.fullmatch(r"(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", suffix)
    temperature = float(suffix) if plain else 0.0
    if temperature <= 0.0:
        raise ValueError(f"score {name!r} needs a positive number after '@', such as {kind}@3")
    if kind == "variation_ratio" and temperature != 1.0:
        raise ValueError("score 'variation_ratio' does not depend on a temperature; drop the '@'")
    return kind, temperature


def _mutual_information(
    probs: np.ndarray, expected_entropy: np.ndarray | None
) -> np.ndarray | None:
    if expected_entropy is None:
        return None
    return entropy_gap(metrics.predictive_entropy(probs), expected_entropy)


def _margin(probs: np.ndarray) -> np.ndarray:
    two = np.partition(probs, -2, axis=1)[:, -2:]
    return two[:, 1] - two[:, 0]


def _read_softened(arrays: dict[str, np.ndarray]) -> dict[float, Softened]:
    keys = [key.split("/")[1] for key in arrays if key.startswith("softened/")]
    return {
        float(key): Softened(
            *(
                arrays.get(f"softened/{key}/{part}")
                for part in ("probs", "expected_entropy", "energy")
            )  # pyright: ignore[reportArgumentType]
        )
        for key in dict.fromkeys(keys)
    }
