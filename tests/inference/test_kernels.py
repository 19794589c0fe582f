"""Products with drawn networks, against NumPy's weights and float64.

The kernel runs on a GPU where there is one, and in Triton's interpreter elsewhere.
"""

from importlib.util import find_spec

import numpy as np
import pytest
import torch

from bbnn_uq import philox

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")

MASK = 2**64 - 1


def multiply_in_triton(x, dtype, thresholds, key, address, networks):
    from bbnn_uq.inference.kernels import draw_and_multiply

    device = "cuda" if torch.cuda.is_available() else "cpu"
    head, tail = (torch.from_numpy(each).to(device) for each in thresholds)
    inputs = torch.from_numpy(x).to(device, getattr(torch, dtype))
    return draw_and_multiply(inputs, head, tail, key, address, networks).cpu().numpy()


def products(x, thresholds, key, address, networks):
    """The plain way: draw, then multiply, in float64."""
    seed, first = key
    weights = np.stack(
        [
            philox.positive_weights(thresholds, (seed, first + s), address) * 2.0 - 1.0
            for s in range(networks)
        ]
    ).reshape(networks, -1, x.shape[-1])
    return np.matmul(x.astype(np.float64), weights.transpose(0, 2, 1))


@pytest.mark.parametrize(("shared", "dtype"), [(True, "float32"), (False, "bfloat16")])
@pytest.mark.parametrize(
    ("in_features", "out_features", "inputs", "networks"),
    [
        (784, 5, 3, 2),  # 24.5 blocks: every other row begins within a block
        (256, 19, 2, 2),  # two rows to a unit, and two programs for the even ones
        (3, 9, 2, 1),
        (1, 1, 1, 1),
        (513, 9, 2, 1),
        (512, 9, 1, 3),
        (1024, 10, 16, 2),
    ],
)
def test_products_are_those_of_drawn_weights(
    run_kernels, in_features, out_features, inputs, networks, shared, dtype
):
    rng = np.random.default_rng(in_features)
    thresholds = philox.thresholds(rng.normal(0, 2, in_features * out_features))
    shape = (inputs, in_features) if shared else (networks, inputs, in_features)
    # Small integers: their sums are exact in float32, in any order.
    x = rng.integers(-8, 9, shape).astype(np.float32)
    key, address = (MASK, 2**63 - 1), 2**63 + 5
    y = run_kernels(multiply_in_triton, x, dtype, thresholds, key, address, networks)
    assert y.dtype == np.float32
    assert np.array_equal(y, products(x, thresholds, key, address, networks))


def test_real_inputs_and_many_ties(run_kernels):
    # Heads are the bytes of network (0, 0): in it all weights are tied, 32 in a block.
    rng = np.random.default_rng(0)
    byte = philox.stream_words((0, 0), 1, 0, 0, 49).view(np.uint8)
    thresholds = philox.Thresholds(byte, rng.integers(0, 65537, 1568).astype(np.int32))
    x = rng.normal(size=(2, 784)).astype(np.float32)
    y = run_kernels(multiply_in_triton, x, "float32", thresholds, (0, 0), 1, 2)
    # Float32 sums of 784 terms of size 1: rounding errors of some 28 · 2^-24 · √784.
    assert np.abs(y - products(x, thresholds, (0, 0), 1, 2)).max() < 1e-4


def test_kernel_compiles_without_a_gpu(monkeypatch, tmp_path):
    # The interpreter does not check what the compiler checks.
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from bbnn_uq.inference.kernels import _multiply_kernel

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    signature = {"x": "*fp32", "head": "*i64", "tail": "*i32", "y": "*fp32"}
    integers = ["x_stride", "inputs", "in_features", "out_features", "count", "period"]
    signature |= dict.fromkeys(integers, "i32")
    signature |= {"seed": "u64", "network": "u64", "address": "u64", "ROWS": "constexpr"}
    source = ASTSource(_multiply_kernel, signature, constexprs={"ROWS": 8})
    options = {"num_warps": 1, "enable_fp_fusion": True}
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    assert "cubin" in compiled.asm
