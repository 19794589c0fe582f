"""Python code of the user's that a command names: ``package.module:function``."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from typing import Any

__all__ = ["call_named"]


def call_named(spec: str, offered: dict[str, Any]) -> Any:
    """Import a function from the current folder or an installed package, and call it.

    Args:
        spec: ``package.module:function``.
        offered: arguments by name; those that the function has are passed.

    Returns:
        What the function returns.

    Raises:
        Exception: whatever importing or calling raises.

    Example:
        >>> call_named("textwrap:shorten", {"text": "one two three", "width": 12, "depth": 3})
        'one [...]'
    """
    module_name, _, function_name = spec.partition(":")
    here = os.getcwd()
    sys.path.insert(0, here)  # as `python -m` does; a console script does not
    try:
        function = getattr(importlib.import_module(module_name), function_name)
        wanted = inspect.signature(function).parameters
        return function(**{key: value for key, value in offered.items() if key in wanted})
    finally:
        if here in sys.path:
            sys.path.remove(here)
