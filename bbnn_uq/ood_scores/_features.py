"""What all scores of features have in common: one fit per network, blocks of inputs, the mean."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np
from jaxtyping import Float64, Int64

from bbnn_uq._checks import check_labels, check_real_array
from bbnn_uq._rows import row_blocks
from bbnn_uq.ood_scores._stored import StoredScore, not_fitted

__all__ = ["FeatureScore", "Scorer", "check_classes"]

_Score = TypeVar("_Score", bound="FeatureScore")
Scorer = Callable[[Float64[np.ndarray, "inputs features"]], Float64[np.ndarray, " inputs"]]


class FeatureScore(StoredScore):
    """A score of features (N, D), or the mean of one of each network, of features (S, N, D)."""

    _ARRAYS: ClassVar[dict[str, int]]
    """What is learned of one network: names and numbers of axes; the first one's last axis is D."""

    def __init__(self) -> None:
        self._networks: list[dict[str, np.ndarray]] = []

    @abstractmethod
    def _learned(
        self, features: Float64[np.ndarray, "inputs features"], labels: Any
    ) -> dict[str, np.ndarray]:
        """What is learned of one network."""

    @abstractmethod
    def _scorer(self, learned: Mapping[str, np.ndarray]) -> Scorer:
        """Scores of blocks of inputs under one network."""

    def fit(self: _Score, outputs: Any, labels: Any = None) -> _Score:
        """Learn what features of in-distribution inputs look like, for each network apart.

        Args:
            outputs: Features (N, D), or (S, N, D) of the same inputs under S networks; finite.
            labels: Classes (N,), integers from 0; a class that none has is no class. Not used by
                scores that know no classes.

        Returns:
            The score itself.

        Raises:
            ValueError: If shapes or values are wrong, or there is too little to learn from.
            TypeError: If anything but real numbers is given.
        """
        networks = _networks_of(outputs)
        self._networks = [
            self._learned(_check_features(each, name), labels) for name, each in networks.items()
        ]
        return self

    def score(self, outputs: Any) -> Float64[np.ndarray, " inputs"]:
        """Score of each input; higher means more out-of-distribution.

        Args:
            outputs: Features (N, D), or (S, N, D) under the networks of `fit`, in their order.

        Returns:
            Scores (N,), the mean over networks.

        Raises:
            ValueError: If the score is not fitted, or features are not as those of `fit`.
            TypeError: If anything but real numbers is given.
        """
        if not self._networks:
            raise not_fitted(self)
        networks = _networks_of(outputs)
        if len(networks) != len(self._networks):
            raise ValueError(
                f"outputs holds features of {len(networks)} networks, and the score was fitted on "
                f"those of {len(self._networks)}; pass (S, N, D) of the same networks"
            )
        total = None
        for (name, each), learned in zip(networks.items(), self._networks, strict=True):
            scores = self._scores(_check_features(each, name), learned, name)
            total = scores if total is None else total + scores
        assert total is not None
        return total / len(networks)

    def _scores(
        self,
        features: Float64[np.ndarray, "inputs features"],
        learned: Mapping[str, np.ndarray],
        name: str,
    ) -> Float64[np.ndarray, " inputs"]:
        width = learned[next(iter(self._ARRAYS))].shape[-1]
        if features.shape[1] != width:
            raise ValueError(
                f"{name} has {features.shape[1]} features, and the score was fitted on {width}; "
                "take both from the same layer"
            )
        scorer, scores = self._scorer(learned), np.empty(len(features))
        for block in row_blocks(features):
            scores[block] = scorer(features[block])
        return scores

    def _to_arrays(self) -> dict[str, np.ndarray]:
        if not self._networks:
            raise not_fitted(self)
        return {key: np.stack([each[key] for each in self._networks]) for key in self._ARRAYS}

    def _set_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        kinds = {key: (a.ndim - 1, a.dtype.name) for key, a in arrays.items()}
        counts = {len(a) for a in arrays.values()}
        if kinds != {key: (n, "float64") for key, n in self._ARRAYS.items()} or len(counts) != 1:
            raise ValueError("arrays are of wrong names, shapes or types")
        first = arrays[next(iter(self._ARRAYS))]
        num_classes, width = first.shape[-2:]
        for key, array in arrays.items():
            if "factor" in key:  # triangular, with a positive diagonal
                fits = array.shape[-2:] == (width, width)
                fits = fits and bool((np.diagonal(array, axis1=-2, axis2=-1) > 0.0).all())
            else:
                fits = array.shape[-1] == (num_classes if key == "log_weights" else width)
            if not fits or array.size == 0 or not np.isfinite(array).all():
                raise ValueError(f"array {key!r} is damaged")
        count = counts.pop()
        self._networks = [{key: a[s] for key, a in arrays.items()} for s in range(count)]


def check_classes(
    features: Float64[np.ndarray, "inputs features"], labels: Any, score: str
) -> tuple[Int64[np.ndarray, " inputs"], Int64[np.ndarray, " classes"]]:
    """The place (N,) of each input's class among those that occur, and these classes' sizes.

    Raises:
        ValueError: There are no labels, or they are wrong, or a class has a single input.
    """
    if labels is None:
        raise ValueError(f"labels is missing: {score} is fitted by class; pass those of the inputs")
    size = float(np.abs(features).max())
    if size and not 1e-100 < size < 1e100:
        raise ValueError(
            f"outputs has features of up to {size:.3g}, whose squares leave the range of floats; "
            "divide them by a constant"
        )
    array = check_real_array(labels, "labels")
    largest = max(0, int(array.max()))
    array = check_labels(array, num_inputs=len(features), num_classes=largest + 1)
    classes, where, counts = np.unique(array, return_inverse=True, return_counts=True)
    if counts.min() < 2:
        raise ValueError(
            f"labels has a single input of class {classes[counts.argmin()]}, and a class needs at "
            "least 2 to show how far its inputs spread; add some or leave the class out"
        )
    return where.astype(np.int64), counts.astype(np.int64)


def _networks_of(outputs: Any) -> dict[str, Any]:
    """Features of single networks, by the names that they have in errors."""
    array = outputs if hasattr(outputs, "ndim") else check_real_array(outputs, "outputs")
    if array.ndim not in (2, 3) or len(array) == 0:
        raise ValueError(
            "outputs must be features of shape (N, D), or (S, N, D) of S networks, got "
            f"{tuple(array.shape)}"
        )
    # One network is converted to float64 at a time.
    return {"outputs": array} if array.ndim == 2 else {f"outputs[{s}]": a for s, a in _items(array)}


def _items(array: Any) -> enumerate[Any]:
    return enumerate(array[s] for s in range(len(array)))


def _check_features(features: Any, name: str) -> Float64[np.ndarray, "inputs features"]:
    return check_real_array(features, name)
