"""Ranking metrics from counts per bin: a value, and bounds that hold whatever the bins hide.

Bins tell the order of two inputs unless they share one. Each metric is computed three times: with
the inputs of a bin tied, and with them in the best and in the worst order for the metric. The last
two are no estimates: what the inputs themselves would give lies between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int64
from scipy.special import digamma

from bbnn_uq.metrics.score_histogram import ScoreHistogram

__all__ = ["Bounded", "Cells", "bounded_augrc", "bounded_aurc", "ood_metrics_from_histograms"]


@dataclass(frozen=True)
class Bounded:
    """A number that is known up to an error, and how far it can be off.

    Unlike an interval of a bootstrap this holds for certain, up to rounding to float64, and says
    nothing of how the number would move on other data.

    Attributes:
        value: The number as if inputs of one bin were equal.
        low: What the number is at least.
        high: What the number is at most.
    """

    value: float
    low: float
    high: float


class Cells(NamedTuple):
    """Numbers of inputs of two kinds in successive bins, in order of rising scores.

    Attributes:
        lower: Inputs of the kind that a good score puts first (K,): ID, or right.
        upper: Inputs of the other kind (K,): OOD, or wrong.
        tied: Whether all inputs of the bin are known to have one and the same score (K,).
    """

    lower: Int64[np.ndarray, "bins"]
    upper: Int64[np.ndarray, "bins"]
    tied: Bool[np.ndarray, "bins"]

    def reversed(self) -> Cells:
        """With the kinds swapped and scores negated: what was said of one is said of the other."""
        return Cells(self.upper[::-1], self.lower[::-1], self.tied[::-1])

    def all_tied(self) -> Cells:
        """With every bin a single score."""
        return Cells(self.lower, self.upper, np.ones_like(self.tied))

    def best(self) -> Cells:
        """With each bin's lower kind before its upper kind, unless they are known to be tied."""
        return _apart(self.lower, self.upper, self.tied)

    def worst(self) -> Cells:
        """With each bin's upper kind before its lower kind, unless they are known to be tied."""
        upper, lower, tied = _apart(self.upper, self.lower, self.tied)
        return Cells(lower, upper, tied)


def _apart(
    first: Int64[np.ndarray, "bins"],
    second: Int64[np.ndarray, "bins"],
    tied: Bool[np.ndarray, "bins"],
) -> Cells:
    nothing = np.zeros_like(first)
    return Cells(
        np.stack([first, nothing], axis=1).ravel(),
        np.stack([np.where(tied, second, 0), np.where(tied, 0, second)], axis=1).ravel(),
        np.repeat(tied, 2),
    )


def _shared_cells(low: ScoreHistogram, high: ScoreHistogram) -> Cells:
    """The bins of both histograms together."""
    union = ScoreHistogram(mantissa_bits=low.mantissa_bits)
    union.merge(low)
    union.merge(high)
    counts = np.zeros((2, len(union.keys)), np.int64)
    for row, part in zip(counts, (low, high), strict=True):
        row[np.searchsorted(union.keys, part.keys)] = part.counts
    return Cells(counts[0], counts[1], union.lowest == union.highest)


class _OneSide(NamedTuple):
    """What `ood_metrics` computes with either kind as the positive class."""

    auroc: float
    average_precision: float
    mistaken_at_95: float
    detection_error: float


def _measured(cells: Cells) -> _OneSide:
    """Metrics with the lower kind as the positive class, each cell a single score."""
    caught, mistaken = np.cumsum(cells.lower), np.cumsum(cells.upper)
    num_lower, num_upper = int(caught[-1]), int(mistaken[-1])
    # Twice the pairs in the right order, in whole numbers: ties count half.
    won = int(np.einsum("b,b->", cells.lower, 2 * (num_upper - mistaken) + cells.upper))
    precision = caught / np.maximum(caught + mistaken, 1)
    at_95 = int(np.searchsorted(caught, -(-19 * num_lower // 20)))  # 95 % are 19 of 20
    # At the last threshold this is 1, and so it is where nothing is flagged, which needs no cell.
    errors = mistaken / num_upper + (1.0 - caught / num_lower)
    return _OneSide(
        auroc=won / (2 * num_lower * num_upper),
        average_precision=float(np.einsum("b,b->", cells.lower, precision)) / num_lower,
        mistaken_at_95=int(mistaken[at_95]) / num_upper,
        detection_error=float(errors.min()) / 2.0,
    )


def _least_precision(cells: Cells) -> float:
    """The worst average precision of the lower kind.

    After P of them and F others, with f others of the same bin first, p more that come one by one
    have the precisions (P + j) / (P + j + F + f), j = 1, …, p. With the digamma function they sum
    to p - (F + f) (digamma(P + p + F + f + 1) - digamma(P + F + f + 1)).
    """
    gained = cells.lower.astype(np.float64)
    caught = np.cumsum(gained)
    mistaken = np.cumsum(cells.upper).astype(np.float64)
    before = caught - gained + mistaken + 1.0
    apart = gained - mistaken * (digamma(before + gained) - digamma(before))
    together = gained * caught / np.maximum(caught + mistaken, 1.0)
    return float(np.where(cells.tied, together, apart).sum() / caught[-1])


def _one_side(cells: Cells) -> dict[str, Bounded]:
    """Bounds of what `_measured` gives."""
    value, best, worst = (
        _measured(order) for order in (cells.all_tied(), cells.best(), cells.worst())
    )
    worst = worst._replace(average_precision=_least_precision(cells))
    return {
        name: Bounded(each, min(each, *ends), max(each, *ends))
        for name, each, *ends in zip(_OneSide._fields, value, best, worst, strict=True)
    }


def ood_metrics_from_histograms(id_histogram: Any, ood_histogram: Any) -> dict[str, Bounded]:
    r"""The numbers of `ood_metrics` from histograms of the scores, with bounds that are certain.

    .. math:: \text{AUROC} = \frac{1}{NM} \sum_b o_b \Big( \sum_{a < b} i_a + \tfrac12 i_b \Big)
              \pm \frac{1}{2NM} \sum_{b \text{ mixed}} i_b\, o_b,

    with :math:`i_b` and :math:`o_b` the numbers of the N ID and M OOD inputs in bin b, and a bin
    mixed unless all its scores are equal. The other bounds likewise come from the best and the
    worst order of the inputs inside each mixed bin. Values are those of the scores rounded to
    their bins, so for scores with no more than ``mantissa_bits`` significant bits, float16 ones
    for example, value and bounds are all equal to the metrics of the scores themselves.

    Args:
        id_histogram: Scores of in-distribution inputs; higher means more OOD.
        ood_histogram: Scores of out-of-distribution inputs, in bins of the same width.

    Returns:
        Bounds by the names of the fields of `OODMetrics`, each number in [0, 1].

    Raises:
        ValueError: If a histogram is empty, or their bins differ in width.

    Example:
        >>> inside, outside = ScoreHistogram(), ScoreHistogram()
        >>> inside.add([0.1, 0.2, 0.4])
        >>> outside.add([0.4, 0.5])
        >>> ood_metrics_from_histograms(inside, outside)["auroc"]
        Bounded(value=0.9166666666666666, low=0.9166666666666666, high=0.9166666666666666)
    """
    for name, each in (("id_histogram", id_histogram), ("ood_histogram", ood_histogram)):
        if not isinstance(each, ScoreHistogram):
            raise TypeError(
                f"{name} must be a ScoreHistogram, got {type(each).__name__}; ood_metrics takes "
                "the scores themselves"
            )
        if each.num_scores == 0:
            raise ValueError(f"{name} is empty; add scores to it first")
    inside = _shared_cells(id_histogram, ood_histogram)
    with_id, with_ood = _one_side(inside), _one_side(inside.reversed())
    return {
        "auroc": with_ood["auroc"],
        "aupr_out": with_ood["average_precision"],
        "aupr_in": with_id["average_precision"],
        "fpr95": with_ood["mistaken_at_95"],
        "fpr95_in": with_id["mistaken_at_95"],
        "detection_error": with_ood["detection_error"],
    }


def _aurc(cells: Cells) -> float:
    """As `bbnn_uq.metrics.aurc` with ties, with differences of digamma for harmonic numbers."""
    wrong = cells.upper.astype(np.float64)
    size = cells.lower + wrong
    kept, errors = np.cumsum(size), np.cumsum(wrong)
    excess = (errors - wrong) - (kept - size) * (wrong / np.maximum(size, 1.0))
    spread = digamma(kept + 1.0) - digamma(kept - size + 1.0)
    return float((errors[-1] + np.einsum("b,b->", excess, spread)) / kept[-1])


def _augrc(cells: Cells) -> float:
    """As `bbnn_uq.metrics.augrc`: the area under errors against inputs, by trapezoids."""
    kept = np.append(0.0, np.cumsum(cells.lower + cells.upper))
    errors = np.append(0.0, np.cumsum(cells.upper))
    return float(np.trapezoid(errors, kept) / kept[-1] ** 2)


def bounded_aurc(cells: Cells) -> Bounded:
    """Bounds of the AURC of right (lower) and wrong (upper) inputs, the surest first."""
    value = _aurc(cells.all_tied())
    return Bounded(value, min(value, _aurc(cells.best())), max(value, _aurc(cells.worst())))


def bounded_augrc(cells: Cells) -> Bounded:
    """Bounds of the AUGRC of right (lower) and wrong (upper) inputs, the surest first."""
    value = _augrc(cells.all_tied())
    return Bounded(value, min(value, _augrc(cells.best())), max(value, _augrc(cells.worst())))
