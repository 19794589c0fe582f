"""Reliability curve: accuracy against confidence, with intervals, as data to draw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import ndtri

from bbnn_uq._checks import check_choice, check_count, check_fraction
from bbnn_uq.metrics._binning import BINNINGS, bin_assigner, bin_sums
from bbnn_uq.metrics._weighted import check_classification, top_class

__all__ = ["ReliabilityCurve", "reliability_curve"]


@dataclass(frozen=True, eq=False)
class ReliabilityCurve:
    """Accuracy against confidence, bin by bin, as computed by `reliability_curve`.

    Attributes:
        bin_edges: Edges (B+1,), ascending. Bins are (a, b]; the first holds its lower edge too.
        count: Number of inputs in each bin (B,).
        confidence: Mean confidence of each bin (B,), NaN where the bin is empty.
        accuracy: Accuracy of each bin (B,), NaN where the bin is empty.
        low: Lower end of the accuracy's Wilson interval (B,), NaN where the bin is empty.
        high: Upper end of the accuracy's Wilson interval (B,), NaN where the bin is empty.
    """

    bin_edges: Float64[np.ndarray, "edges"]
    count: Int64[np.ndarray, "bins"]
    confidence: Float64[np.ndarray, "bins"]
    accuracy: Float64[np.ndarray, "bins"]
    low: Float64[np.ndarray, "bins"]
    high: Float64[np.ndarray, "bins"]


def _wilson_interval(
    rate: Float64[np.ndarray, "bins"],
    count: Float64[np.ndarray, "bins"],
    confidence_level: float,
) -> tuple[Float64[np.ndarray, "bins"], Float64[np.ndarray, "bins"]]:
    """Wilson 1927: the rates p with |rate - p| <= z sqrt(p (1 - p) / n); ``count`` is positive."""
    z = ndtri(0.5 + confidence_level / 2.0)
    scale = 1.0 + z**2 / count
    center = (rate + z**2 / (2.0 * count)) / scale
    half = z * np.sqrt(rate * (1.0 - rate) / count + z**2 / (4.0 * count**2)) / scale
    # At a rate of 0 or 1 one end is the rate itself, and rounding must not move it to either side.
    low = np.where(rate == 0.0, 0.0, np.minimum(center - half, rate))
    high = np.where(rate == 1.0, 1.0, np.maximum(center + half, rate))
    return low, high


def reliability_curve(
    probs: Any,
    labels: Any,
    *,
    num_bins: Any = 15,
    binning: Any = "uniform",
    confidence_level: Any = 0.95,
) -> ReliabilityCurve:
    r"""Accuracy of the inputs in each confidence bin, with Wilson score intervals.

    .. math:: \frac{1}{1 + z^2/n_b} \Big( a_b + \frac{z^2}{2 n_b}
              \pm z \sqrt{\frac{a_b (1 - a_b)}{n_b} + \frac{z^2}{4 n_b^2}} \Big),

    with :math:`a_b` the accuracy of the :math:`n_b` inputs in bin b and z the normal quantile of
    the level. Bins are those of `ece`; the curve's gaps, weighted by count, give its value.

    Source: DeGroot and Fienberg 1983; the interval, Wilson 1927.

    Args:
        probs: Class probabilities (N, C), in [0, 1] and summing to 1 over classes.
        labels: True classes (N,), integers in [0, C).
        num_bins: Number of bins, at least 1.
        binning: ``"uniform"`` for the edges k/B, or ``"quantile"`` for edges at quantiles of the
            confidences, the lowest and the highest of them included. Quantile bins never split
            inputs of equal confidence, and bins left empty by that are merged away.
        confidence_level: Level of the intervals, in (0, 1).

    Returns:
        Edges, and per bin its count, mean confidence, accuracy and the accuracy's interval.

    Raises:
        ValueError: If an argument has wrong values or shapes.
        TypeError: If an array holds anything but real numbers, or ``num_bins`` is no integer.

    Example:
        >>> probs, labels = [[0.75, 0.25], [0.75, 0.25], [0.0, 1.0]], [0, 1, 1]
        >>> curve = reliability_curve(probs, labels, num_bins=4)
        >>> curve.count, curve.accuracy
        (array([0, 0, 2, 1]), array([nan, nan, 0.5, 1. ]))
    """
    probs, labels = check_classification(probs, labels)
    num_bins = check_count(num_bins, "num_bins")
    binning = check_choice(binning, "binning", BINNINGS)
    confidence_level = check_fraction(confidence_level, "confidence_level")

    confidence, correct = top_class(probs, labels)
    ones = np.ones((1, len(labels)))
    ids = bin_assigner(confidence, num_bins, binning)(ones)
    count, confidences, hits = (
        sums[0] for sums in bin_sums(ids, ones, confidence, correct, num_bins)
    )
    edges = np.arange(num_bins + 1) / num_bins
    if binning == "quantile":
        used = count > 0
        upper = np.zeros(num_bins)
        np.maximum.at(upper, ids[0], confidence)
        edges = np.append(confidence.min(), upper[used])
        count, confidences, hits = count[used], confidences[used], hits[used]

    filled = count > 0
    mean, rate, low, high = np.full((4, len(count)), np.nan)
    mean[filled] = confidences[filled] / count[filled]
    rate[filled] = hits[filled] / count[filled]
    low[filled], high[filled] = _wilson_interval(rate[filled], count[filled], confidence_level)
    return ReliabilityCurve(edges, count.astype(np.int64), mean, rate, low, high)
