"""``bbnn-uq inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bbnn_uq.cli.app import app
from bbnn_uq.cli.options import Json
from bbnn_uq.cli.printing import print_posterior

__all__ = ["inspect"]


@app.command(epilog="Example: bbnn-uq inspect runs/demo/posterior.safetensors")
def inspect(
    file: Annotated[Path, typer.Argument(help="Posterior file, as train writes it.")],
    as_json: Json = False,
) -> None:
    """Show a posterior's diagnostics; warn when it has collapsed."""
    from bbnn_uq.cli.running import load_posterior
    from bbnn_uq.posterior import warn_if_collapsed

    fitted = load_posterior(file)
    print_posterior(fitted, as_json, quiet=False)
    warn_if_collapsed(fitted)
