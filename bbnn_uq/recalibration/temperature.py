"""Temperature scaling: one number that makes all probabilities softer or sharper."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from scipy.optimize import root_scalar

from bbnn_uq._checks import check_real
from bbnn_uq._rows import row_blocks
from bbnn_uq.recalibration._base import MIN_LABELS, Recalibration, check_labelled

__all__ = ["TemperatureScaling"]

# Between these the NLL is minimised. At 0.05 two probabilities whose ratio is 2 become 1 and 1e-6,
# at 100 two whose ratio is e^100 become 0.73 and 0.27: no split says more than that.
_MIN_TEMPERATURE, _MAX_TEMPERATURE = 0.05, 100.0

# Stands for ln 0: its exponential is 0 at each of these temperatures, and 0 times it is 0, not NaN.
_LOG_ZERO = -1e300


def _log_ratios(
    probs: Float64[np.ndarray, "inputs classes"],
) -> Float64[np.ndarray, "classes inputs"]:
    """Each ln p minus the largest of its row, class by input: fast to sum over a few classes."""
    result = np.empty(probs.shape[::-1])
    with np.errstate(divide="ignore"):  # ln 0 = -inf is meant
        for block in row_blocks(probs):
            part = np.log(probs[block].T, out=result[:, block])
            part -= part.max(axis=0)
            np.maximum(part, _LOG_ZERO, out=part)
    return result


def _slope(
    ratios: Float64[np.ndarray, "classes inputs"],
    label_mean: float,
    inverse_temperature: float,
) -> float:
    """Derivative of the mean NLL by the inverse temperature: mean ln p expected, minus found."""
    total = 0.0
    for block in row_blocks(ratios, axis=1):
        part = ratios[:, block]
        weights = inverse_temperature * part
        np.exp(weights, out=weights)
        normalisers = weights.sum(axis=0)
        weights *= part
        total += float((weights.sum(axis=0) / normalisers).sum())
    return total / ratios.shape[1] - label_mean


def _fit_temperature(
    probs: Float64[np.ndarray, "inputs classes"], labels: Int64[np.ndarray, "inputs"]
) -> float:
    """The temperature of the lowest NLL, within the bounds; labels have positive probability."""
    ratios = _log_ratios(probs)
    label_mean = float(ratios[labels, np.arange(len(labels))].mean())

    # By its logarithm, on which the slope is steep nowhere. The slope rises: the NLL is convex.
    def slope(log_inverse: float) -> float:
        return _slope(ratios, label_mean, float(np.exp(log_inverse)))

    low, high = -np.log(_MAX_TEMPERATURE), -np.log(_MIN_TEMPERATURE)
    if slope(low) == slope(high):  # uniform rows, or sure ones: every temperature does the same
        return 1.0
    if slope(high) <= 0.0:
        return _MIN_TEMPERATURE
    if slope(low) >= 0.0:
        return _MAX_TEMPERATURE
    return float(np.exp(-root_scalar(slope, bracket=(low, high), xtol=1e-12, rtol=1e-12).root))


class TemperatureScaling(Recalibration):
    r"""Divides log-probabilities by one temperature, that of the lowest NLL on the fitting split.

    .. math:: q_c = \frac{p_c^{1/T}}{\sum_k p_k^{1/T}}, \qquad
              T = \arg\min_T -\frac{1}{N} \sum_n \ln q_{n y_n}.

    The NLL is convex in 1/T, so that there is one minimum; it is taken within [0.05, 100]. A split
    without a single error wants T = 0, and one on which probable classes are the rarer ones wants
    more than infinity: both stop at the bound, and say that the split cannot tell how sure to be.
    The order of the classes is kept, and with it the accuracy (only rounding makes ties), and so
    are zeros. Where no temperature changes anything T is 1.

    A label with probability 0 keeps an infinite NLL whatever T is, so that it cannot tell
    temperatures apart: T is fitted on the other inputs, with a warning. The most overconfident
    inputs are then the ones that do not count; probabilities of more precision, such as a softmax
    in float64, avoid it, and `VectorScaling` has a floor under them.

    Source: Guo, Pleiss, Sun and Weinberger 2017 (arXiv 1706.04599).

    Attributes:
        temperature_: The temperature T; above 1 it makes probabilities softer.
        num_classes_: Number of classes that it was fitted on.

    Example:
        >>> probs = [[0.9, 0.1]] * 12
        >>> scaling = TemperatureScaling().fit(probs, [0, 0, 0, 1] * 3)
        >>> round(scaling.temperature_, 3)  # ln 9 / ln 3, since 3 of 4 are right
        2.0
        >>> scaling.transform([[0.9, 0.1], [1.0, 0.0]]).round(3)
        array([[0.75, 0.25],
               [1.  , 0.  ]])
    """

    def __repr__(self) -> str:
        fitted = f"temperature={self.temperature_:.4g}" if hasattr(self, "temperature_") else ""
        return f"TemperatureScaling({fitted})"

    method = "temperature_scaling"

    temperature_: float

    def fit(self, probs: Any, labels: Any) -> TemperatureScaling:
        """Find the temperature.

        Args:
            probs: Class probabilities (N, C), in [0, 1] and summing to 1 over classes; at least 10
                inputs, and the error of ln T falls as 1/√N.
            labels: True classes (N,), integers in [0, C).

        Returns:
            Itself, fitted.

        Raises:
            ValueError: If an argument has wrong values or shapes, there are fewer than 10 inputs,
                or every label has probability 0.
            TypeError: If an array holds anything but real numbers.
        """
        array, labels = check_labelled(probs, labels)
        possible = array[np.arange(len(labels)), labels] > 0.0
        left_out = len(labels) - int(possible.sum())
        if left_out == len(labels):
            raise ValueError(
                "probs must give some label a probability above 0, got 0 for each of them; "
                "check that labels and classes are numbered alike"
            )
        if len(labels) - left_out < MIN_LABELS:
            raise ValueError(
                f"TemperatureScaling needs at least {MIN_LABELS} inputs whose label has a "
                f"probability above 0, got {len(labels) - left_out}; label more inputs"
            )
        if left_out:
            warnings.warn(
                f"{left_out} of {len(labels)} labels have probability 0, whose NLL is infinite at "
                "every temperature: fitted on the other inputs. Take probabilities of more "
                "precision (a softmax in float64), or VectorScaling, which has a floor",
                stacklevel=2,
            )
            array, labels = array[possible], labels[possible]
        self.temperature_ = _fit_temperature(array, labels)
        self.num_classes_ = array.shape[1]
        return self

    def _transform_rows(
        self, probs: Float64[np.ndarray, "inputs classes"]
    ) -> Float64[np.ndarray, "inputs classes"]:
        weights = _log_ratios(probs)
        weights /= self.temperature_
        np.exp(weights, out=weights)
        weights /= weights.sum(axis=0)
        return weights.T

    def _state(self) -> dict[str, Any]:
        return {"temperature": self.temperature_}

    def _restore(self, values: Mapping[str, Any]) -> None:
        self.temperature_ = check_real(values["temperature"], "temperature", above=0.0)
