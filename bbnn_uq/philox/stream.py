"""The stream on the CPU, by NumPy's Philox4x64-10. The layout is described in the package."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int32, UInt8, UInt64
from numpy.random import Generator, Philox
from scipy.special import expit

__all__ = [
    "WEIGHTS_PER_UNIT",
    "Thresholds",
    "parameter_address",
    "positive_weights",
    "stream_words",
    "thresholds",
]

WEIGHTS_PER_BLOCK = 32
TAILS_PER_BLOCK = 16
WEIGHTS_PER_UNIT = WEIGHTS_PER_BLOCK * TAILS_PER_BLOCK
"""A parameter may be drawn in pieces that start at multiples of this many weights (512)."""


class Thresholds(NamedTuple):
    """T = 65536 head + tail for each weight; P(w = +1) = T / 2²⁴."""

    head: UInt8[np.ndarray, " weights"]
    tail: Int32[np.ndarray, " weights"]


def thresholds(natural_param: Float[np.ndarray, "..."]) -> Thresholds:
    """Integer thresholds of P(w = +1) = σ(2λ), from float64: within 2⁻²⁵ of it.

    Float32 sigmoids differ between devices and even between chunk sizes; integers do not.

    Args:
        natural_param: λ, any shape; flattened in row-major order.

    Example:
        >>> thresholds(np.array([-1e3, 0.0, 1e3]))
        Thresholds(head=array([  0, 128, 255], dtype=uint8),
                   tail=array([    0,     0, 65536], dtype=int32))
    """
    probability = expit(2.0 * natural_param.astype(np.float64).ravel())
    whole = np.rint(probability * 2.0**24).astype(np.int32)
    # Only T = 2^24 has a head of 256, which no byte reaches: 255 with a full tail is the same T.
    head = np.minimum(whole >> 16, 255)
    return Thresholds(head.astype(np.uint8), whole - (head << 16))


def parameter_address(name: str) -> int:
    """The counter word of a parameter: the first 8 bytes of BLAKE2b of its name, little-endian.

    A name's address does not depend on what other parameters a posterior has.

    Example:
        >>> parameter_address("0.weight")
        14291418057784981734
    """
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


def stream_words(
    key: tuple[int, int], address: int, stage: int, first_block: int, num_blocks: int
) -> UInt64[np.ndarray, " words"]:
    """The 4 · ``num_blocks`` words of a stage, from block ``first_block`` on.

    Args:
        key: (seed, network index), each in [0, 2⁶⁴).
        address: the parameter's, from :func:`parameter_address`.
        stage: 0 for the heads, 1 + r for the tails of rank r.
        first_block: first block wanted.
        num_blocks: how many.

    Example:
        >>> whole = stream_words((0, 7), 11, 0, 0, 8)
        >>> bool(np.array_equal(stream_words((0, 7), 11, 0, 5, 3), whole[20:]))
        True
    """
    # NumPy counts up before it computes, so this is block number first_block at counter + 1.
    counter = np.array([first_block, 0, address, stage], dtype=np.uint64)
    bits = Generator(Philox(key=np.array(key, dtype=np.uint64), counter=counter))
    # The full range hands out the words themselves, and unlike random_raw lets other threads run.
    return bits.integers(2**64 - 1, size=4 * num_blocks, dtype=np.uint64, endpoint=True)


def positive_weights(
    weight_thresholds: Thresholds,
    key: tuple[int, int],
    address: int,
    *,
    start: int = 0,
    out: Bool[np.ndarray, " weights"] | None = None,
) -> Bool[np.ndarray, " weights"]:
    """Which weights of a parameter are +1 in the network of this key.

    Args:
        weight_thresholds: of the weights ``start``, ``start + 1``, … of the parameter.
        key: (seed, network index).
        address: the parameter's, from :func:`parameter_address`.
        start: a multiple of ``WEIGHTS_PER_UNIT``.
        out: where to write the result, which is allocated when not given.

    Returns:
        True for +1, in the order of the thresholds.

    Example:
        >>> fair = thresholds(np.zeros(100_000))
        >>> float(positive_weights(fair, (0, 0), parameter_address("weight")).mean().round(2))
        0.5
    """
    head, tail = weight_thresholds
    count = head.size
    assert start % WEIGHTS_PER_UNIT == 0
    words = stream_words(key, address, 0, start // WEIGHTS_PER_BLOCK, _ceil(count, 32))
    byte = words.astype("<u8", copy=False).view(np.uint8)[:count]
    positive = np.less(byte, head, out=out)
    tied = np.flatnonzero(byte == head)
    block = tied // WEIGHTS_PER_BLOCK
    rank = _rank_within_runs(block)
    # Ties are not rare events to be looped over one by one, but their ranks above 2 are.
    for r in range(int(rank.max(initial=-1)) + 1):
        chosen = np.flatnonzero(rank == r)
        numbers = stream_words(
            key, address, 1 + r, start // WEIGHTS_PER_UNIT, _ceil(count, WEIGHTS_PER_UNIT)
        )
        weight = tied[chosen]
        number = numbers.astype("<u8", copy=False).view("<u2")[block[chosen]]
        positive[weight] = number < tail[weight]
    return positive


def _ceil(count: int, size: int) -> int:
    return -(-count // size)


def _rank_within_runs(sorted_values: np.ndarray) -> np.ndarray:
    """0, 1, 2, … within each run of equal values."""
    position = np.arange(sorted_values.size)
    starts = np.r_[True, sorted_values[1:] != sorted_values[:-1]][: sorted_values.size]
    return position - np.maximum.accumulate(np.where(starts, position, 0))
