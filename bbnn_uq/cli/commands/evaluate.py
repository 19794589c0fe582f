"""``bbnn-uq evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bbnn_uq.cli.app import app
from bbnn_uq.cli.gates import parse_gate, report_gates
from bbnn_uq.cli.options import REPORT_FILES, Bins, Gates, Json, Level, Out, Quiet, score_names
from bbnn_uq.cli.printing import print_report, print_written

__all__ = ["evaluate"]


@app.command(
    epilog="Example: bbnn-uq evaluate --predictions test.npz --ood-predictions far.npz "
    "--gate 'ood.far.entropy.auroc>=0.9' --out runs/mine"
)
def evaluate(
    predictions: Annotated[
        Path,
        typer.Option(
            help="FILE.npz with probs (N, C) or samples (S, N, C), and labels (N,); or one that "
            "predict wrote. It may hold x, for pictures, and class_names."
        ),
    ],
    out: Out,
    ood_predictions: Annotated[
        list[Path] | None,
        typer.Option(
            help="The same of an OOD set, without labels; its name is that of the file. Repeatable."
        ),
    ] = None,
    scores: Annotated[
        str | None,
        typer.Option(help="Comma-separated; those of ood that the files offer if not given."),
    ] = None,
    gate: Gates = None,
    bins: Bins = 15,
    level: Level = 0.95,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Evaluate predictions from any source, as ood does; no network is run."""
    from bbnn_uq._checks import check_count, check_fraction
    from bbnn_uq.cli.predictions import evaluate_files
    from bbnn_uq.cli.running import output_folder

    conditions = [parse_gate(text) for text in gate or []]
    check_count(bins, "bins")
    check_fraction(level, "level")
    outside = ood_predictions or []
    if scores is not None:
        for condition in conditions:
            condition.check_name([path.stem for path in outside], score_names(scores))
    with output_folder(out) as folder:
        report = evaluate_files(predictions, outside, scores, num_bins=bins, confidence_level=level)
        values = report.to_dict()
        for condition in conditions:  # one on a value that there is not, before anything is written
            condition.check(values)
        report.save(folder)
        print_report(report, as_json, quiet)
        print_written(folder, REPORT_FILES, as_json or quiet)
    report_gates(conditions, values, quiet)
