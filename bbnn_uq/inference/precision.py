"""Which numbers a network is computed in."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from bbnn_uq._checks import check_choice

__all__ = [
    "PRECISIONS",
    "SMALL_MODEL",
    "Precision",
    "check_precision",
    "exact_precision",
    "fast_precision",
]


class Precision(NamedTuple):
    """Types of the activations between layers and of the weights in products."""

    activations: torch.dtype
    weights: torch.dtype


PRECISIONS = {
    "float32": Precision(torch.float32, torch.float32),
    "float64": Precision(torch.float64, torch.float64),
    "bfloat16": Precision(torch.float32, torch.bfloat16),
    "int8": Precision(torch.float32, torch.int8),
}

SMALL_MODEL = 2**20
"""Binary weights up to which ``auto`` takes no fast precision, and float64 on a CPU."""


def exact_precision(
    *, num_weights: int, device: torch.device, accepts_float64: Callable[[], bool]
) -> str:
    """float64 for small models on a CPU, float32 otherwise.

    A float32 product of 1 row rounds differently from one of 1,000 rows. Two nearly equal scores
    may then change places with the batch size, and AUROC, ECE and their like jump by one input's
    share. Small models on a CPU therefore run in float64, where no figure moves by 1e-6; it
    costs them less than a factor of two.

    Args:
        num_weights: binary weights of the model.
        device: where it runs.
        accepts_float64: whether the model's forward pass takes float64 inputs.

    Example:
        >>> cpu = torch.device("cpu")
        >>> exact_precision(num_weights=1000, device=cpu, accepts_float64=lambda: True)
        'float64'
    """
    small = num_weights <= SMALL_MODEL and device.type == "cpu"
    return "float64" if small and accepts_float64() else "float32"


def fast_precision(device: torch.device) -> str:
    """The fastest precision for large products on a device.

    int8 on a CPU with instructions for it (VNNI or AMX), bfloat16 on a GPU with tensor cores for
    it, float32 elsewhere.

    Example:
        >>> fast_precision(torch.device("cpu")) in ("int8", "float32")
        True
    """
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0):
        return "bfloat16"
    if device.type == "cpu" and _has_int8_instructions():
        return "int8"
    return "float32"


def _has_int8_instructions() -> bool:
    # Underscored in torch, and there is no other way to ask; a missing one means no.
    names = ("_is_vnni_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in names)


def check_precision(precision: str) -> str:
    """One of :data:`PRECISIONS` or ``auto``.

    Raises:
        ValueError: it is not.
    """
    return check_choice(precision, "precision", ("auto", *PRECISIONS))
