"""Checkpoints: nested state as one safetensors file, whole or absent."""

from __future__ import annotations

import json
import os
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bbnn_uq._files import atomic_path

__all__ = ["load_checkpoint", "save_checkpoint"]

_HEADER, _TENSOR = "bbnn_uq_checkpoint", "__tensor__"


def save_checkpoint(path: str | os.PathLike[str], state: Any) -> None:
    """Write nested dictionaries and lists of tensors and JSON values.

    Dictionary keys may be strings or integers, as in an optimizer's ``state_dict``.

    Args:
        path: replaced in one move, so that a kill at any point leaves the old file or the new.
        state: what to write.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/checkpoint.safetensors"
        >>> save_checkpoint(path, {"epoch": 3, "state": {0: torch.ones(2)}})
        >>> load_checkpoint(path)
        {'epoch': 3, 'state': {0: tensor([1., 1.])}}
    """
    tensors: dict[str, Tensor] = {}
    tree = _flattened(state, tensors)
    # safetensors refuses an empty file.
    tensors = tensors or {"empty": torch.zeros(1)}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={_HEADER: json.dumps(tree)})


def load_checkpoint(path: str | os.PathLike[str]) -> Any:
    """Read what :func:`save_checkpoint` wrote.

    Raises:
        ValueError: the file is damaged or no checkpoint.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tree = json.loads((file.metadata() or {})[_HEADER])
            return _unflattened(tree, file)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise ValueError(
            f"{os.fspath(path)!r} is no readable checkpoint ({error}); delete it to start over"
        ) from None


def _flattened(value: Any, tensors: dict[str, Tensor]) -> Any:
    """JSON in which tensors are references; dictionaries are lists of pairs, to keep int keys."""
    if isinstance(value, Tensor):
        key = str(len(tensors))
        tensors[key] = value.detach().cpu().contiguous().clone()
        return {_TENSOR: key}
    if isinstance(value, dict):
        return {"pairs": [[key, _flattened(item, tensors)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        return [_flattened(item, tensors) for item in value]
    return value


def _unflattened(value: Any, file: Any) -> Any:
    if isinstance(value, dict):
        if _TENSOR in value:
            return file.get_tensor(value[_TENSOR])
        return {key: _unflattened(item, file) for key, item in value["pairs"]}
    if isinstance(value, list):
        return [_unflattened(item, file) for item in value]
    return value
