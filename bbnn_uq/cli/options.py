"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "DEMO_SCORES",
    "REPORT_FILES",
    "BatchSize",
    "Device",
    "Gates",
    "Json",
    "Model",
    "Out",
    "Quiet",
    "Seed",
]

DEMO_SCORES = "entropy,mutual_information,mutual_information@3,confidence,energy"
REPORT_FILES = "report.md, report.json, scores.npz and figures"

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but warnings and errors.")]
Seed = Annotated[int, typer.Option(help="Seed of all random numbers.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, …; a GPU when there is one.")]
Out = Annotated[Path, typer.Option(help="Folder to write; created when missing.")]
Model = Annotated[
    str | None, typer.Option(help="package.module:factory, for posteriors of custom models.")
]
BatchSize = Annotated[
    int | None, typer.Option(help="Inputs per forward pass; changes memory, not figures.")
]
Gates = Annotated[
    list[str] | None,
    typer.Option(help="Condition on the report; exit status 1 when one fails. Repeatable."),
]
