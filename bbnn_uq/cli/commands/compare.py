"""``bbnn-uq compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bbnn_uq.cli.app import app
from bbnn_uq.cli.options import Bins, Json, Level, Quiet, Seed
from bbnn_uq.cli.printing import print_written

__all__ = ["compare"]


@app.command(epilog="Example: bbnn-uq compare runs/demo runs/mine --out runs/compared")
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN",
            help="Folder of ood, evaluate or demo; NAME=DIR names it, and NAME=DIR,DIR is a group "
            "of runs that differ by their training seed alone.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder for comparison.html, .md and .json.")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="Name or folder to compare with; the first if not given.")
    ] = None,
    scores: Annotated[
        str | None, typer.Option(help="OOD scores, comma-separated; all if not given.")
    ] = None,
    bins: Bins = 15,
    level: Level = 0.95,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare evaluated runs: paired differences with intervals, and tests of no difference."""
    from contextlib import nullcontext

    from bbnn_uq import comparison
    from bbnn_uq.cli.comparison_tables import named_folders, print_comparison
    from bbnn_uq.cli.running import output_folder

    folders = named_folders(runs)
    wanted = None if scores is None else [s.strip() for s in scores.split(",") if s.strip()]
    with nullcontext() if out is None else output_folder(out) as folder:
        found = comparison.compare(
            folders,
            baseline=baseline,
            scores=wanted,
            num_bins=bins,
            confidence_level=level,
            seed=seed,
            progress=not quiet,
        )
        if folder is not None:
            found.save(folder)
        print_comparison(found, as_json, quiet)
        if folder is not None:
            files = "comparison.html, comparison.md and comparison.json"
            print_written(folder, files, as_json or quiet)
