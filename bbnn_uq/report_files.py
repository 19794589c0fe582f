"""What the evaluation folder shows: Markdown tables, figures, and names that are safe for files."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bbnn_uq import metrics
from bbnn_uq._html import printable
from bbnn_uq.metrics import Interval, ReliabilityCurve
from bbnn_uq.monte_carlo import Measurement
from bbnn_uq.verdict import METRIC_NAMES, PICKED, average_name, verdict

__all__ = ["draw_figures", "figure_names", "markdown", "safe_names"]

MOST_CLASSES = 20
OOD_TABLES = (("auroc", "aupr_out", "fpr95"), ("aupr_in", "fpr95_in", "detection_error"))


def markdown(
    *,
    id: Mapping[str, Any],
    ood: Mapping[str, Mapping[str, Any]],
    mode: Mapping[str, Any] | None,
    posterior: Mapping[str, Any] | None,
    inference: Mapping[str, Any],
    settings: Mapping[str, Any],
    per_class: Sequence[Mapping[str, Any]],
    warnings: Sequence[str],
) -> str:
    """The tables a person reads first, of the parts of a report."""
    level = f"{100 * settings['confidence_level']:g} %"
    measured = {name: value for name, value in id.items() if isinstance(value, Interval)}
    lines = [
        f"# {_cell(id['dataset'])}",
        "",
        f"{id['n']:,} test inputs, {average_name(inference)}; intervals are {level} bootstrap "
        "intervals over the inputs.",
        "",
    ]
    if any(_mc_error(value) is not None for value in measured.values()):
        lines[-1:] = [
            "What follows ± is the Monte Carlo standard error over networks, which the intervals "
            "do not hold.",
            "",
        ]
    if warnings:
        lines += ["Beware:", "", *(f"- {_cell(text)}" for text in warnings), ""]
    lines += [*_id_table(measured, mode, average_name(inference)), ""]
    if ood:
        lines += ["## Out-of-distribution detection", "", *_ood_summary(id, ood), ""]
    lines += [*_class_lines(per_class, level), ""]
    for name, entry in ood.items():
        lines += [f"## Against {_cell(name)}", "", f"{entry['n']:,} OOD inputs.", ""]
        for columns in OOD_TABLES:
            lines += [*_ood_table(entry["scores"], columns), ""]
    if posterior is not None:
        lines += ["## Posterior", "", *_facts(posterior), ""]
    lines += ["## Inference", "", *_facts(inference), ""]
    return "\n".join(lines)


def _id_table(
    measured: Mapping[str, Interval], mode: Mapping[str, Any] | None, average: str
) -> list[str]:
    columns = ["", average]
    rows = [[METRIC_NAMES.get(name, name), _shown(value)] for name, value in measured.items()]
    if mode is not None:
        columns += ["mode", "mean − mode"]
        for name, row in zip(measured, rows, strict=True):
            row += [_shown(mode[name]), _shown(mode["mean_minus_mode"][name])]
    return _table(columns, rows)


def _ood_summary(id: Mapping[str, Any], ood: Mapping[str, Mapping[str, Any]]) -> list[str]:
    sets = verdict(id, ood, ())["ood"]
    rows = [
        [
            _cell(each["name"]),
            f"`{each['score']}`",
            _shown(each["auroc"]),
            f"`{each['best_score']}` of {each['num_scores']}",
            _shown(each["best_auroc"]),
        ]
        for each in sets
    ]
    columns = ["OOD set", "first score", "AUROC", "best score", "its AUROC"]
    return [*_table(columns, rows), "", f"The best score is {PICKED}."]


def _ood_table(scores: Mapping[str, Mapping[str, Interval]], names: Sequence[str]) -> list[str]:
    """Three numbers of each score, so that the table is not too wide; ± with the AUROC alone."""
    rows = [
        [
            f"`{score}`",
            *(_shown(numbers[name], error=name == "auroc") for name in names),
        ]
        for score, numbers in scores.items()
    ]
    return _table(["score", *(METRIC_NAMES[name] for name in names)], rows)


def _class_lines(per_class: Sequence[Mapping[str, Any]], level: str) -> list[str]:
    lines = ["## Classes", "", f"Intervals are {level} Wilson intervals.", ""]
    shown = list(per_class)
    if len(shown) > MOST_CLASSES:
        shown.sort(key=lambda entry: (math.isnan(entry["accuracy"].value), entry["accuracy"].value))
        shown = shown[:MOST_CLASSES]
        lines[2] += f" These are the {MOST_CLASSES} of {len(per_class)} classes told worst."
    rows = [
        [
            str(entry["class"]) + ("" if entry["name"] is None else f" {_cell(entry['name'])}"),
            f"{entry['n']:,}",
            _shown(entry["accuracy"]),
            _shown(entry["precision"]),
            _number(entry["confidence"]),
            _number(entry["entropy"]),
        ]
        for entry in shown
    ]
    columns = ["class", "inputs", "accuracy", "precision", "confidence", "entropy (nats)"]
    return lines + _table(columns, rows)


def draw_figures(
    folder: Path,
    *,
    id: Mapping[str, Any],
    ood: Mapping[str, Mapping[str, Any]],
    reliability: ReliabilityCurve,
    scores: Mapping[str, Mapping[str, np.ndarray]],
    probs: np.ndarray,
    labels: np.ndarray,
) -> None:
    """Reliability, risk and coverage; for each OOD set histograms of each score and ROC curves."""
    from matplotlib.figure import Figure

    from bbnn_uq import plots  # late: drawing is the only part that needs matplotlib

    def new(size: tuple[float, float]) -> tuple[Figure, Any]:
        figure = Figure(figsize=size, layout="constrained", dpi=150)
        return figure, figure.add_subplot()

    with warnings.catch_warnings():
        # The tables hold a name in letters that the figures' font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure, ax = new((4.2, 5.0))
        plots.reliability_diagram(reliability, ax, ece=id["ece"])
        inside = _figure_title(id["dataset"])
        figure.suptitle(inside, parse_math=False)
        figure.savefig(folder / "reliability.png")
        figure, ax = new((4.4, 3.8))
        curve = metrics.risk_coverage_curve(probs, labels)
        plots.risk_coverage({f"{inside}, ranked by confidence": curve}, ax)
        figure.savefig(folder / "risk_coverage.png")
        safe = safe_names(ood)
        for name, entry in ood.items():
            outside = _figure_title(name)
            outside += " (OOD)" if outside == inside else ""
            both = {inside: scores["id"], outside: scores["ood/" + name]}
            curves = {}
            for score, numbers in entry["scores"].items():
                sets = {shown: values[score] for shown, values in both.items()}
                figure, ax = new((5.6, 3.6))
                plots.ood_histograms(sets, ax, score=score, auroc=numbers["auroc"])
                figure.savefig(folder / f"ood_{score}_{safe[name]}.png")
                auroc = numbers["auroc"].value
                curves[f"{score} ({auroc:.3f})"] = metrics.roc_curve(*sets.values())
            figure, ax = new((4.6 if len(curves) <= plots.FEW_LABELS else 6.8, 4.6))
            plots.roc_curves(curves, ax)
            title = f"{inside}\nagainst {outside} (AUROC)"
            figure.suptitle(title, fontsize="medium", parse_math=False)
            figure.savefig(folder / f"roc_{safe[name]}.png")


def figure_names(scores: Mapping[str, Iterable[str]]) -> list[str]:
    """Files of the figures for each OOD set and its scores."""
    safe = safe_names(scores)
    names = [f"ood_{score}_{safe[set_]}.png" for set_ in scores for score in scores[set_]]
    return names + [f"roc_{safe[set_]}.png" for set_ in scores]


def safe_names(names: Iterable[str]) -> dict[str, str]:
    """Set name → a name for files, distinct for distinct sets."""
    safe: dict[str, str] = {}
    for name in names:
        base = re.sub(r"[^A-Za-z0-9._+@-]", "_", name)[:80] or "_"
        taken = {value.lower() for value in safe.values()}
        candidate, number = base, 2
        while candidate.lower() in taken:
            candidate, number = f"{base}_{number}", number + 1
        safe[name] = candidate
    return safe


def _figure_title(name: str) -> str:
    """A name short enough for a title."""
    return printable(name, 36)


def _mc_error(interval: Interval) -> float | None:
    error = interval.mc_error if isinstance(interval, Measurement) else None
    return error if error is not None and math.isfinite(error) else None


def _shown(interval: Interval, *, error: bool = True) -> str:
    if math.isnan(interval.value):
        return "–"
    text = f"{interval.value:.4f} [{interval.low:.4f}, {interval.high:.4f}]"
    over_networks = _mc_error(interval) if error else None
    return text if over_networks is None else f"{text} ± {over_networks:.4f}"


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4f}"


def _cell(text: str) -> str:
    """A name that came from a file, harmless in Markdown."""
    return re.sub(r"([\\`*_{}\[\]<>#|!])", r"\\\1", printable(text))


def _table(columns: list[str], rows: list[list[str]]) -> list[str]:
    lines = [columns, ["---"] * len(columns), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _facts(facts: Mapping[str, Any]) -> list[str]:
    shown = {
        key: f"{value:.4g}" if isinstance(value, float) else _cell(str(value))
        for key, value in facts.items()
    }
    return [f"- {key.replace('_', ' ')}: {text}" for key, text in shown.items()]
