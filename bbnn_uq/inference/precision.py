"""Which floating type a network is computed in."""

from __future__ import annotations

import torch

from bbnn_uq._checks import check_choice

__all__ = ["PRECISIONS", "resolve_precision"]

PRECISIONS = {"float32": torch.float32, "float64": torch.float64}

SMALL_MODEL = 2**20
"""Binary weights up to which a CPU computes in float64 at ``auto``."""


def resolve_precision(
    precision: str, *, num_weights: int, device: torch.device, accepts_float64: bool
) -> str:
    """The precision to compute in; ``auto`` depends on the model and the device only.

    A float32 product of 1 row rounds differently from one of 1,000 rows. Two nearly equal scores
    may then change places with the batch size, and AUROC, ECE and their like jump by one input's
    share. Small models on a CPU therefore run in float64, where no figure moves by 1e-6; it
    costs them less than a factor of two. Others run in float32.

    Args:
        precision: ``auto``, ``float32`` or ``float64``.
        num_weights: binary weights of the model.
        device: where it runs.
        accepts_float64: whether the model's forward pass takes float64 inputs.

    Raises:
        ValueError: the name is unknown.

    Example:
        >>> cpu = torch.device("cpu")
        >>> resolve_precision("auto", num_weights=1000, device=cpu, accepts_float64=True)
        'float64'
    """
    check_choice(precision, "precision", ("auto", *PRECISIONS))
    if precision != "auto":
        return precision
    small = num_weights <= SMALL_MODEL and device.type == "cpu"
    return "float64" if small and accepts_float64 else "float32"
