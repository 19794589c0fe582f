"""Examples: the inputs at one end of a score, to be looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from bbnn_uq.predictive import Predictive

__all__ = ["Examples", "check_inputs", "select_examples"]

MOST = 24


@dataclass(frozen=True, eq=False)
class Examples:
    """The k inputs of a set with the highest, or lowest, values of a score.

    Args:
        score: its name.
        highest: whether these have the highest values, rather than the lowest.
        index: position of each in its set, (k,); the most extreme first, and the first of those
            that tie.
        values: of the score, (k,).
        predicted: class of the largest averaged probability, (k,).
        confidence: that probability, (k,).
        labels: true classes, (k,); None when they are unknown, as for OOD inputs.
        inputs: the k inputs as they are in the set; None when it was not given.
    """

    score: str
    highest: bool
    index: Int64[np.ndarray, " examples"]
    values: Float64[np.ndarray, " examples"]
    predicted: Int64[np.ndarray, " examples"]
    confidence: Float64[np.ndarray, " examples"]
    labels: Int64[np.ndarray, " examples"] | None = None
    inputs: tuple[np.ndarray, ...] | None = None

    def __len__(self) -> int:
        return len(self.index)

    def to_dict(self) -> dict[str, Any]:
        """JSON values of everything but the inputs; a value may be infinite."""
        arrays = {name: getattr(self, name) for name in ("index", "values", "predicted")}
        arrays |= {"confidence": self.confidence, "labels": self.labels}
        lists = {name: None if a is None else a.tolist() for name, a in arrays.items()}
        return {"score": self.score, "highest": self.highest} | lists


def select_examples(
    predictive: Predictive,
    score: str,
    *,
    highest: bool,
    labels: np.ndarray | None = None,
    inputs: Any = None,
    most: int = MOST,
) -> Examples:
    """The inputs with the highest, or lowest, values of a score.

    Args:
        predictive: of the set.
        score: its name, as for :meth:`bbnn_uq.Predictive.score`; inputs for which it is NaN are
            left out.
        highest: whether to take the highest values rather than the lowest.
        labels: true classes of the set, (N,), where they are known.
        inputs: the set, of length N; only the chosen inputs are read, one at a time.
        most: how many to take at most.

    Returns:
        The :class:`Examples`, the most extreme first; ties are taken in the order of the set.

    Example:
        >>> predictive = Predictive.from_probs([[0.9, 0.1], [0.4, 0.6], [0.5, 0.5]])
        >>> found = select_examples(predictive, "entropy", highest=True, most=2)
        >>> found.index, found.predicted
        (array([2, 1]), array([0, 1]))
    """
    values = predictive.score(score)
    index = _extreme(-values if highest else values, most)
    probs = np.asarray(predictive.probs[index])
    return Examples(
        score=score,
        highest=highest,
        index=index,
        values=values[index],
        predicted=probs.argmax(axis=1).astype(np.int64),
        confidence=probs.max(axis=1),
        labels=None if labels is None else labels[index],
        inputs=None if inputs is None else tuple(_read(inputs, int(i)) for i in index),
    )


def check_inputs(inputs: Any, name: str, num_inputs: int) -> None:
    """Raise unless ``inputs`` can be indexed and there is one for each row of the predictive.

    Raises:
        TypeError: it has no length or cannot be indexed, as a loader.
        ValueError: its length is another.
    """
    if not (hasattr(inputs, "__len__") and hasattr(inputs, "__getitem__")):
        raise TypeError(
            f"{name} must have a length and take an index, as arrays, tensors and datasets do, got "
            f"{type(inputs).__name__}; of a DataLoader, pass its dataset"
        )
    if len(inputs) != num_inputs:
        raise ValueError(
            f"{name} must hold one input for each of the {num_inputs} rows of the predictive, got "
            f"{len(inputs)}; pass the inputs that it was predicted on, in the same order"
        )


def _extreme(keys: np.ndarray, most: int) -> np.ndarray:
    """Positions of the smallest keys in order, ties by position, without sorting all of them."""
    known = np.flatnonzero(~np.isnan(keys))
    if len(known) > most:
        bound = np.partition(keys[known], most - 1)[most - 1]
        known = known[keys[known] <= bound]
    return known[np.argsort(keys[known], kind="stable")][:most].astype(np.int64)


def _read(inputs: Any, index: int) -> np.ndarray:
    item = inputs.iloc[index] if hasattr(inputs, "iloc") else inputs[index]
    if isinstance(item, tuple):  # of a dataset: the input, and its label
        item = item[0]
    if hasattr(item, "detach"):
        item = item.detach().cpu().numpy()
    return np.array(item)  # a copy: a view would keep a whole array or file open
