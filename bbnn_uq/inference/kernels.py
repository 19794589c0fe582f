"""Products of a few inputs with drawn networks whose weights are never written to memory.

The weights of each network are used once here, so they need not outlive their use: a program draws
a unit of 512, adds or subtracts the inputs that it meets, and forgets it.
"""

from __future__ import annotations

import math
from typing import no_type_check

import torch
from jaxtyping import Float, Float32, Int32, UInt8
from torch import Tensor

from bbnn_uq.philox.stream import WEIGHTS_PER_UNIT
from bbnn_uq.philox.triton_stream import check_stream, jit, positive_masks, tl, whole_blocks

__all__ = ["MOST_INPUTS", "draw_and_multiply"]

MOST_INPUTS = 16
"""Inputs of one call. Each weight is drawn once for all of them."""

ROWS_PER_PROGRAM = 8


def draw_and_multiply(
    x: Float[Tensor, "*networks inputs in_features"],
    head: UInt8[Tensor, " weights"],
    tail: Int32[Tensor, " weights"],
    key: tuple[int, int],
    address: int,
    num_networks: int,
) -> Float32[Tensor, "num_networks inputs out_features"]:
    """Apply a linear layer of several drawn networks: y_s = x_s W_sᵀ, summed in float32.

    W_s is the row-major (out_features, in_features) parameter of network index + s, of the same
    bits as :func:`bbnn_uq.philox.positive_weights` draws. The order of summation depends on the
    shapes alone. It needs a GPU and Triton
    (:func:`bbnn_uq.philox.triton_stream.available`).

    Args:
        x: (M, K), the same inputs for all networks, or (S, M, K); contiguous, of type float32,
            float16 or bfloat16, and M at most 16.
        head: of the parameter's thresholds, out_features · K of them.
        tail: of the same thresholds.
        key: (seed, network index) of the first network, each in [0, 2⁶⁴).
        address: the parameter's, from :func:`bbnn_uq.philox.parameter_address`.
        num_networks: S, at most 65,535.

    Returns:
        (S, M, out_features).
    """
    check_stream(head, tail, key, address, num_networks)
    inputs, in_features = x.shape[-2:]
    assert x.shape in ((inputs, in_features), (num_networks, inputs, in_features))
    assert x.dtype in (torch.float32, torch.float16, torch.bfloat16)
    assert x.is_contiguous()
    assert x.device == head.device
    assert 1 <= inputs <= MOST_INPUTS
    assert head.numel() % in_features == 0
    out_features = head.numel() // in_features
    y = x.new_empty((num_networks, inputs, out_features), dtype=torch.float32)
    if y.numel():
        stride = inputs * in_features if x.ndim == 3 else 0
        # Rows this far apart begin at the same place of a unit.
        period = WEIGHTS_PER_UNIT // math.gcd(in_features, WEIGHTS_PER_UNIT)
        period = min(period, out_features)
        tiles = -(-out_features // (period * ROWS_PER_PROGRAM))
        with torch.cuda.device_of(y):
            _multiply_kernel[tiles * period, num_networks](
                x, whole_blocks(head), tail, y, stride, inputs, in_features, out_features,
                head.numel(), period, *key, address, ROWS_PER_PROGRAM,
                num_warps=1, enable_fp_fusion=True,
            )  # fmt: skip
    return y


@jit("seed", "network", "address")
@no_type_check
def _multiply_kernel(
    x,
    head,
    tail,
    y,
    x_stride,
    inputs,
    in_features,
    out_features,
    count,
    period,
    seed: tl.uint64,
    network: tl.uint64,
    address: tl.uint64,
    ROWS: tl.constexpr,
):
    """One program computes ``ROWS`` outputs of one network for all inputs.

    It draws whole units of 512 weights, also where a row begins or ends within one: ranks of ties
    need whole blocks. Weights of the neighbouring row meet no input. The program's rows are
    ``period`` apart, so that all of them begin at the same place of a unit and meet the same
    inputs at the same time.
    """
    slot = tl.program_id(1).to(tl.int64)
    number = network.to(tl.uint64) + slot.to(tl.uint64)
    first_row = tl.program_id(0) // period * ROWS * period + tl.program_id(0) % period
    row = first_row.to(tl.int64) + tl.arange(0, ROWS) * period
    offset = (first_row % 512) * (in_features % 512) % 512
    lane = tl.arange(0, 32)[None, None, :]
    place = tl.arange(0, 16)[None, :, None] * 32 + lane
    column = tl.arange(0, 16)[None, :]
    total = tl.zeros((ROWS, 16), tl.float32)
    for step in range((offset + in_features + 511) // 512):
        unit = row * in_features // 512 + step
        positive = positive_masks(head, tail, count, unit, seed, number, address)
        # A weight of −1 flips the sign bit of its input.
        flip = ((positive ^ 0xFFFFFFFF)[:, :, None] << (31 - lane)) & 0x80000000
        feature = step * 512 + place - offset
        inside = (feature >= 0) & (feature < in_features)
        for m in range(inputs):
            begin = x + slot * x_stride + m * in_features
            value = tl.load(begin + feature, mask=inside, other=0.0).to(tl.float32)
            product = (value.to(tl.uint32, bitcast=True) ^ flip).to(tl.float32, bitcast=True)
            partial = tl.sum(tl.reshape(product, (ROWS, 512)), axis=1)
            total += tl.where(column == m, partial[:, None], 0.0)
    where = (slot * inputs + column) * out_features + row[:, None]
    tl.store(y + where, total, mask=(column < inputs) & (row[:, None] < out_features))
