"""``bbnn-uq ood``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bbnn_uq.cli.app import app
from bbnn_uq.cli.gates import parse_gate, report_gates
from bbnn_uq.cli.options import (
    DEMO_SCORES,
    REPORT_FILES,
    BatchSize,
    Device,
    Gates,
    Json,
    Model,
    Out,
    Quiet,
    Seed,
)
from bbnn_uq.cli.printing import print_report, print_written

__all__ = ["ood"]


@app.command(
    epilog="Example: bbnn-uq ood --posterior runs/demo/posterior.safetensors --id digits-low "
    "--ood noise --gate 'ood.noise.entropy.auroc>=0.9' --out runs/noise"
)
def ood(
    posterior: Annotated[Path, typer.Option(help="File that train wrote.")],
    id_data: Annotated[str, typer.Option("--id", help="In-distribution data set, with labels.")],
    ood_data: Annotated[list[str], typer.Option("--ood", help="OOD data set; may be repeated.")],
    out: Out,
    scores: Annotated[
        str, typer.Option(help="Comma-separated; NAME@T takes the score at logits / T.")
    ] = DEMO_SCORES,
    gate: Gates = None,
    model: Model = None,
    samples: Annotated[int, typer.Option(help="Networks to draw.")] = 32,
    seed: Seed = 0,
    method: Annotated[str, typer.Option(help="monte_carlo, local or mode.")] = "monte_carlo",
    precision: Annotated[
        str, typer.Option(help="auto, float64, float32, bfloat16 or int8.")
    ] = "auto",
    device: Device = None,
    batch_size: BatchSize = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Evaluate a posterior: accuracy, calibration and OOD detection, with figures."""
    from bbnn_uq.cli.evaluation import evaluate_posterior
    from bbnn_uq.cli.models import model_of
    from bbnn_uq.cli.running import output_folder
    from bbnn_uq.posterior import load

    fitted = load(posterior)
    wanted = [score.strip() for score in scores.split(",") if score.strip()]
    conditions = [parse_gate(text) for text in gate or []]
    for condition in conditions:
        condition.check_name([set_name(name) for name in ood_data], wanted)
    network = model_of(fitted, model)
    with output_folder(out) as folder:
        report = evaluate_posterior(
            network,
            fitted,
            id_data=id_data,
            ood_data=ood_data,
            scores=wanted,
            num_samples=samples,
            seed=seed,
            method=method,
            precision=precision,
            device=device,
            batch_size=batch_size,
            progress=not quiet,
        )
        report.save(folder)
        print_report(report, as_json, quiet)
        print_written(folder, REPORT_FILES, as_json or quiet)
    report_gates(conditions, report.to_dict(), quiet)


def set_name(name: str) -> str:
    return Path(name).stem if name.lower().endswith(".npz") else name
