"""HTML of tables in notebooks: no scripts, no style sheet, and no colour but the theme's own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["html_block", "html_list", "html_table", "printable"]

# Half-transparent grey is seen on light and on dark alike; text keeps the notebook's colour.
_LINE = "1px solid rgba(128, 128, 128, 0.5)"
_CELL = f"padding: 0.25em 0.75em; border: none; border-bottom: {_LINE}; color: inherit;"
_LONGEST = 80


def html_block(*parts: str) -> str:
    """Parts of HTML as one display."""
    return f'<div style="color: inherit;">{"".join(parts)}</div>'


def html_table(
    caption: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, name: str = "th"
) -> str:
    """A table of texts, each of which is escaped; the first column names its row.

    Args:
        caption: what it shows.
        columns: heads.
        rows: of as many texts.
        name: the element of the first column, ``th``, or ``td`` when it names nothing.

    Example:
        >>> "&lt;b&gt;" in html_table("scores", ["name", "value"], [["<b>", "1"]])
        True
    """
    heads = "".join(_cell("th", text, i > 0, ' scope="col"') for i, text in enumerate(columns))
    body = "".join(
        "<tr>"
        + _cell(name, row[0], name == "td", ' scope="row"' if name == "th" else "")
        + "".join(_cell("td", text, right=True) for text in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        '<table style="border-collapse: collapse; margin: 0.5em 0;">'
        '<caption style="caption-side: top; text-align: left; padding: 0.25em 0; color: inherit;">'
        f"<strong>{_shown(caption)}</strong></caption>"
        f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
    )


def html_list(texts: Iterable[str]) -> str:
    """A list of sentences, each escaped; nothing when there are none."""
    items = "".join(f"<li>{escape(printable(text))}</li>" for text in texts)
    return f'<ul style="margin: 0.5em 0;">{items}</ul>' if items else ""


def printable(text: str, longest: int | None = None) -> str:
    """Text that may come from a file, on one line, without control or direction characters.

    Args:
        text: any text.
        longest: number of characters beyond which it is cut, with a mark.

    Example:
        >>> printable("a" + chr(0x202E) + chr(10) + "b" * 9, 5)
        'a bb…'
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if longest is None or len(line) <= longest else line[: longest - 1] + "…"


def _shown(text: str) -> str:
    return escape(printable(text, _LONGEST))


def _cell(tag: str, text: str, right: bool, attributes: str = "") -> str:
    side = "right" if right else "left"
    return f'<{tag}{attributes} style="{_CELL} text-align: {side};">{_shown(text)}</{tag}>'
