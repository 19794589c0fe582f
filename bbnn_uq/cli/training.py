"""Train a posterior on named data, with its files; finished and stopped runs are continued."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bbnn_uq._checks import check_count, check_seed
from bbnn_uq._files import atomic_path
from bbnn_uq.cli.app import Interrupted
from bbnn_uq.cli.models import build_model
from bbnn_uq.cli.run_state import HINT
from bbnn_uq.data import ArrayData
from bbnn_uq.posterior import Posterior, PosteriorMixture, load
from bbnn_uq.training import CHECKPOINT, fit
from bbnn_uq.verdict import listed

__all__ = ["train_posterior"]


def train_posterior(
    data: ArrayData,
    *,
    model: str,
    dropout: float,
    folder: Path,
    members: int = 1,
    checkpoints: bool = False,
    resume: bool = False,
    **recipe: Any,
) -> tuple[nn.Module, Posterior]:
    """Train on a data set; write ``posterior.safetensors``, ``config.json`` and ``train.jsonl``.

    With several members, number k is trained with seed + k, and they make a mixture. With
    ``checkpoints``, the state after each epoch is kept until the run is finished; with ``resume``
    it goes on from there, and of a finished run the result is read.
    """
    check_count(members, "members")
    if data.y is None or data.num_classes is None:
        raise ValueError(f"--data {data.name!r} has no labels; add an array y of class numbers")
    _warn_of_empty_classes(data.y, data.num_classes)
    seed = check_seed(recipe.get("seed", 0))
    architecture = {
        "model": model,
        "input_shape": list(data.input_shape),
        "num_outputs": data.num_classes,
        "dropout": dropout,
    }
    network = build_model(architecture, allow_import=True, seed=seed)
    _check_outputs(network, data, model)
    about = {
        "architecture": architecture,
        "data": {
            "name": data.name,
            "num_inputs": len(data.x),
            "num_classes": data.num_classes,
            "value_range": [float(data.x.min()), float(data.x.max())],
        },
    }
    done = folder / "posterior.safetensors"
    states = [folder / f".checkpoint-{number}" for number in range(members)]
    started = [state for state in states if (state / CHECKPOINT).exists()]
    if resume and done.exists() and not started:
        return network, _finished(done, about, recipe, members)
    if checkpoints and started and not resume:
        raise ValueError(
            f"{str(folder)!r} holds a run that was stopped; add --resume to continue it, delete "
            f"{str(started[0])!r} to start over, or choose another --out"
        )
    fitted, epochs = [], []
    with _resumable(states if checkpoints else []):
        for number in range(members):
            records: list[dict[str, Any]] = []
            options: dict[str, Any] = recipe | {"seed": seed + number}
            member = fit(
                network,
                (data.x, data.y),
                normalise=True,
                on_epoch=records.append,
                checkpoint_dir=states[number] if checkpoints else None,
                **options,
            )
            fitted.append(replace(member, metadata=about | member.metadata))
            epochs += [{"member": number} | record if members > 1 else record for record in records]
    posterior = fitted[0] if members == 1 else PosteriorMixture(fitted)
    _write_text(folder / "train.jsonl", "".join(json.dumps(e) + "\n" for e in epochs))
    _write_text(folder / "config.json", json.dumps(posterior.metadata, indent=2) + "\n")
    posterior.save(done)
    for state in states if checkpoints else []:
        (state / CHECKPOINT).unlink(missing_ok=True)
        with suppress(OSError):  # never made, or somebody keeps something in it
            state.rmdir()
    return network, posterior


@contextmanager
def _resumable(states: list[Path]) -> Iterator[None]:
    """Say how to go on when the block is interrupted and has left a checkpoint."""
    try:
        yield
    except (KeyboardInterrupt, OSError) as error:
        if any((state / CHECKPOINT).exists() for state in states):
            if isinstance(error, KeyboardInterrupt):
                raise Interrupted(HINT) from None
            error.add_note(HINT)
        raise


def _warn_of_empty_classes(labels: np.ndarray, num_classes: int) -> None:
    empty = np.flatnonzero(np.bincount(labels, minlength=num_classes) == 0)
    if len(empty):
        warnings.warn(
            f"no training input is of class {listed(map(str, empty))} of {num_classes}: classes "
            "are numbered from 0 without gaps, as np.unique(y, return_inverse=True)[1] does",
            stacklevel=2,
        )


def _check_outputs(network: nn.Module, data: ArrayData, model: str) -> None:
    """A model of the user's own may give another number of outputs than there are classes."""
    training = network.training
    try:
        with torch.no_grad():
            found = tuple(network.eval()(torch.from_numpy(data.x[:2])).shape)
    finally:
        network.train(training)
    wanted = (len(data.x[:2]), data.num_classes)
    if found != wanted:
        raise ValueError(
            f"--model {model} gives outputs of shape {found} for {wanted[0]} inputs of "
            f"{data.num_classes} classes, wanted is {wanted}"
        )


def _finished(path: Path, about: dict[str, Any], recipe: dict[str, Any], members: int) -> Posterior:
    """The posterior of a run that was finished, if it is of the same run."""
    posterior = load(path)
    said = posterior.metadata
    known = said.get("recipe", {})
    recipe = recipe | {"prior": "uniform" if recipe.get("prior") is None else "given"}
    different = [key for key in about if said.get(key) != about[key]]
    different += [key for key in recipe if key in known and known[key] != recipe[key]]
    if posterior.summary().get("num_members", 1) != members:
        different.append("members")
    if different:
        raise ValueError(
            f"{str(path)!r} is finished and of another run (it differs in {', '.join(different)}); "
            "leave out --resume to replace it, or choose another --out"
        )
    return posterior


def _write_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
