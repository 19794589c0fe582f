"""Tables on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

__all__ = ["print_posterior", "print_report", "print_written"]

_NAMES = {"nll": "NLL (nats)", "ece": "ECE", "aurc": "AURC", "brier": "Brier score"}


def print_report(report: dict[str, Any], console: Console) -> None:
    """A report as two tables: the ID set, and every score on every OOD set."""
    level = f"{100 * report['settings']['confidence_level']:g} %"
    inside, mode = report["id"], report["mode"]
    samples = report["inference"]["num_samples"]
    table = Table(title=f"{escape(inside['dataset'])}, {inside['n']:,} test inputs")
    table.add_column("metric")
    table.add_column(f"{samples} networks [{level}]" if mode else f"value [{level}]")
    if mode:
        table.add_column("mode")
        table.add_column(f"mean − mode [{level}]")
    for metric in ("accuracy", "nll", "brier", "ece", "aurc"):
        row = [_NAMES.get(metric, metric), _interval(inside[metric])]
        if mode:
            row += [_number(mode[metric]["value"]), _interval(mode["mean_minus_mode"][metric])]
        table.add_row(*(escape(cell) for cell in row))
    console.print(table)
    if report["ood"]:
        _print_ood(report["ood"], level, console)
    if report["posterior"]:
        console.print(
            f"Posterior: {report['posterior']['num_weights']:,} binary weights, "
            f"{report['posterior']['bits_per_weight']:.3f} bits each, "
            f"flip rate {report['posterior']['flip_rate']:.4f}",
            highlight=False,
        )


def _print_ood(sets: dict[str, Any], level: str, console: Console) -> None:
    table = Table(title="Out-of-distribution detection")
    for column in ("OOD set", "score", f"AUROC [{level}]", "FPR95"):
        table.add_column(column, no_wrap=column != "OOD set")
    for name, entry in sets.items():
        for i, (score, numbers) in enumerate(entry["scores"].items()):
            table.add_row(
                escape(f"{name} ({entry['n']:,})") if i == 0 else "",
                escape(score),
                escape(_interval(numbers["auroc"], digits=3)),
                _number(numbers["fpr95"]["value"], digits=3),
                end_section=i == len(entry["scores"]) - 1,
            )
    console.print(table)


def print_posterior(summary: dict[str, Any], metadata: dict[str, Any], console: Console) -> None:
    """A posterior's diagnostics, the whole and by parameter."""
    table = Table(title=f"{summary['num_weights']:,} binary weights")
    for column in ("parameter", "shape", "bits / weight", "flip rate", "never flip", "median |λ|"):
        table.add_column(column, justify="left" if column == "parameter" else "right")
    for name, layer in summary["layers"].items():
        table.add_row(
            escape(name),
            "×".join(str(size) for size in layer["shape"]),
            f"{layer['bits_per_weight']:.3f}",
            f"{layer['flip_rate']:.4f}",
            f"{100 * layer['saturated_share']:.1f} %",
            f"{layer['median_magnitude']:.3g}",
        )
    table.add_section()
    table.add_row(
        "all",
        "",
        f"{summary['bits_per_weight']:.3f}",
        f"{summary['flip_rate']:.4f}",
        f"{100 * summary['saturated_share']:.1f} %",
        "",
    )
    console.print(table)
    for key, value in metadata.items():
        shown = value if not isinstance(value, dict) else _flat(value)
        console.print(f"{escape(key)}: {escape(str(shown))}", highlight=False)


def print_written(folder: Path, console: Console) -> None:
    """Name the files of a folder, so that people know where to look."""
    names = sorted(file.name for file in folder.iterdir() if not file.name.startswith("."))
    console.print(f"Wrote {escape(str(folder))}/: {escape(', '.join(names))}", highlight=False)


def _flat(values: dict[str, Any]) -> str:
    return ", ".join(
        f"{key} {_shortened(value)}" for key, value in values.items() if value is not None
    )


def _shortened(value: Any) -> str:
    if isinstance(value, list) and len(value) > 6:
        return f"[{len(value)} values]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _interval(interval: dict[str, float | None], digits: int = 4) -> str:
    low, high = _number(interval["low"], digits), _number(interval["high"], digits)
    return f"{_number(interval['value'], digits)} [{low}, {high}]"


def _number(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
