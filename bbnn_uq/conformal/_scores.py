"""How strange each class is for an input, and the threshold that turns scores into sets."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float64, UInt64

from bbnn_uq._rows import row_blocks

__all__ = ["FIT", "PREDICT", "cumulative_scores", "draw_uniforms", "threshold"]

# Both streams of uniforms depend on the seed and on nothing else in common.
FIT, PREDICT = 1, 2


def _mixed(keys: UInt64[np.ndarray, "*shape"]) -> UInt64[np.ndarray, "*shape"]:
    """SplitMix64's output function (Steele, Lea and Flood 2014): 64 bits in, 64 random ones out."""
    keys = keys + np.uint64(0x9E3779B97F4A7C15)
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return keys ^ (keys >> np.uint64(31))


def draw_uniforms(
    probs: Float64[np.ndarray, "inputs classes"], seed: int, stream: int
) -> Float64[np.ndarray, "inputs"]:
    """A number in [0, 1) for each row, from the seed and from what the row holds.

    Not from its place: sets must not change with the order, nor with how inputs are cut into
    batches, and requests of one input each must not all get the same number. Rows that are equal
    are told apart by counting, or else all of them would be lucky or unlucky together.
    """
    start = _mixed(_mixed(np.array([seed], dtype=np.uint64)) ^ np.uint64(stream))
    keys = np.empty(len(probs), dtype=np.uint64)
    for block in row_blocks(probs):
        columns = probs[block].T + 0.0  # no -0.0, whose bits differ from those of 0
        row_keys = np.repeat(start, columns.shape[1])
        for bits in columns.view(np.uint64):
            row_keys = _mixed(row_keys ^ bits)
        keys[block] = row_keys
    order = np.argsort(keys, kind="stable")
    place = np.arange(len(keys))
    is_first = np.append(True, keys[order][1:] != keys[order][:-1])
    earlier = np.empty(len(keys), dtype=np.uint64)
    earlier[order] = place - np.maximum.accumulate(np.where(is_first, place, 0))
    return (_mixed(keys ^ _mixed(earlier)) >> np.uint64(11)) * 2.0**-53


def cumulative_scores(
    probs: Float64[np.ndarray, "inputs classes"],
    uniforms: Float64[np.ndarray, "inputs"],
    rank_penalty: float,
    free_ranks: int,
) -> Float64[np.ndarray, "inputs classes"]:
    """Mass above each class, plus a random share of its own, plus the penalty of its rank.

    Classes of equal probability share one score: that of the set that takes all of them in.
    """
    num_classes = probs.shape[1]
    order = np.argsort(-probs, axis=1)
    ordered = np.take_along_axis(probs, order, axis=1)
    mass = np.cumsum(ordered, axis=1)
    place = np.arange(num_classes)
    falls = ordered[:, 1:] < ordered[:, :-1]
    is_last = np.pad(falls, ((0, 0), (0, 1)), constant_values=True)
    last = np.where(is_last, place, num_classes - 1)[:, ::-1]
    last = np.minimum.accumulate(last, axis=1)[:, ::-1]  # of the group of equals
    is_first = np.pad(falls, ((0, 0), (1, 0)), constant_values=True)
    first = np.maximum.accumulate(np.where(is_first, place, 0), axis=1)
    above = np.take_along_axis(mass - ordered, first, axis=1)
    own = np.take_along_axis(mass, last, axis=1) - above
    scores = above + uniforms[:, None] * own
    scores += rank_penalty * np.maximum(last + 1 - free_ranks, 0)
    result = np.empty_like(scores)
    np.put_along_axis(result, order, scores, axis=1)
    return result


def threshold(scores: Float64[np.ndarray, "inputs"], alpha: float) -> float:
    """The ⌈(n + 1)(1 - alpha)⌉-th smallest score; +inf, which takes all in, when there is none."""
    # (9 + 1)(1 - 0.7) is 3.0000000000000004, and its rank is 3.
    rank = max(1, math.ceil((len(scores) + 1) * (1.0 - alpha) - 1e-9))
    return float(scores[rank - 1]) if rank <= len(scores) else math.inf
