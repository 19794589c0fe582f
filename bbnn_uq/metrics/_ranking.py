"""Inputs ranked by how sure a model is of them, and the errors among the surest ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from bbnn_uq._checks import check_scores
from bbnn_uq.metrics._weighted import top_class

__all__ = ["ErrorCounter", "error_counter"]

# From the multiplicities of one resample to its numbers of inputs and of errors that are at least
# as sure as each of the G distinct confidences, surest first.
ErrorCounter = Callable[
    [Float64[np.ndarray, "inputs"]],
    tuple[Float64[np.ndarray, "groups"], Float64[np.ndarray, "groups"]],
]


def error_counter(
    probs: Float64[np.ndarray, "inputs classes"], labels: Int64[np.ndarray, "inputs"], scores: Any
) -> tuple[Float64[np.ndarray, "groups"], ErrorCounter]:
    """The distinct scores (or negated confidences), surest first, and the counter down to each."""
    confidence, correct = top_class(probs, labels)
    if scores is None:
        unsure = -confidence
    else:
        # Here and not only in the public functions, since the bootstrap passes options on.
        unsure = check_scores(scores, "scores")
        if unsure.shape != labels.shape:
            raise ValueError(
                f"scores must have shape {labels.shape}, one per input, got {unsure.shape}"
            )
    order = np.argsort(unsure)  # the order within ties never counts, so it need not be stable
    ordered = unsure[order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    wrong = ~correct[order]
    untied = len(ends) == len(order)

    def count(
        weights: Float64[np.ndarray, "inputs"],
    ) -> tuple[Float64[np.ndarray, "groups"], Float64[np.ndarray, "groups"]]:
        drawn = weights[order]
        kept = np.cumsum(drawn)
        errors = np.cumsum(np.multiply(drawn, wrong, out=drawn), out=drawn)
        return (kept, errors) if untied else (kept[ends], errors[ends])

    return ordered[ends], count
