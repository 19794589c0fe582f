"""A predictive's scores in the shape of those that are fitted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float64

from bbnn_uq.ood_scores._stored import StoredScore
from bbnn_uq.predictive import Predictive
from bbnn_uq.scores import parse_score

__all__ = ["PredictiveScore"]


class PredictiveScore(StoredScore):
    """A score of :meth:`bbnn_uq.Predictive.score` by name; there is nothing to learn.

    Args:
        name: Such as ``entropy``, ``energy`` or ``mutual_information@3``.

    Raises:
        ValueError: If there is no such score.

    Example:
        >>> predictive = Predictive.from_probs([[0.5, 0.5], [0.9, 0.1]])
        >>> PredictiveScore("confidence").fit(predictive).score(predictive)
        array([-0.5, -0.9])
    """

    def __init__(self, name: Any) -> None:
        if not isinstance(name, str):
            raise TypeError(f"name must be that of a score, such as 'entropy', got {name!r}")
        parse_score(name)
        self.name: str = name

    def __repr__(self) -> str:
        return f"PredictiveScore({self.name!r})"

    def fit(self, outputs: Any, labels: Any = None) -> PredictiveScore:
        """See that such predictives have the score.

        Args:
            outputs: Predictive of ID inputs.
            labels: Not used.

        Returns:
            The score itself.

        Raises:
            ValueError: If the predictive lacks what the score needs.
            TypeError: If it is no predictive.
        """
        del labels
        self.score(outputs)
        return self

    def score(self, outputs: Any) -> Float64[np.ndarray, " inputs"]:
        """``outputs.score(name)``, (N,): higher means more out-of-distribution.

        Args:
            outputs: A predictive of N inputs.

        Raises:
            ValueError: If the predictive lacks what the score needs.
            TypeError: If it is no predictive.
        """
        if not isinstance(outputs, Predictive):
            raise TypeError(
                f"outputs must be a Predictive, got {type(outputs).__name__}; "
                "bbnn_uq.predict and Predictive.from_probs give one"
            )
        return outputs.score(self.name)

    def _options(self) -> dict[str, Any]:
        return {"name": self.name}

    def _to_arrays(self) -> dict[str, np.ndarray]:
        return {}

    def _set_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        if arrays:
            raise ValueError("a score of predictives has no arrays")
