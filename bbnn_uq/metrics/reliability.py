"""Reliability curve: accuracy against confidence, with intervals, as data to draw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import ndtri

from bbnn_uq._checks import check_choice, check_count
from bbnn_uq.metrics._binning import BINNINGS, bin_sums
from bbnn_uq.metrics._resampling import check_options, make_interval
from bbnn_uq.metrics._weighted import check_classification, top_class

__all__ = ["ReliabilityCurve", "reliability_curve", "wilson_band"]


@dataclass(frozen=True, eq=False)
class ReliabilityCurve:
    """Accuracy against confidence, bin by bin, as computed by `reliability_curve`.

    Attributes:
        bin_edges: Edges (B+1,), ascending. Bins are (a, b]; the first holds its lower edge too.
        count: Number of inputs in each bin (B,).
        confidence: Mean confidence of each bin (B,), NaN where the bin is empty.
        accuracy: Accuracy of each bin (B,), NaN where the bin is empty.
        low: Lower end of the accuracy's interval (B,), NaN where the bin is empty.
        high: Upper end of the accuracy's interval (B,), NaN where the bin is empty.
    """

    bin_edges: Float64[np.ndarray, "edges"]
    count: Int64[np.ndarray, "bins"]
    confidence: Float64[np.ndarray, "bins"]
    accuracy: Float64[np.ndarray, "bins"]
    low: Float64[np.ndarray, "bins"]
    high: Float64[np.ndarray, "bins"]


def wilson_band(
    count: Float64[np.ndarray, "bins"],
    hits: Float64[np.ndarray, "bins"],
    confidence_level: float,
) -> Float64[np.ndarray, "2 bins"]:
    """Wilson 1927: the rates p with |rate - p| <= z sqrt(p (1 - p) / n); ``count`` is positive."""
    z = ndtri(0.5 + confidence_level / 2.0)
    rate = hits / count
    scale = 1.0 + z**2 / count
    center = (rate + z**2 / (2.0 * count)) / scale
    half = z * np.sqrt(rate * (1.0 - rate) / count + z**2 / (4.0 * count**2)) / scale
    # At a rate of 0 or 1 one end is the rate itself, and rounding must not move it to either side.
    low = np.where(rate == 0.0, 0.0, np.minimum(center - half, rate))
    high = np.where(rate == 1.0, 1.0, np.maximum(center + half, rate))
    return np.stack([low, high])


def _bootstrap_band(
    count: Float64[np.ndarray, "bins"],
    hits: Float64[np.ndarray, "bins"],
    confidence_level: float,
    num_resamples: int,
    seed: int,
) -> Float64[np.ndarray, "2 bins"]:
    """Percentile interval of each bin's accuracy; ``count`` is positive.

    With the bins fixed, all that a resample of the inputs decides is how many of them fall into
    each bin, right or wrong: a multinomial draw, whatever the number of inputs.
    """
    cells = np.concatenate([hits, count - hits])
    shares = cells[cells > 0] / cells.sum()
    drawn = np.zeros((num_resamples, len(cells)))
    drawn[:, cells > 0] = np.random.default_rng(seed).multinomial(
        int(cells.sum()), shares, size=num_resamples
    )
    right, wrong = np.split(drawn, 2, axis=1)
    band = np.full((2, len(count)), np.nan)
    for number, (size, value) in enumerate(zip((right + wrong).T, hits / count, strict=True)):
        held = size > 0
        if held.any():
            rates = right[held, number] / size[held]
            interval = make_interval(float(value), rates, confidence_level)
            band[:, number] = interval.low, interval.high
    return band


def reliability_curve(
    probs: Any,
    labels: Any,
    *,
    num_bins: Any = 15,
    binning: Any = "uniform",
    band: Any = "wilson",
    confidence_level: Any = 0.95,
    num_resamples: Any = 1000,
    seed: Any = 0,
) -> ReliabilityCurve:
    r"""Accuracy of the inputs in each confidence bin, with intervals.

    .. math:: a_b = \frac{1}{n_b} \sum_{n \in b} [\hat y_n = y_n], \qquad
              \text{wilson: } \frac{1}{1 + z^2/n_b} \Big( a_b + \frac{z^2}{2 n_b}
              \pm z \sqrt{\frac{a_b (1 - a_b)}{n_b} + \frac{z^2}{4 n_b^2}} \Big),

    with z the normal quantile of the level. Bins are those of `ece`; the curve's gaps, weighted
    by count, give its value.

    The bootstrap band holds percentiles of each :math:`a_b` over resamples of the test set. They
    keep the bins of the data, quantile bins too, since the band belongs to the bar that is drawn.
    A resample that leaves a bin empty says nothing about it and is left out of that bin's band.
    Both bands are pointwise. Prefer Wilson's in small bins: where all inputs are right, or all
    wrong, so are those of every resample, and the bootstrap band has no width.

    Source: DeGroot and Fienberg 1983; the intervals, Wilson 1927 and Efron and Tibshirani 1993.

    Args:
        probs: Class probabilities (N, C), in [0, 1] and summing to 1 over classes.
        labels: True classes (N,), integers in [0, C).
        num_bins: Number of bins, at least 1.
        binning: ``"uniform"`` for the edges k/B, or ``"quantile"`` for edges at quantiles of the
            confidences, the lowest and the highest of them included. Quantile bins never split
            inputs of equal confidence, and bins left empty by that are merged away.
        band: ``"wilson"`` for score intervals, or ``"bootstrap"`` for percentile intervals.
        confidence_level: Level of the intervals, in (0, 1).
        num_resamples: Number of resamples of the bootstrap band, at least 1.
        seed: Seed of the resamples, in [0, 2^64).

    Returns:
        Edges, and per bin its count, mean confidence, accuracy and the accuracy's interval. The
        interval is NaN where no resample has an input in the bin, as with very few resamples.

    Raises:
        ValueError: If an argument has wrong values or shapes.
        TypeError: If an array holds anything but real numbers, or an option is no number.

    Example:
        >>> probs, labels = [[0.75, 0.25], [0.75, 0.25], [0.0, 1.0]], [0, 1, 1]
        >>> curve = reliability_curve(probs, labels, num_bins=4)
        >>> curve.count, curve.accuracy
        (array([0, 0, 2, 1]), array([nan, nan, 0.5, 1. ]))
    """
    probs, labels = check_classification(probs, labels)
    num_bins = check_count(num_bins, "num_bins")
    binning = check_choice(binning, "binning", BINNINGS)
    band = check_choice(band, "band", ("wilson", "bootstrap"))
    num_resamples, level, seed = check_options(num_resamples, confidence_level, seed)

    confidence, correct = top_class(probs, labels)
    ones = np.ones((1, len(labels)))
    sums = bin_sums(confidence[:, None], correct[:, None], ones, num_bins, binning)
    count, confidences, hits = (part[0, 0] for part in sums)
    filled = count > 0
    edges = np.arange(num_bins + 1) / num_bins
    if binning == "quantile":
        count, confidences, hits = count[filled], confidences[filled], hits[filled]
        filled = filled[filled]
        # The highest confidence of each bin: the last of those up to there, in order.
        ordered = np.sort(confidence)
        edges = np.append(ordered[0], ordered[np.cumsum(count).astype(np.int64) - 1])

    mean, rate, low, high = np.full((4, len(count)), np.nan)
    mean[filled] = confidences[filled] / count[filled]
    rate[filled] = hits[filled] / count[filled]
    ends = (
        wilson_band(count[filled], hits[filled], level)
        if band == "wilson"
        else _bootstrap_band(count[filled], hits[filled], level, num_resamples, seed)
    )
    low[filled], high[filled] = ends
    return ReliabilityCurve(edges, count.astype(np.int64), mean, rate, low, high)
