"""The page of a comparison, from its parts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bbnn_uq.metrics import Interval
from bbnn_uq.pages.forest import forest, forest_size
from bbnn_uq.pages.rendering import interval_text, number_text, render, shown_name
from bbnn_uq.pages.report_figures import PageFigure
from bbnn_uq.pages.svg import inline_svg
from bbnn_uq.verdict import METRIC_NAMES

__all__ = ["comparison_page"]

_FIRST = ("accuracy", "nll", "brier", "ece", "aurc")
_LONGEST_LABEL = 24

_Record = Mapping[str, Any]


def comparison_page(
    *,
    baseline: str,
    settings: Mapping[str, Any],
    methods: Mapping[str, Mapping[str, Any]],
    findings: Sequence[str],
    notes: Sequence[str],
    rows: Sequence[_Record],
) -> str:
    """``comparison.html``: one file that opens offline, with its figures in it.

    The same parts give the same text. Names may be any text: they are escaped, and shown on one
    line without control characters.

    Args:
        baseline: as in :class:`bbnn_uq.comparison.Comparison`, like all that follows.
        settings: bins, level, resamples, number of tests.
        methods: what was compared; the baseline first.
        findings: a sentence for each method but the baseline.
        notes: what to know before quoting a number.
        rows: one flat dictionary for each method, set, score and metric; not finite numbers as
            they are.

    Returns:
        The page.
    """
    inside = [row for row in rows if row["kind"] == "id"]
    sets = list(dict.fromkeys(row["dataset"] for row in rows if row["kind"] == "ood"))
    return render(
        "comparison.html",
        baseline=baseline,
        settings=settings,
        level=f"{100 * settings['confidence_level']:g} %",
        methods=methods,
        findings=findings,
        notes=notes,
        first=inside[0],
        inside=_part(inside, list(METRIC_NAMES)),
        figures=[_figure(inside, metric, None, baseline) for metric in _FIRST],
        sets=[
            _set(place, [r for r in rows if (r["kind"], r["dataset"]) == ("ood", name)], baseline)
            for place, name in enumerate(sets)
        ],
        metric_names=METRIC_NAMES,
        apart=[name for name, about in methods.items() if about["other_inputs"] is not None],
        grouped=any(len(about["runs"]) > 1 for about in methods.values()),
    )


def _set(place: int, rows: Sequence[_Record], baseline: str) -> dict[str, Any]:
    """One OOD set: AUROC of each method by score, and the differences."""
    named = [row for row in rows if row["metric"] == "auroc" and row["choice"] == "named"]
    scores = list(dict.fromkeys(row["score"] for row in named))
    figures = [
        _figure(named, "auroc", score, baseline, key=f"{place}-{number}")
        for number, score in enumerate(scores)
    ]
    drawn = [figure for figure in figures if figure is not None]
    return {
        "key": f"ood-{place}",
        "name": rows[0]["dataset"],
        "n": rows[0]["n"],
        "methods": list(dict.fromkeys(row["method"] for row in named)),
        "scores": scores,
        "cells": {(row["method"], row["score"]): row for row in named},
        "best": {row["method"]: row for row in rows if row["choice"] == "best"},
        "figures": drawn[:2],
        "others": drawn[2:],
        "differences": _differences(rows),
    }


def _part(rows: Sequence[_Record], metrics: Sequence[str]) -> dict[str, Any]:
    having = {row["metric"] for row in rows}
    return {
        "metrics": [metric for metric in metrics if metric in having],
        "cells": {(row["method"], row["metric"]): row for row in rows},
        "differences": _differences(rows),
    }


def _differences(rows: Sequence[_Record]) -> list[dict[str, Any]]:
    """Rows that say something of a difference, with what the table calls them."""
    found = []
    for row in rows:
        if row["difference"] is None:
            continue
        label = METRIC_NAMES[row["metric"]]
        if row["choice"] == "named":
            label = label if row["score"] is None else f"{label}, {row['score']}"
        else:
            label = f"{label}, {row['choice']} of each: {row['score']} − {row['baseline_score']}"
        number = {key: row[f"difference_{key}"] for key in ("low", "high")}
        found.append({**row, "label": label, "number": {"value": row["difference"], **number}})
    return found


def _figure(
    rows: Sequence[_Record], metric: str, score: str | None, baseline: str, *, key: str = ""
) -> PageFigure | None:
    """The differences of one metric, or None where none has an interval."""
    chosen = [row for row in rows if (row["metric"], row["score"]) == (metric, score)]
    differences = dict(_drawable(chosen))
    if not differences:
        return None
    name, better = METRIC_NAMES[metric], chosen[0]["better"]
    stated = "; ".join(
        f"{label} {number_text(each.value, signed=True)} {interval_text(each, signed=True)}"
        for label, each in differences.items()
    )
    title = name[:1].upper() + name[1:] if score is None else f"{name} of {score}"
    return PageFigure(
        inline_svg(
            lambda ax: forest(differences, ax, metric=name, better=better),
            key=f"difference-{metric}-{key}",
            label=f"Differences in {title} to {shown_name(baseline)}: {stated}",
            size=forest_size(len(differences)),
        ),
        title,
        "",
    )


def _drawable(rows: Sequence[_Record]) -> Iterator[tuple[str, Interval]]:
    """Finite differences by a name that fits beside an axis, distinct for distinct methods."""
    taken: set[str] = set()
    for row in rows:
        ends = [row[key] for key in ("difference", "difference_low", "difference_high")]
        if None in ends or not all(math.isfinite(end) for end in ends):
            continue
        label = short = shown_name(row["method"], _LONGEST_LABEL)
        number = 2
        while label in taken:
            label, number = f"{short} ({number})", number + 1
        taken.add(label)
        yield label, Interval(*ends)
