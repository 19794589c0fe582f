"""Out-of-distribution detection: OOD is the positive class, and a higher score means more OOD."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from bbnn_uq._checks import check_fraction, check_scores
from bbnn_uq.metrics._ood_counts import (
    BLOCK_ENTRIES,
    Cuts,
    OneSide,
    cuts_of_scores,
    distinct_keys,
    measure,
    tally,
)

__all__ = [
    "OODKernel",
    "OODMetrics",
    "RocCurve",
    "ood_kernel",
    "ood_metrics",
    "roc_curve",
    "threshold_at_retention",
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
        detection_error: Lowest mean, over thresholds, of the shares of OOD missed and ID flagged.
    """

    auroc: float
    aupr_out: float
    aupr_in: float
    fpr95: float
    fpr95_in: float
    detection_error: float


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


def _as_fields(outside: OneSide, inside: OneSide) -> dict[str, Float64[np.ndarray, "resamples"]]:
    """The fields of `OODMetrics`, from OOD and from ID as the positive class."""
    return {
        "auroc": outside.auroc,
        "aupr_out": outside.average_precision,
        "aupr_in": inside.average_precision,
        "fpr95": outside.mistaken_at_95,
        "fpr95_in": inside.mistaken_at_95,
        "detection_error": outside.detection_error,
    }


def ood_kernel(
    id_scores: Float64[np.ndarray, "id_inputs"], ood_scores: Float64[np.ndarray, "ood_inputs"]
) -> OODKernel:
    """Kernel of `ood_metrics`: each field's name with its values (R,).

    Scores are sorted once; a resample only changes how often each of them counts. A few resamples
    are taken at a time, so that their many temporaries stay in cache.
    """
    ids, oods = distinct_keys(id_scores), distinct_keys(-ood_scores)
    # Where the thresholds of one class fall among the distinct keys of the other.
    beaten_ids = ids.keys.searchsorted(-oods.keys, side="left")
    matched_ids = ids.keys.searchsorted(-oods.keys, side="right")
    beaten_oods = oods.keys.searchsorted(-ids.keys, side="left")
    matched_oods = oods.keys.searchsorted(-ids.keys, side="right")

    def few(
        id_weights: Float64[np.ndarray, "resamples id_inputs"],
        ood_weights: Float64[np.ndarray, "resamples ood_inputs"],
    ) -> dict[str, Float64[np.ndarray, "resamples"]]:
        new_ids, ids_before = tally(id_weights, ids)
        new_oods, oods_before = tally(ood_weights, oods)
        outside = Cuts(
            gained=new_oods,
            caught=oods_before[:, 1:],
            beaten=np.take(ids_before, beaten_ids, axis=1),
            matched=np.take(ids_before, matched_ids, axis=1),
        )
        inside = Cuts(
            gained=new_ids,
            caught=ids_before[:, 1:],
            beaten=np.take(oods_before, beaten_oods, axis=1),
            matched=np.take(oods_before, matched_oods, axis=1),
        )
        num_id, num_ood = ids_before[:, -1:], oods_before[:, -1:]
        return _as_fields(measure([outside], num_ood, num_id), measure([inside], num_id, num_ood))

    def kernel(
        id_weights: Float64[np.ndarray, "resamples id_inputs"],
        ood_weights: Float64[np.ndarray, "resamples ood_inputs"],
    ) -> dict[str, Float64[np.ndarray, "resamples"]]:
        rows = max(1, BLOCK_ENTRIES // (len(id_scores) + len(ood_scores)))
        parts = [
            few(id_weights[start : start + rows], ood_weights[start : start + rows])
            for start in range(0, len(id_weights), rows)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    return kernel


def ood_metrics(id_scores: Any, ood_scores: Any) -> OODMetrics:
    r"""How well a score separates out-of-distribution (OOD) from in-distribution (ID) inputs.

    .. math:: \text{AUROC} = P(s_\text{ood} > s_\text{id}) + \tfrac12 P(s_\text{ood} = s_\text{id}),
              \qquad \text{AUPR} = \sum_k (R_k - R_{k-1}) P_k,

    with precision :math:`P_k` and recall :math:`R_k` at the k-th distinct score as threshold
    (average precision, without interpolation). ``fpr95`` is the share of ID with a score at or
    above the highest threshold, among the scores, that catches at least 95 % of OOD; ``fpr95_in``
    the share of OOD at or below the lowest threshold that keeps at least 95 % of ID.

    .. math:: \text{detection error} = \min_t \tfrac12 \left(
              P(s_\text{ood} < t) + P(s_\text{id} \ge t) \right) \le \tfrac12,

    over all thresholds, :math:`t = \infty` among them. Being a minimum over the very inputs that it
    is taken on, it is biased low: for normal scores one standard deviation apart, by 0.019 for 100
    inputs of either kind and by 0.005 for 1,000.

    Source: Hendrycks and Gimpel 2017 (arXiv 1610.02136); FPR at 95 % TPR and detection error,
    Liang, Li and Srikant 2018 (arXiv 1706.02690), the latter the minimum as in the authors' code.

    Args:
        id_scores: Scores of in-distribution inputs (N,), finite; higher means more OOD.
        ood_scores: Scores of out-of-distribution inputs (M,), finite.

    Returns:
        The six numbers, each in [0, 1], ``detection_error`` in [0, 1/2].

    Raises:
        ValueError: If either array is empty, not one-dimensional or not finite.
        TypeError: If either holds anything but real numbers.

    Example:
        >>> ood_metrics([0.1, 0.2, 0.4], [0.3, 0.5]).auroc.__round__(4)
        0.8333
    """
    # Copies of one class at a time, sorted in place: no more than 3 times the input in memory.
    ids = np.sort(check_scores(id_scores, "id_scores"))
    oods = np.negative(check_scores(ood_scores, "ood_scores"))
    oods.sort()
    num_id, num_ood = np.array([[len(ids)]]), np.array([[len(oods)]])
    outside = measure(cuts_of_scores(oods, ids), num_ood, num_id)
    inside = measure(cuts_of_scores(ids, oods), num_id, num_ood)
    values = _as_fields(outside, inside)
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
    ids = np.sort(check_scores(id_scores, "id_scores"))
    oods = np.sort(check_scores(ood_scores, "ood_scores"))
    thresholds = np.unique(np.concatenate([ids, oods]))[::-1]
    return RocCurve(
        fpr=np.append(0.0, (len(ids) - ids.searchsorted(thresholds)) / len(ids)),
        tpr=np.append(0.0, (len(oods) - oods.searchsorted(thresholds)) / len(oods)),
        thresholds=np.append(np.inf, thresholds),
    )


def threshold_at_retention(id_scores: Any, retention: Any = 0.95) -> float:
    r"""Threshold for "flag an input when its score > t", set on ID scores alone.

    .. math:: t = s_{(k)}, \qquad k = \lceil (n + 1)\, r - 10^{-9} \rceil,

    the k-th smallest of n scores. A new ID input, exchangeable with those n, is retained (not
    flagged) with probability at least k / (n + 1) >= r, on average over draws of the n scores. For
    one draw, the share of new ID inputs that its threshold retains follows Beta(k, n + 1 − k) where
    scores are continuous, and tends to be higher where they tie: at r = 0.95 the standard deviation
    of that share is 0.021 for n = 100, 0.007 for 1,000 and 0.002 for 10,000.

    ``fpr95_in`` of `ood_metrics` is read off where 95 % of the given ID scores themselves are kept,
    the ⌈0.95 n⌉-th smallest, which can keep less of new ones; the threshold here is that score or
    the next. Take it on ID inputs that neither trained the network nor are to be judged by it.

    Source: Vovk, Gammerman and Shafer 2005 (split conformal prediction); spread, Vovk 2012
    (arXiv 1209.2673).

    Args:
        id_scores: Scores of in-distribution inputs (n,), finite; higher means more OOD.
        retention: Share r of new ID inputs to retain, in (0, 1).

    Returns:
        The threshold t, one of the scores.

    Raises:
        ValueError: If ``id_scores`` is invalid, ``retention`` not in (0, 1), or n too small: no
            score is high enough for r when n < r / (1 − r).
        TypeError: If ``id_scores`` holds anything but real numbers, or ``retention`` is no number.

    Example:
        >>> threshold_at_retention(range(1, 101), 0.95)
        96.0
    """
    retention = check_fraction(retention, "retention")
    scores = check_scores(id_scores, "id_scores")
    # The tolerance takes back what rounding adds: 100 * 0.55 is 55.00000000000001.
    rank = max(1, math.ceil((len(scores) + 1) * retention - 1e-9))
    if rank > len(scores):
        needed = math.ceil((retention - 1e-9) / (1.0 - retention))
        highest = math.floor(1e4 * len(scores) / (len(scores) + 1)) / 1e4
        raise ValueError(
            f"id_scores must hold at least {needed} scores for a retention of {retention:g}, got "
            f"{len(scores)}; pass more of them, or a retention of at most {highest:g}"
        )
    return float(np.partition(scores, rank - 1)[rank - 1])
