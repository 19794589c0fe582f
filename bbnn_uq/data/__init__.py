"""Data sets by name: embedded and public ones, and the user's own ``.npz`` files."""

from __future__ import annotations

from bbnn_uq.data.arrays import ArrayData
from bbnn_uq.data.cifar import cifar10, cifar100
from bbnn_uq.data.registry import data_names, load_data

__all__ = ["ArrayData", "cifar10", "cifar100", "data_names", "load_data"]
