"""``bbnn-uq ood``."""

from __future__ import annotations

from typing import Annotated

import typer

from bbnn_uq.cli.app import app
from bbnn_uq.cli.gates import parse_gate, report_gates
from bbnn_uq.cli.options import (
    DATA_FORMS,
    DEMO_SCORES,
    REPORT_FILES,
    BatchSize,
    Bins,
    Device,
    Gates,
    Json,
    Level,
    Method,
    Model,
    Out,
    Posterior,
    Precision,
    Quiet,
    Resume,
    Samples,
    Scores,
    Seed,
    score_names,
)
from bbnn_uq.cli.printing import print_report, print_written

__all__ = ["ood"]


@app.command(
    epilog="Example: bbnn-uq ood --posterior runs/demo/posterior.safetensors --id digits-low "
    "--ood noise --gate 'ood.noise.entropy.auroc>=0.9' --out runs/noise"
)
def ood(
    posterior: Posterior,
    id_data: Annotated[
        str, typer.Option("--id", help=f"In-distribution data, with labels: {DATA_FORMS}.")
    ],
    ood_data: Annotated[
        list[str], typer.Option("--ood", help="OOD data, named as --id. Repeatable.")
    ],
    out: Out,
    scores: Scores = DEMO_SCORES,
    gate: Gates = None,
    model: Model = None,
    samples: Samples = 32,
    seed: Seed = 0,
    method: Method = "monte_carlo",
    precision: Precision = "auto",
    device: Device = None,
    batch_size: BatchSize = None,
    bins: Bins = 15,
    level: Level = 0.95,
    resume: Resume = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Evaluate a posterior: accuracy, calibration and OOD detection, with figures.

    Predictions are kept in parts until the report is written, for --resume.
    """
    from bbnn_uq._checks import check_count, check_fraction
    from bbnn_uq.cli import evaluation
    from bbnn_uq.cli.models import check_model, model_of
    from bbnn_uq.cli.run_state import run_state
    from bbnn_uq.cli.running import load_posterior, output_folder
    from bbnn_uq.data import set_name

    fitted = load_posterior(posterior)
    check_model(fitted, model)
    wanted = score_names(scores)
    conditions = [parse_gate(text) for text in gate or []]
    for condition in conditions:
        condition.check_name([set_name(spec) for spec in ood_data], wanted)
    check_count(bins, "bins")
    check_fraction(level, "level")
    inside, outside = evaluation.load_sets(fitted, id_data, ood_data)
    network = model_of(fitted, model, inside.input_shape)
    options = {
        "num_samples": samples,
        "seed": seed,
        "method": method,
        "precision": precision,
        "device": device,
        "batch_size": batch_size,
    }
    about = evaluation.configuration(fitted, inside, outside, model=model, scores=wanted, **options)
    with output_folder(out) as folder:
        with run_state(folder, about, resume=resume) as state:
            report = evaluation.evaluate_posterior(
                network,
                fitted,
                inside,
                outside,
                scores=wanted,
                state=state,
                progress=not quiet,
                num_bins=bins,
                confidence_level=level,
                **options,
            )
            report.save(folder)
        print_report(report, as_json, quiet)
        print_written(folder, REPORT_FILES, as_json or quiet)
    report_gates(conditions, report.to_dict(), quiet)
