"""A score of features without any model of them: how far the nearest ones are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float64

from bbnn_uq._checks import check_count, check_seed
from bbnn_uq.ood_scores._features import FeatureScore, Scorer

__all__ = ["NearestNeighboursScore"]


class NearestNeighboursScore(FeatureScore):
    r"""Distance to the k-th nearest training input, between features of length 1.

    .. math:: s(f) = \lVert z - z_{(k)} \rVert_2, \qquad z = f / \lVert f \rVert_2,

    with :math:`z_{(k)}` the k-th nearest of the bank of training inputs. In [0, 2] for every
    network, so that the mean over networks weighs them alike. Features that are all 0 stay so.
    An input of the bank is its own nearest neighbour: score others.

    Source: Sun, Ming, Zhu and Li 2022 (arXiv 2204.06507), equation 3.

    Args:
        k: Which neighbour, at least 1; larger smooths more. The paper takes 50 of 50,000.
        bank_size: Training inputs to keep, drawn at random, since time and memory grow with
            them; None keeps all.
        seed: Of that draw, which is the same for all networks.

    Example:
        >>> score = NearestNeighboursScore(k=1).fit([[1.0, 0.0], [0.0, 5.0]])
        >>> score.score([[3.0, 0.0], [-1.0, 0.0]]).round(3)
        array([0.   , 1.414])
    """

    _ARRAYS: ClassVar = {"bank": 2}

    def __init__(self, k: int = 50, *, bank_size: int | None = None, seed: int = 0) -> None:
        super().__init__()
        self.k = check_count(k, "k")
        self.bank_size = None if bank_size is None else check_count(bank_size, "bank_size")
        self.seed = check_seed(seed)

    def __repr__(self) -> str:
        return f"NearestNeighboursScore(k={self.k}, bank_size={self.bank_size}, seed={self.seed})"

    def _options(self) -> dict[str, Any]:
        return {"k": self.k, "bank_size": self.bank_size, "seed": self.seed}

    def _learned(
        self, features: Float64[np.ndarray, "inputs features"], labels: Any
    ) -> dict[str, np.ndarray]:
        del labels  # neighbours are of any class
        if self.bank_size is not None and self.bank_size < len(features):
            generator = np.random.default_rng(self.seed)
            kept = generator.choice(len(features), self.bank_size, replace=False)
            features = features[np.sort(kept)]
        if len(features) < self.k:
            raise ValueError(
                f"k={self.k} needs as many training inputs, got {len(features)}; take a smaller k "
                "(of a few hundred inputs about 10), or a larger bank_size where one is set"
            )
        return {"bank": _of_length_one(features)}

    def _scorer(self, learned: Mapping[str, np.ndarray]) -> Scorer:
        from sklearn.neighbors import NearestNeighbors  # late: it takes a second to load

        index = NearestNeighbors(n_neighbors=self.k).fit(learned["bank"])
        return lambda x: np.ascontiguousarray(index.kneighbors(_of_length_one(x))[0][:, -1])


def _of_length_one(
    features: Float64[np.ndarray, "inputs features"],
) -> Float64[np.ndarray, "inputs features"]:
    largest = np.abs(features).max(axis=1, keepdims=True)  # first, or squares leave their range
    scaled = features / np.where(largest > 0.0, largest, 1.0)
    length = np.sqrt(np.einsum("nd,nd->n", scaled, scaled))
    return scaled / np.where(length > 0.0, length, 1.0)[:, None]
