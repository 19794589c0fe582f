"""Planning a prediction under a budget of memory."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bbnn_uq.inference.architecture import Architecture

__all__ = [
    "DEFAULT_BUDGET",
    "Plan",
    "Workload",
    "choose_networks",
    "make_plan",
    "peak_bytes",
    "workload_of",
]

DEFAULT_BUDGET = 2 * 2**30
DEFAULT_ROWS = 1000
CACHED_BYTES = 2**25
"""Activations of one pass: what the caches of a processor hold, from which passes slow down."""
GROUP_BYTES = 2**24
"""Weights of the networks that are drawn to be run at once."""
DRAWING_BYTES = 3
"""Random words, comparison and their like, for each weight that is drawn at a time."""
RESERVE = 6
"""One part in so many of the budget is left to the allocator, whose peaks vary from run to run."""
SLACK = 1.25
"""The allocator's, and rows that products pack into memory of their own."""


@dataclass(frozen=True)
class Workload:
    """What a prediction takes, in bytes.

    Args:
        weights: number of binary weights.
        network: one network ready for the products, with the buffers to draw it.
        kept: one more network kept ready for the products.
        packed: one more network kept at one bit a weight.
        drawing: memory of the drawing itself, while it runs, and the thresholds of the posterior.
        per_row: activations for one input.
        per_input: the input itself where it is streamed, and what is accumulated for it.
    """

    weights: int
    network: int
    kept: int
    packed: int
    drawing: int
    per_row: int
    per_input: int


@dataclass(frozen=True)
class Plan:
    """How a prediction runs: the loop is over blocks of inputs, networks, and rows of a block.

    Args:
        num_inputs: N; None when the inputs do not say.
        num_samples: S; None when it is found on the way.
        precision: of the products.
        networks: how they are had: ``drawn`` one after the other, ``packed`` (kept at one bit a
            weight), ``ready`` (kept as the products want them) or ``fused`` (weights are drawn
            within the products).
        group: networks that are run at once; 1 for one after the other.
        rows: inputs of one forward pass.
        block: inputs that all networks see before the next ones are read.
        peak_bytes: the most memory that this takes.
        memory_budget: what was allowed.
    """

    num_inputs: int | None
    num_samples: int | None
    precision: str
    networks: str
    group: int
    rows: int
    block: int
    peak_bytes: int
    memory_budget: int

    def __str__(self) -> str:
        inputs = "a stream of" if self.num_inputs is None else f"{self.num_inputs:,}"
        count = "as many networks as needed" if self.num_samples is None else self.num_samples
        how = {
            "drawn": "each network is drawn when it is needed",
            "fused": "weights are drawn within their products and never stored",
            "packed": "networks are drawn once and kept at one bit a weight",
            "ready": "networks are drawn once and kept ready",
        }[self.networks]
        together = "one after the other" if self.group == 1 else f"{self.group} at a time"
        blocks = "in one block"
        if self.num_inputs is None or self.block < self.num_inputs:
            blocks = f"in blocks of {self.block:,}, all networks for each"
        return (
            f"{inputs} inputs {blocks}, {self.rows:,} rows a pass; {count} networks in "
            f"{self.precision}, {together}: {how}; at most {_megabytes(self.peak_bytes)} of "
            f"{_megabytes(self.memory_budget)}"
        )


def make_plan(
    work: Workload,
    *,
    num_inputs: int | None,
    num_samples: int | None,
    precision: str,
    memory_budget: int,
    batch_size: int | None = None,
    networks: str = "drawn",
    groupable: Callable[[], bool] | None = None,
) -> Plan:
    """The fastest way within the budget.

    Args:
        work: what things take.
        num_inputs: N; None when unknown.
        num_samples: S; None when unknown.
        precision: of the products.
        memory_budget: bytes that the prediction may take, over the model, the posterior and
            inputs that are in memory already.
        batch_size: most rows of a pass.
        networks: how they are had, see :class:`Plan`.
        groupable: says whether several networks can be run at once, where that is of use.

    Raises:
        ValueError: one network and one input are more than the budget.

    Example:
        >>> work = Workload(10_000_000, 20_000_000, 10_000_000, 1_250_000, 50_000_000, 40_000, 200)
        >>> plan = make_plan(work, num_inputs=10_000, num_samples=32, precision="int8",
        ...                  memory_budget=2**30)
        >>> plan.rows, plan.block, plan.networks
        (838, 10000, 'drawn')
    """
    fixed = work.network + work.drawing + _kept_bytes(work, networks, num_samples)
    left = memory_budget - memory_budget // RESERVE - fixed
    if left < work.per_row + work.per_input:
        least = (fixed + work.per_row + work.per_input) * RESERVE // (RESERVE - 1)
        raise ValueError(
            f"memory_budget of {_megabytes(memory_budget)} does not hold one network and one "
            f"input; allow at least {_megabytes(least + 2**19)}"
        )
    most = num_inputs if num_inputs is not None else left
    passes = min(max(1, CACHED_BYTES // work.per_row), max(1, left // 2 // work.per_row))
    rows = min(batch_size or DEFAULT_ROWS, most, passes)
    block = min(most, (left - rows * work.per_row) // work.per_input)
    rows, group = min(rows, block), 1
    together = min(passes // rows, num_samples or passes) if rows == num_inputs else 1
    if networks not in ("ready", "fused") and work.kept > 0:
        # Each network of the group takes memory, and large ones are drawn longer than run.
        room = min(GROUP_BYTES, left - rows * work.per_row - block * work.per_input)
        together = min(together, 1 + room // max(1, work.kept))
    if together > 1 and (work.kept == 0 or (groupable is not None and groupable())):
        group = together
    more = rows * work.per_row + (0 if networks in ("ready", "fused") else work.kept)
    used = fixed + rows * work.per_row + block * work.per_input + (group - 1) * more
    return Plan(
        num_inputs, num_samples, precision, networks, group, rows, block, used, memory_budget
    )


def choose_networks(work: Workload, num_samples: int, memory_budget: int) -> str:
    """How to keep networks for many requests: as much of the way as the budget allows.

    Example:
        >>> work = Workload(10_000_000, 20_000_000, 10_000_000, 1_250_000, 50_000_000, 40_000, 200)
        >>> [choose_networks(work, 100, 2**30 * each) for each in (2, 1)]
        ['ready', 'packed']
    """
    left = memory_budget - memory_budget // RESERVE - work.network - work.drawing
    # Activations come first: rows in small pieces take longer than networks anew.
    room = left - min(CACHED_BYTES + work.per_row, left // 4)
    for networks in ("ready", "packed"):
        if _kept_bytes(work, networks, num_samples) <= room:
            return networks
    return "drawn"


def _kept_bytes(work: Workload, networks: str, num_samples: int | None) -> int:
    each = {"drawn": 0, "fused": 0, "packed": work.packed, "ready": work.kept}[networks]
    return each * (num_samples or 0)


def workload_of(architecture: Architecture, *, per_row: int) -> Workload:
    """What an architecture's networks and activations take; inputs are left at 0 bytes.

    Args:
        architecture: of the networks.
        per_row: bytes of the tensors that live at a time, for one input.
    """
    sizes = {name: shape.numel() for name, shape in architecture.weight_shapes.items()}
    weights = sum(sizes.values())
    kept = sum(size * architecture.weight_dtype(name).itemsize for name, size in sizes.items())
    largest = max(sizes.values())
    packed = max(size * architecture.weight_dtype(n).itemsize for n, size in sizes.items())
    return Workload(
        weights=weights,
        network=weights + kept + packed,  # products pack a weight into memory of their own
        kept=kept,
        packed=sum(-(-size // 8) for size in sizes.values()),
        drawing=DRAWING_BYTES * largest + 5 * weights,
        per_row=max(1, math.ceil(SLACK * per_row)),
        per_input=0,
    )


def peak_bytes(run: Callable[[], Any]) -> int:
    """The most bytes that live tensors made within ``run`` take together.

    Example:
        >>> import torch
        >>> peak_bytes(lambda: torch.zeros(256).add(1).mul(2)) >= 2 * 1024
        True
    """
    with _LiveBytes() as live:
        result = run()
    del result
    return live.peak


class _LiveBytes(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self._tensors: dict[int, int] = {}  # storage → tensors that look at it
        self._outside: set[int] = set()
        self._live = 0
        self.peak = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        for tensor in given:
            key = tensor.untyped_storage()._cdata
            if key not in self._tensors:  # made outside, and so are all views of it
                self._outside.add(key)
        result = func(*args, **(kwargs or {}))
        ours = {id(each) for each in given}
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and id(tensor) not in ours:
                self._note(tensor)
        return result

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._outside:
            return
        if key not in self._tensors:
            self._live += size
            self.peak = max(self.peak, self._live)
        self._tensors[key] = self._tensors.get(key, 0) + 1
        weakref.finalize(tensor, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._tensors[key] -= 1
        if self._tensors[key] == 0:
            del self._tensors[key]
            self._live -= size


def _megabytes(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB"
