"""The command line: parse, call public functions, print.

Nothing here imports torch or matplotlib before a command runs, so that ``--help`` is instant.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

from bbnn_uq.cli.commands import app

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit: 0 done, 1 a gate failed, 2 bad input, 130 interrupted.

    Bad input, usage errors included, gives one line on stderr that says what is wrong.
    """
    warnings.showwarning = _show_warning
    try:
        status = app(arguments, standalone_mode=False)
    except KeyboardInterrupt:
        status = 130
    except (ValueError, TypeError, OSError) as error:
        status = _fail(_message(error))
    except Exception as error:
        # Usage errors: their class is typer's own in new versions and click's in old ones.
        if not hasattr(error, "format_message"):
            raise
        status = _fail(f"{error.format_message()} (try --help)")  # pyright: ignore[reportAttributeAccessIssue]
    if status == 130:
        print("bbnn-uq: interrupted", file=sys.stderr)
    sys.exit(status or 0)


def _fail(message: str) -> int:
    print(f"bbnn-uq: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f" {error.filename!r}" if error.filename else ""
        return f"cannot use{where}: {error.strerror}; choose another place"
    return str(error)


def _show_warning(message: Any, *_: Any, **__: Any) -> None:
    print(f"bbnn-uq: warning: {' '.join(str(message).split())}", file=sys.stderr)
