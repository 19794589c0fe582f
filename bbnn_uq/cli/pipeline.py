"""What several commands do: train on named data, and evaluate a posterior against named data."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bbnn_uq import models
from bbnn_uq._checks import check_count, check_seed
from bbnn_uq._files import atomic_path, writable_folder
from bbnn_uq.data import ArrayData, load_data
from bbnn_uq.inference import predict
from bbnn_uq.likelihoods import Gaussian, as_likelihood
from bbnn_uq.posterior import Posterior, PosteriorMixture, load
from bbnn_uq.predictive import Predictive
from bbnn_uq.report import Report, evaluate
from bbnn_uq.scores import parse_score
from bbnn_uq.training import CHECKPOINT, fit

__all__ = ["evaluate_posterior", "model_of", "one_thread", "output_folder", "train_posterior"]

NUM_GROUPS = 7
"""Groups of networks for errors over networks: prime, so that the members of a mixture mix."""

_STATED = {"model": str, "input_shape": list, "num_outputs": int, "dropout": (int, float)}


@contextmanager
def output_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A folder found writable before any work, and left behind only with something in it."""
    folder = Path(path)
    created = [p for p in (folder, *folder.parents) if not p.exists()]
    try:
        writable_folder(folder)
        with tempfile.TemporaryFile(dir=folder):
            pass
        yield folder
    finally:
        for parent in created:
            with suppress(OSError):  # there is something in it, or it was never made
                parent.rmdir()


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread of torch: for tiny tensors faster than several, and the same on every machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
    seed = check_seed(recipe.get("seed", 0))
    architecture = {
        "model": model,
        "input_shape": list(data.input_shape),
        "num_outputs": data.num_classes,
        "dropout": dropout,
    }
    network = _build(architecture, allow_import=True, seed=seed)
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


def model_of(posterior: Posterior, name: str | None) -> nn.Module:
    """The architecture of a posterior file, or the one named.

    Raises:
        ValueError: the file states none that is built in, and none was named.
    """
    stated = posterior.metadata.get("architecture")
    if not isinstance(stated, dict) or any(
        not isinstance(stated.get(key), kind) for key, kind in _STATED.items()
    ):
        raise ValueError(
            "the posterior's file states no architecture that this command knows, so it was not "
            "written by `bbnn-uq train`; use bbnn_uq.predict with your model"
        )
    if name is None and not models.is_built_in(stated["model"]):
        raise ValueError(
            f"the posterior is of the custom model {stated['model']!r}, and a file never says "
            f"what to import; pass --model {stated['model']} if you trust it"
        )
    return _build(stated | ({"model": name} if name else {}), allow_import=name is not None)


def evaluate_posterior(
    model: nn.Module,
    posterior: Posterior,
    *,
    id_data: str,
    ood_data: Sequence[str],
    scores: Sequence[str],
    **options: Any,
) -> Report:
    """Predict the ID set and every OOD set with the same networks, and measure."""
    if isinstance(as_likelihood(posterior.metadata.get("likelihood")), Gaussian):
        raise ValueError(
            "the posterior predicts real targets, and this report is for classes; use "
            "bbnn_uq.predict and the score epistemic_std in Python"
        )
    about = posterior.metadata.get("data")
    ends = about.get("value_range") if isinstance(about, dict) else None
    like: dict[str, Any] = {
        "input_shape": posterior.metadata["architecture"]["input_shape"],
        # Constant training data span no range to fill.
        "value_range": None if isinstance(ends, list) and len(set(ends)) == 1 else ends,
    }
    inside = load_data(id_data, split="test", **like)
    if inside.y is None:
        raise ValueError(f"--id {id_data!r} has no labels; accuracy and calibration need them")
    outside: dict[str, ArrayData] = {}
    for name in ood_data:
        data = load_data(name, split="test", **like)
        if data.name in outside:
            raise ValueError(
                f"--ood names two sets called {data.name!r}; name each set once, or rename a file"
            )
        outside[data.name] = data
    temperatures = sorted({parse_score(score)[1] for score in scores})

    def predictive(data: ArrayData, **changes: Any) -> Predictive:
        chosen: dict[str, Any] = {"score_temperatures": temperatures, "num_groups": NUM_GROUPS}
        chosen |= options | changes
        result = predict(model, posterior, data.x, **chosen)
        assert isinstance(result, Predictive)
        return replace(result, metadata=result.metadata | {"dataset": data.name})

    return evaluate(
        predictive(inside),
        inside.y,
        ood={name: predictive(data) for name, data in outside.items()},
        mode=None if options.get("method") == "mode" else predictive(inside, method="mode"),
        scores=scores,
    )


def _build(architecture: dict[str, Any], *, allow_import: bool, seed: int = 0) -> nn.Module:
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
    module_name, _, factory_name = spec.partition(":")
    here = os.getcwd()
    sys.path.insert(0, here)  # as `python -m` does; a console script does not
    try:
        factory = getattr(importlib.import_module(module_name), factory_name)
        wanted = inspect.signature(factory).parameters
        model = factory(**{key: value for key, value in offered.items() if key in wanted})
    except Exception as error:  # the user's code may raise anything
        raise ValueError(
            f"--model {spec} gives no model ({type(error).__name__}: {error}); it must be "
            "package.module:factory, reachable from here or installed, and the factory may take "
            "input_shape and num_outputs"
        ) from error
    finally:
        if here in sys.path:
            sys.path.remove(here)
    if not isinstance(model, nn.Module):
        raise ValueError(f"--model {spec} must give a torch.nn.Module, got {type(model).__name__}")
    return model


def _write_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
