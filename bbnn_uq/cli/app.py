"""The application that every command registers with."""

from __future__ import annotations

import typer

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
