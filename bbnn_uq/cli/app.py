"""The application that every command registers with."""

from __future__ import annotations

from typing import Annotated

import typer

import bbnn_uq

__all__ = ["Interrupted", "app"]

app = typer.Typer(
    name="bbnn-uq",
    help="Uncertainty estimation for neural networks with binary weights.",
    epilog="Start with: bbnn-uq demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


class Interrupted(BaseException):
    """Ctrl-C, with a sentence on how to go on; typer makes a plain exit of KeyboardInterrupt."""


def _print_version(wanted: bool) -> bool:
    if wanted:
        print(f"bbnn-uq {bbnn_uq.__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def options_of_all(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Uncertainty estimation for neural networks with binary weights."""
