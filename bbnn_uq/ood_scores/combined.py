"""Several scores in one, weighted by what in-distribution inputs say of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy.linalg import solve_triangular
from scipy.optimize import nnls

from bbnn_uq._checks import check_scores
from bbnn_uq.ood_scores._gaussians import shrunk
from bbnn_uq.ood_scores._stored import StoredScore, not_fitted

__all__ = ["CombinedScore"]

_ROUNDING = 1e-12  # relative to the largest score: a smaller spread is none


class CombinedScore(StoredScore):
    r"""The weighted sum of scores that stands out most if all of them rise alike.

    .. math:: s = \sum_k w_k \frac{s_k - m_k}{d_k}, \qquad w \propto \arg\min_{w \ge 0}
              \tfrac12 w^\top R\, w - 1^\top w,

    with the mean :math:`m_k` and standard deviation :math:`d_k` of each score and the correlations
    R among them, all on ID inputs, and w scaled so that s has mean 0 and variance 1 there. Where
    no weight would be negative, :math:`w \propto R^{-1} 1`: scores that say the same share one
    weight, and one that says something else gets more.

    Why these: if an OOD input raised every standardised score by the same amount, this is the sum
    that it would raise most, in its own standard deviations: the one where
    :math:`w^\top 1 / \sqrt{w^\top R w}` is largest. No OOD input is seen, hence nothing is tuned to
    one kind of them; the price is that a score which is bad on the OOD inputs to come counts as
    much as a good one, so leave out scores that you do not believe in. Weights stay at or above
    0, since no score may speak against its own alarm. The standard deviation is used rather than
    a robust spread: that would be 0 where most ID inputs agree, as in ``variation_ratio``, and a
    score whose ID values have a heavy tail, which is where its false alarms are, should count
    less. R is shrunk by a little (Chen, Wiesel, Eldar and Hero 2010, arXiv 0907.4698), so that
    equal scores share alike.

    Source: O'Brien 1984, "Procedures for comparing samples with multiple endpoints", generalised
    least squares; the bound at 0 is ours.

    Attributes:
        weights: Name of a score → w_k ≥ 0, of the standardised score; 0 for a score that is
            constant on ID inputs.

    Example:
        >>> twice = CombinedScore().fit({"a": [0.0, 2.0], "b": [1.0, 5.0]})
        >>> twice.weights
        {'a': 0.5, 'b': 0.5}
        >>> twice.score({"a": [1.0, 3.0], "b": [3.0, 7.0]})
        array([0., 2.])
    """

    def __init__(self) -> None:
        self.weights: dict[str, float] = {}
        self._location = self._spread = np.empty(0)

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}: {weight:.3f}" for name, weight in self.weights.items())
        return f"CombinedScore({inside or 'not fitted'})"

    def fit(self, outputs: Any, labels: Any = None) -> CombinedScore:
        """Weigh scores by their spread and correlations on ID inputs.

        Args:
            outputs: Name → scores (N,) of the same N ID inputs, higher meaning more OOD. Take
                inputs that no score was fitted on: those look more ID than others do.
            labels: Not used.

        Returns:
            The score itself.

        Raises:
            ValueError: If scores are wrong or differ in length, all of them are constant, or they
                cancel.
            TypeError: If ``outputs`` is no mapping, or holds anything but real numbers.
        """
        del labels
        scores = _stacked(outputs, None)
        if scores.shape[1] < 2:
            raise ValueError("outputs has scores of 1 input; their spread needs at least 2")
        with np.errstate(over="ignore"):
            location, spread = scores.mean(axis=1), scores.std(axis=1)
        for name, wide in zip(outputs, ~np.isfinite(location + spread), strict=True):
            if wide:
                raise ValueError(
                    f"outputs[{name!r}] has a spread beyond the range of floats; divide it by a "
                    "constant"
                )
        varies = spread > _ROUNDING * np.abs(scores).max(axis=1)
        if not varies.any():
            raise ValueError(
                "outputs has only scores that are constant over ID inputs; there is nothing to "
                "weigh, pass scores that vary"
            )
        standard = (scores[varies] - location[varies, None]) / spread[varies, None]
        weights = np.zeros(len(scores))
        weights[varies] = _weights(standard)
        self._location, self._spread = location, np.where(varies, spread, 1.0)
        self.weights = dict(zip(outputs, weights.tolist(), strict=True))
        return self

    def score(self, outputs: Any) -> Float64[np.ndarray, " inputs"]:
        """The weighted sum, (M,): 0 on average over ID inputs, in their standard deviations.

        Args:
            outputs: Name → scores (M,) of the same M inputs, by the names of `fit` in any order.

        Raises:
            ValueError: If the score is not fitted, names are missing or unknown, or scores are
                wrong.
            TypeError: If ``outputs`` is no mapping, or holds anything but real numbers.
        """
        if not self.weights:
            raise not_fitted(self)
        scores = _stacked(outputs, list(self.weights))
        standard = (scores - self._location[:, None]) / self._spread[:, None]
        return np.einsum("k,kn->n", list(self.weights.values()), standard)

    def _options(self) -> dict[str, Any]:
        return {}

    def _to_arrays(self) -> dict[str, np.ndarray]:
        if not self.weights:
            raise not_fitted(self)
        return {
            "names": np.array(list(self.weights)),
            "weights": np.array(list(self.weights.values())),
            "location": self._location,
            "spread": self._spread,
        }

    def _set_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        names = arrays["names"].tolist()
        numbers = np.stack([arrays[key] for key in ("weights", "location", "spread")])
        if numbers.shape != (3, len(names)) or numbers.dtype != np.float64:
            raise ValueError("arrays are of wrong shapes or types")
        self.weights = dict(zip(names, numbers[0].tolist(), strict=True))
        self._location, self._spread = numbers[1], numbers[2]


def _stacked(outputs: Any, names: list[str] | None) -> Float64[np.ndarray, "scores inputs"]:
    """Scores in the order of ``names``, or in their own."""
    if not isinstance(outputs, Mapping):
        raise TypeError(
            f"outputs must map names to scores (N,), got {type(outputs).__name__}; "
            "pass {'entropy': …, 'mahalanobis': …}"
        )
    wanted = list(outputs) if names is None else names
    if not wanted or set(wanted) != set(outputs):
        expected = "at least one score" if names is None else f"the scores {', '.join(wanted)}"
        raise ValueError(f"outputs must hold {expected}, got {', '.join(outputs) or 'none'}")
    arrays = [check_scores(outputs[name], f"outputs[{name!r}]") for name in wanted]
    lengths = {len(array) for array in arrays}
    if len(lengths) > 1:
        raise ValueError(
            f"outputs must hold scores of the same inputs, got {sorted(lengths)} of them"
        )
    return np.stack(arrays)


def _weights(
    standard: Float64[np.ndarray, "scores inputs"],
) -> Float64[np.ndarray, " scores"]:
    """The w ≥ 0 that minimises ½ wᵀ R w − 1ᵀ w, scaled to a sum of variance 1."""
    count = standard.shape[1]
    correlation = standard @ standard.T / count
    # With R = L Lᵀ that is ½ ‖Lᵀ w − L⁻¹ 1‖² and a constant: least squares.
    factor = np.linalg.cholesky(shrunk(correlation, count, 1.0))
    target = solve_triangular(factor, np.ones(len(standard)), lower=True)
    weights, _ = nnls(factor.T, target)
    variance = float(weights @ correlation @ weights)
    if variance <= _ROUNDING * float(weights.sum()) ** 2:
        raise ValueError(
            "outputs has scores that cancel on ID inputs, one falling as another rises; all of "
            "them must be higher for inputs that look more OOD, so negate what is not"
        )
    return weights / np.sqrt(variance)
