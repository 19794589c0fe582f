"""Out-of-distribution detection: OOD is the positive class, and a higher score means more OOD."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from bbnn_uq._checks import check_scores
from bbnn_uq.metrics._weighted import increments

__all__ = ["OODMetrics", "RocCurve", "ood_kernel", "ood_metrics", "roc_curve"]

# From multiplicities of the ID and of the OOD inputs to the numbers (R, G) of each that score at
# least as high as each of the G distinct scores, highest score first.
_FlaggedCounter = Callable[
    [Float64[np.ndarray, "resamples id_inputs"], Float64[np.ndarray, "resamples ood_inputs"]],
    tuple[Float64[np.ndarray, "resamples scores"], Float64[np.ndarray, "resamples scores"]],
]
OODKernel = Callable[
    [Float64[np.ndarray, "resamples id_inputs"], Float64[np.ndarray, "resamples ood_inputs"]],
    dict[str, Float64[np.ndarray, "resamples"]],
]


@dataclass(frozen=True)
class OODMetrics:
    """How well a score separates OOD from ID inputs, as computed by `ood_metrics`.

    Attributes:
        auroc: Probability that an OOD input scores higher than an ID input, ties counting half.
        aupr_out: Average precision with OOD as positive class.
        aupr_in: Average precision with ID as positive class and the scores negated.
        fpr95: Share of ID flagged at the first threshold that catches >= 95 % of OOD.
        fpr95_in: Share of OOD accepted at the first threshold that keeps >= 95 % of ID.
    """

    auroc: float
    aupr_out: float
    aupr_in: float
    fpr95: float
    fpr95_in: float


@dataclass(frozen=True, eq=False)
class RocCurve:
    """Receiver operating characteristic, as computed by `roc_curve`.

    Attributes:
        fpr: Share of ID inputs flagged at each threshold (K,), from 0 up to 1.
        tpr: Share of OOD inputs flagged at each threshold (K,), from 0 up to 1.
        thresholds: Thresholds (K,), descending: inf, where nothing is flagged, then every
            distinct score. An input is flagged when its score is at least the threshold.
    """

    fpr: Float64[np.ndarray, "points"]
    tpr: Float64[np.ndarray, "points"]
    thresholds: Float64[np.ndarray, "points"]


def _flagged_counter(
    id_scores: Float64[np.ndarray, "id_inputs"], ood_scores: Float64[np.ndarray, "ood_inputs"]
) -> tuple[Float64[np.ndarray, "scores"], _FlaggedCounter]:
    """The distinct scores, highest first, and the counter of inputs flagged at each of them."""
    scores = np.concatenate([id_scores, ood_scores])
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    is_ood = order >= len(id_scores)

    def count(
        id_weights: Float64[np.ndarray, "resamples id_inputs"],
        ood_weights: Float64[np.ndarray, "resamples ood_inputs"],
    ) -> tuple[Float64[np.ndarray, "resamples scores"], Float64[np.ndarray, "resamples scores"]]:
        weights = np.take(np.concatenate([id_weights, ood_weights], axis=1), order, axis=1)
        flagged = np.take(np.cumsum(weights, axis=1), ends, axis=1)
        flagged_ood = np.take(np.cumsum(weights * is_ood, axis=1), ends, axis=1)
        return flagged - flagged_ood, flagged_ood

    return ordered[ends], count


def _average_precision(
    gained: Float64[np.ndarray, "resamples scores"],
    positives: Float64[np.ndarray, "resamples scores"],
    negatives: Float64[np.ndarray, "resamples scores"],
    num_positives: Float64[np.ndarray, "resamples 1"],
) -> Float64[np.ndarray, "resamples"]:
    """Sum over thresholds of the precision there times the recall gained there."""
    precision = positives / np.maximum(positives + negatives, 1.0)  # of nothing flagged: 0, times 0
    return np.einsum("rg,rg->r", gained, precision) / num_positives[:, 0]


def ood_kernel(
    id_scores: Float64[np.ndarray, "id_inputs"], ood_scores: Float64[np.ndarray, "ood_inputs"]
) -> OODKernel:
    """Kernel of `ood_metrics`: each field's name with its values (R,)."""
    _, count = _flagged_counter(id_scores, ood_scores)

    def kernel(
        id_weights: Float64[np.ndarray, "resamples id_inputs"],
        ood_weights: Float64[np.ndarray, "resamples ood_inputs"],
    ) -> dict[str, Float64[np.ndarray, "resamples"]]:
        flagged_id, flagged_ood = count(id_weights, ood_weights)
        num_id, num_ood = flagged_id[:, -1:], flagged_ood[:, -1:]
        new_id = increments(flagged_id)
        new_ood = increments(flagged_ood)
        # Inputs accepted (score <= threshold) when each distinct score is the threshold.
        accepted_id = num_id - flagged_id + new_id
        accepted_ood = num_ood - flagged_ood + new_ood
        # Thresholds come highest first: the first that catches enough OOD is the first in line,
        # the first (lowest) that keeps enough ID is the last in line that does. 95 % are 19 of 20,
        # compared in whole numbers.
        catches = (20 * flagged_ood < 19 * num_ood).sum(axis=1, keepdims=True)
        keeps = (20 * accepted_id >= 19 * num_id).sum(axis=1, keepdims=True) - 1
        pairs = (num_id * num_ood)[:, 0]
        return {
            # An ID input loses to the OOD inputs above it, and half to those it is tied with.
            "auroc": np.einsum("rg,rg->r", new_id, flagged_ood - new_ood / 2.0) / pairs,
            "aupr_out": _average_precision(new_ood, flagged_ood, flagged_id, num_ood),
            "aupr_in": _average_precision(new_id, accepted_id, accepted_ood, num_id),
            "fpr95": (np.take_along_axis(flagged_id, catches, axis=1) / num_id)[:, 0],
            "fpr95_in": (np.take_along_axis(accepted_ood, keeps, axis=1) / num_ood)[:, 0],
        }

    return kernel


def ood_metrics(id_scores: Any, ood_scores: Any) -> OODMetrics:
    r"""How well a score separates out-of-distribution (OOD) from in-distribution (ID) inputs.

    .. math:: \text{AUROC} = P(s_\text{ood} > s_\text{id}) + \tfrac12 P(s_\text{ood} = s_\text{id}),
              \qquad \text{AUPR} = \sum_k (R_k - R_{k-1}) P_k,

    with precision :math:`P_k` and recall :math:`R_k` at the k-th distinct score as threshold
    (average precision, without interpolation). ``fpr95`` is the share of ID with a score at or
    above the highest threshold, among the scores, that catches at least 95 % of OOD; ``fpr95_in``
    the share of OOD at or below the lowest threshold that keeps at least 95 % of ID.

    Source: Hendrycks and Gimpel 2017 (arXiv 1610.02136); FPR at 95 % TPR, Liang, Li and Srikant
    2018 (arXiv 1706.02690).

    Args:
        id_scores: Scores of in-distribution inputs (N,), finite; higher means more OOD.
        ood_scores: Scores of out-of-distribution inputs (M,), finite.

    Returns:
        The five numbers, each in [0, 1].

    Raises:
        ValueError: If either array is empty, not one-dimensional or not finite.
        TypeError: If either holds anything but real numbers.

    Example:
        >>> ood_metrics([0.1, 0.2, 0.4], [0.3, 0.5]).auroc.__round__(4)
        0.8333
    """
    id_scores = check_scores(id_scores, "id_scores")
    ood_scores = check_scores(ood_scores, "ood_scores")
    kernel = ood_kernel(id_scores, ood_scores)
    values = kernel(np.ones((1, len(id_scores))), np.ones((1, len(ood_scores))))
    return OODMetrics(**{name: float(value[0]) for name, value in values.items()})


def roc_curve(id_scores: Any, ood_scores: Any) -> RocCurve:
    r"""Shares of ID and OOD inputs flagged at every distinct threshold.

    .. math:: \text{FPR}(t) = \frac{1}{N} \sum_n [s^\text{id}_n \ge t], \qquad
              \text{TPR}(t) = \frac{1}{M} \sum_m [s^\text{ood}_m \ge t].

    Source: Fawcett 2006.

    Args:
        id_scores: Scores of in-distribution inputs (N,), finite; higher means more OOD.
        ood_scores: Scores of out-of-distribution inputs (M,), finite.

    Returns:
        The curve, from (0, 0) to (1, 1); no point is dropped, collinear ones included.

    Raises:
        ValueError: If either array is empty, not one-dimensional or not finite.
        TypeError: If either holds anything but real numbers.

    Example:
        >>> curve = roc_curve([0.1, 0.2], [0.2, 0.3])
        >>> curve.thresholds, curve.fpr, curve.tpr
        (array([inf, 0.3, 0.2, 0.1]), array([0. , 0. , 0.5, 1. ]), array([0. , 0.5, 1. , 1. ]))
    """
    id_scores = check_scores(id_scores, "id_scores")
    ood_scores = check_scores(ood_scores, "ood_scores")
    thresholds, count = _flagged_counter(id_scores, ood_scores)
    flagged_id, flagged_ood = count(np.ones((1, len(id_scores))), np.ones((1, len(ood_scores))))
    return RocCurve(
        fpr=np.append(0.0, flagged_id[0] / len(id_scores)),
        tpr=np.append(0.0, flagged_ood[0] / len(ood_scores)),
        thresholds=np.append(np.inf, thresholds),
    )
