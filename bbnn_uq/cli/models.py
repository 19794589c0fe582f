"""The model that a command names, or that a posterior's file states."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from bbnn_uq import models
from bbnn_uq._imports import call_named
from bbnn_uq.posterior import Posterior

__all__ = ["build_model", "check_model", "model_of"]

_STATED = {"model": str, "input_shape": list, "num_outputs": int, "dropout": (int, float)}


def check_model(posterior: Posterior, name: str | None) -> None:
    """Raise where :func:`model_of` could not give a model, before any data are read.

    Raises:
        ValueError: the file states no architecture that is built in, and none was named.
    """
    stated = posterior.metadata.get("architecture")
    if stated is None and name is not None and not models.is_built_in(name):
        return
    if not isinstance(stated, dict) or any(
        not isinstance(stated.get(key), kind) for key, kind in _STATED.items()
    ):
        raise ValueError(
            "the posterior's file states no architecture that this command knows, so it was not "
            "written by `bbnn-uq train`; name yours with --model package.module:factory, or use "
            "bbnn_uq.predict in Python"
        )
    if name is None and not models.is_built_in(stated["model"]):
        raise ValueError(
            f"the posterior is of the custom model {stated['model']!r}, and a file never says "
            f"what to import; pass --model {stated['model']} if you trust it"
        )


def model_of(posterior: Posterior, name: str | None, input_shape: tuple[int, ...]) -> nn.Module:
    """The architecture of a posterior file, or the one named.

    Args:
        posterior: which :func:`check_model` let pass.
        name: what ``--model`` says.
        input_shape: of the data, for a file that states none.
    """
    stated = posterior.metadata.get("architecture")
    if stated is None:  # saved from Python; a factory knows what it makes
        assert name is not None
        return _custom(name, {"input_shape": input_shape})
    return build_model(stated | ({"model": name} if name else {}), allow_import=name is not None)


def build_model(architecture: dict[str, Any], *, allow_import: bool, seed: int = 0) -> nn.Module:
    """A built-in model, or, where that is allowed, what the user's factory gives."""
    spec, shape = architecture["model"], architecture["input_shape"]
    module_name, _, factory_name = spec.partition(":")
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        if not allow_import or models.is_built_in(spec) or not (module_name and factory_name):
            return models.build(
                spec, shape, architecture["num_outputs"], dropout=architecture["dropout"]
            )
        return _custom(
            spec, {"input_shape": tuple(shape), "num_outputs": architecture["num_outputs"]}
        )


def _custom(spec: str, offered: dict[str, Any]) -> nn.Module:
    """Call package.module:factory with those of ``offered`` that it has arguments for."""
    try:
        model = call_named(spec, offered)
    except Exception as error:  # the user's code may raise anything
        raise ValueError(
            f"--model {spec} gives no model ({type(error).__name__}: {error}); it must be "
            "package.module:factory, reachable from here or installed, and the factory may take "
            "input_shape and num_outputs"
        ) from error
    if not isinstance(model, nn.Module):
        raise ValueError(f"--model {spec} must give a torch.nn.Module, got {type(model).__name__}")
    return model
