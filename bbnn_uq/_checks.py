"""Argument checks: each error names the argument, what it got, what it wants and the remedy."""

from __future__ import annotations

import math
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import numpy as np

__all__ = [
    "check_choice",
    "check_count",
    "check_fraction",
    "check_labels",
    "check_probs",
    "check_real",
    "check_real_array",
    "check_samples",
    "check_scores",
    "check_seed",
]

_RANGE_TOLERANCE = 1e-6
_SUM_TOLERANCE = 1e-4


def check_count(value: Any, name: str, *, minimum: int = 1) -> int:
    """Return ``value`` as an int that is at least ``minimum``."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value}")
    return int(value)


def check_seed(value: Any, name: str = "seed") -> int:
    """Return ``value`` as an int in [0, 2^64), the range of a Philox key word."""
    seed = check_count(value, name, minimum=0)
    if seed >= 2**64:
        raise ValueError(f"{name} must be below 2**64, got {seed}")
    return seed


def check_real(
    value: Any, name: str, *, above: float = -math.inf, minimum: float = -math.inf
) -> float:
    """Return ``value`` as a finite float that is > ``above`` and >= ``minimum``."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} must be a number, got {value!r}")
    number = float(value)
    if not math.isfinite(number) or number <= above or number < minimum:
        bound = f"greater than {above:g}" if math.isfinite(above) else f"at least {minimum:g}"
        wanted = bound if math.isfinite(above) or math.isfinite(minimum) else "finite"
        raise ValueError(f"{name} must be {wanted}, got {value!r}")
    return number


def check_fraction(value: Any, name: str) -> float:
    """Return ``value`` as a float strictly between 0 and 1."""
    number = check_real(value, name)
    if not 0.0 < number < 1.0:
        raise ValueError(f"{name} must lie strictly between 0 and 1, got {value!r}")
    return number


def check_choice(value: Any, name: str, choices: Iterable[str]) -> str:
    """Return ``value`` if it is one of ``choices``; else name the nearest of them."""
    options = list(choices)
    if value in options:
        return value
    near = get_close_matches(str(value), options, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{name} must be one of {', '.join(options)}, got {value!r}{hint}")


def check_real_array(values: Any, name: str) -> np.ndarray:
    """Return ``values`` (array, tensor on any device, nested list) as a finite float64 array."""
    return _real_array(values, name)[0]


def _real_array(values: Any, name: str) -> tuple[np.ndarray, float, float]:
    """The values as a float64 array, with their minimum and maximum, which are finite."""
    try:
        if hasattr(values, "detach"):  # a torch tensor; torch itself need not be imported here
            values = values.detach().cpu()
            values = (values.double() if values.is_floating_point() else values).numpy()
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} must be a rectangular array of numbers: {error}") from None
    except (TypeError, RuntimeError) as error:  # a sparse or meta tensor, a list of tensors
        raise TypeError(
            f"{name} must be an array, a dense tensor or a list of numbers, got "
            f"{type(values).__name__}: {str(error).splitlines()[0]}"
        ) from None
    if np.ma.is_masked(values):
        raise TypeError(f"{name} has masked entries; leave those inputs out, with compressed()")
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}")
    if array.size == 0:
        raise ValueError(f"{name} is empty (shape {array.shape}); it needs at least one entry")
    array = array.astype(np.float64, copy=False)
    low, high = float(array.min()), float(array.max())  # NaN where there is one
    if not (math.isfinite(low) and math.isfinite(high)):
        bad = int(np.isnan(array).sum())
        raise ValueError(
            f"{name} must be finite, got {bad} NaN and {int(np.isinf(array).sum())} infinite "
            "entries; leave those inputs out, or mend what made them"
        )
    return array, low, high


def _check_simplex(array: np.ndarray, low: float, high: float, name: str) -> np.ndarray:
    if low < -_RANGE_TOLERANCE or high > 1.0 + _RANGE_TOLERANCE:
        raise ValueError(
            f"{name} must lie in [0, 1], got values from {low:g} to {high:g}; "
            "pass probabilities, not logits (apply a softmax first)"
        )
    sums = np.einsum("...c->...", array)  # a third of the time of sum(axis=-1) for short rows
    worst = max(float(sums.min()), float(sums.max()), key=lambda total: abs(total - 1.0))
    if abs(worst - 1.0) > _SUM_TOLERANCE:
        raise ValueError(
            f"{name} must sum to 1 over its last axis within {_SUM_TOLERANCE:g}, "
            f"got a row that sums to {worst:.6g}; take the softmax in float32 or float64, not in a "
            "smaller type, or divide each row by its sum"
        )
    return array if low >= 0.0 and high <= 1.0 else np.clip(array, 0.0, 1.0)


def check_probs(probs: Any, name: str = "probs") -> np.ndarray:
    """Class probabilities as float64 (N, C): in [0, 1], rows summing to 1."""
    array, low, high = _real_array(probs, name)
    if array.ndim != 2 or array.shape[1] < 2:
        raise ValueError(
            f"{name} must have shape (N, C) with at least 2 classes, got {array.shape}"
        )
    return _check_simplex(array, low, high, name)


def check_samples(samples: Any, name: str = "samples") -> np.ndarray:
    """Class probabilities of S networks as float64 (S, N, C)."""
    array, low, high = _real_array(samples, name)
    if array.ndim != 3 or array.shape[2] < 2:
        raise ValueError(
            f"{name} must have shape (S, N, C) with at least 2 classes, got {array.shape}"
        )
    return _check_simplex(array, low, high, name)


def check_labels(labels: Any, *, num_inputs: int, num_classes: int, name: str = "labels") -> Any:
    """Integer labels as int64 (N,), each in [0, C)."""
    array = check_real_array(labels, name)
    if array.shape != (num_inputs,):
        raise ValueError(
            f"{name} must have shape ({num_inputs},), one per input, got {array.shape}"
        )
    if not np.array_equal(array, np.rint(array)):
        raise ValueError(f"{name} must be integer class numbers, got {array[array % 1 != 0][0]:g}")
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= num_classes:
        raise ValueError(
            f"{name} must lie in [0, {num_classes}) for {num_classes} classes, "
            f"got values from {low:g} to {high:g}"
        )
    return array.astype(np.int64)


def check_scores(scores: Any, name: str) -> np.ndarray:
    """Scores as float64 (N,), finite."""
    array = check_real_array(scores, name)
    if array.ndim != 1:
        raise ValueError(f"{name} must have shape (N,), got {array.shape}")
    return array
