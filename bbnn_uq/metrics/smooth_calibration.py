"""Calibration error without bins: the gap between confidence and accuracy, smoothed by a kernel."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.fft import dct, idct
from scipy.sparse import csr_array

from bbnn_uq.metrics._weighted import Kernel, check_classification, top_class, unweighted

__all__ = ["smooth_ece", "smooth_ece_kernel"]

_NUM_CELLS = 2048
_TOLERANCE = 1e-8
_MAX_STEPS = 100  # about 6 are taken, and never more than 10 were seen


def _residual_matrix(
    confidence: Float64[np.ndarray, "inputs"], correct: Bool[np.ndarray, "inputs"]
) -> csr_array:
    """Matrix (N, M) that puts each input's residual, correct - confidence, on a grid of [0, 1].

    It is shared between the two nearest of the cells' centres, so that its mean position is kept.
    A centre beyond 0 or 1 is the mirror image of the first or the last one.
    """
    position = confidence * _NUM_CELLS - 0.5
    below = np.floor(position).astype(np.int32)
    position -= below
    columns = np.stack([below, below + 1], axis=1)
    np.clip(columns, 0, _NUM_CELLS - 1, out=columns)
    values = np.stack([1.0 - position, position], axis=1)
    values *= (correct - confidence)[:, None]
    row_starts = 2 * np.arange(len(confidence) + 1, dtype=np.int32)
    return csr_array(
        (values.ravel(), columns.ravel(), row_starts), shape=(len(confidence), _NUM_CELLS)
    )


def _smoothed_error(
    spectrum: Float64[np.ndarray, "rows cells"], bandwidth: Float64[np.ndarray, "rows"]
) -> Float64[np.ndarray, "rows"]:
    """Integral of the absolute residual, smoothed with each row's bandwidth."""
    # The reflected Gaussian is the heat kernel of [0, 1]: each cosine is damped on its own. Off it
    # comes the variance that sharing among two centres adds, which is h^2 / 6 on average.
    variance = np.maximum(bandwidth**2 - 1.0 / (6.0 * _NUM_CELLS**2), 0.0)
    # Beyond 9 the exponential of the half square is below 1e-17.
    num_kept = min(_NUM_CELLS, 1 + int(9.0 / (np.pi * math.sqrt(variance.min()) + 1e-9)))
    damping = np.exp(-0.5 * variance[:, None] * (np.pi * np.arange(num_kept)) ** 2)
    smoothed = idct(spectrum[:, :num_kept] * damping, n=_NUM_CELLS, axis=1, overwrite_x=True)
    return np.abs(np.asarray(smoothed)).sum(axis=1)


def _fixed_point(
    spectrum: Float64[np.ndarray, "rows cells"],
    low: Float64[np.ndarray, "rows"],
    high: Float64[np.ndarray, "rows"],
) -> Float64[np.ndarray, "rows"]:
    """The bandwidth, between ``low`` and ``high``, that equals the error smoothed with it.

    Found by secants of the logarithms, as the error falls about like a power of the bandwidth. It
    never rises, so the answer lies between any bandwidth and its error: both bracket it, and where
    they agree within the tolerance, either is right within the tolerance.
    """
    answer, rows = high.copy(), np.flatnonzero(high > _TOLERANCE)
    spectrum, low, high = spectrum[rows], np.maximum(low[rows], _TOLERANCE / 2), high[rows]
    bandwidth, slope = high, np.full(len(rows), -1.5)
    last = None
    for _ in range(_MAX_STEPS):
        if not len(rows):
            break
        error = np.clip(_smoothed_error(spectrum, bandwidth), low, high)
        low = np.minimum(bandwidth, error)
        high = np.maximum(bandwidth, error)
        excess = np.log(error / bandwidth)
        if last is not None:
            with np.errstate(divide="ignore", invalid="ignore"):  # a step of 0 at the bracket's end
                slope = (excess - last[1]) / np.log(bandwidth / last[0])
            slope = np.where(slope < -1.0, slope, -1.0)
        answer[rows] = bandwidth
        off = high - low > _TOLERANCE
        last = (bandwidth[off], excess[off])
        spectrum, low, high, slope, rows = (a[off] for a in (spectrum, low, high, slope, rows))
        bandwidth = np.clip(last[0] * np.exp(-last[1] / slope), low, high)
    return answer


def smooth_ece_kernel(
    probs: Float64[np.ndarray, "inputs classes"], labels: Int64[np.ndarray, "inputs"]
) -> Kernel:
    """Kernel of `smooth_ece`."""
    matrix = _residual_matrix(*top_class(probs, labels))

    def kernel(
        weights: Float64[np.ndarray, "resamples inputs"],
    ) -> Float64[np.ndarray, "resamples"]:
        residual = np.ascontiguousarray(weights @ matrix) / weights.sum(axis=1, keepdims=True)
        # Smoothing keeps the sum, whose size is the least it can leave, and undoes what cancels.
        low, high = np.abs(residual.sum(axis=1)), np.abs(residual).sum(axis=1)
        spectrum = np.asarray(dct(residual, axis=1))
        return _fixed_point(spectrum, low, np.minimum(high, 1.0))

    return kernel


def smooth_ece(probs: Any, labels: Any) -> float:
    r"""Smooth calibration error: the gap between confidence and accuracy, without bins.

    .. math:: \text{smECE}_\sigma = \int_0^1 \Big| \frac{1}{N} \sum_n ([\hat y_n = y_n] - c_n)
              K_\sigma(c_n, t) \Big| \, dt, \qquad \text{smECE}_{\sigma^*} = \sigma^*,

    with :math:`c_n` the confidence (largest probability) of input n and :math:`K_\sigma` the
    Gaussian of standard deviation :math:`\sigma`, reflected at 0 and 1. The error falls as the
    bandwidth :math:`\sigma` grows; the value is the one bandwidth that equals its own error, so
    there is nothing to choose, and a small change of the confidences changes it little. Like any
    estimate of a calibration error it is biased upward on finite data.

    Residuals lie on 2,048 cells of width h, which moves the error at a bandwidth by at most about
    :math:`(h / 2 \sigma)^2`, and the value by no more than that. In practice it is far less: below
    2e-6 for values above 0.002. Values below about h, 0.0005, are rough.

    Source: Błasiok and Nakkiran 2023 (arXiv 2309.12236).

    Args:
        probs: Class probabilities (N, C), in [0, 1] and summing to 1 over classes.
        labels: True classes (N,), integers in [0, C).

    Returns:
        Calibration error, in [0, 1].

    Raises:
        ValueError: If ``probs`` or ``labels`` have wrong values or shapes.
        TypeError: If either holds anything but real numbers.

    Example:
        >>> round(smooth_ece([[0.75, 0.25], [0.75, 0.25], [0.0, 1.0]], [0, 0, 1]), 4)
        0.1667
    """
    probs, labels = check_classification(probs, labels)
    return unweighted(smooth_ece_kernel(probs, labels), len(labels))
