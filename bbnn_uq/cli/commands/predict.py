"""``bbnn-uq predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bbnn_uq.cli.app import app
from bbnn_uq.cli.options import (
    DATA_FORMS,
    DEMO_SCORES,
    BatchSize,
    Device,
    Json,
    Method,
    Model,
    Posterior,
    Precision,
    Quiet,
    Samples,
    Seed,
    score_names,
)
from bbnn_uq.cli.printing import print_predictive, print_written

__all__ = ["predict"]


@app.command(
    epilog="Example: bbnn-uq predict --posterior runs/demo/posterior.safetensors "
    "--data digits-low --out runs/digits-low.npz"
)
def predict(
    posterior: Posterior,
    data: Annotated[str, typer.Option(help=f"Data to predict: {DATA_FORMS}.")],
    out: Annotated[Path, typer.Option(help="FILE.npz to write; bbnn-uq evaluate reads it.")],
    scores: Annotated[
        str, typer.Option(help="What to accumulate: scores at logits / T need their NAME@T here.")
    ] = DEMO_SCORES,
    model: Model = None,
    samples: Samples = 32,
    seed: Seed = 0,
    method: Method = "monte_carlo",
    precision: Precision = "auto",
    device: Device = None,
    batch_size: BatchSize = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Predict data with networks drawn from a posterior: probabilities and all scores."""
    from bbnn_uq.cli.evaluation import load_for, of_real_targets
    from bbnn_uq.cli.models import check_model, model_of
    from bbnn_uq.cli.prediction import predict_to_file
    from bbnn_uq.cli.running import load_posterior, output_file

    fitted = load_posterior(posterior)
    check_model(fitted, model)
    wanted = score_names(scores)
    if of_real_targets(fitted) and scores != DEMO_SCORES:
        raise ValueError(
            "--scores are of classes, and the posterior predicts real targets; leave them out"
        )
    dataset = load_for(fitted, data)
    with output_file(out) as file:
        result = predict_to_file(
            model_of(fitted, model, dataset.input_shape),
            fitted,
            dataset,
            file,
            scores=wanted,
            num_samples=samples,
            seed=seed,
            method=method,
            precision=precision,
            device=device,
            batch_size=batch_size,
            progress=not quiet,
        )
    print_predictive(result, as_json, quiet)
    print_written(out, "predictions", as_json or quiet)
