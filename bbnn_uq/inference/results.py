"""The predictives of blocks of inputs as one, in memory or on disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np

from bbnn_uq.npz_file import GrowingNpz, map_npz
from bbnn_uq.predictive import Predictive
from bbnn_uq.regression import RegressionPredictive

__all__ = ["collected", "input_axis"]

_Result = Predictive | RegressionPredictive


def collected(blocks: Iterator[_Result], out: str | os.PathLike[str] | None) -> _Result:
    """One predictive of all inputs.

    Args:
        blocks: predictives of the inputs, in their order.
        out: the file to write to block by block; None to keep everything in memory.

    Raises:
        ValueError: ``out`` was asked for with samples or groups, whose first axis is not the
            inputs'.
    """
    first = next(blocks)
    if out is not None:
        return _on_disk(first, blocks, out)
    rest = list(blocks)
    if not rest:
        return first
    all_blocks = [first, *rest]
    parts = [each.to_arrays() for each in all_blocks]
    whole = {
        key: np.concatenate([part[key] for part in parts], axis=input_axis(key))
        for key in parts[0]
        if input_axis(key) is not None
    }
    whole |= {key: parts[0][key] for key in parts[0] if input_axis(key) is None}
    return type(first).from_arrays(whole, _about(all_blocks))


def _on_disk(first: _Result, rest: Iterator[_Result], out: str | os.PathLike[str]) -> _Result:
    kind = type(first)
    if any(input_axis(key) != 0 for key in first.to_arrays()):
        raise ValueError("out cannot be had with keep_samples or num_groups; leave one of them out")
    with GrowingNpz(out) as file:
        seconds = 0.0
        for block in chain([first], rest):
            file.append(block.to_arrays())
            seconds += block.metadata.get("seconds", 0.0)
        about = first.about()
        about["metadata"] = about["metadata"] | {"seconds": seconds}
        file.about = about
    arrays = map_npz(out)
    arrays.pop("about")
    return kind.from_arrays(arrays, about)


def _about(blocks: list[_Result]) -> dict[str, Any]:
    about = blocks[0].about()
    seconds = sum(block.metadata.get("seconds", 0.0) for block in blocks)
    return about | {"metadata": about["metadata"] | {"seconds": seconds}}


def input_axis(key: str) -> int | None:
    """The axis of the inputs in an array of a predictive; None where there is none."""
    if key == "groups/num_networks":
        return None
    return 1 if key == "samples" or key.startswith("groups/") else 0
