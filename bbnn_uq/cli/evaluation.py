"""Predict named data with a posterior, part by part, and measure."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

import bbnn_uq
from bbnn_uq._checks import check_labels
from bbnn_uq.calibrated import posterior_digest
from bbnn_uq.data import ArrayData, load_data
from bbnn_uq.inference.parts import InParts
from bbnn_uq.inputs import check_device
from bbnn_uq.likelihoods import Gaussian, as_likelihood
from bbnn_uq.posterior import Posterior
from bbnn_uq.predictive import Predictive
from bbnn_uq.regression import RegressionPredictive
from bbnn_uq.report import Report, evaluate
from bbnn_uq.scores import parse_score

__all__ = [
    "configuration",
    "evaluate_posterior",
    "load_for",
    "load_sets",
    "of_real_targets",
    "predict_set",
    "temperatures_of",
]

LOOKED_AT = 64  # inputs, to see their range
FAR_WIDER = 5.0
NUM_GROUPS = 7
"""Groups of networks for errors over networks: prime, so that the members of a mixture mix."""


def of_real_targets(posterior: Posterior) -> bool:
    """Whether a posterior predicts real targets rather than classes."""
    return isinstance(as_likelihood(posterior.metadata.get("likelihood")), Gaussian)


def load_for(posterior: Posterior, spec: str) -> ArrayData:
    """A data set as a posterior's model takes it, left on disk where it can be."""
    architecture, about = posterior.metadata.get("architecture"), posterior.metadata.get("data")
    ends = about.get("value_range") if isinstance(about, dict) else None
    data = load_data(
        spec,
        split="test",
        input_shape=architecture["input_shape"] if isinstance(architecture, dict) else None,
        # Constant training data span no range to fill.
        value_range=None if isinstance(ends, list) and len(set(ends)) == 1 else ends,
        in_memory=False,
    )
    _warn_of_another_scale(data, ends)
    return data


def _warn_of_another_scale(data: ArrayData, ends: Any) -> None:
    """Warn of inputs that span several times the range that training inputs do."""
    if not isinstance(ends, list) or not ends[0] < ends[1] or len(data.x) == 0:
        return
    some = np.asarray(data.x[:LOOKED_AT], dtype=np.float64)
    low, high = float(some.min()), float(some.max())
    if high - low > FAR_WIDER * (ends[1] - ends[0]):
        warnings.warn(
            f"data {data.name!r} span {low:g} to {high:g}, and training inputs {ends[0]:g} to "
            f"{ends[1]:g}: are they on one scale?",
            stacklevel=2,
        )


def load_sets(
    posterior: Posterior, id_data: str, ood_data: Sequence[str]
) -> tuple[ArrayData, dict[str, ArrayData]]:
    """The ID set, which has labels of the posterior's classes, and the OOD sets by name.

    Raises:
        ValueError: the posterior is of real targets, labels are missing or of other classes, two
            OOD sets share a name, or one is the ID set.
    """
    if of_real_targets(posterior):
        raise ValueError(
            "the posterior predicts real targets, and this report is for classes; use "
            "bbnn-uq predict, whose file has their spread"
        )
    inside = load_for(posterior, id_data)
    if inside.y is None:
        raise ValueError(f"--id {id_data!r} has no labels; accuracy and calibration need them")
    architecture = posterior.metadata.get("architecture")
    if isinstance(architecture, dict):
        classes = max(2, architecture["num_outputs"])  # one output tells two classes apart
        name = f"labels of --id {id_data!r}"
        check_labels(inside.y, num_inputs=len(inside.x), num_classes=classes, name=name)
    outside: dict[str, ArrayData] = {}
    for spec in ood_data:
        data = load_for(posterior, spec)
        if data.name in outside:
            raise ValueError(
                f"--ood names two sets called {data.name!r}; name each set once, or rename a file"
            )
        if len(data.x) == len(inside.x) and data.fingerprint() == inside.fingerprint():
            raise ValueError(
                f"--ood {spec!r} holds the same inputs as --id {id_data!r}, and no score tells a "
                "set from itself; name another set"
            )
        outside[data.name] = data
    return inside, outside


def temperatures_of(scores: Sequence[str]) -> list[float]:
    """Logit temperatures that scores are taken at."""
    return sorted({parse_score(score)[1] for score in scores})


def configuration(
    posterior: Posterior,
    inside: ArrayData,
    outside: dict[str, ArrayData],
    *,
    model: str | None,
    scores: Sequence[str],
    device: str | None,
    **options: Any,
) -> dict[str, Any]:
    """Everything that decides the predictions of a run, as JSON values."""
    return {
        "version": bbnn_uq.__version__,
        "posterior": posterior_digest(posterior),
        "model": model,
        "temperatures": temperatures_of(scores),
        "device": str(check_device(device)),
        **options,
        "id": _described(inside),
        "ood": [_described(data) for data in outside.values()],
    }


def _described(data: ArrayData) -> dict[str, Any]:
    return {"name": data.name, "shape": list(data.x.shape), "fingerprint": data.fingerprint()}


def predict_set(
    parts: InParts, data: ArrayData, folder: Path, progress: bool | str
) -> Predictive | RegressionPredictive:
    """The predictive of a data set, which says of which one it is."""
    try:
        result = parts.predict(data.x, folder, progress=progress)
    except ValueError as error:
        if "inputs" in str(error):  # they are at fault, so say which
            raise ValueError(f"data {data.name!r}: {error}") from error
        raise
    about = {"dataset": data.name, "fingerprint": data.fingerprint()}
    return replace(result, metadata=result.metadata | about)


def evaluate_posterior(
    model: nn.Module,
    posterior: Posterior,
    inside: ArrayData,
    outside: dict[str, ArrayData],
    *,
    scores: Sequence[str],
    state: Path,
    progress: bool,
    num_bins: int = 15,
    confidence_level: float = 0.95,
    **options: Any,
) -> Report:
    """Predict the ID set and every OOD set with the same networks, and measure.

    Args:
        model: the architecture.
        posterior: of its weights.
        inside: the ID set, with labels.
        outside: OOD sets by name.
        scores: their names.
        state: a folder for the parts of predictions; it goes on from those that are there.
        progress: whether to show bars on a terminal.
        num_bins: of the ECE.
        confidence_level: of intervals.
        options: as :func:`bbnn_uq.predict` takes them.
    """
    total = len(inside.x) + sum(len(data.x) for data in outside.values())
    drawn = options.get("method") != "mode"
    options["score_temperatures"] = temperatures_of(scores)
    groups = NUM_GROUPS if drawn else 1
    parts = InParts(model, posterior, num_inputs=total, num_groups=groups, **options)
    sets = {"id": (parts, inside, inside.name)}
    if drawn:
        at_mode: dict[str, Any] = options | {"method": "mode"}
        mode = InParts(model, posterior, num_inputs=len(inside.x), **at_mode)
        sets["mode"] = mode, inside, f"{inside.name}, mode"
    sets |= {f"ood-{k}": (parts, data, data.name) for k, data in enumerate(outside.values())}
    found: dict[str, Predictive] = {}
    for number, (key, (own, data, title)) in enumerate(sets.items(), start=1):
        bar = f"{title} ({number} of {len(sets)})" if progress else False
        result = predict_set(own, data, state / key, bar)
        assert isinstance(result, Predictive)
        found[key] = result
    if parts.num_groups < groups:
        warnings.warn(
            f"sums by group of networks for {total:,} inputs would take too much memory, so "
            "figures come without their error over networks; evaluate fewer inputs to have it",
            stacklevel=2,
        )
    return evaluate(
        found["id"],
        inside.y,
        ood={name: found[f"ood-{k}"] for k, name in enumerate(outside)},
        mode=found.get("mode"),
        scores=scores,
        num_bins=num_bins,
        confidence_level=confidence_level,
        inputs=inside.x,
        ood_inputs={name: data.x for name, data in outside.items()},
        class_names=inside.class_names,
    )
