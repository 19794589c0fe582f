"""The stream on a GPU, by Triton. The layout is described in the package.

Triton comes with torch's builds for GPUs. This module can be imported without it, and
:func:`available` tells.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, no_type_check

import torch
from jaxtyping import Int32, Int64, Num, UInt8
from torch import Tensor

from bbnn_uq.philox.stream import WEIGHTS_PER_UNIT

__all__ = ["available", "check_stream", "draw_weights", "jit", "positive_masks", "whole_blocks"]

UNITS_PER_PROGRAM = 32
MOST_NETWORKS = 65_535  # of one launch: the limit of a grid's second axis


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


triton, tl = _imported("triton"), _imported("triton.language")


def available() -> bool:
    """Whether Triton is installed; its kernels also need tensors on a GPU.

    Example:
        >>> from importlib.util import find_spec
        >>> available() == (find_spec("triton") is not None)
        True
    """
    return tl is not None


def jit(*unspecialised: str) -> Callable[[Any], Any]:
    """``triton.jit``, or nothing where there is no Triton.

    Args:
        unspecialised: integer arguments whose values no variant of the kernel is compiled for.
    """
    return triton.jit(do_not_specialize=unspecialised) if available() else lambda kernel: kernel


def draw_weights(
    head: UInt8[Tensor, " weights"],
    tail: Int32[Tensor, " weights"],
    key: tuple[int, int],
    address: int,
    out: Num[Tensor, "*networks weights"],
) -> Num[Tensor, "*networks weights"]:
    """Write the ±1 weights of a parameter, of one network or of several, into a tensor.

    The same bits as :func:`bbnn_uq.philox.positive_weights`. The host does not wait for the device.

    Args:
        head: of the parameter's thresholds. They are read in words: a tensor that does not begin
            at a word's address and end with a block of 32 is copied first.
        tail: of the same thresholds.
        key: (seed, network index) of the first network, each in [0, 2⁶⁴).
        address: the parameter's, from :func:`bbnn_uq.philox.parameter_address`.
        out: where to, of any signed or floating dtype, contiguous: (weights,) for one network,
            or (S, weights) for the networks index, …, index + S − 1.

    Returns:
        ``out``.
    """
    networks = out.shape[0] if out.ndim == 2 else 1
    check_stream(head, tail, key, address, networks)
    assert out.shape in (head.shape, (networks, head.numel()))
    assert out.is_contiguous()
    assert out.device == head.device
    units = -(-head.numel() // WEIGHTS_PER_UNIT)
    if out.numel():
        grid = (-(-units // UNITS_PER_PROGRAM), networks)
        with torch.cuda.device_of(out):
            _draw_kernel[grid](
                whole_blocks(head), tail, out, head.numel(), *key, address, UNITS_PER_PROGRAM,
                enable_fp_fusion=True,
            )  # fmt: skip
    return out


def check_stream(
    head: Tensor, tail: Tensor, key: tuple[int, int], address: int, networks: int
) -> None:
    """Assert that the arguments of a kernel address a part of the stream."""
    assert (head.dtype, tail.dtype) == (torch.uint8, torch.int32)
    assert head.shape == tail.shape == (head.numel(),)
    assert head.device == tail.device
    assert all(tensor.is_contiguous() for tensor in (head, tail))
    assert all(0 <= number < 2**64 for number in (*key, address))
    assert 0 <= networks <= min(MOST_NETWORKS, 2**64 - key[1])


def whole_blocks(head: UInt8[Tensor, " weights"]) -> Int64[Tensor, " words"]:
    """The heads as 64-bit words, four for each block of 32, the last block filled up with zeros.

    Example:
        >>> whole_blocks(torch.arange(9, dtype=torch.uint8))
        tensor([506097522914230528,                  8,                  0,                  0])
    """
    if head.numel() % 32 or head.storage_offset() % 8:
        padded = head.new_zeros(-(-head.numel() // 32) * 32)
        padded[: head.numel()] = head
        head = padded
    return head.view(torch.int64)


# The run-time type checks of the tests would hide the kernels' source from Triton: hence
# no_type_check. Seeds and indices are always passed in 64 bits, and kernels are not compiled anew
# for special values of them.


@jit("seed", "network", "address")
@no_type_check
def _draw_kernel(
    head,
    tail,
    out,
    count,
    seed: tl.uint64,
    network: tl.uint64,
    address: tl.uint64,
    UNITS: tl.constexpr,
):
    """One program draws ``UNITS`` consecutive units of 512 weights of one network."""
    slot = tl.program_id(1).to(tl.int64)
    unit = tl.program_id(0).to(tl.int64) * UNITS + tl.arange(0, UNITS)
    positive = positive_masks(
        head, tail, count, unit, seed, network.to(tl.uint64) + slot.to(tl.uint64), address
    )
    lane = tl.arange(0, 32)[None, None, :]
    plus = tl.full((1, 1, 1), 1, out.dtype.element_ty)
    minus = tl.full((1, 1, 1), -1, out.dtype.element_ty)
    weight = tl.where((positive[:, :, None] >> lane) & 1 != 0, plus, minus)
    block = unit[:, None] * 16 + tl.arange(0, 16)[None, :]
    index = block[:, :, None] * 32 + lane
    tl.store(out + slot * count + index, weight, mask=index < count)


@jit()
@no_type_check
def positive_masks(head, tail, count, unit, seed, network, address):
    """The weights of some units, one bit each: bit j of block b is set where weight 32 b + j is +1.

    Working on whole words and masks, a program holds 1/32 of the values that it would hold weight
    by weight, and ties, one in 256, cost nothing for the other weights.

    Args:
        head: pointer to the heads as 64-bit words.
        tail: pointer to the tails.
        count: weights of the parameter; what lies beyond is not read.
        unit: numbers of units (U,), int64.
        seed: of the networks.
        network: index.
        address: the parameter's.

    Returns:
        Masks (U, 16), uint32.
    """
    block = unit[:, None] * 16 + tl.arange(0, 16)[None, :]
    word = block[:, :, None] * 4 + tl.arange(0, 4)[None, None, :]
    heads = tl.load(head + word, mask=(block * 32 < count)[:, :, None], other=0)
    heads = heads.to(tl.uint64, bitcast=True)
    numbers = _stage_words(block, 0, seed, network, address)
    below, above = _bytes_below(numbers, heads), _bytes_below(heads, numbers)
    positive = _gathered(below)
    tied = (positive | _gathered(above)) ^ 0xFFFFFFFF
    stage = 1
    # The lowest tie of each block is settled in stage 1, the next in stage 2, and so on.
    while tl.max(tied) != 0:
        rest = tied & (tied - 1)
        lowest = tied ^ rest
        # The exponent of a power of two, read from a float32: the position of the only bit.
        lane = (lowest.to(tl.float32).to(tl.int32, bitcast=True) >> 23) - 127
        index = block * 32 + lane
        threshold = tl.load(tail + index, mask=(lowest != 0) & (index < count), other=0)
        positive |= tl.where(
            _stage_numbers(unit, stage, seed, network, address) < threshold, lowest, 0
        )
        tied = rest
        stage += 1
    return positive


@jit()
@no_type_check
def _stage_words(block, stage, seed, network, address):
    """The words of some blocks (A, B) of a stage: (A, B, 4), uint64."""
    # One element stands for all blocks until the rounds have mixed the block number into it.
    w0, w1, w2, w3 = tl.philox_impl(
        block.to(tl.uint64) + 1,
        tl.full((1, 1), 0, tl.uint64),
        tl.full((1, 1), address, tl.uint64),
        tl.full((1, 1), stage, tl.uint64),
        seed.to(tl.uint64),
        network.to(tl.uint64),
    )
    # Each join adds a last axis of two, and the outer one's varies fastest.
    words = tl.join(tl.join(w0, w2), tl.join(w1, w3))
    return tl.reshape(words, (block.shape[0], block.shape[1], 4))


@jit()
@no_type_check
def _stage_numbers(unit, stage, seed, network, address):
    """The 16-bit numbers of a tail stage for the 16 blocks of some units (U,): (U, 16), int32."""
    words = _stage_words(unit[:, None], stage, seed, network, address)
    words = tl.reshape(words, (unit.shape[0], 4, 1))
    numbers = (words >> (tl.arange(0, 4) * 16)[None, None, :]) & 0xFFFF
    return tl.reshape(numbers, (unit.shape[0], 16)).to(tl.int32)


@jit()
@no_type_check
def _bytes_below(x, y):
    """The top bit of each byte of 64-bit words where x's byte is below y's, as unsigned numbers.

    Where the top bits of the two bytes agree, the seven other bits decide, by a subtraction that
    borrows from the top bit alone (Warren, "Hacker's Delight", 2nd edition, section 2-18).
    """
    not_x = x ^ 0xFFFFFFFFFFFFFFFF
    difference = (x | 0x8080808080808080) - (y & 0x7F7F7F7F7F7F7F7F)
    below = (not_x & y) | ((not_x ^ y) & (difference ^ 0xFFFFFFFFFFFFFFFF))
    return below & 0x8080808080808080


@jit()
@no_type_check
def _gathered(marks):
    """The top bits of the 32 bytes of four words (A, B, 4) as masks (A, B), uint32."""
    # The product moves bit 8 i to bit 56 + i; no two of its 64 partial products meet.
    eight = ((marks >> 7) * 0x0102040810204080) >> 56
    return tl.sum(eight.to(tl.uint32) << (tl.arange(0, 4) * 8)[None, None, :], axis=2)
