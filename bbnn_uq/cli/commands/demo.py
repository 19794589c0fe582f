"""``bbnn-uq demo``."""

from __future__ import annotations

import tempfile
from pathlib import Path

from bbnn_uq.cli.app import app
from bbnn_uq.cli.options import (
    DEMO_SCORES,
    REPORT_FILES,
    BatchSize,
    Json,
    Out,
    Quiet,
    Seed,
    score_names,
)
from bbnn_uq.cli.printing import print_report, print_written

__all__ = ["demo"]


@app.command(epilog="Example: bbnn-uq demo --out runs/demo")
def demo(
    out: Out = Path("runs/demo"),
    seed: Seed = 0,
    batch_size: BatchSize = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train on embedded digits, draw networks, evaluate against near and far OOD data."""
    from bbnn_uq.cli.evaluation import evaluate_posterior, load_sets
    from bbnn_uq.cli.running import one_thread, output_folder
    from bbnn_uq.cli.training import train_posterior
    from bbnn_uq.data import load_data

    with output_folder(out) as folder, one_thread():
        model, posterior = train_posterior(
            load_data("digits-low", split="train"),
            model="mlp:128x2",
            dropout=0.1,
            folder=folder,
            # Lowest cross-validated NLL; docs/benchmarks/demo.md says what had been seen before.
            epochs=100,
            batch_size=32,
            lr=1.0,
            real_lr=0.1,
            kl_weight=1e-3,
            seed=seed,
            device="cpu",
            progress=not quiet,
        )
        inside, outside = load_sets(posterior, "digits-low", ["digits-high", "photo-patches"])
        with tempfile.TemporaryDirectory(dir=folder, prefix=".run.") as state:
            report = evaluate_posterior(
                model,
                posterior,
                inside,
                outside,
                scores=score_names(DEMO_SCORES),
                state=Path(state),
                device="cpu",
                batch_size=batch_size,
                progress=not quiet,
            )
            report.save(folder)
        print_report(report, as_json, quiet)
        print_written(folder, f"posterior.safetensors and {REPORT_FILES}", as_json or quiet)
