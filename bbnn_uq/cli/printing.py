"""What commands print: JSON, tables, or nothing. Late imports keep ``--help`` instant."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

__all__ = ["print_posterior", "print_predictive", "print_report", "print_written"]


def print_report(report: Any, as_json: bool, quiet: bool) -> None:
    """A report as JSON, as tables, or not at all."""
    if as_json:
        print(json.dumps(report.to_dict(), indent=2, allow_nan=False))
    elif not quiet:
        from rich.console import Console

        from bbnn_uq.cli import tables

        tables.print_report(report.to_dict(), Console())


def print_posterior(posterior: Any, as_json: bool, quiet: bool) -> None:
    """A posterior's diagnostics as JSON, as a table, or not at all."""
    summary = posterior.summary()
    if as_json:
        print(json.dumps(summary | {"metadata": posterior.metadata}, indent=2, allow_nan=False))
    elif not quiet:
        from rich.console import Console

        from bbnn_uq.cli import tables

        tables.print_posterior(summary, posterior.metadata, Console())


def print_predictive(summary: dict[str, Any], as_json: bool, quiet: bool) -> None:
    """What a prediction came to as JSON, as a table, or not at all."""
    if as_json:
        print(json.dumps(_finite(summary), indent=2, allow_nan=False))
    elif not quiet:
        from rich.console import Console

        from bbnn_uq.cli import tables

        tables.print_predictive(_finite(summary), Console())


def _finite(value: Any) -> Any:
    """With None for numbers that JSON does not have, such as an infinite NLL."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_written(path: Path, what: str, silent: bool) -> None:
    """Where results went."""
    if silent:
        return
    from rich.console import Console

    from bbnn_uq.cli import tables

    tables.print_written(path, what, Console())
