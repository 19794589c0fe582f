"""Where the networks of a prediction come from: drawn when needed, or kept for many requests."""

from __future__ import annotations

import copy
import math
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from bbnn_uq.inference.architecture import Architecture
from bbnn_uq.inference.products import Undrawn, empty_weights
from bbnn_uq.networks import (
    draw_on_gpu,
    draw_signs,
    pack_signs,
    thresholds_on,
    unpack_signs,
)
from bbnn_uq.posterior import Posterior

__all__ = ["Buffers", "Drawn", "Fused", "ModeNetworks", "Packed", "Ready", "Source", "by_member"]


class Buffers:
    """Memory for the weights of some networks, used again for the next ones.

    Fresh memory for each network would be handed out and taken back page by page.

    Args:
        architecture: of the networks.
        size: how many networks at a time.
    """

    def __init__(self, architecture: Architecture, size: int) -> None:
        self._device = architecture.device
        self.weights = {
            name: empty_weights((size, *shape), architecture.weight_dtype(name), self._device)
            for name, shape in architecture.weight_shapes.items()
        }
        # A CPU draws contiguous int8, a GPU what the products read.
        self._signs = {
            name: None
            if self._takes_signs(weight)
            else torch.empty(weight.shape[1:], dtype=torch.int8)
            for name, weight in self.weights.items()
        }

    def _takes_signs(self, weight: Tensor) -> bool:
        return weight.dtype == torch.int8 and weight.is_cpu and weight.is_contiguous()

    def signs(self, position: int) -> dict[str, Tensor]:
        """Where to draw a network to; :meth:`place` puts it at its position."""
        return {
            name: self.weights[name][position] if signs is None else signs
            for name, signs in self._signs.items()
        }

    def at(self, position: int) -> Buffers:
        """This memory at one position, as buffers for one network."""
        part = copy.copy(self)
        part.weights = {
            name: value[position : position + 1] for name, value in self.weights.items()
        }
        return part

    def place(self, position: int) -> None:
        """Turn the signs into weights as the products want them."""
        for name, signs in self._signs.items():
            if signs is not None:
                self.weights[name][position].copy_(signs)


@runtime_checkable
class Source(Protocol):
    """Networks by number, each with everything that the forward pass needs."""

    def states(self, networks: range, buffers: Buffers | None) -> dict[str, Tensor]:
        """Weights, parameters and buffers of networks of one member, placed.

        Weights and BatchNorm statistics have a leading axis of these networks. The values are
        valid until the next call with these buffers.
        """
        ...


class Drawn:
    """Every network is drawn when it is asked for."""

    def __init__(self, architecture: Architecture, posterior: Posterior, seed: int) -> None:
        self._architecture = architecture
        self._posterior = posterior
        self.seed = seed

    def states(self, networks: range, buffers: Buffers | None) -> dict[str, Tensor]:
        """See :class:`Source`."""
        assert buffers is not None
        if self._architecture.device.type == "cuda":
            draw_on_gpu(self._posterior, networks, seed=self.seed, out=buffers.weights)
        else:
            for position, index in enumerate(networks):
                draw_signs(self._posterior, index, seed=self.seed, out=buffers.signs(position))
                buffers.place(position)
        return self.real_states(networks) | _first(buffers.weights, len(networks))

    def real_states(self, networks: range) -> dict[str, Tensor]:
        """Everything but the weights."""
        member = self._posterior.member(networks[0])
        states = [member.state_of(index, seed=self.seed) for index in networks]
        own = () if member.batchnorm is None else member.batchnorm.networks
        return self._architecture.placed(
            states[0] | {name: torch.stack([state[name] for state in states]) for name in own}
        )


class Fused:
    """Networks that are drawn within their products, on a GPU, for a few inputs."""

    def __init__(self, drawn: Drawn, architecture: Architecture, posterior: Posterior) -> None:
        self._drawn = drawn
        self._architecture = architecture
        self._posterior = posterior

    def states(self, networks: range, buffers: Buffers | None) -> dict[str, Tensor]:
        """See :class:`Source`; networks are consecutive."""
        del buffers
        assert networks.step == 1
        architecture, weights = self._architecture, {}
        for name, shape in architecture.weight_shapes.items():
            member = self._posterior.member(networks[0])
            address, head, tail = thresholds_on(member, name, architecture.device)
            weights[name] = Undrawn.of(
                (len(networks), *shape),
                architecture.weight_dtype(name),
                (head, tail),
                (self._drawn.seed, networks[0]),
                address,
            )
        return self._drawn.real_states(networks) | weights


class Packed:
    """Networks drawn once and kept at one bit a weight."""

    def __init__(self, drawn: Drawn, architecture: Architecture, num_networks: int) -> None:
        buffers = Buffers(architecture, 1)
        self._drawn = drawn
        self._networks = []
        for index in range(num_networks):
            drawn.states(range(index, index + 1), buffers)
            self._networks.append({n: pack_signs(v) for n, v in buffers.signs(0).items()})

    def states(self, networks: range, buffers: Buffers | None) -> dict[str, Tensor]:
        """See :class:`Source`."""
        assert buffers is not None
        for position, index in enumerate(networks):
            signs = buffers.signs(position)
            for name, packed in self._networks[index].items():
                unpack_signs(packed, signs[name])
            buffers.place(position)
        return self._drawn.real_states(networks) | _first(buffers.weights, len(networks))


class Ready:
    """Networks drawn once and kept as the products want them."""

    def __init__(self, drawn: Drawn, architecture: Architecture, num_networks: int) -> None:
        self._drawn = drawn
        self._whole = Buffers(architecture, num_networks)
        for index in range(num_networks):
            part = self._whole.at(index)
            drawn.states(range(index, index + 1), part)

    def states(self, networks: range, buffers: Buffers | None) -> dict[str, Tensor]:
        """See :class:`Source`."""
        del buffers
        where = slice(networks.start, networks.stop, networks.step)
        weights = {name: value[where] for name, value in self._whole.weights.items()}
        return self._drawn.real_states(networks) | weights


class ModeNetworks:
    """The most probable network of each member of the posterior."""

    def __init__(self, architecture: Architecture, posterior: Posterior) -> None:
        self._architecture = architecture
        self._posterior = posterior

    def states(self, networks: range, buffers: Buffers | None) -> dict[str, Tensor]:
        """See :class:`Source`; there is one network at a time."""
        assert buffers is not None
        (index,) = networks
        member = self._posterior.member(index)
        signs = buffers.signs(0)
        for name, value in member.mode().items():
            signs[name].copy_(value)
        buffers.place(0)
        return self._architecture.placed(member.state_of(None)) | _first(buffers.weights, 1)


def by_member(networks: range, members: int) -> list[range]:
    """The networks of each member of a mixture, index modulo K, as ranges of their own.

    Example:
        >>> by_member(range(5), 2)
        [range(0, 5, 2), range(1, 5, 2)]
    """
    firsts = [next((n for n in networks if n % members == k), None) for k in range(members)]
    step = math.lcm(networks.step, members)
    return [range(first, networks.stop, step) for first in firsts if first is not None]


def _first(weights: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    return {name: value[:count] for name, value in weights.items()}
