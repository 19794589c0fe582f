"""What all scores have in common: fit, score, and a file."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from bbnn_uq.npz_file import reading_npz, write_npz

__all__ = ["OODScore", "StoredScore"]

_Score = TypeVar("_Score", bound="StoredScore")


@runtime_checkable
class OODScore(Protocol):
    """A score that learns what in-distribution (ID) inputs look like, and then scores others.

    What ``outputs`` are depends on the score: features, a predictive, or scores by name.
    """

    def fit(self, outputs: Any, labels: Any = None) -> Any:
        """Learn from outputs of ID inputs and, where they are used, their classes (N,)."""
        ...

    def score(self, outputs: Any) -> np.ndarray:
        """Score of each input, float64 (N,): higher means more out-of-distribution (OOD)."""
        ...


class StoredScore(ABC):
    """A score in an ``.npz`` file: its class, its options and its arrays; no pickle."""

    @abstractmethod
    def _options(self) -> dict[str, Any]:
        """Arguments of the constructor, as JSON values."""

    @abstractmethod
    def _to_arrays(self) -> dict[str, np.ndarray]:
        """What was learned; an error when nothing was."""

    @abstractmethod
    def _set_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take what `_to_arrays` gave; any error means that it is something else."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted score to an ``.npz`` file, whole or not at all.

        Args:
            path: Where to; the folder is created when missing.

        Raises:
            ValueError: If the score was not fitted, or the place is not writable.
        """
        about = {"score": type(self).__name__, "options": self._options()}
        write_npz(path, self._to_arrays(), about)

    @classmethod
    def load(cls: type[_Score], path: str | os.PathLike[str]) -> _Score:
        """Read what `save` of the same class wrote.

        Args:
            path: Of the file.

        Returns:
            The fitted score; it scores as the one that was saved, to the last bit.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file is truncated, foreign, or of another score.
        """
        with reading_npz(path, f"{cls.__name__}.save") as (arrays, about):
            kind = about["score"]
            if kind == cls.__name__:
                score = cls(**about["options"])
                score._set_arrays(arrays)
                return score
        raise ValueError(
            f"{os.fspath(path)!r} holds a {kind}, not a {cls.__name__}; read it with {kind}.load"
        )


def not_fitted(score: object) -> ValueError:
    """The error of a score that is used too early."""
    return ValueError(f"this {type(score).__name__} is not fitted; call fit with ID data first")
