"""Vector scaling: a weight and an intercept for the log-probability of each class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float64

from bbnn_uq.recalibration._base import (
    Recalibration,
    check_labelled,
    require_labels,
    stored_array,
)
from bbnn_uq.recalibration._linear import fit_linear, identity, linear_probs, log_probs

__all__ = ["VectorScaling"]


class VectorScaling(Recalibration):
    r"""Scales and shifts the log-probability of each class: temperature scaling for each class.

    .. math:: q = \mathrm{softmax}(w_c \ln \max(p_c, 10^{-12}) + b_c), \qquad
              \min_{w, b}\ \mathrm{NLL} + \frac{1}{2N} \sum_c \big( (w_c - 1)^2 + b_c^2 \big).

    It mends a network that is too sure of some classes, or has learnt other class frequencies; it
    may change which class is the most probable.

    The second term, ours, is a normal prior of standard deviation 1 around the identity. It fades
    as N grows, makes the minimum unique, and keeps it finite where labels can be told apart
    without an error. Probabilities below 1e-12 count as 1e-12: a logarithm needs a floor, and no
    split could measure less.

    Source: Guo, Pleiss, Sun and Weinberger 2017 (arXiv 1706.04599).

    Attributes:
        weights_: Weights w (C,).
        intercepts_: Intercepts b (C,); they sum to 0.
        num_classes_: Number of classes C that it was fitted on.

    Example:
        >>> probs, labels = [[0.9, 0.1], [0.2, 0.8]] * 400, [0, 1, 0, 0, 1, 1, 0, 0] * 100
        >>> VectorScaling().fit(probs, labels).transform([[0.9, 0.1], [0.2, 0.8]]).round(2)
        array([[0.75, 0.25],
               [0.5 , 0.5 ]])
    """

    method = "vector_scaling"

    weights_: Float64[np.ndarray, "classes"]
    intercepts_: Float64[np.ndarray, "classes"]

    def fit(self, probs: Any, labels: Any) -> VectorScaling:
        """Find weights and intercepts.

        Args:
            probs: Class probabilities (N, C), in [0, 1] and summing to 1 over classes; at least 10
                inputs for each class on average.
            labels: True classes (N,), integers in [0, C); at least one of every class.

        Returns:
            Itself, fitted.

        Raises:
            ValueError: If an argument has wrong values or shapes, or there are too few labels.
            TypeError: If an array holds anything but real numbers.
        """
        array, labels = check_labelled(probs, labels)
        num_classes = array.shape[1]
        require_labels("VectorScaling", labels, num_classes)
        start = identity(num_classes, diagonal=True)
        self.weights_, self.intercepts_ = fit_linear(log_probs(array), labels, start)
        self.num_classes_ = num_classes
        return self

    def _transform_rows(
        self, probs: Float64[np.ndarray, "inputs classes"]
    ) -> Float64[np.ndarray, "inputs classes"]:
        return linear_probs(log_probs(probs), self.weights_, self.intercepts_).T

    def _state(self) -> dict[str, Any]:
        return {"weights": self.weights_.tolist(), "intercepts": self.intercepts_.tolist()}

    def _restore(self, values: Mapping[str, Any]) -> None:
        self.weights_ = stored_array(values, "weights", (self.num_classes_,))
        self.intercepts_ = stored_array(values, "intercepts", (self.num_classes_,))
