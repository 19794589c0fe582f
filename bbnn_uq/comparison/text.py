"""What a comparison says in words, and its tables as text: Markdown, notebook, terminal."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bbnn_uq._html import html_block, html_list, html_table
from bbnn_uq.comparison.rows import Row
from bbnn_uq.pages.rendering import interval_text, number_text, shown_name
from bbnn_uq.verdict import METRIC_NAMES, listed

if TYPE_CHECKING:
    from bbnn_uq.comparison.value import Comparison

__all__ = ["BEST", "Table", "best_of", "findings", "markdown", "notebook", "tables"]

SHOWN = ("accuracy", "nll", "brier", "ece", "aurc", "auroc")
"""The metrics of tables that are read as text; all are in ``comparison.json`` and on the page."""

BEST = "★"


@dataclass(frozen=True)
class Table:
    """Cells as text, without any markup.

    Attributes:
        title: what it is about.
        columns: headings.
        rows: cells; the first is empty in a row that continues the one above.
        best: for each row, whether its value is the best of those on the same inputs.
    """

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    best: Sequence[bool]


def tables(comparison: Comparison) -> list[Table]:
    """A table for the ID set and for each OOD set."""
    groups: dict[str, list[Row]] = {}
    for row in comparison.rows:
        if row.metric in SHOWN:
            groups.setdefault("" if row.kind == "id" else f"ood/{row.dataset}", []).append(row)
    return [_table(comparison, rows) for rows in groups.values()]


def _table(comparison: Comparison, rows: Sequence[Row]) -> Table:
    level = f"{100 * comparison.settings['confidence_level']:g} %"
    base = shown_name(comparison.baseline, 24)
    inside = rows[0].kind == "id"
    name, count = shown_name(rows[0].dataset), f"{rows[0].n:,}"
    title = f"{name}, {count} inputs" if inside else f"AUROC against {name}, {count} OOD inputs"
    cells, above = [], ""
    for row in rows:
        label = _label(row)
        cells.append((label if label != above else "", *_cells(row)))
        above = label
    columns = ("metric" if inside else "score", "run", "value", f"− {base} [{level}]", "p (Holm)")
    return Table(title, columns, cells, best_of(rows))


def _label(row: Row) -> str:
    if row.choice == "best":
        return f"best: {row.score}"
    if row.choice == "first":
        return f"first: {row.score} − {row.baseline_score}"
    return METRIC_NAMES[row.metric] if row.score is None else row.score


def _cells(row: Row) -> tuple[str, str, str, str]:
    digits = 4 if row.score is None else 3
    method, value = shown_name(row.method, 40), number_text(row.value.value, digits)
    if row.std_error is not None:
        value += f" ± {number_text(row.std_error, digits)}"
    difference = row.difference
    if difference is None:
        return method, value, "", ""
    if math.isnan(difference.value):
        return method, value, difference.note or "–", ""
    gap = number_text(difference.value, digits, signed=True)
    if math.isnan(difference.low):
        return method, value, f"{gap} ({'picked' if row.choice == 'best' else 'no interval'})", ""
    interval = interval_text(difference, digits, signed=True)
    return method, value, f"{gap} {interval}", _p_text(difference.p_adjusted)


def _p_text(p_value: float | None) -> str:
    if p_value is None:
        return ""
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"


def best_of(rows: Sequence[Row]) -> list[bool]:
    """For each row, whether its value is the best of those on the same inputs, if any is worse."""

    def key(row: Row) -> tuple[str | None, ...]:
        score = row.score if row.choice == "named" else None
        # An ID set has the name of its file, which may differ where the inputs do not.
        return row.kind, row.dataset if row.kind == "ood" else None, row.choice, score, row.metric

    groups: dict[tuple[str | None, ...], list[float]] = {}
    for row in rows:
        if row.same_inputs:
            groups.setdefault(key(row), []).append(row.value.value)

    def is_best(row: Row) -> bool:
        values = [value for value in groups.get(key(row), []) if not math.isnan(value)]
        if not row.same_inputs or not values or min(values) == max(values):
            return False
        return row.value.value == (max(values) if row.higher_is_better else min(values))

    return [is_best(row) for row in rows]


def findings(comparison: Comparison) -> list[str]:
    """A sentence for each method but the baseline."""
    return [
        _finding(name, comparison) for name in comparison.methods if name != comparison.baseline
    ]


def _finding(name: str, comparison: Comparison) -> str:
    rows = [row for row in comparison.rows if row.method == name]
    tested = [row for row in rows if row.difference and row.difference.p_adjusted is not None]
    who = f"{shown_name(name, 40)} against {shown_name(comparison.baseline, 40)}"
    if not tested:
        notes = [row.difference.note for row in rows if row.difference and row.difference.note]
        return f"{who}: no test ({notes[0]})." if notes else f"{who}: no test."
    level = comparison.settings["confidence_level"]
    better, worse = [], []
    for row in tested:
        assert row.difference is not None
        assert row.difference.p_adjusted is not None
        if row.difference.p_adjusted <= 1.0 - level:
            gain = (row.difference.value > 0) == row.higher_is_better
            (better if gain else worse).append(row)
    said = [f"{verb} in {_what(of)}" for verb, of in (("better", better), ("worse", worse)) if of]
    rest = len(tested) - len(better) - len(worse)
    if rest:
        said.append(f"no difference shown in {rest} of {len(tested)} tests")
    return f"{who}: {'; '.join(said)}."


def _what(rows: Sequence[Row]) -> str:
    """Metrics with their differences, those of one OOD set together."""
    inside, sets = [], dict[str, list[str]]()
    for row in rows:
        assert row.difference is not None
        gap = number_text(row.difference.value, 4 if row.score is None else 3, signed=True)
        if row.score is None:
            inside.append(f"{METRIC_NAMES[row.metric]} ({gap})")
            continue
        score = row.score if row.choice == "named" else f"{row.score} − {row.baseline_score}"
        sets.setdefault(row.dataset, []).append(f"{score} {gap}")
    aurocs = [f"AUROC against {shown_name(s, 40)} ({', '.join(of)})" for s, of in sets.items()]
    return listed([*inside, *aurocs])


def markdown(comparison: Comparison) -> str:
    """Findings, a table for each set, and what to know before quoting a number."""
    lines = [f"# Comparison with {_escaped(comparison.baseline)}", ""]
    lines += [*(f"- {_escaped(text)}" for text in comparison.findings()), ""]
    for table in tables(comparison):
        rows = []
        for (label, method, value, *others), best in zip(table.rows, table.best, strict=True):
            value = f"**{value}**" if best else value
            rows.append([_escaped(label), _escaped(method), value, *others])
        head = [[_escaped(column) for column in table.columns], ["---"] * len(table.columns)]
        lines += [f"## {_escaped(table.title)}", ""]
        lines += ["| " + " | ".join(row) + " |" for row in (*head, *rows)] + [""]
    lines += ["Bold: the best value on the same inputs.", "", "## Before quoting a number", ""]
    return "\n".join([*lines, *(f"- {_escaped(note)}" for note in comparison.notes), ""])


def notebook(comparison: Comparison) -> str:
    """The same as HTML for notebooks."""
    parts = [html_list(comparison.findings())]
    for table in tables(comparison):
        rows = [
            (label, method, f"{value} {BEST}" if best else value, *others)
            for (label, method, value, *others), best in zip(table.rows, table.best, strict=True)
        ]
        parts.append(html_table(table.title, table.columns, rows))
    notes = [f"{BEST} marks the best value on the same inputs.", *comparison.notes]
    return html_block(*parts, html_list(notes))


def _escaped(text: str) -> str:
    """Text that may hold names from files, harmless in Markdown and on one line."""
    return re.sub(r"([\\`*_{}\[\]<>#|!~&])", r"\\\1", shown_name(text, len(text) + 1))
