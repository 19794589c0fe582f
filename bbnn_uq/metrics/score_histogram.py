"""Histograms of scores of any range that merge exactly, for more scores than memory holds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from bbnn_uq._checks import check_count, check_scores
from bbnn_uq.metrics._state_file import check_arrays, read_state, write_state

__all__ = ["ScoreHistogram", "ordered_keys"]

_MANTISSA = 52  # stored mantissa bits of a float64
_NO_KEY = 2**63 - 1  # above the key of any finite score


def ordered_keys(
    scores: Float64[np.ndarray, "scores"], mantissa_bits: int
) -> Int64[np.ndarray, "scores"]:
    """The number of each score's bin: its sign, exponent and leading bits, in order of the scores.

    Read as whole numbers, the bits of positive floats are in the order of the floats; those of
    negative ones are in the opposite order, which inverting all bits but the sign puts right.

    Example:
        >>> ordered_keys(np.array([1.0, 1.2, 1.25, 1.5, 2.0]), 1) - ordered_keys(np.ones(1), 1)
        array([0, 0, 0, 1, 2])
    """
    bits = scores.view(np.int64)
    return np.where(bits < 0, bits ^ np.int64(2**63 - 1), bits) >> (_MANTISSA - mantissa_bits)


class ScoreHistogram:
    r"""Numbers of scores by bins of fixed relative width, kept while the scores come and go.

    .. math:: \text{bins } \pm \big[\, 2^e (1 + k\, 2^{-m}),\; 2^e (1 + (k + 1)\, 2^{-m}) \big),
              \qquad k = 0, \ldots, 2^m - 1,

    with m ``mantissa_bits``, for every exponent e: a bin is as wide as its scores are large, times
    at most :math:`2^{-m}`, and no range has to be known beforehand. Only bins that hold something
    take memory, 32 bytes each. With each goes its lowest and its highest score, so that scores
    that take few values are known exactly; with 10 bits this holds for all of float16 and
    bfloat16. Scores that differ little beside their distance from 0, such as energies near -1000,
    share few bins: subtract a constant from them first.

    Everything kept is a count, a minimum or a maximum: neither the order of scores, batches and
    merges nor their grouping changes a bit of it.

    Args:
        mantissa_bits: m, from 1 to 20; each further bit halves the width.

    Raises:
        ValueError: If ``mantissa_bits`` is out of range.
        TypeError: If it is no integer.

    Example:
        >>> morning, evening = ScoreHistogram(), ScoreHistogram()
        >>> morning.add([0.1, 0.2, 0.2])
        >>> evening.add([-5.0, 0.2])
        >>> morning.merge(evening)
        >>> morning.num_scores, morning.counts
        (5, array([1, 1, 3]))
    """

    def __init__(self, *, mantissa_bits: Any = 10) -> None:
        self.mantissa_bits = check_count(mantissa_bits, "mantissa_bits")
        if self.mantissa_bits > 20:
            raise ValueError(f"mantissa_bits must be at most 20, got {mantissa_bits}")
        self.keys: Int64[np.ndarray, "bins"] = np.empty(0, np.int64)
        self.counts: Int64[np.ndarray, "bins"] = np.empty(0, np.int64)
        self.lowest: Float64[np.ndarray, "bins"] = np.empty(0)
        self.highest: Float64[np.ndarray, "bins"] = np.empty(0)

    def __repr__(self) -> str:
        return (
            f"ScoreHistogram(mantissa_bits={self.mantissa_bits}): "
            f"{self.num_scores} scores in {len(self.keys)} bins"
        )

    @property
    def num_scores(self) -> int:
        """How many scores have been added."""
        return int(self.counts.sum())

    def add(self, scores: Any) -> None:
        """Count a batch of scores.

        Args:
            scores: (N,), finite; an array, a list or a tensor on any device.

        Raises:
            ValueError: If ``scores`` is empty, not one-dimensional or not finite; nothing of it
                is counted then.
            TypeError: If it holds anything but real numbers.
        """
        # Sorted, the scores of a bin stand together; + 0.0 makes of -0.0 the same bits as 0.0.
        ordered = np.sort(check_scores(scores, "scores")) + 0.0
        keys = ordered_keys(ordered, self.mantissa_bits)
        starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
        ends = np.append(starts[1:], len(keys))
        self._absorb(keys[starts], ends - starts, ordered[starts], ordered[ends - 1])

    def merge(self, other: Any) -> None:
        """Add all that ``other`` has counted; ``other`` stays as it is.

        Raises:
            ValueError: If the two have bins of different width.
        """
        if not isinstance(other, ScoreHistogram):
            raise TypeError(f"other must be a ScoreHistogram, got {type(other).__name__}")
        if other.mantissa_bits != self.mantissa_bits:
            raise ValueError(
                f"other must have the mantissa_bits of this histogram, {self.mantissa_bits}, "
                f"got {other.mantissa_bits}; histograms of different bins cannot be merged"
            )
        self._absorb(other.keys, other.counts, other.lowest, other.highest)

    def state(self) -> dict[str, np.ndarray]:
        """Copies of the arrays that are kept, for `add_state` in another process."""
        return {
            "keys": self.keys.copy(),
            "counts": self.counts.copy(),
            "lowest": self.lowest.copy(),
            "highest": self.highest.copy(),
        }

    def add_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Add what another histogram of as many mantissa bits had counted, from its `state`.

        Raises:
            ValueError: If ``state`` is none of such a histogram.
        """
        arrays = check_arrays(state, self.state(), any_length=True)
        keys, counts = arrays["keys"], arrays["counts"]
        lowest, highest = arrays["lowest"], arrays["highest"]
        if not (
            len({len(array) for array in arrays.values()}) == 1
            and (keys[1:] > keys[:-1]).all()
            and (counts > 0).all()
            and np.isfinite([lowest, highest]).all()
            and (lowest <= highest).all()
            and np.array_equal(ordered_keys(lowest, self.mantissa_bits), keys)
            and np.array_equal(ordered_keys(highest, self.mantissa_bits), keys)
        ):
            raise ValueError(
                f"state must be that of a ScoreHistogram of mantissa_bits={self.mantissa_bits}, "
                "got arrays that contradict each other"
            )
        self._absorb(keys, counts, lowest, highest)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the histogram to an ``.npz`` file, whole or not at all."""
        write_state(path, "ScoreHistogram", {"mantissa_bits": self.mantissa_bits}, self.state())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ScoreHistogram:
        """The histogram in a file of `save`, to be read or added to.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is damaged, of something else, or of a newer version.
        """
        return read_state(path, cls)

    def _absorb(
        self,
        keys: Int64[np.ndarray, "bins"],
        counts: Int64[np.ndarray, "bins"],
        lowest: Float64[np.ndarray, "bins"],
        highest: Float64[np.ndarray, "bins"],
    ) -> None:
        at = self.keys.searchsorted(keys)
        new = np.append(self.keys, _NO_KEY)[at] != keys
        if new.any():
            self.keys = np.insert(self.keys, at[new], keys[new])
            self.counts = np.insert(self.counts, at[new], 0)
            self.lowest = np.insert(self.lowest, at[new], np.inf)
            self.highest = np.insert(self.highest, at[new], -np.inf)
            at = self.keys.searchsorted(keys)
        self.counts[at] += counts
        self.lowest[at] = np.minimum(self.lowest[at], lowest)
        self.highest[at] = np.maximum(self.highest[at], highest)
