"""Data sets by name, file, folder or function, and corruptions of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bbnn_uq.data.arrays import ArrayData
from bbnn_uq.data.cifar import cifar10, cifar100
from bbnn_uq.data.corruptions import CORRUPTIONS, corrupt
from bbnn_uq.data.idx import read_idx, write_idx
from bbnn_uq.data.image_folder import image_folder
from bbnn_uq.data.registry import data_names, load_data, set_name
from bbnn_uq.data.svhn import svhn

if TYPE_CHECKING:
    from bbnn_uq.data.lazy import LazyInputs

__all__ = [
    "CORRUPTIONS",
    "ArrayData",
    "LazyInputs",
    "cifar10",
    "cifar100",
    "corrupt",
    "data_names",
    "image_folder",
    "load_data",
    "read_idx",
    "set_name",
    "svhn",
    "write_idx",
]


def __getattr__(name: str) -> Any:
    """Load ``LazyInputs`` when it is first used, since it brings torch."""
    if name == "LazyInputs":
        from bbnn_uq.data.lazy import LazyInputs

        return LazyInputs
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
