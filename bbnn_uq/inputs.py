"""Inputs in all the forms that people have them, and the normalisation that goes with a posterior.

A posterior's ``metadata["normalisation"]``, when it is there, holds the mean and standard
deviation of the training inputs by feature or image channel. Everything that a model with that
posterior is shown goes through the same transform, out-of-distribution inputs included.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sized
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, TensorDataset

from bbnn_uq.likelihoods import Likelihood

_Result = TypeVar("_Result")

__all__ = [
    "all_inputs",
    "check_device",
    "checked_inputs",
    "compute_normalisation",
    "first_of",
    "labelled_data",
    "normalise",
    "outputs_of",
    "seeded_torch",
    "training_batches",
    "whole_data",
]


def all_inputs(inputs: Any) -> Tensor:
    """The inputs as one CPU tensor (N, ...): from a tensor, array, Dataset or DataLoader.

    Datasets and loaders may give inputs alone or (input, label) pairs; labels are dropped.

    Raises:
        TypeError: the inputs are of none of these kinds, or hold no numbers.
        ValueError: there are none, or some are NaN or infinite.

    Example:
        >>> all_inputs(np.zeros((2, 3), dtype=np.float32)).shape
        torch.Size([2, 3])
    """
    if isinstance(inputs, DataLoader):
        tensor = _concatenated([first_of(batch) for batch in inputs])
    elif isinstance(inputs, Dataset):
        if not isinstance(inputs, Sized):
            raise TypeError("inputs is a Dataset without a length; pass a DataLoader of it")
        items = [torch.as_tensor(first_of(inputs[i])) for i in range(len(inputs))]
        tensor = torch.stack(items) if items else torch.empty(0)
    else:
        tensor = _as_tensor(inputs, "inputs")
    return checked_inputs(tensor.detach().cpu(), "inputs")


def labelled_data(
    data: Any, likelihood: Likelihood, name: str = "data"
) -> tuple[Tensor, Tensor] | DataLoader | Dataset:
    """Training data as a pair of CPU tensors (x, y), or as the Dataset or DataLoader it is.

    Args:
        data: what the user gave.
        likelihood: says what targets y have to be.
        name: of the argument, for errors.

    Raises:
        TypeError: it is neither, or the targets are of another kind than the likelihood's.
        ValueError: the lengths differ, it is empty, or inputs are NaN or infinite.
    """
    if isinstance(data, (DataLoader, Dataset)):
        return data
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise TypeError(
            f"{name} must be a DataLoader, a Dataset or a pair (x, y), got {type(data).__name__}"
        )
    x = checked_inputs(_as_tensor(data[0], f"{name} x"), f"{name} x")
    return x, likelihood.check_targets(_as_tensor(data[1], f"{name} y"), len(x), f"{name} y")


def training_batches(data: Any, batch_size: int, seed: int) -> tuple[DataLoader, int]:
    """Shuffled batches (x, y) of what :func:`labelled_data` gives, and the number of inputs.

    Args:
        data: a pair of tensors, a Dataset, or a DataLoader, which is taken as it is.
        batch_size: inputs per batch; all of them when there are fewer.
        seed: of the order.
    """
    if isinstance(data, DataLoader):
        return data, len(data.dataset)  # pyright: ignore[reportArgumentType]
    generator = torch.Generator().manual_seed(seed)
    # The last batch is dropped when it is not full: one input alone has no variance for
    # BatchNorm, and shuffling shows every input sooner or later.
    if not isinstance(data, tuple):
        size = len(data)
        return DataLoader(
            data, min(batch_size, size), shuffle=True, drop_last=True, generator=generator
        ), size
    dataset = TensorDataset(*data)
    size = len(dataset)
    # Tensors are indexed by a whole batch at once, where a plain loader would collate items.
    order = RandomSampler(dataset, generator=generator)
    batches = BatchSampler(order, min(batch_size, size), drop_last=True)
    return DataLoader(dataset, sampler=batches, batch_size=None, generator=generator), size


def whole_data(data: Any, likelihood: Likelihood, name: str = "val") -> tuple[Tensor, Tensor]:
    """Labelled data as one pair of tensors."""
    data = labelled_data(data, likelihood, name)
    if isinstance(data, tuple):
        return data
    if not isinstance(data, DataLoader):
        # Even an unshuffled loader reads a seed: from here rather than from the global stream.
        data = DataLoader(data, 1000, generator=torch.Generator())
    batches = [(x, y) for x, y in data]
    x, y = torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])
    return x, likelihood.check_targets(y, len(x), f"{name} y")


def compute_normalisation(x: Tensor) -> dict[str, list[float]]:
    """Mean and standard deviation of the training inputs, as JSON values.

    By channel for images (N, C, H, W), by feature for vectors (N, F). A feature that never
    varies keeps its scale (standard deviation 1).

    Example:
        >>> compute_normalisation(torch.tensor([[0.0, 5.0], [2.0, 5.0]]))
        {'mean': [1.0, 5.0], 'std': [1.0, 1.0]}
    """
    axes = [axis for axis in range(x.ndim) if axis != 1]
    values = x.double()
    mean, std = values.mean(dim=axes), values.std(dim=axes, correction=0)
    return {"mean": mean.tolist(), "std": torch.where(std > 0, std, 1.0).tolist()}


def normalise(x: Tensor, normalisation: Any) -> Tensor:
    """(x − mean) / std along the channel axis, or ``x`` itself when there is no normalisation.

    Raises:
        ValueError: the inputs have another number of channels or features, or the normalisation
            is no dictionary of lists ``mean`` and ``std``.

    Example:
        >>> normalise(torch.tensor([[2.0]]), {"mean": [1.0], "std": [0.5]})
        tensor([[2.]])
    """
    if normalisation is None:
        return x
    try:
        channels = len(normalisation["mean"])
        assert channels == len(normalisation["std"])
    except (AssertionError, KeyError, TypeError):
        raise ValueError(
            "the posterior's normalisation is damaged: it needs lists mean and std of one length"
        ) from None
    if x.ndim < 2 or x.shape[1] != channels:
        raise ValueError(
            f"inputs of shape {tuple(x.shape)} do not fit the posterior, whose normalisation "
            f"has {channels} channels or features on axis 1"
        )
    shape = (channels,) + (1,) * (x.ndim - 2)
    x = x if x.is_floating_point() else x.float()
    mean = torch.tensor(normalisation["mean"], dtype=x.dtype, device=x.device).view(shape)
    std = torch.tensor(normalisation["std"], dtype=x.dtype, device=x.device).view(shape)
    return (x - mean) / std


def outputs_of(model: Callable[[Tensor], _Result], x: Tensor) -> _Result:
    """The model's outputs, or whatever is made of them.

    Raises:
        ValueError: the model failed on inputs of this shape and type.
    """
    try:
        return model(x)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"the model failed on inputs of shape {tuple(x.shape)} and type {x.dtype}: {reason}"
        ) from error


def check_device(device: torch.device | str | None) -> torch.device:
    """The device asked for, or a GPU when there is one and the CPU otherwise.

    Raises:
        ValueError: there is no such device here.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        wanted = torch.device(device)
        torch.zeros(1, device=wanted).item()  # "meta" holds no values
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {str(device)!r} cannot be used here: {reason}") from None
    return wanted


@contextlib.contextmanager
def seeded_torch(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global stream, which dropout reads, and give it back as it was."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def first_of(item: Any) -> Any:
    """The input of an (input, label) pair, or the input itself."""
    return item[0] if isinstance(item, (tuple, list)) else item


def _as_tensor(values: Any, name: str) -> Tensor:
    if isinstance(values, Tensor):
        return values.detach().cpu()
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must be numbers (array, tensor), got {type(values).__name__}")
    return torch.from_numpy(np.ascontiguousarray(array).copy())


def _concatenated(batches: list[Any]) -> Tensor:
    return (
        torch.cat([torch.as_tensor(batch).cpu() for batch in batches])
        if batches
        else (torch.empty(0))
    )


def checked_inputs(x: Tensor, name: str) -> Tensor:
    """The inputs in a type to compute with.

    Raises:
        ValueError: there are none, they have no features, or some are NaN or infinite.
    """
    if x.ndim < 2 or x.numel() == 0:
        raise ValueError(
            f"{name} must have shape (N, ...) with at least one input and one feature, "
            f"got {tuple(x.shape)}"
        )
    if x.is_floating_point():
        # In pieces: the check of a large tensor would take twice its memory.
        pieces = x.split(1 + 2**20 // x[0].numel())
        if not all(bool(torch.isfinite(piece).all()) for piece in pieces):
            bad = int((~torch.isfinite(x)).sum())
            raise ValueError(
                f"{name} must be finite, got {bad} NaN or infinite values; remove or replace them"
            )
        x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    return x
