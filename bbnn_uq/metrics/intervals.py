"""Bootstrap intervals of all metrics of a report at once, each set from the same resamples."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from bbnn_uq._checks import check_count, check_probs, check_scores
from bbnn_uq.metrics._resampling import (
    Interval,
    check_options,
    evaluate_resamples,
    make_interval,
)
from bbnn_uq.metrics._weighted import Kernel, check_classification
from bbnn_uq.metrics.calibration import ece_kernel
from bbnn_uq.metrics.ood import ood_kernel
from bbnn_uq.metrics.proper_scores import accuracy_kernel, brier_kernel, nll_kernel
from bbnn_uq.metrics.selective import aurc_kernel

__all__ = [
    "Interval",
    "classification_intervals",
    "ood_intervals",
    "paired_differences",
]


def _classification_kernels(
    probs: Float64[np.ndarray, "inputs classes"],
    labels: Int64[np.ndarray, "inputs"],
    num_bins: int,
) -> dict[str, Kernel]:
    return {
        "accuracy": accuracy_kernel(probs, labels),
        "nll": nll_kernel(probs, labels),
        "brier": brier_kernel(probs, labels),
        "ece": ece_kernel(probs, labels, num_bins=num_bins),
        "aurc": aurc_kernel(probs, labels),
    }


def classification_intervals(
    probs: Any,
    labels: Any,
    *,
    num_bins: Any = 15,
    num_resamples: Any = 1000,
    confidence_level: Any = 0.95,
    seed: Any = 0,
) -> dict[str, Interval]:
    r"""Bootstrap intervals of accuracy, NLL, Brier score, ECE and AURC over the test set.

    All five are computed on the same resamples. Four get the percentile interval. The ECE gets
    the basic one,

    .. math:: [\, 2 v - m^*_{(1 + \gamma)/2},\; 2 v - m^*_{(1 - \gamma)/2} \,] \cap [0, 1],

    with v the value on the data and :math:`m^*` the values on the resamples: the plug-in ECE is
    biased upward, a resample adds the same bias again, so its percentile interval would lie too
    high, and often above v itself. The basic interval takes the bias off instead; it is still
    approximate, and covers less often than its level where the true error is close to 0. Every
    interval is widened where needed to hold its value. An infinite NLL stays infinite.

    Source: Davison and Hinkley 1997, sections 5.2 (basic) and 5.3 (percentile).

    Args:
        probs: Class probabilities (N, C), in [0, 1] and summing to 1 over classes.
        labels: True classes (N,), integers in [0, C).
        num_bins: Number of uniform bins of the ECE, at least 1.
        num_resamples: Number of resamples, at least 1.
        confidence_level: Level of the intervals, in (0, 1).
        seed: Seed of the resamples, in [0, 2^64).

    Returns:
        Intervals by name: ``accuracy``, ``nll`` (nats), ``brier``, ``ece``, ``aurc``.

    Raises:
        ValueError: If an argument has wrong values or shapes.
        TypeError: If an array holds anything but real numbers, or an option is no number.

    Example:
        >>> probs = [[0.9, 0.1], [0.4, 0.6], [0.7, 0.3], [0.2, 0.8]]
        >>> classification_intervals(probs, [0, 1, 1, 1])["accuracy"]
        Interval(value=0.75, low=0.25, high=1.0)
    """
    num_resamples, confidence_level, seed = check_options(num_resamples, confidence_level, seed)
    num_bins = check_count(num_bins, "num_bins")
    probs, labels = check_classification(probs, labels)
    kernels = _classification_kernels(probs, labels, num_bins)
    values, resampled = evaluate_resamples(
        lambda weights: {name: kernel(weights) for name, kernel in kernels.items()},
        [len(labels)],
        num_resamples,
        seed,
    )
    within = {"ece": (0.0, 1.0)}
    return {
        name: make_interval(value, resampled[name], confidence_level, within.get(name))
        for name, value in values.items()
    }


def paired_differences(
    probs_a: Any,
    probs_b: Any,
    labels: Any,
    *,
    num_bins: Any = 15,
    num_resamples: Any = 1000,
    confidence_level: Any = 0.95,
    seed: Any = 0,
) -> dict[str, Interval]:
    r"""Bootstrap intervals of the differences between two models on the same test set.

    .. math:: d = m(a) - m(b), \qquad d^* = m^*(a) - m^*(b),

    with both metrics taken on the same resample, so that what is hard for both models cancels.
    An interval that excludes 0 shows a difference at that level; for all five metrics but
    accuracy, a negative one is in favour of a. Intervals are those of
    `classification_intervals`: percentile, and basic, within [-1, 1], for the ECE. Where both
    models give probability 0 to some label, the difference of the infinite NLLs is undefined and
    its interval holds NaN.

    Source: Davison and Hinkley 1997, sections 5.2 and 5.3.

    Args:
        probs_a: Class probabilities of the first model (N, C).
        probs_b: Class probabilities of the second model (N, C) for the same inputs.
        labels: True classes (N,), integers in [0, C).
        num_bins: Number of uniform bins of the ECE, at least 1.
        num_resamples: Number of resamples, at least 1.
        confidence_level: Level of the intervals, in (0, 1).
        seed: Seed of the resamples, in [0, 2^64).

    Returns:
        Intervals by name: ``accuracy``, ``nll`` (nats), ``brier``, ``ece``, ``aurc``.

    Raises:
        ValueError: If an argument has wrong values or shapes.
        TypeError: If an array holds anything but real numbers, or an option is no number.

    Example:
        >>> sure, unsure = [[0.9, 0.1], [0.9, 0.1]], [[0.6, 0.4], [0.5, 0.5]]
        >>> round(paired_differences(sure, unsure, [0, 0])["nll"].value, 4)
        -0.4966
    """
    num_resamples, confidence_level, seed = check_options(num_resamples, confidence_level, seed)
    num_bins = check_count(num_bins, "num_bins")
    probs_a, labels = check_classification(probs_a, labels, "probs_a")
    probs_b = check_probs(probs_b, "probs_b")
    if probs_b.shape != probs_a.shape:
        raise ValueError(
            f"probs_b must have the shape of probs_a, {probs_a.shape}, got {probs_b.shape}"
        )
    kernels_a = _classification_kernels(probs_a, labels, num_bins)
    kernels_b = _classification_kernels(probs_b, labels, num_bins)

    def kernel(
        weights: Float64[np.ndarray, "resamples inputs"],
    ) -> dict[str, Float64[np.ndarray, "resamples"]]:
        with np.errstate(invalid="ignore"):  # inf - inf = NaN is meant: see above
            return {name: kernels_a[name](weights) - kernels_b[name](weights) for name in kernels_a}

    values, resampled = evaluate_resamples(kernel, [len(labels)], num_resamples, seed)
    within = {"ece": (-1.0, 1.0)}
    return {
        name: make_interval(value, resampled[name], confidence_level, within.get(name))
        for name, value in values.items()
    }


def ood_intervals(
    id_scores: Any,
    ood_scores: Any,
    *,
    num_resamples: Any = 1000,
    confidence_level: Any = 0.95,
    seed: Any = 0,
) -> dict[str, Interval]:
    """Bootstrap intervals of the five numbers of `ood_metrics` over both test sets.

    ID and OOD inputs are resampled independently of each other, each set at its own size, and
    every number gets the percentile interval, widened where needed to hold its value.

    Source: Davison and Hinkley 1997, section 5.3.

    Args:
        id_scores: Scores of in-distribution inputs (N,), finite; higher means more OOD.
        ood_scores: Scores of out-of-distribution inputs (M,), finite.
        num_resamples: Number of resamples, at least 1.
        confidence_level: Level of the intervals, in (0, 1).
        seed: Seed of the resamples, in [0, 2^64).

    Returns:
        Intervals by name: ``auroc``, ``aupr_out``, ``aupr_in``, ``fpr95``, ``fpr95_in``.

    Raises:
        ValueError: If an argument has wrong values or shapes.
        TypeError: If an array holds anything but real numbers, or an option is no number.

    Example:
        >>> ood_intervals([0.1, 0.2, 0.3], [0.4, 0.5])["auroc"]
        Interval(value=1.0, low=1.0, high=1.0)
    """
    num_resamples, confidence_level, seed = check_options(num_resamples, confidence_level, seed)
    id_scores = check_scores(id_scores, "id_scores")
    ood_scores = check_scores(ood_scores, "ood_scores")
    values, resampled = evaluate_resamples(
        ood_kernel(id_scores, ood_scores), [len(id_scores), len(ood_scores)], num_resamples, seed
    )
    return {
        name: make_interval(value, resampled[name], confidence_level)
        for name, value in values.items()
    }
