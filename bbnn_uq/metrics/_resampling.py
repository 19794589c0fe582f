"""The bootstrap's machinery: reproducible resamples, and intervals from values on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from bbnn_uq._checks import check_count, check_fraction, check_seed

__all__ = ["Interval", "check_options", "evaluate_resamples", "make_interval", "resample_indices"]

# Weights of one chunk of resamples: 4 MB. A kernel holds about ten arrays of that size at once,
# and small chunks stay in cache.
_CHUNK_ENTRIES = 2**19

# From multiplicities of one or several data sets, each (R, N), to named values (R,).
_NamedKernel = Callable[..., dict[str, Float64[np.ndarray, "resamples"]]]


@dataclass(frozen=True)
class Interval:
    """A metric's value on the data, and the bootstrap interval around it.

    Attributes:
        value: The metric on the data as they are.
        low: Lower end, at most ``value``.
        high: Upper end, at least ``value``.
    """

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """The three numbers by name; infinite ones stay so."""
        return asdict(self)


def check_options(num_resamples: Any, confidence_level: Any, seed: Any) -> tuple[int, float, int]:
    """The three options that every bootstrap function takes, checked."""
    return (
        check_count(num_resamples, "num_resamples"),
        check_fraction(confidence_level, "confidence_level"),
        check_seed(seed),
    )


def resample_indices(
    sizes: Sequence[int], num_resamples: int, seed: int
) -> Iterator[tuple[Int64[np.ndarray, "_"], ...]]:
    """Draw with replacement from data sets of ``sizes``, in a fixed order from one stream."""
    generator = np.random.default_rng(seed)
    for _ in range(num_resamples):
        yield tuple(generator.integers(size, size=size) for size in sizes)


def _resample_weights(
    sizes: Sequence[int], num_resamples: int, seed: int
) -> Iterator[tuple[Float64[np.ndarray, "resamples _"], ...]]:
    """The same resamples as multiplicities, in chunks; their size does not change the draws."""
    indices = resample_indices(sizes, num_resamples, seed)
    rows = max(1, _CHUNK_ENTRIES // sum(sizes))
    for start in range(0, num_resamples, rows):
        weights = tuple(np.empty((min(rows, num_resamples - start), size)) for size in sizes)
        for row in range(len(weights[0])):
            for chunk, drawn, size in zip(weights, next(indices), sizes, strict=True):
                chunk[row] = np.bincount(drawn, minlength=size)
        yield weights


def evaluate_resamples(
    kernel: _NamedKernel, sizes: Sequence[int], num_resamples: int, seed: int
) -> tuple[dict[str, float], dict[str, Float64[np.ndarray, "resamples"]]]:
    """Each of the kernel's values on the data, and on all resamples of them."""
    values = {name: float(v[0]) for name, v in kernel(*(np.ones((1, n)) for n in sizes)).items()}
    parts = [kernel(*weights) for weights in _resample_weights(sizes, num_resamples, seed)]
    return values, {name: np.concatenate([part[name] for part in parts]) for name in values}


def make_interval(
    value: float,
    resampled: Float64[np.ndarray, "resamples"],
    confidence_level: float,
    basic_within: tuple[float, float] | None = None,
) -> Interval:
    """Percentile interval, or the basic one clipped to ``basic_within``; it holds ``value``."""
    if math.isnan(value):
        return Interval(math.nan, math.nan, math.nan)
    tail = (1.0 - confidence_level) / 2.0
    # Order statistics, outward: interpolation between infinite values would give NaN.
    low = float(np.quantile(resampled, tail, method="lower"))
    high = float(np.quantile(resampled, 1.0 - tail, method="higher"))
    if basic_within is not None:
        low, high = 2.0 * value - high, 2.0 * value - low
        low, high = max(low, basic_within[0]), min(high, basic_within[1])
    return Interval(value, min(low, value), max(high, value))
