"""Values as tables of a notebook (IPython's ``_repr_html_``)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_CELL = "text-align:left;padding:2px 12px 2px 0;vertical-align:top"


def facts(title: str, rows: Iterable[tuple[str, str | None]]) -> str:
    """A title above names with their values; rows without a value are left out."""
    body = "".join(
        f'<tr><th style="{_CELL};font-weight:normal;opacity:.65">{escape(name)}</th>'
        f'<td style="{_CELL}">{escape(value)}</td></tr>'
        for name, value in rows
        if value
    )
    return f"<div><b>{escape(title)}</b><table>{body}</table></div>"


def table(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A title above a table with a head for each column."""
    head = "".join(f'<th style="{_CELL}">{escape(text)}</th>' for text in heads)
    body = "".join(f"<tr>{''.join(f'<td style={_CELL!r}>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<div><b>{escape(title)}</b><table><tr>{head}</tr>{body}</table></div>"
