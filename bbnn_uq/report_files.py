"""What the evaluation folder shows: Markdown tables, figures, and names that are safe for files."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bbnn_uq import metrics
from bbnn_uq.metrics import Interval, ReliabilityCurve
from bbnn_uq.monte_carlo import Measurement

__all__ = ["draw_figures", "figure_names", "markdown", "safe_names"]


def markdown(
    *,
    id: Mapping[str, Any],
    ood: Mapping[str, Mapping[str, Any]],
    mode: Mapping[str, Any] | None,
    posterior: Mapping[str, Any] | None,
    inference: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> str:
    """The tables a person reads first, of the parts of a report."""
    level = f"{100 * settings['confidence_level']:g} %"
    measured = {name: value for name, value in id.items() if isinstance(value, Interval)}
    lines = [
        f"# {_cell(id['dataset'])}",
        "",
        f"{id['n']:,} test inputs; intervals are {level} bootstrap intervals over them.",
        "",
    ]
    if any(_mc_error(value) is not None for value in measured.values()):
        lines[-1:] = [
            "What follows ± is the Monte Carlo standard error over networks, which the intervals "
            "do not hold.",
            "",
        ]
    columns = ["", "mean of networks"]
    rows = [[name, _shown(value)] for name, value in measured.items()]
    if mode is not None:
        columns += ["mode", "mean − mode"]
        for row in rows:
            row += [_shown(mode[row[0]]), _shown(mode["mean_minus_mode"][row[0]])]
    lines += [*_table(columns, rows), ""]
    for name, entry in ood.items():
        lines += [f"## Against {_cell(name)}", "", f"{entry['n']:,} OOD inputs.", ""]
        first = next(iter(entry["scores"].values()))
        rows = [
            [f"`{score}`", *(_shown(value) for value in numbers.values())]
            for score, numbers in entry["scores"].items()
        ]
        lines += [*_table(["score", *first], rows), ""]
    if posterior is not None:
        lines += ["## Posterior", "", *_facts(posterior), ""]
    lines += ["## Inference", "", *_facts(inference), ""]
    return "\n".join(lines)


def draw_figures(
    folder: Path,
    *,
    id: Mapping[str, Any],
    ood: Mapping[str, Mapping[str, Any]],
    reliability: ReliabilityCurve,
    scores: Mapping[str, Mapping[str, np.ndarray]],
) -> None:
    """Reliability diagram, and for each OOD set the histograms of each score and the ROC curves."""
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
            figure, ax = new((4.6, 4.6))
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
        base = re.sub(r"[^A-Za-z0-9._+-]", "_", name)[:80] or "_"
        taken = {value.lower() for value in safe.values()}
        candidate, number = base, 2
        while candidate.lower() in taken:
            candidate, number = f"{base}_{number}", number + 1
        safe[name] = candidate
    return safe


def _printable(name: str) -> str:
    """A name on one line, without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in name).split())


def _figure_title(name: str) -> str:
    """A name short enough for a title."""
    printable = _printable(name)
    return printable if len(printable) <= 36 else printable[:35] + "…"


def _mc_error(interval: Interval) -> float | None:
    error = interval.mc_error if isinstance(interval, Measurement) else None
    return error if error is not None and math.isfinite(error) else None


def _shown(interval: Interval) -> str:
    text = f"{interval.value:.4f} [{interval.low:.4f}, {interval.high:.4f}]"
    error = _mc_error(interval)
    return text if error is None else f"{text} ± {error:.4f}"


def _cell(text: str) -> str:
    """A name that came from a file, harmless in Markdown."""
    return re.sub(r"([\\`*_{}\[\]<>()#|!])", r"\\\1", _printable(text))


def _table(columns: list[str], rows: list[list[str]]) -> list[str]:
    lines = [columns, ["---"] * len(columns), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _facts(facts: Mapping[str, Any]) -> list[str]:
    return [
        f"- {key.replace('_', ' ')}: {f'{value:.4g}' if isinstance(value, float) else value}"
        for key, value in facts.items()
    ]
