"""The counter-based random stream from which Monte Carlo networks are drawn.

Philox4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) maps a key
and a counter to 256 random bits, so any weight of any network can be drawn alone, in any order
and on any device, with the same result. The layout below is part of the file format: it never
changes within a format version.

- Key: (seed, network index). Counter: (b + 1, 0, parameter address, stage) for block b ≥ 0;
  the parameter address is :func:`parameter_address` of its name.
- A weight is +1 where a uniform 24-bit integer U is below its threshold T = round(2²⁴ σ(2λ)), an
  integer in [0, 2²⁴]. The *head* of T is min(⌊T / 2¹⁶⌋, 255) and its *tail* T − 2¹⁶ head, in
  [0, 2¹⁶].
- Stage 0 holds the top 8 bits of each U: weight i (in row-major order) has byte i mod 32 of block
  ⌊i / 32⌋, bytes counted from the least significant end of the first word. Below the head the
  weight is +1, above it −1, which settles 255 weights of 256.
- A weight whose byte equals its head is *tied*. The r-th tied weight (r = 0, 1, …) of block b
  takes the 16-bit number b of stage 1 + r (number b mod 16 of block ⌊b / 16⌋, least significant
  first) and is +1 when that is below the tail.

Stages from 2⁶³ on are not used by weights: local reparameterisation takes its noise there
(:mod:`bbnn_uq.inference.local`).

So 8 bits a weight are drawn in bulk, and the exact remainder costs 1/16 as much for each stage
that is needed (rarely more than three): the next 16 bits are neither drawn for everybody nor
looked up one by one. A thread that owns 512 consecutive weights needs nothing from another.
"""

from bbnn_uq.philox.stream import (
    WEIGHTS_PER_UNIT,
    Thresholds,
    parameter_address,
    positive_weights,
    stream_words,
    thresholds,
)

__all__ = [
    "WEIGHTS_PER_UNIT",
    "Thresholds",
    "parameter_address",
    "positive_weights",
    "stream_words",
    "thresholds",
]
