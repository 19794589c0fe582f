"""Drawing Monte Carlo binary networks from a posterior."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from bbnn_uq import philox
from bbnn_uq._checks import check_seed
from bbnn_uq.posterior import BernoulliPosterior, Posterior

__all__ = [
    "draw",
    "draw_on_gpu",
    "draw_signs",
    "pack_signs",
    "thresholds_on",
    "unpack_signs",
]

SMALLEST_PIECE = 2**19
"""Weights that are worth a thread of their own."""

PREPARED_AT_A_TIME = 2**16
"""Weights whose thresholds are computed in one piece."""

_Prepared = dict[str, tuple[int, philox.Thresholds]]
_on_device: WeakKeyDictionary[
    BernoulliPosterior, dict[tuple[str, torch.device], tuple[int, Tensor, Tensor]]
] = WeakKeyDictionary()
_prepared: WeakKeyDictionary[BernoulliPosterior, _Prepared] = WeakKeyDictionary()


def draw(
    posterior: Posterior,
    index: int,
    *,
    seed: int = 0,
    device: torch.device | str | None = None,
) -> dict[str, Tensor]:
    """Draw binary network number ``index`` from the posterior.

    Each weight is +1 with probability T / 2²⁴, T = round(2²⁴ σ(2λ)), and −1 otherwise,
    independently. The bits depend on (λ, parameter name, seed, index) alone: they are the same in
    every call, process and batch, in any order and for every device. :mod:`bbnn_uq.philox` states
    the stream.

    Args:
        posterior: what to draw from; network ``index`` of a mixture comes from member
            ``index`` mod K.
        index: which network, in [0, 2⁶⁴).
        seed: which sequence of networks, in [0, 2⁶⁴).
        device: where the tensors go; the CPU when not given.

    Returns:
        Parameter name → tensor of ±1, of the parameter's shape and dtype.

    Raises:
        TypeError, ValueError: ``index`` or ``seed`` is not an integer in its range.

    Example:
        >>> posterior = BernoulliPosterior({"weight": torch.tensor([-9.0, 0.0, 9.0])}, {}, {})
        >>> [draw(posterior, index)["weight"].tolist() for index in (2, 3)]
        [[-1.0, -1.0, 1.0], [-1.0, 1.0, 1.0]]
    """
    natural = posterior.member(check_seed(index, "index")).natural_param
    if device is not None and torch.device(device).type == "cuda":
        network = {
            name: torch.empty((1, *like.shape), dtype=like.dtype, device=device)
            for name, like in natural.items()
        }
        draw_on_gpu(posterior, range(index, index + 1), seed=seed, out=network)
        return {name: weight[0] for name, weight in network.items()}
    signs = draw_signs(posterior, index, seed=seed)
    return {name: w.to(device).to(natural[name].dtype) for name, w in signs.items()}


def draw_signs(
    posterior: Posterior,
    index: int,
    *,
    seed: int = 0,
    out: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """The same network as :func:`draw`, as int8 on the CPU; large ones by torch's threads.

    Args:
        posterior: what to draw from.
        index: which network.
        seed: which sequence of networks.
        out: contiguous int8 tensors by parameter name to be written to; new ones when not given.

    Example:
        >>> posterior = BernoulliPosterior({"weight": torch.tensor([[-9.0, 9.0]])}, {}, {})
        >>> draw_signs(posterior, 0)
        {'weight': tensor([[-1,  1]], dtype=torch.int8)}
    """
    key = (check_seed(seed), check_seed(index, "index"))
    member = posterior.member(index)
    network = {
        name: torch.empty(like.shape, dtype=torch.int8) if out is None else out[name]
        for name, like in member.natural_param.items()
    }
    pieces = [
        partial(_draw_piece, network[name].view(-1).numpy(), key, address, thresholds, where)
        for name, (address, thresholds) in _prepare(member).items()
        for where in _pieces(thresholds.head.size)
    ]
    _run(pieces)
    return network


def draw_on_gpu(
    posterior: Posterior, networks: range, *, seed: int, out: Mapping[str, Tensor]
) -> None:
    """Networks of one member, on the GPU that their memory is on; the same bits.

    By a Triton kernel where Triton is installed, by plain torch operations elsewhere.

    Args:
        posterior: what to draw from.
        networks: their numbers; in a mixture all of one member.
        seed: which sequence of networks.
        out: contiguous tensors (networks, …) of any type by parameter name, to be written to.
    """
    # Late: this loads Triton where it is installed, which no CPU needs.
    from bbnn_uq.philox import triton_stream
    from bbnn_uq.philox.torch_stream import positive_weights_torch

    member = posterior.member(networks[0])
    for name, weights in out.items():
        address, head, tail = thresholds_on(member, name, weights.device)
        flat = weights.view(len(weights), -1)
        if triton_stream.available() and networks.step == 1:
            triton_stream.draw_weights(
                head, tail, (seed, networks[0]), address, flat[: len(networks)]
            )
            continue
        for position, index in enumerate(networks):
            if triton_stream.available():
                triton_stream.draw_weights(head, tail, (seed, index), address, flat[position])
            else:
                positive = positive_weights_torch(head, tail, (seed, index), address)
                flat[position].copy_(positive).mul_(2).sub_(1)


def thresholds_on(
    posterior: BernoulliPosterior, name: str, device: torch.device
) -> tuple[int, Tensor, Tensor]:
    """A parameter's address, and its thresholds' heads and tails on a device, kept there."""
    kept = _on_device.setdefault(posterior, {})
    if (name, device) not in kept:
        address, (head, tail) = _prepare(posterior)[name]
        kept[name, device] = (
            address, torch.from_numpy(head).to(device), torch.from_numpy(tail).to(device)
        )  # fmt: skip
    return kept[name, device]


def pack_signs(signs: Tensor) -> Tensor:
    """Eight weights of ±1 in a byte, the first in the lowest bit; 1 for +1.

    Example:
        >>> pack_signs(torch.tensor([[1, -1], [1, 1]], dtype=torch.int8))
        tensor([13], dtype=torch.uint8)
    """
    return torch.from_numpy(np.packbits(signs.view(-1).numpy() > 0, bitorder="little"))


def unpack_signs(packed: Tensor, out: Tensor) -> Tensor:
    """Fill an int8 tensor with the ±1 that :func:`pack_signs` has packed.

    Example:
        >>> unpack_signs(torch.tensor([13], dtype=torch.uint8), torch.empty(4, dtype=torch.int8))
        tensor([ 1, -1,  1,  1], dtype=torch.int8)
    """
    flat = out.view(-1).numpy()
    bits = np.unpackbits(packed.numpy(), count=flat.size, bitorder="little")
    _to_signs(bits.view(np.int8), flat)
    return out


def _draw_piece(
    flat: np.ndarray,
    key: tuple[int, int],
    address: int,
    thresholds: philox.Thresholds,
    where: slice,
) -> None:
    signs = flat[where]
    part = philox.Thresholds(thresholds.head[where], thresholds.tail[where])
    positive = signs.view(np.bool_)
    philox.positive_weights(part, key, address, start=where.start, out=positive)
    _to_signs(signs, signs)


def _to_signs(bits: np.ndarray, out: np.ndarray) -> None:
    """0 and 1 as −1 and +1."""
    np.multiply(bits, 2, out=out)
    np.subtract(out, 1, out=out)


def _pieces(size: int) -> list[slice]:
    """Parts of a parameter that threads draw side by side."""
    count = max(1, min(torch.get_num_threads(), size // SMALLEST_PIECE))
    unit = philox.WEIGHTS_PER_UNIT
    step = -(-size // (count * unit)) * unit
    return [slice(start, min(start + step, size)) for start in range(0, size, step)]


def _run(pieces: list[Callable[[], None]]) -> None:
    threads = torch.get_num_threads()
    parallel = threads > 1 and len(pieces) > 1
    for _ in _pool(threads).map(_call, pieces) if parallel else map(_call, pieces):
        pass


def _call(piece: Callable[[], None]) -> None:
    piece()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="bbnn_uq-draw")


if hasattr(os, "register_at_fork"):  # a child process has none of its parent's threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


def _prepare(posterior: BernoulliPosterior) -> _Prepared:
    """Addresses and thresholds by parameter, computed once per posterior (5 bytes a weight)."""
    if posterior not in _prepared:
        prepared, pieces = {}, []
        for name, value in posterior.natural_param.items():
            # NumPy alone from here on: torch would start a pool of its own in each of our threads,
            # and with more threads than cores all its later operations take longer.
            whole = value.float() if value.dtype == torch.bfloat16 else value
            flat = whole.view(-1).numpy()
            kept = philox.Thresholds(np.empty(flat.size, np.uint8), np.empty(flat.size, np.int32))
            prepared[name] = philox.parameter_address(name), kept
            # In pieces that caches hold: float64 takes several times the parameter's memory.
            pieces += [
                partial(_prepare_piece, flat, kept, slice(start, start + PREPARED_AT_A_TIME))
                for start in range(0, flat.size, PREPARED_AT_A_TIME)
            ]
        _run(pieces)
        _prepared[posterior] = prepared
    return _prepared[posterior]


def _prepare_piece(flat: np.ndarray, kept: philox.Thresholds, where: slice) -> None:
    kept.head[where], kept.tail[where] = philox.thresholds(flat[where])
