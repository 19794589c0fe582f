"""Tables on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bbnn_uq.verdict import METRIC_NAMES, average_name

__all__ = ["print_posterior", "print_predictive", "print_report", "print_written"]


def print_report(report: dict[str, Any], console: Console) -> None:
    """A report as two tables, the ID set and every score on every OOD set; and its warnings."""
    # The space is one that lines are not broken at.
    level = f"{100 * report['settings']['confidence_level']:g}\N{NO-BREAK SPACE}%"
    inside, mode = report["id"], report["mode"]
    table = Table(title=f"{_plain(inside['dataset'])}, {inside['n']:,} test inputs")
    table.add_column("metric", overflow="fold")
    table.add_column(f"{average_name(report['inference'])} [{level}]", overflow="fold")
    if mode:
        table.add_column("mode", overflow="fold")
        table.add_column(f"mean − mode [{level}]", overflow="fold")
    for metric in ("accuracy", "nll", "brier", "ece", "aurc"):
        row = [METRIC_NAMES[metric], _interval(inside[metric])]
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
    for text in report["warnings"]:
        console.print(f"Beware: {_plain(text)}", highlight=False)


def _print_ood(sets: dict[str, Any], level: str, console: Console) -> None:
    table = Table(title="Out-of-distribution detection")
    wide = console.width >= 80  # narrower, numbers are broken into lines rather than cut off
    for column in ("OOD set", "score", f"AUROC [{level}]", "FPR95"):
        table.add_column(column, no_wrap=wide and column != "OOD set", overflow="fold")
    for name, entry in sets.items():
        for i, (score, numbers) in enumerate(entry["scores"].items()):
            table.add_row(
                _plain(f"{name} ({entry['n']:,})") if i == 0 else "",
                escape(score),
                escape(_interval(numbers["auroc"], digits=3)),
                _number(numbers["fpr95"]["value"], digits=3),
                end_section=i == len(entry["scores"]) - 1,
            )
    console.print(table)


def print_predictive(summary: dict[str, Any], console: Console) -> None:
    """What was predicted, in a table of metrics, where labels are known, and scores."""
    table = Table(
        title=f"{_plain(summary['dataset'])}, {summary['n']:,} inputs, {average_name(summary)}"
    )
    for column in ("score", "median", "5 %", "95 %"):
        justify = "left" if column == "score" else "right"
        table.add_column(column, justify=justify, overflow="fold")
    for name, spread in summary["scores"].items():
        numbers = (spread["median"], spread["q05"], spread["q95"])
        table.add_row(escape(name), *(_number(value) for value in numbers))
    console.print(table)
    known = [name for name in ("accuracy", "nll", "ece") if name in summary]
    if known:
        text = ", ".join(f"{METRIC_NAMES[name]} {_number(summary[name])}" for name in known)
        console.print(f"Against its labels: {text}", highlight=False)


def print_posterior(summary: dict[str, Any], metadata: dict[str, Any], console: Console) -> None:
    """A posterior's diagnostics, the whole and by parameter."""
    members = f" in {summary['num_members']} posteriors" if "num_members" in summary else ""
    table = Table(title=f"{summary['num_weights']:,} binary weights{members}")
    for column in ("parameter", "shape", "bits", "flip rate", "never", "median |λ|"):
        justify = "left" if column == "parameter" else "right"
        table.add_column(column, justify=justify, overflow="fold")
    for name, layer in summary["layers"].items():
        table.add_row(
            _plain(name),
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
        console.print(f"{_plain(key)}: {_plain(str(shown))}", highlight=False)


def print_written(path: Path, what: str, console: Console) -> None:
    """Say where results went; the path is not broken into lines, so that it can be copied."""
    console.print(f"Wrote {what} to {_plain(str(path))}", highlight=False, soft_wrap=True)


def _plain(text: str) -> str:
    """Text that came from a file, without markup or codes that a terminal would obey."""
    return escape("".join(c if c.isprintable() else "�" for c in text))


def _flat(values: dict[str, Any]) -> str:
    return ", ".join(
        f"{key} {_shortened(value)}" for key, value in values.items() if value is not None
    )


def _shortened(value: Any) -> str:
    if isinstance(value, list):
        many = f"[{len(value)} values]"
        return many if len(value) > 6 else f"[{', '.join(_shortened(v) for v in value)}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _interval(interval: dict[str, float | None], digits: int = 4) -> str:
    low, high = _number(interval["low"], digits), _number(interval["high"], digits)
    return f"{_number(interval['value'], digits)} [{low}, {high}]"


def _number(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
