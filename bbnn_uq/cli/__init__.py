"""The command line: parse, call public functions, print.

Nothing here imports torch or matplotlib before a command runs, so that ``--help`` is instant.
"""

from __future__ import annotations

import io
import sys
import warnings
from typing import Any

from bbnn_uq.cli import commands  # noqa: F401  registers them
from bbnn_uq.cli.app import Interrupted, app

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit: 0 done, 1 a gate failed, 2 bad input, 130 interrupted.

    Bad input, usage errors included, gives one line on stderr that says what is wrong.
    """
    warnings.showwarning = _show_warning
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # no result is lost to a terminal without a "−"
            stream.reconfigure(errors="backslashreplace")
    try:
        status = app(arguments, standalone_mode=False)
    except KeyboardInterrupt:
        status = 130
    except Interrupted as stop:
        print(f"bbnn-uq: interrupted; {_line(str(stop))}", file=sys.stderr)
        sys.exit(130)
    except (ValueError, TypeError, OSError) as error:
        status = _fail(_noted(_message(error), error))
    except MemoryError as error:
        text = f"not enough memory ({error}); evaluate fewer inputs or networks at a time"
        status = _fail(_noted(text, error))
    except RuntimeError as error:  # torch's, of shapes that do not fit and memory that ran out
        text = f"{error}; check that the model fits the data and the memory"
        status = _fail(_noted(text, error))
    except Exception as error:
        # Usage errors: their class is typer's own in new versions and click's in old ones.
        if not hasattr(error, "format_message"):
            raise
        message = error.format_message() or "no command given"  # pyright: ignore[reportAttributeAccessIssue]
        status = _fail(f"{message} (try --help)")
    if status == 130:
        print("bbnn-uq: interrupted", file=sys.stderr)
    sys.exit(status or 0)


def _fail(message: str) -> int:
    print(f"bbnn-uq: error: {_line(message)}", file=sys.stderr)
    return 2


def _noted(text: str, error: BaseException) -> str:
    """With what commands had to add to an error on its way."""
    return "; ".join([text, *getattr(error, "__notes__", ())])


def _line(text: str) -> str:
    """One line, without codes that a terminal would obey: names in it may come from files."""
    return "".join(c if c.isprintable() else "�" for c in " ".join(text.split()))


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f" {error.filename!r}" if error.filename else ""
        return f"cannot use{where}: {error.strerror}; choose another place"
    return str(error)


def _show_warning(message: Any, *_: Any, **__: Any) -> None:
    print(f"bbnn-uq: warning: {_line(str(message))}", file=sys.stderr)
