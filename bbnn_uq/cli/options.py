"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "DATA_FORMS",
    "DEMO_SCORES",
    "REPORT_FILES",
    "BatchSize",
    "Bins",
    "Device",
    "Gates",
    "Json",
    "Level",
    "Method",
    "Model",
    "Out",
    "Posterior",
    "Precision",
    "Quiet",
    "Resume",
    "Samples",
    "Scores",
    "Seed",
    "score_names",
    "shape_of",
]

# Spaces, so that help can break the line.
DEMO_SCORES = "entropy, mutual_information, mutual_information@3, confidence, energy"
REPORT_FILES = "report.html, report.md, report.json, scores.npz and figures"
DATA_FORMS = "NAME, FILE.npz, FOLDER of images or package.module:function; +blur@3 corrupts it"

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but warnings and errors.")]
Seed = Annotated[int, typer.Option(help="Seed of all random numbers.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, …; a GPU when there is one.")]
Out = Annotated[Path, typer.Option(help="Folder to write; created when missing.")]
Posterior = Annotated[Path, typer.Option(help="Posterior file, as train writes it.")]
Model = Annotated[
    str | None, typer.Option(help="package.module:factory, for posteriors of custom models.")
]
Samples = Annotated[int, typer.Option(help="Networks to draw.")]
Method = Annotated[str, typer.Option(help="monte_carlo, local or mode.")]
Precision = Annotated[str, typer.Option(help="auto, float64, float32, bfloat16 or int8.")]
BatchSize = Annotated[
    int | None, typer.Option(help="Inputs per forward pass; changes memory, not figures.")
]
Scores = Annotated[str, typer.Option(help="Comma-separated; NAME@T takes the score at logits / T.")]
Bins = Annotated[int, typer.Option(help="Bins of the ECE and the reliability diagram.")]
Level = Annotated[float, typer.Option(help="Confidence level of intervals, in (0, 1).")]
Resume = Annotated[
    bool, typer.Option("--resume", help="Continue a run that was stopped, if there is one.")
]
Gates = Annotated[
    list[str] | None,
    typer.Option(help="Condition on the report; exit status 1 when one fails. Repeatable."),
]


def score_names(text: str) -> list[str]:
    """The scores of a comma-separated list, each once.

    Raises:
        ValueError: there is none, or one is unknown.
    """
    from bbnn_uq.scores import parse_score  # late: a command's --help needs none of it

    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise ValueError("--scores is empty; name at least one, such as 'entropy'")
    for name in names:
        parse_score(name)
    return names


def shape_of(text: str) -> tuple[int, ...]:
    """The shape of an input as it is written on the command line.

    Raises:
        ValueError: it is no such shape.

    Example:
        >>> shape_of("3x32x32")
        (3, 32, 32)
    """
    sizes = text.lower().replace("×", "x").split("x")
    if all(size.isdecimal() and int(size) > 0 for size in sizes):
        return tuple(int(size) for size in sizes)
    raise ValueError(f"--input-shape must be sizes joined by x, such as 3x32x32, got {text!r}")
