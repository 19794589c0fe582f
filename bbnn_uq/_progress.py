"""Progress on a terminal, silence in a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

__all__ = ["progress_bar"]

_NARROW = 80
"""Columns of a terminal below which there is room for a share and the time left, no more."""
_REMEMBERED = 600.0
"""Seconds that the rate is taken over; rich's own half minute is less than many an epoch."""


@contextmanager
def progress_bar(
    description: str, total: int | None, *, enabled: bool, unit: str = "", done: int = 0
) -> Iterator[Callable[[int, str], None]]:
    """A bar on stderr; the block gets a function (steps done, note) that moves it on.

    It shows the share, the rate and the time left.

    Args:
        description: what is being done.
        total: number of steps; None when unknown.
        enabled: whether to show it; nothing is shown where stderr is no terminal.
        unit: what steps are, in the plural, for the rate.
        done: steps that were done before, which are not part of the rate.
    """
    console = Console(stderr=True)
    with Progress(
        *_columns(unit, narrow=console.width < _NARROW),
        console=console,
        transient=True,
        disable=not (enabled and console.is_terminal),
        speed_estimate_period=_REMEMBERED,
    ) as bar:
        # Names in it may come from files.
        plain = "".join(c if c.isprintable() else "�" for c in description)
        task = bar.add_task(plain, total=total, completed=done, note="")
        yield lambda steps, note: bar.update(task, advance=steps, note=note)


def _columns(unit: str, *, narrow: bool) -> list[ProgressColumn]:
    title = TextColumn("{task.description}", markup=False)
    if narrow:
        return [title, TaskProgressColumn(), TimeRemainingColumn(compact=True)]
    return [
        SpinnerColumn(),
        title,
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("<"),
        TimeRemainingColumn(),
        _Rate(unit),
        TextColumn("{task.fields[note]}", markup=False),
    ]


class _Rate(ProgressColumn):
    """Steps a second, or seconds a step where they are slow."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        return Text(rate(task.speed, self._unit))


def rate(speed: float | None, unit: str) -> str:
    """Steps a second in words of a person.

    Example:
        >>> rate(1234567.0, "inputs × networks"), rate(0.02, "epochs"), rate(None, "epochs")
        ('1.2M inputs × networks/s', '50.0 s per epoch', '')
    """
    if not speed:
        return ""
    if speed < 1.0:
        return f"{1.0 / speed:.1f} s per {unit.removesuffix('s') or 'step'}"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if speed >= size:
            return f"{speed / size:.1f}{letter} {unit}/s".replace(" /", "/")
    return f"{speed:.1f} {unit}/s".replace(" /", "/")
