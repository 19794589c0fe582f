"""The commands. Heavy imports happen inside them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bbnn_uq.cli.gates import parse_gate

__all__ = ["app"]

app = typer.Typer(
    name="bbnn-uq",
    help="Uncertainty estimation for neural networks with binary weights.",
    epilog="Start with: bbnn-uq demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

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


@app.command(epilog="Example: bbnn-uq demo --out runs/demo")
def demo(
    out: Out = Path("runs/demo"),
    seed: Seed = 0,
    batch_size: BatchSize = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train on embedded digits, draw networks, evaluate against near and far OOD data."""
    from bbnn_uq.cli.pipeline import (
        evaluate_posterior,
        one_thread,
        output_folder,
        train_posterior,
    )
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
        report = evaluate_posterior(
            model,
            posterior,
            id_data="digits-low",
            ood_data=["digits-high", "photo-patches"],
            scores=DEMO_SCORES.split(","),
            device="cpu",
            batch_size=batch_size,
            progress=not quiet,
        )
        report.save(folder)
        _print_report(report, as_json, quiet)
        _print_written(folder, f"posterior.safetensors and {REPORT_FILES}", as_json or quiet)


@app.command(
    epilog="Example: bbnn-uq train --data digits-low --model mlp:128x2 --epochs 50 --out runs/low"
)
def train(
    data: Annotated[str, typer.Option(help="Data set name, or FILE.npz with x and y.")],
    out: Out,
    model: Annotated[
        str, typer.Option(help="mlp:256x3, convnet, vgg:0.25, or package.module:factory.")
    ] = "mlp:256x3",
    estimator: Annotated[
        str, typer.Option(help="straight_through, local, concrete or published.")
    ] = "straight_through",
    epochs: Annotated[int, typer.Option(help="Passes over the data.")] = 20,
    batch_size: Annotated[int, typer.Option(help="Inputs per step.")] = 128,
    lr: Annotated[float, typer.Option(help="Step size of the binary weights' posterior.")] = 0.1,
    real_lr: Annotated[float, typer.Option(help="Step size of real-valued parameters.")] = 0.03,
    kl_weight: Annotated[float, typer.Option(help="Weight of the KL term.")] = 1e-2,
    dropout: Annotated[float, typer.Option(help="Dropout of built-in models.")] = 0.1,
    members: Annotated[
        int, typer.Option(help="Train K posteriors, with seeds from SEED on, and mix them.")
    ] = 1,
    batchnorm_networks: Annotated[
        int, typer.Option(help="Networks that get BatchNorm statistics of their own.")
    ] = 32,
    prior: Annotated[
        Path | None, typer.Option(help="Posterior file of a previous task, as the prior.")
    ] = None,
    seed: Seed = 0,
    device: Device = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue a run that was stopped.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a Bernoulli posterior; write posterior.safetensors, config.json and train.jsonl."""
    from bbnn_uq.cli.pipeline import output_folder, train_posterior
    from bbnn_uq.data import load_data
    from bbnn_uq.posterior import PosteriorMixture, load

    previous = None if prior is None else load(prior)
    if isinstance(previous, PosteriorMixture):
        raise ValueError(f"--prior {str(prior)!r} is a mixture; name the file of one posterior")
    dataset = load_data(data, split="train")
    with output_folder(out) as folder:
        _, posterior = train_posterior(
            dataset,
            checkpoints=True,
            resume=resume,
            model=model,
            dropout=dropout,
            folder=folder,
            estimator=estimator,
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            real_lr=real_lr,
            kl_weight=kl_weight,
            members=members,
            batchnorm_networks=batchnorm_networks,
            prior=previous,
            seed=seed,
            device=device,
            progress=not quiet,
        )
        _print_posterior(posterior, as_json, quiet)
        files = "posterior.safetensors, config.json and train.jsonl"
        _print_written(folder, files, as_json or quiet)


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
    gate: Annotated[
        list[str] | None,
        typer.Option(help="Condition on the report; exit status 1 when one fails. Repeatable."),
    ] = None,
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
    from bbnn_uq.cli.pipeline import evaluate_posterior, model_of, output_folder
    from bbnn_uq.posterior import load

    fitted = load(posterior)
    wanted = [score.strip() for score in scores.split(",") if score.strip()]
    conditions = [parse_gate(text) for text in gate or []]
    for condition in conditions:
        condition.check_name([_set_name(name) for name in ood_data], wanted)
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
        _print_report(report, as_json, quiet)
        _print_written(folder, REPORT_FILES, as_json or quiet)
    failed = False
    for condition in conditions:
        value, passed = condition.check(report.to_dict())
        failed |= not passed
        if passed and quiet:
            continue
        verdict = "passed" if passed else "FAILED"
        text = f"gate {verdict}: {condition.name} {condition.symbol} {condition.bound:g}"
        got = "no finite value" if value is None else f"{value:.6g}"
        print(f"{text}, got {got}", file=sys.stderr)
    if failed:
        raise typer.Exit(1)


@app.command(epilog="Example: bbnn-uq inspect runs/demo/posterior.safetensors")
def inspect(
    file: Annotated[Path, typer.Argument(help="File that train wrote.")],
    as_json: Json = False,
) -> None:
    """Show a posterior's diagnostics; warn when it has collapsed."""
    from bbnn_uq.posterior import load, warn_if_collapsed

    fitted = load(file)
    _print_posterior(fitted, as_json, quiet=False)
    warn_if_collapsed(fitted)


def _set_name(name: str) -> str:
    return Path(name).stem if name.lower().endswith(".npz") else name


def _print_report(report: Any, as_json: bool, quiet: bool) -> None:
    if as_json:
        print(json.dumps(report.to_dict(), indent=2, allow_nan=False))
    elif not quiet:
        from rich.console import Console

        from bbnn_uq.cli.tables import print_report

        print_report(report.to_dict(), Console())


def _print_posterior(posterior: Any, as_json: bool, quiet: bool) -> None:
    summary = posterior.summary()
    if as_json:
        print(json.dumps(summary | {"metadata": posterior.metadata}, indent=2, allow_nan=False))
    elif not quiet:
        from rich.console import Console

        from bbnn_uq.cli.tables import print_posterior

        print_posterior(summary, posterior.metadata, Console())


def _print_written(folder: Path, what: str, silent: bool) -> None:
    if silent:
        return
    from rich.console import Console

    from bbnn_uq.cli.tables import print_written

    print_written(folder, what, Console())
