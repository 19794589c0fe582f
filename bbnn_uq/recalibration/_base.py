"""What the recalibrations have in common: checks, work by blocks of rows, and JSON values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np
from jaxtyping import Float64, Int64

from bbnn_uq._checks import check_count, check_labels, check_probs, check_real_array
from bbnn_uq._rows import row_blocks

__all__ = ["MIN_LABELS", "Recalibration", "check_labelled", "require_labels", "stored_array"]

# In all, or for each class on average where a method has parameters for each. With fewer, such
# methods raise the NLL of calibrated networks by a tenth of a nat and more
# (tests/benchmarks/recalibration_sizes.py).
MIN_LABELS = 10

_Fitted = TypeVar("_Fitted", bound="Recalibration")


def check_labelled(
    probs: Any, labels: Any
) -> tuple[Float64[np.ndarray, "inputs classes"], Int64[np.ndarray, "inputs"]]:
    """Class probabilities (N, C) and the labels (N,) that belong to them."""
    array = check_probs(probs)
    num_inputs, num_classes = array.shape
    return array, check_labels(labels, num_inputs=num_inputs, num_classes=num_classes)


def require_labels(method: str, labels: Int64[np.ndarray, "inputs"], num_classes: int) -> None:
    """Raise unless there are 10 labels for each class on average, and one of every class."""
    remedy = f"or take TemperatureScaling, which needs {MIN_LABELS} inputs of whatever class"
    if len(labels) < MIN_LABELS * num_classes:
        raise ValueError(
            f"{method} needs at least {MIN_LABELS} inputs for each class, "
            f"{MIN_LABELS * num_classes} for {num_classes} classes, got {len(labels)}; "
            f"label more inputs, {remedy}"
        )
    absent = np.flatnonzero(np.bincount(labels, minlength=num_classes) == 0)
    if len(absent):
        raise ValueError(
            f"{method} needs labels of every class, got none of class {absent[0]}; "
            f"label inputs of it, {remedy}"
        )


def stored_array(values: Mapping[str, Any], name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The array under ``name`` of what `Recalibration.to_dict` gave."""
    array = check_real_array(values[name], name)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    return array


class Recalibration(ABC):
    """A map of probability rows; ``num_classes_`` is there once it is fitted."""

    method: ClassVar[str]  # its name among JSON values

    num_classes_: int

    @abstractmethod
    def _transform_rows(
        self, probs: Float64[np.ndarray, "inputs classes"]
    ) -> Float64[np.ndarray, "inputs classes"]:
        """The recalibrated rows, in an array of their own."""

    @abstractmethod
    def _state(self) -> dict[str, Any]:
        """What was fitted, as JSON values."""

    @abstractmethod
    def _restore(self, values: Mapping[str, Any]) -> None:
        """Take over what :meth:`_state` gave."""

    def _check_fitted(self) -> None:
        if not hasattr(self, "num_classes_"):
            # Here, since scikit-learn takes a second to import.
            from sklearn.exceptions import NotFittedError

            raise NotFittedError(
                f"this {type(self).__name__} is not fitted; "
                "call fit(probs, labels) with labelled inputs first"
            )

    def transform(self, probs: Any) -> Float64[np.ndarray, "inputs classes"]:
        """Recalibrated probabilities.

        Args:
            probs: Class probabilities (N, C), in [0, 1] and summing to 1 over classes, of as many
                classes as were fitted.

        Returns:
            Probabilities (N, C), float64, with rows that sum to 1. ``probs`` is left as it is.

        Raises:
            ValueError: If nothing was fitted yet (a scikit-learn ``NotFittedError``), or if
                ``probs`` has wrong values, shape or number of classes.
            TypeError: If it holds anything but real numbers.
        """
        self._check_fitted()
        array = check_probs(probs)
        if array.shape[1] != self.num_classes_:
            raise ValueError(
                f"probs must have {self.num_classes_} classes, as many as "
                f"{type(self).__name__} was fitted on, got {array.shape[1]}"
            )
        result = np.empty(array.shape)
        for block in row_blocks(array):
            result[block] = self._transform_rows(array[block])
        return result

    def to_dict(self) -> dict[str, Any]:
        """What was fitted, as JSON values: to be stored beside predictions or a posterior.

        Raises:
            ValueError: If nothing was fitted yet.
        """
        self._check_fitted()
        return {"method": self.method, "num_classes": self.num_classes_, **self._state()}

    @classmethod
    def from_dict(cls: type[_Fitted], values: Any) -> _Fitted:
        """From what :meth:`to_dict` gave, to the same ``transform``, bit for bit.

        Raises:
            ValueError: If ``values`` are of another method, incomplete or damaged.
        """
        method = values.get("method") if isinstance(values, Mapping) else values
        if method != cls.method:
            raise ValueError(f"values must be of method {cls.method!r}, got {method!r}")
        result = cls()
        try:
            num_classes = check_count(values["num_classes"], "num_classes", minimum=2)
            result.num_classes_ = num_classes
            result._restore(values)
        except KeyError as error:
            raise ValueError(f"values lack {error}; pass what to_dict() gave") from None
        except (TypeError, IndexError) as error:
            raise ValueError(f"values are damaged ({error}); pass what to_dict() gave") from None
        return result
