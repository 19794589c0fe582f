"""``bbnn-uq train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bbnn_uq.cli.app import app
from bbnn_uq.cli.options import DATA_FORMS, Device, Json, Out, Quiet, Resume, Seed, shape_of
from bbnn_uq.cli.printing import print_posterior, print_written

__all__ = ["train"]


@app.command(
    epilog="Example: bbnn-uq train --data digits-low --model mlp:128x2 --epochs 50 --out runs/low"
)
def train(
    data: Annotated[str, typer.Option(help=f"Data with labels: {DATA_FORMS}.")],
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
    input_shape: Annotated[
        str | None, typer.Option(help="Shape to give images of a folder, such as 3x32x32.")
    ] = None,
    seed: Seed = 0,
    device: Device = None,
    resume: Resume = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a Bernoulli posterior; write posterior.safetensors, config.json and train.jsonl."""
    from bbnn_uq.cli.running import load_posterior, output_folder
    from bbnn_uq.cli.training import train_posterior
    from bbnn_uq.data import load_data
    from bbnn_uq.posterior import PosteriorMixture

    previous = None if prior is None else load_posterior(prior)
    if isinstance(previous, PosteriorMixture):
        raise ValueError(f"--prior {str(prior)!r} is a mixture; name the file of one posterior")
    shape = None if input_shape is None else shape_of(input_shape)
    dataset = load_data(data, split="train", input_shape=shape)
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
        print_posterior(posterior, as_json, quiet)
        files = "posterior.safetensors, config.json and train.jsonl"
        print_written(folder, files, as_json or quiet)
