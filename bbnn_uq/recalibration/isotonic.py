"""Isotonic calibration: a rising step function for each class, mixed with what there was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from scipy.optimize import root_scalar

from bbnn_uq._checks import check_real, check_real_array, check_seed
from bbnn_uq.recalibration._base import Recalibration, check_labelled, require_labels

__all__ = ["IsotonicCalibration"]

_FOLDS = 5

# A rising function as its corners (probability, frequency), with straight lines between them.
_Curve = tuple[Float64[np.ndarray, "_"], Float64[np.ndarray, "_"]]


def _fit_curves(
    probs: Float64[np.ndarray, "inputs classes"], labels: Int64[np.ndarray, "inputs"]
) -> tuple[_Curve, ...]:
    """For each class the rising function of its probability that fits its frequency best."""
    # Here, since scikit-learn takes a second to import.
    from sklearn.isotonic import IsotonicRegression

    curves = []
    for number in range(probs.shape[1]):
        fitted = IsotonicRegression(y_min=0.0, y_max=1.0).fit(probs[:, number], labels == number)
        curves.append((fitted.X_thresholds_, fitted.y_thresholds_))
    return tuple(curves)


def _apply_curves(
    curves: Sequence[_Curve], probs: Float64[np.ndarray, "inputs classes"]
) -> Float64[np.ndarray, "inputs classes"]:
    """Each class by its curve, flat beyond the ends, then normalised; all 0 leaves a row as is."""
    result = np.empty_like(probs)
    for number, (corners, values) in enumerate(curves):
        result[:, number] = np.interp(probs[:, number], corners, values)
    totals = result.sum(axis=1, keepdims=True)
    return np.where(totals > 0.0, result / np.where(totals > 0.0, totals, 1.0), probs)


def _best_share(
    curved: Float64[np.ndarray, "inputs"], plain: Float64[np.ndarray, "inputs"]
) -> float:
    """The share a in [0, 1] of the lowest mean of -ln(a curved + (1 - a) plain), convex in a."""
    possible = (curved > 0.0) | (plain > 0.0)  # else infinite at every share
    curved, plain = curved[possible], plain[possible]

    def slope(share: float) -> float:
        with np.errstate(divide="ignore"):  # infinite where a label has probability 0
            return float(((plain - curved) / (share * curved + (1.0 - share) * plain)).mean())

    if slope(1.0) <= 0.0:
        return 1.0
    if slope(0.0) >= 0.0:
        return 0.0
    # By signs alone, since slopes may be infinite.
    return root_scalar(slope, bracket=(0.0, 1.0), method="bisect", xtol=1e-12).root


class IsotonicCalibration(Recalibration):
    r"""Maps the probability of each class by a rising step function of its own, then normalises.

    .. math:: q_c = a\, \frac{r_c(p_c)}{\sum_k r_k(p_k)} + (1 - a)\, p_c,

    where :math:`r_c` is the isotonic regression of "the label is c" on the probability of c; where
    all are 0, a row stays as it is. It takes miscalibration of any shape, and pays with more
    inputs; it may change which class is the most probable, and makes ties.

    Alone (a = 1) the curves would give probability 0 to whatever the fitting split did not show,
    and an infinite NLL to the first such label. Hence a is the share of the lowest NLL on inputs
    that the curves were not fitted on (5 folds). It is at most N / (N + 1), and at most the share
    that is best on the whole fitting split, so that it is not worse there than no calibration.

    Source: Zadrozny and Elkan 2002, "Transforming classifier scores into accurate multiclass
    probability estimates"; the mixture with the identity is ours.

    Args:
        seed: Decides the folds.

    Attributes:
        share_: The share a, in [0, 1].
        curves_: For each class the corners of its function: probabilities and frequencies.
        num_classes_: Number of classes C that it was fitted on.

    Example:
        >>> probs, labels = [[0.9, 0.1], [0.2, 0.8]] * 400, [0, 1, 1, 1, 0, 1, 1, 0] * 100
        >>> IsotonicCalibration().fit(probs, labels).transform([[0.9, 0.1], [0.2, 0.8]]).round(2)
        array([[0.5 , 0.5 ],
               [0.25, 0.75]])
    """

    method = "isotonic_calibration"

    share_: float
    curves_: tuple[_Curve, ...]

    def __init__(self, *, seed: Any = 0) -> None:
        self.seed = check_seed(seed)

    def fit(self, probs: Any, labels: Any) -> IsotonicCalibration:
        """Find the functions and their share.

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
        num_inputs, num_classes = array.shape
        require_labels("IsotonicCalibration", labels, num_classes)
        plain = array[np.arange(num_inputs), labels]
        curves = _fit_curves(array, labels)
        of_label = np.arange(num_inputs), labels
        best_here = _best_share(_apply_curves(curves, array)[of_label], plain)

        unseen = np.empty(num_inputs)
        folds = np.random.default_rng(self.seed).permutation(num_inputs) % _FOLDS
        for fold in range(_FOLDS):
            tested = np.flatnonzero(folds == fold)
            others = _fit_curves(array[folds != fold], labels[folds != fold])
            curved = _apply_curves(others, array[tested])
            unseen[tested] = curved[np.arange(len(tested)), labels[tested]]
        # Laplace's rule: N labels that the curves allow do not tell that the next one will be.
        at_most = num_inputs / (num_inputs + 1)
        self.share_ = min(best_here, _best_share(unseen, plain), at_most)
        self.curves_ = curves
        self.num_classes_ = num_classes
        return self

    def _transform_rows(
        self, probs: Float64[np.ndarray, "inputs classes"]
    ) -> Float64[np.ndarray, "inputs classes"]:
        mixed = self.share_ * _apply_curves(self.curves_, probs) + (1.0 - self.share_) * probs
        return mixed / mixed.sum(axis=1, keepdims=True)

    def _state(self) -> dict[str, Any]:
        curves = [{"x": x.tolist(), "y": y.tolist()} for x, y in self.curves_]
        return {"share": self.share_, "curves": curves}

    def _restore(self, values: Mapping[str, Any]) -> None:
        self.share_ = check_real(values["share"], "share", minimum=0.0)
        if self.share_ > 1.0:
            raise ValueError(f"share must be at most 1, got {self.share_:g}")
        curves = values["curves"]
        if len(curves) != self.num_classes_:
            raise ValueError(f"curves must be {self.num_classes_}, one a class, got {len(curves)}")
        self.curves_ = tuple(
            (check_real_array(curve["x"], "x"), check_real_array(curve["y"], "y"))
            for curve in curves
        )
        for x, y in self.curves_:
            rises = (np.diff(x) >= 0.0).all() and (np.diff(y) >= 0.0).all()
            if x.ndim != 1 or x.shape != y.shape or not rises or y[0] < 0.0 or y[-1] > 1.0:
                raise ValueError("curves must rise, with as many y, in [0, 1], as x")
