"""Scores of single inputs by name, each higher for inputs that look more out-of-distribution."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from bbnn_uq._checks import check_choice
from bbnn_uq.metrics import uncertainty

__all__ = [
    "FALLING_SCORES",
    "LOGIT_SCORES",
    "PLAIN_SCORES",
    "SAMPLE_SCORES",
    "SCORES",
    "Softened",
    "parse_score",
]

SCORES = (
    "entropy",
    "mutual_information",
    "expected_entropy",
    "confidence",
    "margin",
    "variation_ratio",
    "logit_variance",
    "pairwise_kl",
    "energy",
    "max_logit",
)
"""Names of scores; any but :data:`PLAIN_SCORES` may carry a logit temperature, ``entropy@3``."""

PLAIN_SCORES = ("variation_ratio", "logit_variance", "max_logit")
"""Those that a temperature leaves as they are, or multiplies by a constant."""

SAMPLE_SCORES = (
    "mutual_information", "expected_entropy", "variation_ratio", "logit_variance", "pairwise_kl"
)  # fmt: skip
"""Those that need the probabilities of each network."""

LOGIT_SCORES = ("energy", "max_logit")
"""Those that need logits."""

FALLING_SCORES = ("confidence", "margin", "max_logit")
"""Those that fall with uncertainty, so that as scores they are negated."""


@dataclass(frozen=True, eq=False)
class Softened:
    """The predictive at logits divided by a temperature T; scores other than T = 1 come from it.

    Args:
        probs: mean over networks of softmax(z / T), (N, C).
        expected_entropy: mean over networks of the entropy of softmax(z / T), nats, (N,).
        energy: mean over networks of −T logsumexp(z / T), (N,), or None without logits.
        pairwise_kl: mean divergence between softmax(z / T) of two networks, nats, (N,), or None
            when unknown.
    """

    probs: Float64[np.ndarray, "inputs classes"]
    expected_entropy: Float64[np.ndarray, " inputs"] | None
    energy: Float64[np.ndarray, " inputs"] | None
    pairwise_kl: Float64[np.ndarray, " inputs"] | None = None

    @property
    def predictive_entropy(self) -> np.ndarray:
        """Entropy of the averaged probabilities, nats, (N,)."""
        return uncertainty.predictive_entropy(self.probs)

    @property
    def mutual_information(self) -> np.ndarray | None:
        """Predictive minus expected entropy, nats, (N,), at least 0."""
        if self.expected_entropy is None:
            return None
        return uncertainty.entropy_gap(self.predictive_entropy, self.expected_entropy)

    @property
    def confidence(self) -> np.ndarray:
        """Largest averaged probability, (N,)."""
        return uncertainty.confidence(self.probs)

    @property
    def margin(self) -> np.ndarray:
        """Difference of the two largest averaged probabilities, (N,)."""
        return uncertainty.margin(self.probs)


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
    if kind in PLAIN_SCORES and temperature != 1.0:
        raise ValueError(
            f"score {kind!r} orders inputs the same at every temperature; drop the '@' of {name!r}"
        )
    return kind, temperature
