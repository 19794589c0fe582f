"""Bootstrap intervals of all metrics of a report at once, each set from the same resamples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float64

from bbnn_uq._checks import check_choice, check_count, check_probs
from bbnn_uq.metrics._registry import OwnMetric, default_metrics, own_metric
from bbnn_uq.metrics._resampling import (
    Interval,
    check_options,
    evaluate_resamples,
    make_interval,
)
from bbnn_uq.metrics._weighted import check_classification

__all__ = [
    "Interval",
    "classification_intervals",
    "paired_differences",
]


def classification_intervals(
    probs: Any,
    labels: Any,
    *,
    metrics: Any = None,
    num_bins: Any = 15,
    num_resamples: Any = 1000,
    confidence_level: Any = 0.95,
    seed: Any = 0,
) -> dict[str, Interval]:
    r"""Bootstrap intervals of classification metrics over the test set.

    All are computed on the same resamples. Most get the percentile interval. Calibration errors
    get the basic one,

    .. math:: [\, 2 v - m^*_{(1 + \gamma)/2},\; 2 v - m^*_{(1 - \gamma)/2} \,] \cap [0, 1],

    with v the value on the data and :math:`m^*` the values on the resamples: a plug-in
    calibration error is biased upward, a resample adds the same bias again, so its percentile
    interval would lie too high, and often above v itself. The basic interval takes the bias off
    instead; it is still approximate, and covers less often than its level where the true error is
    close to 0. Every interval is widened where needed to hold its value. An infinite NLL stays
    infinite.

    Intervals are over test inputs. The Monte Carlo error over drawn networks is not in them:
    `bbnn_uq.monte_carlo.monte_carlo_error` measures it.

    Source: Davison and Hinkley 1997, sections 5.2 (basic) and 5.3 (percentile).

    Args:
        probs: Class probabilities (N, C), in [0, 1] and summing to 1 over classes.
        labels: True classes (N,), integers in [0, C).
        metrics: Name to metric of this package, or ``functools.partial`` of one that sets its
            options; or some names of `default_metrics`, all of them when not given.
        num_bins: Number of uniform bins of ECE and class-wise ECE where ``metrics`` is not given,
            at least 1.
        num_resamples: Number of resamples, at least 1.
        confidence_level: Level of the intervals, in (0, 1).
        seed: Seed of the resamples, in [0, 2^64).

    Returns:
        Intervals by name.

    Raises:
        ValueError: If an argument has wrong values or shapes.
        TypeError: If an array holds anything but real numbers, an option is no number, or
            ``metrics`` names anything but this package's metrics of probabilities and labels.

    Example:
        >>> probs = [[0.9, 0.1], [0.4, 0.6], [0.7, 0.3], [0.2, 0.8]]
        >>> classification_intervals(probs, [0, 1, 1, 1])["accuracy"]
        Interval(value=0.75, low=0.25, high=1.0)
    """
    num_resamples, confidence_level, seed = check_options(num_resamples, confidence_level, seed)
    own = _own_metrics(metrics, num_bins)
    probs, labels = check_classification(probs, labels)
    kernels = {name: entry.of(probs, labels) for name, entry in own.items()}
    values, resampled = evaluate_resamples(
        lambda weights: {name: kernel(weights) for name, kernel in kernels.items()},
        [len(labels)],
        num_resamples,
        seed,
    )
    return {
        name: make_interval(value, resampled[name], confidence_level, own[name].basic_within)
        for name, value in values.items()
    }


def _own_metrics(metrics: Any, num_bins: Any) -> dict[str, OwnMetric]:
    default = default_metrics(check_count(num_bins, "num_bins"))
    if metrics is None:
        metrics = default
    elif isinstance(metrics, (list, tuple)):
        metrics = {name: default[check_choice(name, "metrics", default)] for name in metrics}
    if not isinstance(metrics, Mapping):
        raise TypeError(
            f"metrics must be a dictionary or a list of names, got {type(metrics).__name__}"
        )
    found = {name: own_metric(metric) for name, metric in metrics.items()}
    foreign = [name for name, entry in found.items() if entry is None or not entry.of_classes]
    if foreign or not found:
        raise TypeError(
            "metrics must name metrics of this package that take probabilities and labels, or "
            f"functools.partial of one with options, got {foreign or 'none'}; bootstrap_interval "
            "takes any function"
        )
    return {name: entry for name, entry in found.items() if entry is not None}


def paired_differences(
    probs_a: Any,
    probs_b: Any,
    labels: Any,
    *,
    metrics: Any = None,
    num_bins: Any = 15,
    num_resamples: Any = 1000,
    confidence_level: Any = 0.95,
    seed: Any = 0,
) -> dict[str, Interval]:
    r"""Bootstrap intervals of the differences between two models on the same test set.

    .. math:: d = m(a) - m(b), \qquad d^* = m^*(a) - m^*(b),

    with both metrics taken on the same resample, so that what is hard for both models cancels.
    An interval that excludes 0 shows a difference at that level; for all metrics of the default
    set but accuracy, a negative one is in favour of a. Intervals are those of
    `classification_intervals`: percentile, and basic, within [-1, 1], for calibration errors.
    Where both models give probability 0 to some label, the difference of the infinite NLLs is
    undefined and its interval holds NaN.

    Source: Davison and Hinkley 1997, sections 5.2 and 5.3.

    Args:
        probs_a: Class probabilities of the first model (N, C).
        probs_b: Class probabilities of the second model (N, C) for the same inputs.
        labels: True classes (N,), integers in [0, C).
        metrics: As in `classification_intervals`.
        num_bins: As in `classification_intervals`.
        num_resamples: Number of resamples, at least 1.
        confidence_level: Level of the intervals, in (0, 1).
        seed: Seed of the resamples, in [0, 2^64).

    Returns:
        Intervals by name.

    Raises:
        ValueError: If an argument has wrong values or shapes.
        TypeError: As in `classification_intervals`.

    Example:
        >>> sure, unsure = [[0.9, 0.1], [0.9, 0.1]], [[0.6, 0.4], [0.5, 0.5]]
        >>> round(paired_differences(sure, unsure, [0, 0])["nll"].value, 4)
        -0.4966
    """
    num_resamples, confidence_level, seed = check_options(num_resamples, confidence_level, seed)
    own = _own_metrics(metrics, num_bins)
    probs_a, labels = check_classification(probs_a, labels, "probs_a")
    probs_b = check_probs(probs_b, "probs_b")
    if probs_b.shape != probs_a.shape:
        raise ValueError(
            f"probs_b must have the shape of probs_a, {probs_a.shape}, got {probs_b.shape}"
        )
    kernels = {
        name: (entry.of(probs_a, labels), entry.of(probs_b, labels)) for name, entry in own.items()
    }

    def kernel(
        weights: Float64[np.ndarray, "resamples inputs"],
    ) -> dict[str, Float64[np.ndarray, "resamples"]]:
        with np.errstate(invalid="ignore"):  # inf - inf = NaN is meant: see above
            return {name: a(weights) - b(weights) for name, (a, b) in kernels.items()}

    values, resampled = evaluate_resamples(kernel, [len(labels)], num_resamples, seed)
    return {
        name: make_interval(
            value,
            resampled[name],
            confidence_level,
            None if own[name].basic_within is None else (-1.0, 1.0),
        )
        for name, value in values.items()
    }
