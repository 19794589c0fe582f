"""Sums of floats that are exact, so that neither order nor grouping changes a single bit.

A float64 is a whole number below 2^53 times a power of two. A table holds, for every power, the
sum of the whole numbers that came with it, in two halves of 27 and 26 bits, so that int64 has room
for 2^36 of them. Tables of parts of the data simply add up to the table of all of them.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

__all__ = ["add_exactly", "exact_table", "exact_totals"]

# Values are below 2^20: the largest is the square of -ln of the smallest float, 744^2.
_TOP_EXPONENT = 20
_LOW_BITS = 26


def exact_table(
    num_sums: int, smallest_exponent: int = -1074
) -> Int64[np.ndarray, "halves sums exponents"]:
    """An empty table for sums of values that are 0 or at least 2^``smallest_exponent``."""
    return np.zeros((2, num_sums, _TOP_EXPONENT - smallest_exponent), dtype=np.int64)


def add_exactly(
    table: Int64[np.ndarray, "halves sums exponents"],
    which: int | Int64[np.ndarray, "values"],
    values: Float64[np.ndarray, "values"],
) -> None:
    """Add each value, in [0, 2^20), to the sum of that number.

    Example:
        >>> table = exact_table(1)
        >>> for value in (1e-20, 1000.0, 1e-20):
        ...     add_exactly(table, 0, np.array([value]))
        >>> exact_totals(table)[0] - 1000 == 2 * Fraction(1e-20)
        True
    """
    fraction, exponent = np.frexp(values)
    whole = (fraction * 2.0**53).astype(np.int64)
    cells = which * table.shape[2] + (_TOP_EXPONENT - exponent).astype(np.int64)
    np.add.at(table[0].reshape(-1), cells, whole >> _LOW_BITS)
    np.add.at(table[1].reshape(-1), cells, whole & (2**_LOW_BITS - 1))


def exact_totals(table: Int64[np.ndarray, "halves sums exponents"]) -> list[Fraction]:
    """The sums themselves."""
    return [_total(high, low) for high, low in zip(table[0], table[1], strict=True)]


def _total(high: Any, low: Any) -> Fraction:
    whole, last = 0, 0
    for slot in np.flatnonzero(high | low).tolist():
        whole <<= slot - last
        whole += (int(high[slot]) << _LOW_BITS) + int(low[slot])
        last = slot
    return Fraction(whole) * Fraction(2) ** (_TOP_EXPONENT - 53 - last)
