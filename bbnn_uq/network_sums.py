"""Sums over networks: what is added of each, in columns, and what can be read off them.

A sum over networks is always taken one after the other, so that it is the same to the last bit for
one input and for a thousand, and however networks are split into calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

__all__ = [
    "add_up",
    "blocks",
    "by_name",
    "check_groups",
    "check_same_state",
    "logit_variance",
    "num_columns",
    "pairwise_kl",
    "std_error",
    "terms",
]


def num_columns(num_classes: int, num_temperatures: int) -> int:
    """Number of columns that :func:`terms` gives."""
    return 3 * num_classes + 2 + (num_classes + 2) * num_temperatures


def blocks(logits: Float[Tensor, "networks inputs classes"]) -> Iterator[tuple[slice, slice]]:
    """Networks and inputs in blocks that are quick to work on, and bound the memory for it.

    On a CPU arrays of 128 KB stay in cache, and the allocator does not return them to the system
    each time, which took longer than the arithmetic; a GPU wants as much as it can get at once.
    """
    networks, inputs, classes = logits.shape
    entries = 2**14 if logits.device.type == "cpu" else 2**22
    rows = min(inputs, max(1, entries // classes))
    some = max(1, entries // (rows * classes))
    for top in range(0, inputs, rows):
        for first in range(0, networks, some):
            yield slice(first, first + some), slice(top, top + rows)


def terms(
    logits: Float[Tensor, "networks inputs classes"], temperatures: Sequence[float]
) -> Float64[Tensor, "networks inputs columns"]:
    """What each network adds to the sums, in float64.

    With b = z − max z, the columns are the vote, one-hot (the first class on ties); b; max z; the
    sum over classes of (z − mean z)²; for each temperature T the probabilities p = softmax(z / T),
    the sum over classes of p b / T, and ln Σ exp(b / T); and p² at the first temperature.
    """
    wide = logits.double().contiguous()
    top, vote = wide.max(dim=-1, keepdim=True)
    below_top = wide - top
    centred = below_top - _sum_over_classes(below_top) / wide.shape[-1]
    votes = (vote == torch.arange(wide.shape[-1], device=wide.device)).double()
    columns = [votes, below_top, top, _sum_over_classes(centred.square_())]
    for temperature in temperatures:
        z = below_top / temperature
        odds = z.exp()
        total = _sum_over_classes(odds)
        columns += [odds / total, _sum_over_classes(z.mul_(odds)) / total, total.log_()]
    return torch.cat([*columns, columns[4].square()], dim=-1)


def by_name(
    sums: Float64[np.ndarray, "groups inputs columns"],
    temperatures: Sequence[float],
    num_samples: int,
) -> dict[str, np.ndarray]:
    """The sums of each group by name, each (G, …), of networks 0 … S − 1."""
    groups, _, width = sums.shape
    classes = (width - num_columns(0, len(temperatures))) // (3 + len(temperatures))
    largest = sums[..., 2 * classes]
    named = {
        "num_networks": np.array([len(range(g, num_samples, groups)) for g in range(groups)]),
        "votes": sums[..., :classes].astype(np.int32),
        "below_top": sums[..., classes : 2 * classes],
        "max_logit": largest,
        "centred_squares": sums[..., 2 * classes + 1],
        "squares": sums[..., -classes:],
    }
    for i, temperature in enumerate(temperatures):
        part = sums[..., 2 * classes + 2 + i * (classes + 2) :]
        log_odds, log_total = part[..., classes], part[..., classes + 1]
        named |= {
            f"{temperature!r}/probs": part[..., :classes],
            f"{temperature!r}/log_odds": log_odds,
            # Both terms are at least 0, so that nothing cancels.
            f"{temperature!r}/expected_entropy": log_total - log_odds,
            f"{temperature!r}/energy": -largest - temperature * log_total,
        }
    return named


def std_error(sums: Mapping[str, np.ndarray], num_samples: int) -> np.ndarray:
    """Standard error of p at T = 1 over S networks, √((Σ p² − (Σ p)² / S) / (S (S − 1))).

    It is 0 where the difference is no more than the rounding of its two parts.
    """
    squares = sums["squares"]
    spread = _difference(squares, sums["1.0/probs"] ** 2 / num_samples, num_samples)
    return np.sqrt(spread / (num_samples * (num_samples - 1)))


def logit_variance(sums: Mapping[str, np.ndarray], num_samples: int) -> np.ndarray:
    """Variance over S networks of z − mean z, averaged over classes; 0 where it is rounding.

    (Σ_s Σ_c ζ² − Σ_c (Σ_s ζ)² / S) / (C (S − 1)) for ζ = z − mean z.
    """
    below_top = sums["below_top"]
    classes = below_top.shape[-1]
    centred = below_top - below_top.mean(axis=-1, keepdims=True)
    of_mean = (centred**2).sum(axis=-1) / num_samples
    spread = _difference(sums["centred_squares"], of_mean, 8 * (num_samples + classes))
    return spread / (classes * (num_samples - 1))


def pairwise_kl(sums: Mapping[str, np.ndarray], temperature: float, num_samples: int) -> np.ndarray:
    """Mean divergence of two out of S networks, Σ_c cov_s (p, ln p); 0 where it is rounding.

    (S Σ_s Σ_c p b − Σ_c (Σ_s p) (Σ_s b)) / (S (S − 1) T) for b = z − max z. It stands for T ln p,
    which differs from it by the same for all classes of a network; that drops out.
    """
    probs, below_top = sums[f"{temperature!r}/probs"], sums["below_top"]
    crossed = -(probs * (below_top / temperature)).sum(axis=-1)
    own = -num_samples * sums[f"{temperature!r}/log_odds"]
    spread = _difference(crossed, own, 8 * (num_samples + probs.shape[-1]))
    return spread / (num_samples * (num_samples - 1))


def add_up(values: np.ndarray) -> np.ndarray:
    """Sum over the first axis in order; that of NumPy's ``sum`` depends on the other axes."""
    return np.asarray(reduce(np.add, values))


def check_groups(groups: Iterable[int], num_groups: int) -> list[int]:
    """Return the distinct numbers of groups in order, if they are in [0, G)."""
    chosen = sorted({int(group) for group in groups})
    if not chosen or chosen[0] < 0 or chosen[-1] >= num_groups:
        raise ValueError(
            f"groups must be numbers in [0, {num_groups}), at least one, got {chosen}; "
            "a predictive has groups when it was predicted with num_groups above 1"
        )
    return chosen


def check_same_state(theirs: dict[str, Tensor], ours: dict[str, Tensor]) -> None:
    """Raise unless two accumulators' states have the same names and shapes."""
    shapes = [{name: tuple(t.shape) for name, t in state.items()} for state in (theirs, ours)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"sums must be of an accumulator with the same inputs, classes or targets, "
            f"temperatures and groups, of shapes {shapes[1]}, got {shapes[0]}"
        )


def _difference(larger: np.ndarray, smaller: np.ndarray, num_terms: int) -> np.ndarray:
    """Their difference, or 0 where it is no more than the rounding of sums of so many terms."""
    gap = larger - smaller
    return np.where(gap > num_terms * np.finfo(np.float64).eps * larger, gap, 0.0)


def _sum_over_classes(x: Tensor) -> Tensor:
    """Sum over the last axis, with rounding that does not depend on the number of rows."""
    # A GPU's sum() splits rows further where there are fewer, and a CPU's a long row that is alone.
    if x.device.type == "cpu" and x.shape[-1] < 2**15:
        return x.sum(dim=-1, keepdim=True)
    return _sum_by_halves(x)


def _sum_by_halves(x: Tensor) -> Tensor:
    while (width := x.shape[-1]) > 1:
        half = (width + 1) // 2
        folded = x[..., :half].clone()
        folded[..., : width - half] += x[..., half:]
        x = folded
    return x
