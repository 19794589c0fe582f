"""What a compiled epilogue would bring: the work between two int8 products, eager and compiled.

    python tests/benchmarks/epilogue.py

Between the products of two layers the engine scales the integer sums, applies BatchNorm and ReLU,
and quantises by row. This is that work for 1,000 rows of 2,048 units, as the engine does it and as
``torch.compile`` fuses it, beside the product itself, with the seconds that compiling takes in an
empty cache. It needs a C++ compiler.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable

import torch
from torch import Tensor

ROWS, UNITS = 1000, 2048


def epilogue(products: Tensor, row: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """From integer sums to the next layer's integers, in the engine's operations."""
    x = products.to(torch.float32) * row
    x = torch.relu(x * scale + shift)
    top = torch.maximum(-x.amin(dim=1, keepdim=True), x.amax(dim=1, keepdim=True))
    top = top.clamp_min(1e-30)
    return (x * (127.0 / top)).round().to(torch.int8), top / 127.0


def milliseconds(call: Callable[[], object], repeats: int = 50) -> float:
    """Median of repeated calls."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return 1e3 * statistics.median(seconds)


def main() -> None:
    """Print the table."""
    torch.manual_seed(0)
    q = torch.randint(-127, 128, (ROWS, UNITS), dtype=torch.int8)
    weight = (torch.randint(0, 2, (UNITS, UNITS), dtype=torch.int8) * 2 - 1).t()
    products = torch._int_mm(q, weight)
    arguments = products, torch.rand(ROWS, 1) / 127, torch.rand(UNITS) + 0.5, torch.randn(UNITS)
    with tempfile.TemporaryDirectory() as cache, torch.no_grad():
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        compiled = torch.compile(epilogue, dynamic=False)
        started = time.perf_counter()
        fused, _ = compiled(*arguments)
        compiling = time.perf_counter() - started
        eager, _ = epilogue(*arguments)
        differing = int((fused != eager).sum())
        rows = {
            "product": milliseconds(lambda: torch._int_mm(q, weight)),
            "epilogue, eager": milliseconds(lambda: epilogue(*arguments)),
            "epilogue, compiled": milliseconds(lambda: compiled(*arguments)),
        }
    for name, value in rows.items():
        print(f"| {name} | {value:.2f} ms |")
    print(f"compiling: {compiling:.1f} s; {differing} of {eager.numel()} integers differ")


if __name__ == "__main__":
    main()
