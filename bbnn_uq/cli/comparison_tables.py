"""What ``compare`` is given and prints: runs by name, and tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bbnn_uq.comparison import Comparison, default_names
from bbnn_uq.comparison.text import BEST, tables

__all__ = ["named_folders", "print_comparison"]


def named_folders(runs: Sequence[str]) -> dict[str, list[str]]:
    """Name → folders, from ``DIR``, ``NAME=DIR`` and ``NAME=DIR,DIR``.

    What is a folder as it stands is one, whatever signs are in it.

    Raises:
        ValueError: two have one name, or a name has no folder.

    Example:
        >>> named_folders(["runs/a", "vi=runs/0,runs/1"])
        {'a': ['runs/a'], 'vi': ['runs/0', 'runs/1']}
    """
    plain = [run for run in runs if "=" not in run or Path(run).is_dir()]
    names = dict(zip(plain, default_names(plain), strict=True))
    found: dict[str, list[str]] = {}
    for run in runs:
        if run in names:
            name, folders = names[run], [run]
        else:
            name, _, listed = run.partition("=")
            folders = [listed] if Path(listed).is_dir() else listed.split(",")
        if not name or not all(folders):
            raise ValueError(f"RUN {run!r} lacks a name or a folder; write it as NAME=DIR,DIR")
        if name in found:
            raise ValueError(f"two runs are called {name!r}; give one another name, NAME=DIR")
        found[name] = folders
    return found


def print_comparison(comparison: Comparison, as_json: bool, quiet: bool) -> None:
    """A comparison as JSON, as tables, or not at all."""
    if as_json:
        print(comparison.to_json(), end="")
        return
    if quiet:
        return
    console = Console()
    for each in tables(comparison):
        table = Table(title=escape(each.title))
        for place, column in enumerate(each.columns):
            justify = "left" if place < 2 else "right"
            table.add_column(escape(column), justify=justify, overflow="fold")
        for place, (row, best) in enumerate(zip(each.rows, each.best, strict=True)):
            label, method, value, *others = (escape(cell) for cell in row)
            value = f"[bold]{value}[/bold] {BEST}" if best else value
            last = place + 1 == len(each.rows) or bool(each.rows[place + 1][0])
            table.add_row(label, method, value, *others, end_section=last)
        console.print(table)
    console.print(f"{BEST} best on the same inputs", highlight=False)
    for text in (*comparison.findings(), *comparison.notes):
        console.print(f"• {escape(text)}", highlight=False)
