"""Dirichlet calibration: a full linear map of log-probabilities, held back off its diagonal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from bbnn_uq._checks import check_real, check_seed
from bbnn_uq.recalibration._base import (
    Recalibration,
    check_labelled,
    require_labels,
    stored_array,
)
from bbnn_uq.recalibration._linear import (
    fit_linear,
    identity,
    linear_probs,
    log_probs,
    mean_nll,
)

__all__ = ["DirichletCalibration"]

_PENALTIES = (1e3, 1e2, 1e1, 1e0, 1e-1, 1e-2)
_FOLDS = 5
# With so many inputs for each parameter the penalty hardly matters, so no more are needed to
# choose it.
_CHOICE_INPUTS_PER_PARAMETER = 100


def _check_penalty(value: Any, name: str) -> float | None:
    return None if value is None else check_real(value, name, minimum=0.0)


def _choose_penalty(
    logs: Float64[np.ndarray, "classes inputs"],
    labels: Int64[np.ndarray, "inputs"],
    intercept_penalty: float | None,
    seed: int,
) -> float:
    """The penalty of the lowest NLL on folds that were left out; the stronger one on ties."""
    num_classes = len(logs)
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[: _CHOICE_INPUTS_PER_PARAMETER * num_classes * (num_classes + 1)]
    losses = np.zeros(len(_PENALTIES))
    for fold in range(_FOLDS):
        held_out = np.arange(len(order)) % _FOLDS == fold
        rest, tested = order[~held_out], order[held_out]
        found = identity(num_classes, diagonal=False)
        for number, penalty in enumerate(_PENALTIES):  # each starts from the one before
            found = fit_linear(
                logs[:, rest],
                labels[rest],
                found,
                off_diagonal_penalty=penalty,
                intercept_penalty=penalty if intercept_penalty is None else intercept_penalty,
            )
            losses[number] += mean_nll(logs[:, tested], labels[tested], *found)[0] * len(tested)
    return _PENALTIES[int(losses.argmin())]


class DirichletCalibration(Recalibration):
    r"""Maps log-probabilities linearly, each class from all, with penalties that hold it back.

    .. math:: q = \mathrm{softmax}(W \ln \max(p, 10^{-12}) + b), \qquad
              \min_{W, b}\ \mathrm{NLL} + \frac{\lambda}{C (C - 1)} \sum_{i \ne j} W_{ij}^2
              + \frac{\mu}{C} \sum_j b_j^2.

    It can also mend which classes are taken for which. Its C² + C parameters would overfit; λ and μ
    pull it towards a weight of each class for itself (off-diagonal and intercept regularisation,
    ODIR). Left out, they are equal, and chosen by 5-fold cross-validation of the NLL on the fitting
    split among the powers of ten from 0.01 to 1,000. That takes seconds for 10 classes and minutes
    for 100.

    As in `VectorScaling`, there is a normal prior of standard deviation 1 around W = I, b = 0,
    which fades as 1/N, and probabilities below 1e-12 count as 1e-12.

    Source: Kull et al. 2019 (arXiv 1910.12656); the prior is ours.

    Args:
        off_diagonal_penalty: λ, at least 0; None to choose it.
        intercept_penalty: μ, at least 0; None to let it be λ.
        seed: Decides the folds.

    Attributes:
        weights_: Weights W (C, C), row c for the score of class c.
        intercepts_: Intercepts b (C,); they sum to 0.
        off_diagonal_penalty_: The λ that was taken.
        num_classes_: Number of classes C that it was fitted on.

    Example:
        >>> generator = np.random.default_rng(0)
        >>> probs = generator.dirichlet([0.5, 0.5, 0.5], 500)
        >>> labels = [generator.choice([1, 0, 2], p=row) for row in probs]  # 0 and 1 swapped
        >>> DirichletCalibration().fit(probs, labels).transform([[0.8, 0.1, 0.1]]).round(1)
        array([[0.1, 0.8, 0.1]])
    """

    method = "dirichlet_calibration"

    weights_: Float64[np.ndarray, "classes classes"]
    intercepts_: Float64[np.ndarray, "classes"]
    off_diagonal_penalty_: float

    def __init__(
        self,
        *,
        off_diagonal_penalty: Any = None,
        intercept_penalty: Any = None,
        seed: Any = 0,
    ) -> None:
        self.off_diagonal_penalty = _check_penalty(off_diagonal_penalty, "off_diagonal_penalty")
        self.intercept_penalty = _check_penalty(intercept_penalty, "intercept_penalty")
        self.seed = check_seed(seed)

    def fit(self, probs: Any, labels: Any) -> DirichletCalibration:
        """Find weights and intercepts, and the penalties where they were not given.

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
        require_labels("DirichletCalibration", labels, num_classes)
        logs = log_probs(array)
        penalty = self.off_diagonal_penalty
        if penalty is None:
            penalty = _choose_penalty(logs, labels, self.intercept_penalty, self.seed)
        self.weights_, self.intercepts_ = fit_linear(
            logs,
            labels,
            identity(num_classes, diagonal=False),
            off_diagonal_penalty=penalty,
            intercept_penalty=penalty if self.intercept_penalty is None else self.intercept_penalty,
        )
        self.off_diagonal_penalty_ = penalty
        self.num_classes_ = num_classes
        return self

    def _transform_rows(
        self, probs: Float64[np.ndarray, "inputs classes"]
    ) -> Float64[np.ndarray, "inputs classes"]:
        return linear_probs(log_probs(probs), self.weights_, self.intercepts_).T

    def _state(self) -> dict[str, Any]:
        return {
            "weights": self.weights_.tolist(),
            "intercepts": self.intercepts_.tolist(),
            "off_diagonal_penalty": self.off_diagonal_penalty_,
        }

    def _restore(self, values: Mapping[str, Any]) -> None:
        size = self.num_classes_
        self.weights_ = stored_array(values, "weights", (size, size))
        self.intercepts_ = stored_array(values, "intercepts", (size,))
        self.off_diagonal_penalty_ = check_real(
            values["off_diagonal_penalty"], "off_diagonal_penalty", minimum=0.0
        )
