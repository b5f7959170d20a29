"""Pages of one HTML file each, which need no network and no server: data, words, style and scripts in one text.

In: the data of a page, and the name of its script. Out: HTML, of at most `LIMIT_MB`.
Why: a page can be sent by e-mail, and names of photos and classes cannot do harm in it.
Surprise: a page is made in the browser, from JSON in the file. A policy in the file lets only its own script run, and
allows no request, so that no name of a photo or class can become code.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from regraft.reporting.verdict import WORDS

LIMIT_MB = 12
"""The size in MB that a page does not exceed."""

_PAGE = files("regraft.reporting") / "page"
_FOR_TEXT = 250_000  # bytes of the page that are kept free for its script, its words and the quotes of pictures
_BASE64 = 4 / 3  # bytes in the page for each byte of a picture


def html_page(data: Mapping[str, Any], title: str, summary: Iterable[str], script: str, generator: str) -> str:
    """Return a page as HTML.

    Args:
        data: the data of the page, as JSON values.
        title: the title of the page, as text.
        summary: sentences that also stand in the page for browsers that run no script.
        script: the name of the script in ``page/``, which follows ``elements.js``, ``alone.js`` and ``shared.js``.
        generator: the kind of page, such as ``regraft report``, by which `is_page` knows it again.
    """
    style, scripts = _read("page.css"), "".join(map(_read, ("elements.js", "alone.js", "shared.js", script)))
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(scripts)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    parts = {
        "policy": policy,
        "generator": html.escape(generator),
        "title": html.escape(title),
        "style": style,
        "summary": "".join(f"<p>{html.escape(sentence)}</p>" for sentence in summary),
        "data": _json(data),
        "words": _json(json.loads(WORDS.read_text(encoding="utf-8"))),
        "script": scripts,
    }
    pieces = _read("page.html").split("{{")
    return pieces[0] + "".join(parts[name] + rest for name, rest in (piece.split("}}", 1) for piece in pieces[1:]))


def report_module() -> str:
    """Return the script of a report as a JavaScript module, for a page that a server sends.

    The module exports ``openReport(data, root, served)``: it draws the report with the data of `page_data` into an
    element, and returns ``{ redraw, openPhoto }``. ``served`` is what the server's page adds to a report.
    """
    body = _read("shared.js") + _read("page.js")
    return f"export function openReport(data, root, served) {{\n{body}\nreturn {{ redraw, openPhoto }};\n}}\n"


def picture_budget(data: Mapping[str, Any]) -> int:
    """Return the largest size, in bytes, of all pictures together in a page that has this data besides."""
    return max(0, int((LIMIT_MB * 1_000_000 - len(_json(data).encode()) - _FOR_TEXT) / _BASE64))


def base64_text(data: bytes) -> str:
    """Return bytes, such as a picture, as the text that stands for them in the data of a page."""
    return base64.b64encode(data).decode("ascii")


def is_page(path: Path, generator: str) -> bool:
    """Return whether a file is a page of the kind ``generator``, so that it may be replaced."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return f'<meta name="generator" content="{html.escape(generator)}">'.encode() in file.read(2048)


def _json(value: Any) -> str:
    """Return JSON that can stand within a script element of HTML: it has no ``<``."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _hash(text: str) -> str:
    """Return the hash by which a content security policy allows a script or a style."""
    return f"sha256-{base64_text(hashlib.sha256(text.encode()).digest())}"


def _read(name: str) -> str:
    return (_PAGE / name).read_text(encoding="utf-8")
