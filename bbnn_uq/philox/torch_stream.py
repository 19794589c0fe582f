"""The stream in plain torch operations, for any device. The layout is described in the package.

Torch computes in signed 64-bit integers, whose sums and products modulo 2⁶⁴ have the same bits as
those of unsigned ones. Only shifts and the high half of a product need care.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int8, Int32, Int64, UInt8
from torch import Tensor

from bbnn_uq.philox.stream import WEIGHTS_PER_BLOCK, WEIGHTS_PER_UNIT

__all__ = ["positive_weights_torch", "stream_words_torch"]

MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
KEY_STEPS = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
LOW = 2**32 - 1
MASK = 2**64 - 1


def stream_words_torch(
    key: tuple[int, int],
    address: int,
    stage: int,
    first_block: int,
    num_blocks: int,
    device: torch.device | str,
) -> Int64[Tensor, " words"]:
    """The bits of :func:`bbnn_uq.philox.stream_words`, computed on a device.

    Args:
        key: (seed, network index), each in [0, 2⁶⁴).
        address: the parameter's, in [0, 2⁶⁴).
        stage: 0 for the heads, 1 + r for the tails of rank r.
        first_block: first block wanted.
        num_blocks: how many.
        device: where to compute.

    Returns:
        4 · ``num_blocks`` words; those of 2⁶³ and more are negative, 2⁶⁴ less.

    Example:
        >>> from bbnn_uq.philox import stream_words
        >>> words = stream_words_torch((0, 7), 11, 0, 0, 8, "cpu")
        >>> words.tolist() == stream_words((0, 7), 11, 0, 0, 8).view("int64").tolist()
        True
    """
    # One element stands for all blocks until the rounds have mixed the block number into it.
    c1, c2, c3 = (torch.full((1,), _signed(value), device=device) for value in (0, address, stage))
    c0 = torch.arange(first_block + 1, first_block + 1 + num_blocks, device=device)
    k0, k1 = key
    for _ in range(10):
        high, low = _multiply(c0, MULTIPLIERS[0])
        other_high, other_low = _multiply(c2, MULTIPLIERS[1])
        c0, c1 = other_high ^ c1 ^ _signed(k0), other_low
        c2, c3 = high ^ c3 ^ _signed(k1), low
        k0, k1 = (k0 + KEY_STEPS[0]) & MASK, (k1 + KEY_STEPS[1]) & MASK
    return torch.stack([c0, c1, c2, c3], dim=1).view(-1)


def positive_weights_torch(
    head: UInt8[Tensor, " weights"],
    tail: Int32[Tensor, " weights"],
    key: tuple[int, int],
    address: int,
    *,
    start: int = 0,
) -> Bool[Tensor, " weights"]:
    """Which weights of a parameter are +1 in the network of this key, on the device of the heads.

    The same bits as :func:`bbnn_uq.philox.positive_weights`. The host waits for the device once,
    to learn how many stages there are.

    Args:
        head: of the thresholds of the weights ``start``, ``start + 1``, … of the parameter.
        tail: of the same thresholds, on the same device.
        key: (seed, network index).
        address: the parameter's, from :func:`bbnn_uq.philox.parameter_address`.
        start: a multiple of 512.

    Returns:
        True for +1, in the order of the thresholds.

    Example:
        >>> head = torch.full((100_000,), 128, dtype=torch.uint8)
        >>> tail = torch.zeros(100_000, dtype=torch.int32)
        >>> drawn = positive_weights_torch(head, tail, (0, 0), 1)
        >>> round(float(drawn.float().mean()), 2)
        0.5
    """
    count = head.numel()
    assert start % WEIGHTS_PER_UNIT == 0
    if not count:
        return torch.empty(0, dtype=torch.bool, device=head.device)
    blocks = -(-count // WEIGHTS_PER_BLOCK)
    words = stream_words_torch(key, address, 0, start // WEIGHTS_PER_BLOCK, blocks, head.device)
    byte = words.view(torch.uint8)[:count]
    positive, tied = byte < head, byte == head
    ordinal = _ordinal_within_blocks(tied)
    units = -(-count // WEIGHTS_PER_UNIT)
    for stage in range(1, int(ordinal.max()) + 1):
        words = stream_words_torch(
            key, address, stage, start // WEIGHTS_PER_UNIT, units, head.device
        )
        number = words.view(torch.int16)[:blocks].to(torch.int32) & 0xFFFF
        number = number.repeat_interleave(WEIGHTS_PER_BLOCK)[:count]
        positive |= tied & (ordinal == stage) & (number < tail)
    return positive


def _ordinal_within_blocks(tied: Bool[Tensor, " weights"]) -> Int8[Tensor, " weights"]:
    """1 for the first tied weight of each block of 32, 2 for the second, and so on: 1 + rank."""
    whole = torch.nn.functional.pad(tied, (0, -tied.numel() % WEIGHTS_PER_BLOCK))
    ordinal = whole.view(-1, WEIGHTS_PER_BLOCK).cumsum(1, dtype=torch.int8)
    return ordinal.view(-1)[: tied.numel()]


def _multiply(value: Int64[Tensor, " n"], by: int) -> tuple[Tensor, Tensor]:
    """High and low 64 bits of the unsigned product, the high ones from four 32-bit products."""
    a1, a0 = by >> 32, by & LOW
    b1, b0 = _high(value), value & LOW
    low, cross, other = a0 * b0, a0 * b1, a1 * b0
    carry = (_high(low) + (cross & LOW) + (other & LOW)) >> 32
    return a1 * b1 + _high(cross) + _high(other) + carry, value * _signed(by)


def _high(value: Tensor) -> Tensor:
    """The upper 32 bits as a number in [0, 2³²): torch's shift copies the sign instead."""
    return (value >> 32) & LOW


def _signed(value: int) -> int:
    """The int64 of the same bits as an integer in [0, 2⁶⁴)."""
    return value - 2**64 if value >= 2**63 else value
