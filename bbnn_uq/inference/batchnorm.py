"""BatchNorm statistics of single drawn networks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from bbnn_uq._checks import check_count, check_seed
from bbnn_uq.inference.architecture import Architecture, batchnorm_layers
from bbnn_uq.inputs import all_inputs, check_device, normalise
from bbnn_uq.networks import draw
from bbnn_uq.posterior import (
    BatchNormStatistics,
    BernoulliPosterior,
    PosteriorMixture,
)

__all__ = ["batchnorm_disagreement", "refresh_batchnorm"]

NUM_INPUTS = 4000
MOST_ACTIVATIONS = 2**27  # of all layers together in one pass: 1 GiB in float64


_AnyPosterior = TypeVar("_AnyPosterior", BernoulliPosterior, PosteriorMixture)


@torch.no_grad()
def refresh_batchnorm(
    model: nn.Module,
    posterior: _AnyPosterior,
    data: Any,
    *,
    num_samples: int = 32,
    seed: int = 0,
    num_inputs: int = NUM_INPUTS,
    device: torch.device | str | None = None,
) -> _AnyPosterior:
    """Re-estimate BatchNorm statistics for each drawn network, from training data.

    Training leaves running averages over all networks that were drawn on the way. A single drawn
    network has activations of its own, whose mean m and variance v by feature are measured here
    with that network alone on ``num_inputs`` training inputs, and likewise for the mode. A large
    network takes them in several batches, and the statistics are the batches' averages. They are
    kept with the posterior: :func:`bbnn_uq.predict` normalises each covered network by its own.
    The running averages themselves become the averages of m and of v over the networks.

    A model without BatchNorm passes through.

    Args:
        model: the architecture; it is left unchanged.
        posterior: to be refreshed.
        data: training inputs, never those under test: a tensor, array, Dataset or DataLoader, or
            a pair (x, y).
        num_samples: the networks 0 … num_samples − 1 are covered.
        seed: of the networks.
        num_inputs: how many inputs to measure on, taken from ``data`` at random (seeded).
        device: where to compute; a GPU when there is one and none is named.

    Returns:
        The posterior with the statistics.

    Raises:
        TypeError, ValueError: an argument is out of its range, or the posterior does not fit.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3, bias=False), nn.BatchNorm1d(3))
        >>> real = {n: t for n, t in model.state_dict().items() if n != "0.weight"}
        >>> posterior = BernoulliPosterior({"0.weight": torch.zeros(3, 2)}, real)
        >>> x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
        >>> refreshed = refresh_batchnorm(model, posterior, x, num_samples=4)
        >>> refreshed.batchnorm.networks["1.running_var"].shape
        torch.Size([4, 3])
    """
    check_count(num_samples, "num_samples")
    check_seed(seed)
    check_count(num_inputs, "num_inputs", minimum=2)
    if isinstance(posterior, PosteriorMixture):
        members = [
            refresh_batchnorm(
                model, member, data, num_samples=num_samples, seed=seed, num_inputs=num_inputs,
                device=device,
            )
            for member in posterior.posteriors
        ]  # fmt: skip
        return PosteriorMixture(members)
    if not batchnorm_layers(model):
        return posterior
    x = _subset(data, num_inputs)
    x = normalise(x, posterior.metadata.get("normalisation"))
    architecture = Architecture(model, posterior, x[:1], "exact", check_device(device))
    measured = [
        _measure(architecture, posterior.real_state | draw(posterior, index, seed=seed), x)
        for index in range(num_samples)
    ]
    networks = {name: torch.stack([each[name] for each in measured]) for name in measured[0]}
    mode = _measure(architecture, posterior.real_state | posterior.mode(), x)
    averages = {name: values.mean(dim=0) for name, values in networks.items()}
    return replace(
        posterior,
        real_state=posterior.real_state | averages,
        batchnorm=BatchNormStatistics(seed, networks, mode),
    )


@torch.no_grad()
def batchnorm_disagreement(
    model: nn.Module,
    posterior: BernoulliPosterior,
    data: Any,
    *,
    num_samples: int = 8,
    seed: int = 0,
    num_inputs: int = NUM_INPUTS,
    device: torch.device | str | None = None,
) -> dict[str, float]:
    """How far the averaged statistics are from those of drawn networks, by BatchNorm layer.

    The root mean square over networks and features of (m_s − m) / √v, with m_s the mean of
    network s and m, v the posterior's averages: the shift, in standard deviations, that a
    network without statistics of its own suffers at that layer. Above about 0.1 it is worth a
    :func:`bbnn_uq.refresh_batchnorm`; at 1 the layer's output is mostly misplaced.

    Args:
        model: the architecture; it is left unchanged.
        posterior: whose averages are checked.
        data: training inputs, as for :func:`bbnn_uq.refresh_batchnorm`.
        num_samples: networks to compare with.
        seed: of the networks.
        num_inputs: how many inputs to measure on.
        device: where to compute.

    Returns:
        Layer name → disagreement, at least 0; empty for a model without BatchNorm.

    Example:
        >>> model = nn.Linear(2, 2)
        >>> posterior = BernoulliPosterior({"weight": torch.zeros(2, 2)}, {"bias": torch.zeros(2)})
        >>> batchnorm_disagreement(model, posterior, torch.zeros(3, 2))
        {}
    """
    fresh = refresh_batchnorm(
        model, posterior, data, num_samples=num_samples, seed=seed, num_inputs=num_inputs,
        device=device,
    )  # fmt: skip
    disagreement = {}
    for name, layer in batchnorm_layers(model).items():
        assert fresh.batchnorm is not None
        key = f"{name}." if name else ""
        drawn = fresh.batchnorm.networks[f"{key}running_mean"].double()
        mean = posterior.real_state[f"{key}running_mean"].double()
        variance = posterior.real_state[f"{key}running_var"].double() + layer.eps
        disagreement[name] = float(((drawn - mean) ** 2 / variance).mean().sqrt())
    return disagreement


def _subset(data: Any, count: int) -> Tensor:
    """Up to ``count`` of the inputs, at random; of a loader, its first ones."""
    if isinstance(data, DataLoader):
        data = _first_inputs(data, count)
    x = all_inputs(data[0] if isinstance(data, tuple) else data)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    if len(x) < 2:
        raise ValueError("data has 1 input; BatchNorm statistics need at least 2")
    return x[order[:count]]


def _first_inputs(loader: DataLoader, count: int) -> Tensor:
    batches: list[Tensor] = []
    for batch in loader:
        batches.append(torch.as_tensor(batch[0] if isinstance(batch, (tuple, list)) else batch))
        if sum(len(each) for each in batches) >= count:
            break
    return torch.cat(batches) if batches else torch.empty(0)


def _measure(architecture: Architecture, state: dict[str, Tensor], x: Tensor) -> dict[str, Tensor]:
    """The running statistics that one pass over ``x`` leaves, for one network."""
    names = [
        f"{name}.{kind}" if name else kind
        for name in batchnorm_layers(architecture.module)
        for kind in ("running_mean", "running_var")
    ]
    # Buffers are updated in place: these copies, not the posterior's tensors.
    state = state | {name: state[name].clone() for name in names}
    counters = {name: value.clone() for name, value in state.items() if value.dtype == torch.int64}
    placed = architecture.placed(state | counters)
    forward = architecture.forward(placed)
    # Whole networks at a time, so batches are split where all activations would not fit.
    parts = -(-len(x) * _activations(architecture, forward, x[:1]) // MOST_ACTIVATIONS)
    seen = 0
    with _measuring(batchnorm_layers(architecture.module).values()) as weigh:
        # Sizes differ by 1 at most, and none is 1: one input alone has no variance.
        for batch in x.tensor_split(min(parts, len(x) // 2)):
            seen += len(batch)
            weigh(len(batch) / seen)
            forward(batch)
    return {name: placed[name].to("cpu", torch.float32) for name in names}


def _activations(
    architecture: Architecture, forward: Callable[[Tensor], Tensor], one: Tensor
) -> int:
    """Numbers that the outputs of all modules hold for one input."""
    sizes: list[int] = []

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            sizes.append(output.numel())

    hooks = [module.register_forward_hook(note) for module in architecture.module.modules()]
    try:
        forward(one)
    finally:
        for hook in hooks:
            hook.remove()
    return max(1, sum(sizes))


@contextmanager
def _measuring(layers: Iterable[_BatchNorm]) -> Iterator[Callable[[float], None]]:
    """BatchNorm layers take the statistics of the inputs, with the weight that is set for each."""
    kept = [(layer, layer.momentum) for layer in layers]

    def weigh(momentum: float) -> None:
        for layer, _ in kept:
            layer.momentum = momentum

    try:
        for layer, _ in kept:
            layer.train()
        yield weigh
    finally:
        for layer, momentum in kept:
            layer.eval()
            layer.momentum = momentum
