"""Pieces of HTML for notebooks and reports: escaped text, tables, pictures, and the panel around them.

No piece has a script or loads anything. Text takes the colour of the page around it, and backgrounds are transparent,
so that the pieces can be read in a dark notebook too.
"""

from __future__ import annotations

import io
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from regraft.foundation.console import printable
from regraft.foundation.names import resolve

if TYPE_CHECKING:
    from PIL.Image import Image

_GREY = "rgba(128,128,128,.35)"  # of lines: seen on white and on black
_STYLE = (
    "div.regraft{font-size:13px;line-height:1.5;max-width:58rem;overflow-x:auto;background:transparent}"
    "div.regraft p{margin:.15em 0 .5em}div.regraft p.title{font-size:1.15em;font-weight:600;margin-top:.3em}"
    "div.regraft p.head{font-weight:600;margin:.9em 0 .2em}div.regraft .quiet{opacity:.72}"
    "div.regraft table{border-collapse:collapse;margin:.2em 0 .5em;background:transparent;font-size:inherit}"
    "div.regraft tr,div.regraft tbody tr:nth-child(odd){background:transparent}"
    f"div.regraft td,div.regraft th{{padding:.25em .7em .25em 0;border:0;border-bottom:1px solid {_GREY};"
    "text-align:left;vertical-align:middle;color:inherit;max-width:36rem}"
    "div.regraft th{font-weight:600;vertical-align:bottom;white-space:nowrap}"
    "div.regraft .num{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}"
    "div.regraft .heat td.num{text-align:center;padding:.3em .55em;border:1px solid transparent}"
    "div.regraft .heat th{border:0}div.regraft .heat th.num{text-align:center;padding:.25em .3em;font-weight:400}"
    "div.regraft .name{display:inline-block;max-width:22em;overflow:hidden;text-overflow:ellipsis;"
    "white-space:nowrap;vertical-align:bottom}div.regraft th .name{max-width:5.2em}"
    "div.regraft tbody th .name{max-width:11em}div.regraft img{margin:1px 3px 1px 0;border-radius:3px;"
    "vertical-align:middle;display:inline-block}div.regraft svg{vertical-align:middle;max-width:100%}"
    "div.regraft .together{white-space:nowrap}"
    "div.regraft .beside{display:flex;flex-wrap:wrap;gap:.2em 2em;align-items:flex-start}"
)
_NUMBER = re.compile(r"[\d.,:×%±+ –−-]*(px|s)?")


class Html(str):
    """Text that is HTML already, so that it is not escaped again."""

    __slots__ = ()


def escaped(value: object) -> Html:
    """Return a value as HTML that shows its text literally; `Html` is returned unchanged."""
    return value if isinstance(value, Html) else Html(escape(printable(str(value))))


def joined(pieces: Iterable[object], between: str = "") -> Html:
    """Return several values as one piece of HTML, each escaped."""
    return Html(between.join(map(escaped, pieces)))


def name(text: str) -> Html:
    """Return the name of a class or a file: cut at its end where it is long, with the whole name as the tooltip.

    The name has a direction of its own, so that Hebrew or Arabic letters do not reorder the text around it.
    """
    return Html(f'<bdi class="name" title="{escaped(text)}">{escaped(text)}</bdi>')


def paragraph(*pieces: object, kind: str = "") -> Html:
    """Return a paragraph. ``kind`` is empty, or ``title``, ``head`` or ``quiet``."""
    return Html(f'<p class="{kind}">{joined(pieces)}</p>')


def beside(*pieces: object) -> Html:
    """Return pieces that stand side by side, or one below the other where the page is narrow."""
    return Html(f'<div class="beside">{joined(Html(f"<div>{escaped(piece)}</div>") for piece in pieces)}</div>')


def together(pieces: Iterable[object]) -> Html:
    """Return pieces, such as pictures that are compared, in one line that is never broken."""
    return Html(f'<div class="together">{joined(pieces)}</div>')


def table(rows: Iterable[Sequence[object]], header: Sequence[object] = ()) -> Html:
    """Return a table. A column in which all cells are numbers is aligned right.

    Args:
        rows: the rows, all of the same length; each cell is escaped unless it is `Html`.
        header: the names of the columns; empty for no header.
    """
    cells = [list(map(escaped, row)) for row in rows]
    kinds = ["num" if all(_NUMBER.fullmatch(cell) for cell in column) else "" for column in zip(*cells, strict=True)]

    def line(row: Sequence[object], tag: str) -> str:
        fitting = zip(row, kinds or [""] * len(row), strict=True)
        inner = "".join(f'<{tag} class="{kind}">{escaped(cell)}</{tag}>' for cell, kind in fitting)
        return f"<tr>{inner}</tr>"

    head = f"<thead>{line(header, 'th')}</thead>" if header else ""
    return Html(f"<table>{head}<tbody>{''.join(line(row, 'td') for row in cells)}</tbody></table>")


def picture(image: Image, text: str, side: int = 64) -> Html:
    """Return a small picture, in the page itself.

    Args:
        image: an RGB image, which is changed: it is made as small as it is shown.
        text: what the picture shows, for readers who do not see it, and as the tooltip.
        side: the longer side, in pixels.
    """
    image.thumbnail((side, side))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=72)
    size = f'width="{image.width}" height="{image.height}"'
    source = f"data:image/jpeg;base64,{b64encode(file.getvalue()).decode()}"
    return Html(f'<img {size} alt="{escaped(text)}" title="{escaped(text)}" src="{source}">')


def panel(title: object, *pieces: object) -> Html:
    """Return the whole display of one object: a title, and the pieces below it."""
    return Html(f'<div class="regraft"><style>{_STYLE}</style>{paragraph(title, kind="title")}{joined(pieces)}</div>')


def displayed_by(function: str) -> Callable[[Any], str]:
    """Return the method `_repr_html_` of a class, by which notebooks display its objects.

    Args:
        function: the text ``module:function`` of a function that takes the object and returns HTML. It is imported at
            the first display, so that a class does not depend on how it is displayed.
    """

    def _repr_html_(self: Any) -> str:
        return str(resolve(function)(self))

    return _repr_html_
