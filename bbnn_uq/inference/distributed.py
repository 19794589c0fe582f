"""One prediction shared among the processes of ``torchrun``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["Shard", "combine"]

MANY_INPUTS = 1000
"""Inputs a process from which the drawing that all of them repeat is a small part."""


@dataclass(frozen=True)
class Shard:
    """One process's place among those that share a prediction.

    Networks are shared where there are few inputs, since every process then draws its own only;
    inputs where there are many, since every process then computes on its own only.

    Args:
        rank: of this process.
        count: of all processes.
        group: of ``torch.distributed``; None for one process alone.
    """

    rank: int
    count: int
    group: Any = None

    @classmethod
    def alone(cls) -> Shard:
        """A single process."""
        return cls(0, 1)

    @classmethod
    def of(cls, group: Any) -> Shard:
        """This process in a group; ``"world"`` for all processes.

        Raises:
            ValueError: there is no group here.
        """
        if not dist.is_available() or not dist.is_initialized():
            raise ValueError(
                "process_group needs torch.distributed: start the script with torchrun and call "
                "torch.distributed.init_process_group first"
            )
        if isinstance(group, str):
            if group != "world":
                raise ValueError(f"process_group must be a group or 'world', got {group!r}")
            group = dist.group.WORLD
        return cls(dist.get_rank(group), dist.get_world_size(group), group)

    def takes_inputs(self, num_inputs: int, num_samples: int | None) -> bool:
        """Whether processes share the inputs rather than the networks."""
        few_networks = num_samples is not None and num_samples < self.count
        return self.count > 1 and (few_networks or num_inputs >= MANY_INPUTS * self.count)

    def part(self, size: int) -> slice:
        """This process's share of so many inputs.

        Example:
            >>> [Shard(rank, 3).part(8) for rank in range(3)]
            [slice(0, 2, None), slice(2, 5, None), slice(5, 8, None)]
        """
        return slice(self.rank * size // self.count, (self.rank + 1) * size // self.count)


def combine(accumulator: Any, new: Callable[[int], Any], shard: Shard) -> Any:
    """An accumulator of what all processes have added, the same in each of them.

    States are added in the order of ranks, so every process ends with the same bits. One that
    has died makes the others fail here, with torch's error.

    Args:
        accumulator: of this process; None when it had nothing to add.
        new: makes an empty one from its width.
        shard: this process's place.
    """
    width = torch.zeros(1, dtype=torch.int64)
    if accumulator is not None:
        width[0] = accumulator.width
    device = torch.device("cpu")
    if shard.group is not None and dist.get_backend(shard.group) == "nccl":
        device = torch.device("cuda", torch.cuda.current_device())
    width = width.to(device)
    dist.all_reduce(width, op=dist.ReduceOp.MAX, group=shard.group)
    own = (accumulator or new(int(width))).sums()
    whole = new(int(width))
    for rank in range(shard.count):
        state: dict[str, Tensor] = {}
        for name, value in own.items():
            sent = value.to(device).contiguous() if rank == shard.rank else None
            state[name] = torch.empty_like(value, device=device) if sent is None else sent
            dist.broadcast(state[name], group_src=rank, group=shard.group)
        whole.merge({name: value.to(own[name].device) for name, value in state.items()})
    return whole
