"""The page of a report, from its parts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bbnn_uq.examples import Examples
from bbnn_uq.metrics import ReliabilityCurve
from bbnn_uq.monte_carlo import MetricCurve
from bbnn_uq.pages.pictures import picture_uris
from bbnn_uq.pages.rendering import number_text, render, shown_name
from bbnn_uq.pages.report_figures import (
    PageFigure,
    calibration_figures,
    network_figures,
    ood_figures,
)
from bbnn_uq.pages.sentences import (
    accuracy_meaning,
    auroc_meaning,
    enough_networks,
    gap_meaning,
    mode_meaning,
    nll_meaning,
)
from bbnn_uq.verdict import METRIC_NAMES, PICKED, average_name, verdict

__all__ = ["report_page"]

_FACT_NAMES = {
    "num_weights": "binary weights",
    "num_samples": "networks",
    "num_bins": "bins of the ECE",
    "num_resamples": "bootstrap resamples",
    "saturated_share": "share of weights that never flip",
    "seconds": "seconds of prediction",
    "curve_inputs": "inputs of the curves over networks",
}
_MANY_CLASSES = 20
_MOST_VALUES = 6  # of an input that is no picture


def report_page(
    *,
    id: Mapping[str, Any],
    ood: Mapping[str, Mapping[str, Any]],
    mode: Mapping[str, Any] | None,
    posterior: Mapping[str, Any] | None,
    inference: Mapping[str, Any],
    settings: Mapping[str, Any],
    reliability: ReliabilityCurve,
    probs: np.ndarray,
    labels: np.ndarray,
    scores: Mapping[str, Mapping[str, np.ndarray]],
    class_names: Sequence[str] | None,
    per_class: Sequence[Mapping[str, Any]],
    against_networks: Mapping[str, MetricCurve],
    examples: Mapping[str, Examples],
    warnings: Sequence[str],
) -> str:
    """``report.html``: one file that opens offline, with all its figures and pictures in it.

    The same parts give the same text. Names may be any text: they are escaped, and shown on one
    line without control characters.

    Args:
        id: as in :class:`bbnn_uq.Report`, like all that follows.
        ood: its OOD sets.
        mode: what the mode measures.
        posterior: its summary.
        inference: how the networks were drawn and run.
        settings: bins, level and resamples.
        reliability: the curve of the diagram.
        probs: (N, C) of the ID set.
        labels: (N,) of the ID set.
        scores: ``id`` or ``ood/NAME`` → score name → (N,).
        class_names: one for each class.
        per_class: a dictionary for each class.
        against_networks: curves by name.
        examples: ``id`` and ``ood/NAME``.
        warnings: sentences.

    Returns:
        The page's text.
    """
    measured = {name: value for name, value in id.items() if hasattr(value, "low")}
    level = float(settings["confidence_level"])
    first_aurocs = [next(iter(entry["scores"].values()))["auroc"] for entry in ood.values()]
    named = [f"AUROC on {shown_name(name, 36)}" for name in ood]
    main = [(METRIC_NAMES[name], measured[name]) for name in ("accuracy", "nll", "ece")]
    main += zip(named, first_aurocs, strict=True)
    return render(
        "report.html",
        id=id,
        measured=measured,
        metric_names=METRIC_NAMES,
        average=average_name(inference),
        level=f"{100 * level:g} %",
        num_classes=probs.shape[1],
        verdict=verdict(id, ood, warnings),
        picked=PICKED,
        meanings={
            "accuracy": accuracy_meaning(id["accuracy"], id["n"]),
            "nll": nll_meaning(id["nll"]),
            "ece": gap_meaning(probs, labels),
            "auroc": [auroc_meaning(auroc) for auroc in first_aurocs],
            "mode": None if mode is None else mode_meaning(mode["mean_minus_mode"]),
            "networks": enough_networks(
                main, count=inference["num_samples"], confidence_level=level
            ),
        },
        has_mc_errors=any(_known(getattr(value, "mc_error", None)) for value in measured.values()),
        mode=mode,
        posterior=None if posterior is None else list(_facts(posterior)),
        inference=list(_facts(inference)),
        settings=list(_facts(settings)),
        calibration=calibration_figures(reliability, probs, labels, ece=id["ece"]),
        sets=[
            _ood_set(number, id["dataset"], name, entry, scores)
            for number, (name, entry) in enumerate(ood.items())
        ],
        networks=network_figures(against_networks),
        galleries=[_gallery(name, some, class_names) for name, some in examples.items()],
        per_class=per_class,
        many_classes=len(per_class) > _MANY_CLASSES,
    )


@dataclass(frozen=True)
class _OodSet:
    """One OOD set: its number in the page, its tables and its figures."""

    key: str
    name: str
    n: int
    scores: Mapping[str, Mapping[str, Any]]
    figures: list[PageFigure]
    others: list[PageFigure]


def _ood_set(
    number: int,
    inside: str,
    name: str,
    entry: Mapping[str, Any],
    scores: Mapping[str, Mapping[str, np.ndarray]],
) -> _OodSet:
    key = f"ood-{number}"
    figures, others = ood_figures(
        inside,
        name,
        id_scores=scores["id"],
        ood_scores=scores["ood/" + name],
        measured=entry["scores"],
        key=key,
    )
    return _OodSet(key, name, entry["n"], entry["scores"], figures, others)


@dataclass(frozen=True)
class _Example:
    """One input of a gallery, in texts."""

    index: int
    picture: str | None
    values: str | None
    predicted: str
    confidence: float
    label: str | None
    wrong: bool
    score: float


@dataclass(frozen=True)
class _Gallery:
    """Inputs to look at: of the ID set (``set_name`` None) or of an OOD set."""

    set_name: str | None
    score: str
    highest: bool
    pictured: bool
    rows: list[_Example]


def _gallery(name: str, examples: Examples, class_names: Sequence[str] | None) -> _Gallery:
    inputs = examples.inputs
    pictures = None if inputs is None else picture_uris(inputs)
    rows = [
        _Example(
            index=int(index),
            picture=None if pictures is None else pictures[i],
            values=None if inputs is None else _values(inputs[i]),
            predicted=_class_name(examples.predicted[i], class_names),
            confidence=float(examples.confidence[i]),
            label=None if examples.labels is None else _class_name(examples.labels[i], class_names),
            wrong=examples.labels is not None
            and int(examples.labels[i]) != int(examples.predicted[i]),
            score=float(examples.values[i]),
        )
        for i, index in enumerate(examples.index)
    ]
    return _Gallery(
        set_name=None if name == "id" else name.removeprefix("ood/"),
        score=examples.score,
        highest=examples.highest,
        pictured=pictures is not None,
        rows=rows,
    )


def _class_name(number: Any, names: Sequence[str] | None) -> str:
    return str(int(number)) if names is None else shown_name(names[int(number)], 40)


def _values(array: np.ndarray) -> str:
    flat = np.asarray(array).ravel()
    numbers = flat.dtype.kind in "fiub"
    shown = (f"{value:.3g}" if numbers else shown_name(str(value)) for value in flat[:_MOST_VALUES])
    first = ", ".join(shown)
    return first + (f", … ({flat.size:,} values)" if flat.size > _MOST_VALUES else "")


def _facts(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in facts.items():
        yield _FACT_NAMES.get(key, str(key).replace("_", " ")), _fact(value)


def _fact(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return number_text(value) if math.isinf(value) or math.isnan(value) else f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_fact(each)}" for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_fact(each) for each in value)
    return "–" if value is None else str(value)


def _known(error: Any) -> bool:
    return error is not None and math.isfinite(error)
