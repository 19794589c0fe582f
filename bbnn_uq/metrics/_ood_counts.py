"""Counts behind the OOD metrics, of scores as they are and of resamples of them.

Each class is the positive one in turn, OOD and then ID, and its distinct scores are the thresholds,
the most typical first: falling for OOD, rising for ID. Both directions are one code, since every
score of a class is kept as a *key* that rises away from the typical: −score for OOD, score for ID.
A key of one class is compared with the negated keys of the other.

Counts are whole numbers, so results do not depend on the order of tied scores; and a cumulative sum
of whole numbers takes a fraction of the time of one of floats.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

__all__ = [
    "BLOCK_ENTRIES",
    "Cuts",
    "Distinct",
    "OneSide",
    "cuts_of_scores",
    "distinct_keys",
    "measure",
    "tally",
]

BLOCK_ENTRIES = 2**15
"""Counts that are worked on together: 0.25 MB, so that all that is made of them stays in cache."""


class Cuts(NamedTuple):
    """What falls on which side of successive thresholds: the positive class's distinct scores.

    Attributes:
        gained: Positives with that score (R, K).
        caught: Positives with that score or a more typical one (R, K).
        beaten: Negatives kept apart from these: more typical of their own class (R, K).
        matched: The same, and the negatives with that very score (R, K).
    """

    gained: Int64[np.ndarray, "resamples cuts"]
    caught: Int64[np.ndarray, "resamples cuts"]
    beaten: Int64[np.ndarray, "resamples cuts"]
    matched: Int64[np.ndarray, "resamples cuts"]


class OneSide(NamedTuple):
    """Metrics with one class as the positive one, (R,); see `bbnn_uq.metrics.ood.OODMetrics`."""

    auroc: Float64[np.ndarray, "resamples"]
    average_precision: Float64[np.ndarray, "resamples"]
    mistaken_at_95: Float64[np.ndarray, "resamples"]
    detection_error: Float64[np.ndarray, "resamples"]


class Distinct(NamedTuple):
    """A class's distinct keys, rising, and which inputs have each of them.

    Attributes:
        keys: The distinct keys (G,).
        order: Inputs in order of rising keys (N,).
        starts: Where each distinct key starts in that order (G,).
    """

    keys: Float64[np.ndarray, "distinct"]
    order: Int64[np.ndarray, "inputs"]
    starts: Int64[np.ndarray, "distinct"]


def distinct_keys(keys: Float64[np.ndarray, "inputs"]) -> Distinct:
    """Sort a class's keys."""
    order = np.argsort(keys)
    ordered = keys[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    return Distinct(ordered[starts], order, starts)


def tally(
    weights: Float64[np.ndarray, "resamples inputs"], distinct: Distinct
) -> tuple[Int64[np.ndarray, "resamples distinct"], Int64[np.ndarray, "resamples one_more"]]:
    """How many inputs of a resample have each distinct key, and how many come before each."""
    drawn = np.take(weights.astype(np.int64), distinct.order, axis=1)
    if len(distinct.starts) < len(distinct.order):
        drawn = np.add.reduceat(drawn, distinct.starts, axis=1)
    before = np.zeros((len(drawn), drawn.shape[1] + 1), dtype=np.int64)
    np.cumsum(drawn, axis=1, out=before[:, 1:])
    return drawn, before


def cuts_of_scores(
    positives: Float64[np.ndarray, "positives"], negatives: Float64[np.ndarray, "negatives"]
) -> Iterator[Cuts]:
    """Cuts of the data as they are, in blocks, from the sorted keys of both classes."""
    previous = 0
    for start in range(0, len(positives), BLOCK_ENTRIES):
        block = positives[start : start + BLOCK_ENTRIES]
        following = positives[start + 1 : start + BLOCK_ENTRIES + 1]
        is_last = np.ones(len(block), dtype=bool)  # of its key
        np.not_equal(block[: len(following)], following, out=is_last[: len(following)])
        if not is_last.any():  # a key that fills the block, and goes on in the next
            continue
        last = np.flatnonzero(is_last)
        caught = last + (start + 1)
        yield Cuts(
            gained=np.diff(caught, prepend=previous)[None],
            caught=caught[None],
            beaten=negatives.searchsorted(-block[last], side="left")[None],
            matched=negatives.searchsorted(-block[last], side="right")[None],
        )
        previous = caught[-1]


def measure(
    blocks: Iterable[Cuts],
    num_positives: Int64[np.ndarray, "resamples 1"],
    num_negatives: Int64[np.ndarray, "resamples 1"],
) -> OneSide:
    """Metrics from all cuts in order, in any number of blocks."""
    num_needed = -(-19 * num_positives // 20)  # 95 % are 19 of 20, in whole numbers
    pairs = (num_positives * num_negatives)[:, 0]
    twice_won, precision, lowest = np.zeros_like(pairs), np.zeros(len(pairs)), np.zeros_like(pairs)
    fewest = num_negatives[:, 0]
    for gained, caught, beaten, matched in blocks:
        mistaken = num_negatives - beaten
        twice_won += np.einsum("rk,rk->r", gained, beaten + matched)
        # Where nothing of a resample is flagged yet, nothing is gained either: 0 times 0.
        flagged = np.maximum(caught + mistaken, 1)
        precision += np.einsum("rk,rk->r", gained, caught / flagged)
        enough = np.where(caught < num_needed, num_negatives, mistaken)
        fewest = np.minimum(fewest, enough.min(axis=1))
        # Share of negatives mistaken less share of positives caught, over a common denominator. It
        # is 0 where nothing is flagged; a threshold between two cuts would only add mistakes.
        balance = num_positives * mistaken - num_negatives * caught
        lowest = np.minimum(lowest, balance.min(axis=1))
    return OneSide(
        auroc=twice_won / (2 * pairs),
        average_precision=precision / num_positives[:, 0],
        mistaken_at_95=fewest / num_negatives[:, 0],
        detection_error=(pairs + lowest) / (2 * pairs),
    )
