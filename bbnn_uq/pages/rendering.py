"""Templates to text: one self-contained HTML page that opens offline and runs one known script."""

from __future__ import annotations

import base64
import hashlib
import math
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bbnn_uq._html import printable

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["data_value", "decimals", "interval_text", "number_text", "render", "shown_name"]

_TEMPLATES = Path(__file__).parent / "templates"
_LONGEST_NAME = 80


def render(template_name: str, **context: Any) -> str:
    """Fill a template of ``bbnn_uq/pages/templates`` in; whatever is not markup is escaped.

    Templates that extend ``base.html`` get its style, the theme switch and sortable tables; their
    blocks are ``title`` and ``content``. The page's policy allows the page's own script alone, by
    its hash, and no request at all, so that a name that slipped through could run nothing.

    Args:
        template_name: a file of that folder.
        **context: what the template shows. A name that it uses and that is missing is an error.

    Returns:
        The page.

    Example:
        >>> render("base.html").splitlines()[0]
        '<!doctype html>'
    """
    return _environment().get_template(template_name).render(context)


def shown_name(name: Any, limit: int = _LONGEST_NAME) -> str:
    """A name on one line, without control and direction characters, and not too long for a page.

    Example:
        >>> shown_name("a" + chr(0x202E) + chr(10) + "b" + "c" * 100, limit=10)
        'a bcccccc…'
    """
    line = printable(str(name))
    return line if len(line) <= limit else line[: limit - 1] + "…"


def number_text(value: Any, digits: int = 4, *, signed: bool = False) -> str:
    """A number to so many decimals, with a true minus sign; a dash when there is none.

    Example:
        >>> number_text(-0.25, 2), number_text(0.25, 2, signed=True), number_text(float("nan"))
        ('−0.25', '+0.25', '–')
        >>> number_text(-0.00001)  # no sign is left of it
        '0.0000'
    """
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "−∞" if value < 0 else "∞"
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    if not text.strip("+-0."):
        return text.lstrip("+-")
    return text.replace("-", "−")


def interval_text(interval: Any, digits: int = 4, *, signed: bool = False) -> str:
    """The two ends of an interval in brackets.

    Args:
        interval: has ``low`` and ``high``, as attributes or keys.
        digits: decimals.
        signed: with a plus sign, as differences have.

    Example:
        >>> interval_text({"low": 0.1, "high": 0.25}, 2)
        '[0.10, 0.25]'
    """
    ends = (
        (interval["low"], interval["high"])
        if isinstance(interval, dict)
        else (interval.low, interval.high)
    )
    low, high = (number_text(end, digits, signed=signed) for end in ends)
    return f"[{low}, {high}]"


def decimals(interval: Any, least: int = 4) -> int:
    """How many decimals show a value and its interval to two digits: at least these, at most 6.

    Args:
        interval: has ``value``, ``low`` and ``high``, as attributes or keys.
        least: decimals of a value that is not small.

    Example:
        >>> decimals({"value": 0.9, "low": 0.8, "high": 0.95})
        4
        >>> decimals({"value": 0.000012, "low": 0.0, "high": 0.00003})
        6
    """
    value, low, high = (
        interval[key] if isinstance(interval, dict) else getattr(interval, key)
        for key in ("value", "low", "high")
    )
    known = [abs(x) for x in (value, low, high) if x is not None and math.isfinite(x) and x != 0.0]
    if not known:
        return least
    return max(least, min(6, 1 - math.floor(math.log10(max(known)))))


def data_value(value: Any) -> str:
    """What a cell is sorted by: a number as JavaScript reads it, nothing when there is none.

    Example:
        >>> data_value(0.5), data_value(float("inf")), data_value(float("nan")), data_value(None)
        ('0.5', 'Infinity', '', '')
    """
    if value is None or math.isnan(value):
        return ""
    if math.isinf(value):
        return "-Infinity" if value < 0 else "Infinity"
    return repr(value) if isinstance(value, int) else repr(float(value))


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    script = (_TEMPLATES / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment.globals.update(script=Markup(script), script_hash=f"sha256-{digest}")
    environment.filters.update(
        name=shown_name,
        number=number_text,
        interval=interval_text,
        data_value=data_value,
        decimals=decimals,
    )
    return environment
