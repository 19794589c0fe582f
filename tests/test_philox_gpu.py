"""The stream in torch and in Triton, against NumPy's, bit for bit.

Triton's kernels run on a GPU where there is one, and in Triton's interpreter elsewhere.
"""

import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from bbnn_uq import philox
from bbnn_uq.philox.torch_stream import positive_weights_torch, stream_words_torch

MASK = 2**64 - 1
KEYS = [((0, 0), 1), ((5, 2**63 - 1), 2**63 + 17), ((MASK, MASK - 3), MASK), ((2**32, 1), 2**31)]
DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
    ),
]
needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")


def some_thresholds(kind: str, size: int) -> philox.Thresholds:
    rng = np.random.default_rng(size)
    if kind == "posterior":
        return philox.thresholds(rng.normal(0, 2, size))
    if kind == "certain":  # T = 0 and T = 2^24, of which the latter has a full tail
        head = 255 * rng.integers(0, 2, size, dtype=np.uint8)
        return philox.Thresholds(head, np.where(head == 255, 65536, 0).astype(np.int32))
    # Bytes of few networks for heads: many ties a block in those, tails of every kind.
    byte = philox.stream_words((0, 0), 1, 0, 0, -(-size // 32)).view(np.uint8)[:size]
    tail = rng.choice([0, 1, 32768, 65535, 65536], size).astype(np.int32)
    return philox.Thresholds(np.where(rng.random(size) < 0.8, byte, 7).astype(np.uint8), tail)


CASES = [(kind, size) for kind in ("posterior", "certain", "tied") for size in (1, 33, 512, 5000)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("key", "address"), KEYS)
def test_torch_words_are_those_of_numpy(key, address, device):
    for stage, first, count in [(0, 0, 1), (2, 7, 100), (33, 2**40, 3)]:
        words = stream_words_torch(key, address, stage, first, count, device)
        expected = philox.stream_words(key, address, stage, first, count)
        assert np.array_equal(words.cpu().numpy(), expected.view(np.int64))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("key", "address"), KEYS)
def test_torch_weights_are_those_of_numpy(key, address, device):
    for kind, size in [*CASES, ("posterior", 0)]:
        thresholds = some_thresholds(kind, size)
        head, tail = (torch.from_numpy(each).to(device) for each in thresholds)
        for start in (0, 3 * 512):
            drawn = positive_weights_torch(head, tail, key, address, start=start)
            expected = philox.positive_weights(thresholds, key, address, start=start)
            assert np.array_equal(drawn.cpu().numpy(), expected)


def test_triton_is_neither_loaded_nor_needed():
    script = """if True:
        import sys
        import bbnn_uq, bbnn_uq.networks, bbnn_uq.philox
        assert "triton" not in sys.modules
        sys.modules["triton"] = None  # as if it were not installed
        from bbnn_uq.philox import triton_stream
        from bbnn_uq.inference import kernels
        assert not triton_stream.available()
    """
    subprocess.run([sys.executable, "-c", script], check=True)


def draw_in_triton(thresholds, key, address, networks, dtype="int8"):
    from bbnn_uq.philox.triton_stream import draw_weights

    device = "cuda" if torch.cuda.is_available() else "cpu"
    head, tail = (torch.from_numpy(each).to(device) for each in thresholds)
    shape = (networks, head.numel()) if networks else (head.numel(),)
    out = torch.full(shape, 3, dtype=getattr(torch, dtype), device=device)
    assert draw_weights(head, tail, key, address, out) is out
    return out.double().cpu().numpy()


def expected_weights(thresholds, key, address):
    return np.where(philox.positive_weights(thresholds, key, address), 1.0, -1.0)


@needs_triton
@pytest.mark.parametrize(("key", "address"), KEYS)
def test_kernel_draws_the_weights_of_numpy(run_kernels, key, address):
    for kind, size in CASES:
        thresholds = some_thresholds(kind, size)
        drawn = run_kernels(draw_in_triton, thresholds, key, address, 0)
        assert np.array_equal(drawn, expected_weights(thresholds, key, address)), (kind, size)


@needs_triton
def test_kernel_draws_several_networks_and_many_ties(run_kernels):
    # Heads are the bytes of network (0, 0), so all 32 weights of a block may be tied in it.
    byte = philox.stream_words((0, 0), 1, 0, 0, 20).view(np.uint8)
    thresholds = philox.Thresholds(byte, np.full(640, 32768, np.int32))
    drawn = run_kernels(draw_in_triton, thresholds, (0, 0), 1, 3)
    for index in range(3):
        assert np.array_equal(drawn[index], expected_weights(thresholds, (0, index), 1))
    last = run_kernels(draw_in_triton, thresholds, (MASK, MASK - 1), MASK, 2)
    assert np.array_equal(last[1], expected_weights(thresholds, (MASK, MASK), MASK))


@needs_triton
@pytest.mark.parametrize("dtype", ["int8", "int32", "float16", "bfloat16", "float32", "float64"])
def test_kernel_writes_any_type(run_kernels, dtype):
    # One weight more than one program owns.
    thresholds = some_thresholds("posterior", 32 * 512 + 1)
    drawn = run_kernels(draw_in_triton, thresholds, (1, 2), 3, 1, dtype)
    assert np.array_equal(drawn[0], expected_weights(thresholds, (1, 2), 3))


@needs_triton
def test_kernel_compiles_without_a_gpu(monkeypatch, tmp_path):
    # The interpreter does not check what the compiler checks.
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from bbnn_uq.philox.triton_stream import _draw_kernel

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    signature = {"head": "*i64", "tail": "*i32", "out": "*bf16", "count": "i32", "seed": "u64"}
    signature |= {"network": "u64", "address": "u64", "UNITS": "constexpr"}
    source = ASTSource(_draw_kernel, signature, constexprs={"UNITS": 32})
    target = GPUTarget("cuda", 90, 32)
    compiled = triton.compile(source, target=target, options={"enable_fp_fusion": True})
    assert "cubin" in compiled.asm
