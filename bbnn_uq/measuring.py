"""What a report measures: each number with its interval over inputs and its error over networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from bbnn_uq import metrics
from bbnn_uq.metrics import Interval
from bbnn_uq.metrics.reliability import wilson_band
from bbnn_uq.monte_carlo import (
    MAX_GROUPS,
    Measurement,
    MetricCurve,
    common_groups,
    metric_curves,
    monte_carlo_errors,
)
from bbnn_uq.predictive import Predictive
from bbnn_uq.scores import LOGIT_SCORES, parse_score

__all__ = ["curve_inputs", "measure_classes", "measure_curves", "measure_id", "measure_mode",
           "measure_ood"]  # fmt: skip

CURVE_METRICS = ("nll", "accuracy", "ece")

# What kept samples may cost, some seconds a set: each leave-out takes all S·N·C probabilities anew.
ERROR_ENTRIES = 2**25
CURVE_ENTRIES = 2**21


def measure_id(
    predictive: Predictive, labels: np.ndarray, *, num_bins: int, **options: Any
) -> dict[str, Measurement]:
    """The default metrics of classes, by name."""
    chosen = metrics.default_metrics(num_bins)

    def points(left: Predictive) -> dict[str, float]:
        return {name: metric(left.probs, labels) for name, metric in chosen.items()}

    errors = _errors(points, predictive)
    intervals = metrics.classification_intervals(
        predictive.probs, labels, num_bins=num_bins, **options
    )
    return {
        name: Measurement(**interval.to_dict(), mc_error=errors.get(name))
        for name, interval in intervals.items()
    }


def measure_ood(
    predictives: tuple[Predictive, Predictive],
    scores: tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]],
    **options: Any,
) -> dict[str, dict[str, Measurement]]:
    """Score name → metric name → how well that score tells the second set from the first."""
    inside, outside = scores

    def points(left: Predictive, left_other: Predictive) -> dict[str, float]:
        found = {}
        for name in inside:
            try:
                numbers = metrics.ood_metrics(left.score(name), left_other.score(name))
            except ValueError:
                continue  # what kept samples or sums by group do not hold, such as the energy
            found |= {f"{name} {metric}": value for metric, value in asdict(numbers).items()}
        return found

    errors = _errors(points, *predictives)
    intervals = {
        name: metrics.ood_intervals(inside[name], outside[name], **options) for name in inside
    }
    return {
        name: {
            metric: Measurement(**interval.to_dict(), mc_error=errors.get(f"{name} {metric}"))
            for metric, interval in of_score.items()
        }
        for name, of_score in intervals.items()
    }


def measure_mode(
    predictive: Predictive, mode: Predictive, labels: np.ndarray, **options: Any
) -> dict[str, Any]:
    """The mode's metrics, and under ``mean_minus_mode`` the paired differences to it."""
    intervals = metrics.classification_intervals(mode.probs, labels, **options)
    differences = metrics.paired_differences(predictive.probs, mode.probs, labels, **options)
    return {**intervals, "mean_minus_mode": differences}


def measure_classes(
    predictive: Predictive,
    labels: np.ndarray,
    *,
    class_names: tuple[str, ...] | None,
    confidence_level: float,
) -> list[dict[str, Any]]:
    """Accuracy, precision, mean confidence and mean entropy of each class.

    Accuracy is the share of the class's inputs that is classified right (its recall), precision
    the share of right ones among all inputs classified as it, both with Wilson intervals. A share
    or mean of no inputs is NaN.

    Args:
        predictive: of the ID set.
        labels: its classes, (N,).
        class_names: one for each class, or None.
        confidence_level: of the intervals.
    """
    num_classes = predictive.probs.shape[1]
    top = predictive.probs.argmax(axis=1)
    members = np.bincount(labels, minlength=num_classes)
    called = np.bincount(top, minlength=num_classes)
    right = np.bincount(labels[top == labels], minlength=num_classes)
    accuracies = _shares(members, right, confidence_level)
    precisions = _shares(called, right, confidence_level)
    means = [
        _ratio(np.bincount(labels, weights=values, minlength=num_classes), members)
        for values in (predictive.confidence, predictive.predictive_entropy)
    ]
    return [
        {
            "class": number,
            "name": None if class_names is None else class_names[number],
            "n": int(members[number]),
            "accuracy": accuracies[number],
            "precision": precisions[number],
            "confidence": float(means[0][number]),
            "entropy": float(means[1][number]),
        }
        for number in range(num_classes)
    ]


def measure_curves(
    predictive: Predictive,
    labels: np.ndarray,
    others: Mapping[str, Predictive],
    *,
    score: str,
    num_bins: int,
    seed: int,
) -> dict[str, MetricCurve]:
    """Metrics against the number of networks; empty where networks cannot be told apart.

    With groups of networks this is cheap. Kept samples can be many: of those, at most
    :data:`CURVE_ENTRIES` probabilities of each set are used, those of evenly spaced inputs (see
    :func:`curve_inputs`), so that a curve may end beside the number of the whole set.

    Args:
        predictive: of the ID set.
        labels: its classes, (N,).
        others: OOD set name → predictive.
        score: whose AUROC is taken, as ``ood/NAME``.
        num_bins: of the ECE.
        seed: of the order of networks.
    """
    if not common_groups(predictive):
        return {}
    labels = labels[_curve_rows(predictive)]
    chosen = {name: metrics.default_metrics(num_bins)[name] for name in CURVE_METRICS}

    def points(left: Predictive) -> dict[str, float]:
        return {name: metric(left.probs, labels) for name, metric in chosen.items()}

    def auroc(left: Predictive, left_other: Predictive) -> dict[str, float]:
        try:
            numbers = metrics.ood_metrics(left.score(score), left_other.score(score))
        except ValueError:
            return {}  # as a divergence between networks, of one
        return {"auroc": numbers.auroc}

    curves = metric_curves(points, _thinned(predictive), seed=seed)
    needs_logits = parse_score(score)[0] in LOGIT_SCORES  # which kept probabilities do not give
    for name, other in others.items():
        pair = [
            replace(each, samples=None) if needs_logits else _thinned(each)
            for each in (predictive, other)
        ]
        if common_groups(*pair):
            found = metric_curves(auroc, *pair, seed=seed)
            curves |= {f"ood/{name}": curve for curve in found.values()}
    return curves


def curve_inputs(predictive: Predictive) -> int:
    """Number of a set's inputs that :func:`measure_curves` uses; 0 when it gives no curve."""
    return len(_curve_rows(predictive)) if common_groups(predictive) else 0


def _errors(
    points: Callable[..., Mapping[str, float]], *predictives: Predictive
) -> dict[str, float]:
    """Errors over networks; of many kept samples, from fewer groups, but at least 7."""
    if not common_groups(*predictives):
        return {}
    entries = max(0 if each.samples is None else each.samples.size for each in predictives)
    few = max(7, ERROR_ENTRIES // max(1, entries))
    return monte_carlo_errors(points, *predictives, max_groups=min(few, MAX_GROUPS))


def _curve_rows(predictive: Predictive) -> np.ndarray:
    number, entries = len(predictive.probs), 0
    if predictive.samples is not None:
        entries = predictive.samples.size
    return np.arange(0, number, max(1, min(number, -(-entries // CURVE_ENTRIES))))


def _thinned(predictive: Predictive) -> Predictive:
    rows = _curve_rows(predictive)
    if predictive.samples is None or len(rows) == len(predictive.probs):
        return predictive
    fewer = Predictive.from_samples(predictive.samples[:, rows])
    return replace(fewer, seed=predictive.seed, method=predictive.method)


def _shares(count: np.ndarray, hits: np.ndarray, confidence_level: float) -> list[Interval]:
    """Wilson intervals of hits / count; NaN where there is nothing to count."""
    rate, low, high = np.full((3, len(count)), math.nan)
    some = count > 0
    rate[some] = hits[some] / count[some]
    low[some], high[some] = wilson_band(
        count[some].astype(np.float64), hits[some].astype(np.float64), confidence_level
    )
    ends = zip(rate.tolist(), low.tolist(), high.tolist(), strict=True)
    return [Interval(*each) for each in ends]


def _ratio(sums: np.ndarray, count: np.ndarray) -> np.ndarray:
    return np.divide(sums, count, out=np.full(len(sums), math.nan), where=count > 0)
