"""Drawing Monte Carlo binary networks from a posterior."""

from __future__ import annotations

from collections.abc import Iterator
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from bbnn_uq import philox
from bbnn_uq._checks import check_seed
from bbnn_uq.posterior import BernoulliPosterior, Posterior

__all__ = ["draw", "draw_bits"]

_Prepared = dict[str, tuple[int, philox.Thresholds]]
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
    network: dict[str, Tensor] = {}
    natural = posterior.member(check_seed(index, "index")).natural_param
    for name, positive in draw_bits(posterior, index, seed=seed):
        like = natural[name]
        bits = torch.from_numpy(positive).to(device=device)
        network[name] = bits.to(like.dtype).mul_(2).sub_(1).view(like.shape)
    return network


def draw_bits(
    posterior: Posterior, index: int, *, seed: int = 0
) -> Iterator[tuple[str, np.ndarray]]:
    """The same network as :func:`draw`, as bits: name and a flat bool array, True for +1.

    Example:
        >>> posterior = BernoulliPosterior({"weight": torch.tensor([[-9.0, 9.0]])}, {}, {})
        >>> [(name, bits.tolist()) for name, bits in draw_bits(posterior, 0)]
        [('weight', [False, True])]
    """
    key = (check_seed(seed), check_seed(index, "index"))
    for name, (address, thresholds) in _prepare(posterior.member(index)).items():
        yield name, philox.positive_weights(thresholds, key, address)


def _prepare(posterior: BernoulliPosterior) -> _Prepared:
    """Addresses and thresholds by parameter, computed once per posterior (5 bytes a weight)."""
    if posterior not in _prepared:
        _prepared[posterior] = {
            name: (philox.parameter_address(name), philox.thresholds(value.double().numpy()))
            for name, value in posterior.natural_param.items()
        }
    return _prepared[posterior]
