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
    "PARTS",
    "add_up",
    "blocks",
    "by_name",
    "check_groups",
    "check_same_state",
    "num_columns",
    "std_error",
    "terms",
]

PARTS = ("probs", "expected_entropy", "energy")
"""What is summed at each temperature, under names such as ``1.0/probs``."""


def num_columns(num_classes: int, temperatures: Sequence[float]) -> int:
    """Number of columns that :func:`terms` gives."""
    return 2 * num_classes + (2 * num_classes + 1) * len(temperatures)


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

    The columns are the vote, one-hot (the first class on ties); for each temperature T the
    probabilities p = softmax(z / T), their entropies −p ln p by class, and the energy
    −T logsumexp(z / T); and p² at the first temperature.
    """
    wide = logits.double().contiguous()
    top, vote = wide.max(dim=-1, keepdim=True)
    below_top = wide - top
    columns = [(vote == torch.arange(wide.shape[-1], device=wide.device)).double()]
    for temperature in temperatures:
        z = below_top / temperature
        odds = z.exp()
        total = _sum_over_classes(odds)
        p, log_total = odds / total, total.log()
        # Entropies stay apart by class: adding them up here could round by the number of rows.
        columns += [p, p * (log_total - z), -top - temperature * log_total]
    return torch.cat([*columns, columns[1].square()], dim=-1)


def by_name(
    sums: Float64[np.ndarray, "groups inputs columns"],
    temperatures: Sequence[float],
    num_samples: int,
) -> dict[str, np.ndarray]:
    """The sums of each group by name, each (G, …), of networks 0 … S − 1."""
    groups, _, width = sums.shape
    count = len(temperatures)
    classes = (width - count) // (2 * count + 2)
    block = 2 * classes + 1
    named = {
        "num_networks": np.array([len(range(g, num_samples, groups)) for g in range(groups)]),
        "votes": sums[..., :classes].astype(np.int32),
        "squares": sums[..., -classes:],
    }
    for i, temperature in enumerate(temperatures):
        part = sums[..., classes + i * block : classes + (i + 1) * block]
        values = (part[..., :classes], part[..., classes:-1].sum(axis=-1), part[..., -1])
        named |= {f"{temperature!r}/{key}": v for key, v in zip(PARTS, values, strict=True)}
    return named


def std_error(sums: Mapping[str, np.ndarray], num_samples: int) -> np.ndarray:
    """Standard error of p at T = 1 over S networks, √((Σ p² − (Σ p)² / S) / (S (S − 1))).

    It is 0 where the difference is no more than the rounding of its two parts.
    """
    squares = sums["squares"]
    spread = squares - sums["1.0/probs"] ** 2 / num_samples
    rounding = num_samples * np.finfo(np.float64).eps * squares
    spread = np.where(spread > rounding, spread, 0.0)
    return np.sqrt(spread / (num_samples * (num_samples - 1)))


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
