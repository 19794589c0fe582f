"""The conformal classifier: fitted on scores of labels, it cuts sets at their quantile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from bbnn_uq._checks import (
    check_choice,
    check_count,
    check_fraction,
    check_labels,
    check_probs,
    check_real,
    check_scores,
    check_seed,
)
from bbnn_uq._rows import row_blocks
from bbnn_uq.conformal._scores import FIT, PREDICT, cumulative_scores, draw_uniforms, threshold

__all__ = ["ConformalClassifier"]

_SCORES = ("lac", "aps", "raps")
_METHOD = "conformal_classifier"


class ConformalClassifier:
    r"""Prediction sets that hold the true class with probability at least 1 - alpha.

    A score says how strange class y is for an input; the set has all classes that are no stranger
    than the threshold, the :math:`\lceil (n + 1)(1 - \alpha) \rceil`-th smallest of the n labels'
    scores on the fitting split:

    .. math:: \text{lac: } 1 - p_y, \qquad \text{aps: } \rho_y + u\, p_y, \qquad
              \text{raps: } \rho_y + u\, p_y + \lambda\, (o_y - k)^+,

    with :math:`\rho_y` the mass of the classes more probable than y, u uniform on [0, 1), and
    :math:`o_y` the number of classes that are at least as probable as y. ``lac`` has the smallest
    sets on average, at the cost of hard inputs, which it covers less often. ``aps`` covers hard
    inputs nearly as often as easy ones, with larger sets, and ``raps`` cuts their long tails.

    Over splits the coverage is at least 1 - alpha, and at most 1/(n + 1) more where scores have no
    ties. For one split it is spread around that with a standard deviation of about
    :math:`\sqrt{\alpha (1 - \alpha) / n}`. With n < 1/alpha - 1 the threshold is infinite, and
    every set has all classes.

    **Ties.** Classes of equal probability are all in a set or all out of it: in ``aps`` and
    ``raps`` they share the score of their group, u times the mass of all of them.

    **Randomness** is in ``aps`` and ``raps`` alone: u depends on the seed and on the bits of the
    input's probabilities, not on its place. So the same probabilities get the same set in every
    order and batch. Only rows that are equal within one call are told apart, by counting.

    **Empty sets** say that every class is too strange, and are needed for a coverage that is not
    above 1 - alpha. For sets that are never empty add the most probable class; coverage then only
    rises.

    Source: lac, Sadinle, Lei and Wasserman 2019 (arXiv 1609.00451); aps, Romano, Sesia and Candès
    2020 (arXiv 2006.02544); raps, Angelopoulos, Bates, Malik and Jordan 2021 (arXiv 2009.14193);
    for each class apart, Vovk 2012 (arXiv 1209.2673).

    Args:
        score: ``"lac"``, ``"aps"`` or ``"raps"``.
        seed: Decides u.
        class_conditional: Whether each class has a threshold of its own, from the scores of its
            own labels, so that the promise holds within each class. A class with fewer than
            1/alpha - 1 labels is in every set, which is the only way to keep it.
        rank_penalty: λ of ``raps``, at least 0; 0.01 unless given.
        free_ranks: k of ``raps``, the rank up to which there is no penalty, at least 0; 5 unless
            given. The defaults are those of the paper, for 1,000 classes; of a few classes, take
            as many free ranks as sets usually have.

    Attributes:
        scores_: Sorted scores of the labels of the fitting split: one array, or one a class. Those
            of ``lac`` lack the 1, which only costs digits: they are -p.
        num_classes_: Number of classes that it was fitted on.

    Example:
        >>> probs = [[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8]]
        >>> conformal = ConformalClassifier().fit(probs, [0, 1, 0, 1])
        >>> conformal.predict_sets([[0.95, 0.05], [0.5, 0.5]], alpha=0.2)
        array([[ True, False],
               [ True,  True]])
    """

    scores_: tuple[Float64[np.ndarray, "_"], ...]
    num_classes_: int

    def __init__(
        self,
        score: Any = "lac",
        seed: Any = 0,
        *,
        class_conditional: Any = False,
        rank_penalty: Any = None,
        free_ranks: Any = None,
    ) -> None:
        self.score = check_choice(score, "score", _SCORES)
        self.seed = check_seed(seed)
        if not isinstance(class_conditional, bool):
            raise TypeError(f"class_conditional must be True or False, got {class_conditional!r}")
        self.class_conditional = class_conditional
        if self.score != "raps" and not (rank_penalty is None and free_ranks is None):
            raise ValueError(
                f"rank_penalty and free_ranks belong to score='raps', got score={score!r}; "
                "leave them out"
            )
        penalty = 0.01 if rank_penalty is None else rank_penalty
        self.rank_penalty = check_real(penalty, "rank_penalty", minimum=0.0)
        ranks = 5 if free_ranks is None else free_ranks
        self.free_ranks = check_count(ranks, "free_ranks", minimum=0)

    def _scores(
        self,
        probs: Float64[np.ndarray, "inputs classes"],
        uniforms: Float64[np.ndarray, "inputs"] | None,
    ) -> Float64[np.ndarray, "inputs classes"]:
        if uniforms is None:
            return -probs
        penalty = self.rank_penalty if self.score == "raps" else 0.0
        return cumulative_scores(probs, uniforms, penalty, self.free_ranks)

    def _draw(
        self, probs: Float64[np.ndarray, "inputs classes"], stream: int
    ) -> Float64[np.ndarray, "inputs"] | None:
        return None if self.score == "lac" else draw_uniforms(probs, self.seed, stream)

    def fit(self, probs: Any, labels: Any) -> ConformalClassifier:
        """Keep the scores of the labels, from which any alpha's threshold can be read.

        Args:
            probs: Class probabilities (N, C), in [0, 1] and summing to 1 over classes.
            labels: True classes (N,), integers in [0, C).

        Returns:
            Itself, fitted.

        Raises:
            ValueError: If an argument has wrong values or shapes.
            TypeError: If an array holds anything but real numbers.
        """
        array = check_probs(probs)
        num_inputs, num_classes = array.shape
        labels = check_labels(labels, num_inputs=num_inputs, num_classes=num_classes)
        uniforms = self._draw(array, FIT)
        scores = np.empty(num_inputs)
        for block in row_blocks(array):
            all_scores = self._scores(array[block], None if uniforms is None else uniforms[block])
            scores[block] = all_scores[np.arange(len(all_scores)), labels[block]]
        if self.class_conditional:
            groups = [scores[labels == number] for number in range(num_classes)]
        else:
            groups = [scores]
        self.scores_ = tuple(np.sort(group) for group in groups)
        self.num_classes_ = num_classes
        return self

    def predict_sets(self, probs: Any, alpha: Any) -> Bool[np.ndarray, "inputs classes"]:
        """The set of each input.

        Args:
            probs: Class probabilities (N, C), in [0, 1] and summing to 1 over classes, of as many
                classes as were fitted.
            alpha: Share of sets that may lack the true class, in (0, 1).

        Returns:
            Whether each class is in each input's set, bool (N, C).

        Raises:
            ValueError: If nothing was fitted yet (a scikit-learn ``NotFittedError``), or an
                argument has wrong values, shape or number of classes.
            TypeError: If an argument holds anything but real numbers.
        """
        self._check_fitted()
        array, alpha = check_probs(probs), check_fraction(alpha, "alpha")
        if array.shape[1] != self.num_classes_:
            raise ValueError(
                f"probs must have {self.num_classes_} classes, as many as "
                f"ConformalClassifier was fitted on, got {array.shape[1]}"
            )
        thresholds = np.array([threshold(scores, alpha) for scores in self.scores_])
        uniforms = self._draw(array, PREDICT)
        sets = np.empty(array.shape, dtype=bool)
        for block in row_blocks(array):
            scores = self._scores(array[block], None if uniforms is None else uniforms[block])
            sets[block] = scores <= thresholds
        return sets

    def _check_fitted(self) -> None:
        if not hasattr(self, "num_classes_"):
            # Here, since scikit-learn takes a second to import.
            from sklearn.exceptions import NotFittedError

            raise NotFittedError(
                "this ConformalClassifier is not fitted; "
                "call fit(probs, labels) with labelled inputs first"
            )

    def to_dict(self) -> dict[str, Any]:
        """What was fitted, as JSON values; the scores are as many as there were inputs.

        Raises:
            ValueError: If nothing was fitted yet.
        """
        self._check_fitted()
        return {
            "method": _METHOD,
            "score": self.score,
            "seed": self.seed,
            "class_conditional": self.class_conditional,
            "rank_penalty": self.rank_penalty,
            "free_ranks": self.free_ranks,
            "num_classes": self.num_classes_,
            "scores": [group.tolist() for group in self.scores_],
        }

    @classmethod
    def from_dict(cls, values: Any) -> ConformalClassifier:
        """From what :meth:`to_dict` gave, to the same sets.

        Raises:
            ValueError: If ``values`` are of something else, incomplete or damaged.
        """
        method = values.get("method") if isinstance(values, Mapping) else values
        if method != _METHOD:
            raise ValueError(
                f"values must be of method {_METHOD!r}, got {method!r}; pass what to_dict() gave"
            )
        try:
            raps = values["score"] == "raps"
            if raps and None in (values["rank_penalty"], values["free_ranks"]):
                raise ValueError("rank_penalty and free_ranks must be numbers for raps, got None")
            result = cls(
                values["score"],
                values["seed"],
                class_conditional=values["class_conditional"],
                rank_penalty=values["rank_penalty"] if raps else None,
                free_ranks=values["free_ranks"] if raps else None,
            )
            num_classes = check_count(values["num_classes"], "num_classes", minimum=2)
            groups = num_classes if result.class_conditional else 1
            if len(values["scores"]) != groups:
                raise ValueError(f"scores must be {groups} lists, got {len(values['scores'])}")
            result.scores_ = tuple(
                # A class without labels has none.
                np.empty(0)
                if result.class_conditional and group == []
                else np.sort(check_scores(group, "scores"))
                for group in values["scores"]
            )
        except KeyError as error:
            raise ValueError(f"values lack {error}; pass what to_dict() gave") from None
        except TypeError as error:
            raise ValueError(f"values are damaged ({error}); pass what to_dict() gave") from None
        result.num_classes_ = num_classes
        return result
