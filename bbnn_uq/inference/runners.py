"""Running networks over inputs, some at a time, or local reparameterisation in their place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from bbnn_uq.inference.architecture import Architecture
from bbnn_uq.inference.local import LocalReparameterisation
from bbnn_uq.inference.plan import peak_bytes
from bbnn_uq.inference.sources import Buffers, Fused, Ready, Source, by_member
from bbnn_uq.inputs import outputs_of
from bbnn_uq.posterior import Posterior, PosteriorMixture

__all__ = ["Forward", "Local", "Networks", "Runner", "can_be_grouped", "forward_bytes"]

Forward = Callable[[Tensor, int], Tensor]
"""From inputs (n, ...) and the first one's number to the outputs of some networks, (g, n, ...)."""


@runtime_checkable
class Runner(Protocol):
    """Networks, some at a time, each group with its forward pass."""

    def groups(self, networks: range, size: int) -> Iterator[tuple[range, Forward]]:
        """Groups of up to ``size`` networks; a forward pass is valid until the next group."""
        ...


class Networks:
    """Networks with weights, one after the other or several at once."""

    def __init__(self, architecture: Architecture, source: Source, members: int) -> None:
        self._architecture = architecture
        self._source = source
        self._members = members

    def groups(self, networks: range, size: int) -> Iterator[tuple[range, Forward]]:
        """See :class:`Runner`."""
        buffers = None
        if not isinstance(self._source, (Fused, Ready)):
            buffers = Buffers(self._architecture, size)
        for group in _groups(networks, self._members, size):
            state = self._source.states(group, buffers)
            if len(group) == 1 and not isinstance(self._source, Fused):
                state = self._alone(state)
            run = self._architecture.forward(state)
            yield group, partial(_outputs, run, len(group))

    def _alone(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """One network's state without the leading axis."""
        shapes = self._architecture.state_shapes
        return {n: v if v.shape == shapes[n] else v[0] for n, v in state.items()}


def _outputs(run: Callable[[Tensor], Tensor], networks: int, x: Tensor, first: int = 0) -> Tensor:
    del first  # a drawn network does not care which input it is
    if networks == 1:
        return run(x)[None]
    rows = x.expand(networks, *x.shape).flatten(0, 1)
    return run(rows).unflatten(0, (networks, -1))


def _groups(networks: range, members: int, size: int) -> Iterator[range]:
    """Up to ``size`` networks at a time, in their order; more than one are of one member."""
    for own in [networks] if size == 1 else by_member(networks, members):
        yield from (own[start : start + size] for start in range(0, len(own), size))


class Local:
    """Pre-activations are drawn, and no network is; see :mod:`bbnn_uq.inference.local`."""

    def __init__(self, architecture: Architecture, posterior: Posterior, seed: int) -> None:
        self._architecture = architecture
        self._seed = seed
        mixture = isinstance(posterior, PosteriorMixture)
        self._members = [
            LocalReparameterisation(
                architecture.module,
                member.natural_param,
                architecture.placed(member.real_state),
                dtype=architecture.dtype,
                device=architecture.device,
            )
            for member in (posterior.posteriors if mixture else (posterior,))
        ]

    def groups(self, networks: range, size: int) -> Iterator[tuple[range, Forward]]:
        """See :class:`Runner`."""
        count = len(self._members)
        for group in _groups(networks, count, size):
            run = partial(self._members[group[0] % count].outputs, networks=group)
            yield group, lambda x, first, run=run: self._drawn(run, x, first)

    def _drawn(self, run: Callable[..., Tensor], x: Tensor, first: int) -> Tensor:
        # The module is this thread's own.
        module = self._architecture.module
        return run(x, seed=self._seed, first_input=first, module=module)


def can_be_grouped(architecture: Architecture, posterior: Posterior, probe: Tensor) -> bool:
    """Whether several networks can be run at once: seen by two of them on three inputs."""
    if architecture.recorded(posterior, probe) != architecture.weight_shapes.keys():
        return False
    member = posterior.member(0)
    own = () if member.batchnorm is None else member.batchnorm.networks
    state = {name: value.to("meta") for name, value in member.real_state.items()}
    state = architecture.placed(state | {name: torch.stack([state[name]] * 2) for name in own})
    for name, shape in architecture.weight_shapes.items():
        state[name] = torch.empty(2, *shape, dtype=architecture.weight_dtype(name), device="meta")
    x = probe.to("meta").expand(3, *probe.shape[1:])
    try:
        return len(_outputs(architecture.forward(state), 2, x)) == 2
    except (RuntimeError, TypeError, ValueError):
        return False


def forward_bytes(
    architecture: Architecture, state: dict[str, Tensor], x: Tensor
) -> tuple[int, int]:
    """The peak of a forward pass in bytes, and the number of outputs for one input.

    From shapes alone where the model allows it.
    """

    def measured(state: dict[str, Tensor], x: Tensor) -> tuple[int, int]:
        run = architecture.forward(state)
        sizes = []
        peak = peak_bytes(lambda: sizes.append(run(x).numel()))
        return peak, -(-sizes[0] // len(x))

    try:
        return measured({name: value.to("meta") for name, value in state.items()}, x.to("meta"))
    except (RuntimeError, TypeError, ValueError):
        zeros = {n: torch.zeros(v.shape, dtype=v.dtype) for n, v in state.items() if v.is_meta}
        return outputs_of(lambda x: measured(state | architecture.placed(zeros), x), x)
