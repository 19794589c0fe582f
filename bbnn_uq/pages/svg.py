"""Figures as inline SVG: letters stay letters, and colours are those of the page's theme."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from functools import cache
from io import StringIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes

__all__ = ["inline_svg"]

# Stand-ins: colours that no figure uses, and what the page puts in their place.
_INK, _GRID, _SURFACE = "#010203", "#040506", "#070809"
_STYLE = {
    "svg.fonttype": "none",
    "font.size": 10.0,
    "axes.facecolor": _SURFACE,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.linewidth": 0.8,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _GRID,
    # A curve of thousands of points looks the same with those of more than half a point's bend.
    "path.simplify": True,
    "path.simplify_threshold": 0.5,
}
_LARGEST = 1.3  # times the size in inches; beyond that letters are larger than the page's
_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_NEEDLESS = re.compile(
    r"font-family:[^;\"]*; ?| transform=\"rotate\(-0 [^\"]*\""
)  # the page has a font


def inline_svg(
    draw: Callable[[Axes], Any], *, key: str, label: str, size: tuple[float, float] = (3.9, 3.1)
) -> Markup:
    """Draw on new Axes and return an ``<svg>`` element for a page made with ``base.html``.

    The same drawing gives the same text. Ink is ``currentColor``, the background is clear and the
    series have the colours ``--series-N`` of the page, so one figure serves dark and light.

    Args:
        draw: is given the Axes, and draws with :mod:`bbnn_uq.plots`, say.
        key: another one for each figure of a page, which makes the ids in it unique.
        label: what the figure shows, in words, for those who do not see it.
        size: width and height in inches; the page scales it to the column.

    Returns:
        The element, as safe markup.

    Example:
        >>> svg = inline_svg(lambda ax: ax.plot([0, 1]), key="line", label="A rising line")
        >>> print(svg.split(" viewBox")[0])
        <svg role="img" aria-label="A rising line"
    """
    from markupsafe import Markup, escape
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    buffer = StringIO()
    style: Any = {**_STYLE, "svg.hashsalt": key}
    with rc_context(style), warnings.catch_warnings():
        # The reader's fonts draw the letters; this one only measures them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        warnings.filterwarnings("ignore", message=".*does not support.*natively")
        figure = Figure(figsize=size, layout="constrained", facecolor="none")
        draw(figure.add_subplot())
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        FigureCanvasSVG(figure).print_svg(buffer, metadata=nothing)
    inside = _trimmed(buffer.getvalue())
    width, height = (72.0 * side for side in size)
    return Markup(
        f'<svg role="img" aria-label="{escape(label)}" viewBox="0 0 {width:g} {height:g}" '
        f'style="max-width:{_LARGEST * size[0]:g}in" focusable="false">{inside}</svg>'
    )


def _trimmed(svg: str) -> str:
    """What stands within the ``svg`` element, without what a page repeats or does not need."""
    inside = svg[svg.index("<svg") :]
    inside = inside[inside.index(">") + 1 : inside.rindex("</svg>")]
    inside = re.sub(
        r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", inside, flags=re.S
    )
    inside = re.sub(r'<g id="[^"]*"', "<g", inside)
    inside = re.sub(r"<[^>]*>", _shorter_tag, inside)
    return re.sub(r">\s+<", "><", inside.strip())


def _shorter_tag(tag: re.Match[str]) -> str:
    text = _NUMBER.sub(lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), tag[0])
    for colour, themed in _themed_colours().items():
        text = text.replace(colour, themed)
    return re.sub(r"\s+", " ", _NEEDLESS.sub("", text)).replace("xlink:href", "href")


@cache
def _themed_colours() -> dict[str, str]:
    import seaborn as sns

    series = sns.color_palette("colorblind").as_hex()
    stand_ins = {_INK: "currentColor", _GRID: "var(--muted)", _SURFACE: "var(--surface)"}
    return stand_ins | {colour: f"var(--series-{i})" for i, colour in enumerate(series)}
