"""HTML that shows the names of strangers as text, and stays whole."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from regraft.drawing.charts import bar, heat_table, line_chart, reliability_chart
from regraft.drawing.html import Html, escaped, joined, name, panel, picture, table

STRANGE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "해바라기와 장미",
    "שלום עולם",
    "가" * 200,
    "a\u202eb",
    "&lt;b&gt;",
    "'onclick='x",
)
_VOID = {"img", "br", "hr"}


class Read(HTMLParser):
    """What a browser makes of a piece of HTML: tags, attributes and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def require_harmless(html: str) -> Read:
    """Check that HTML runs and loads nothing, and return what a browser makes of it."""
    read = Read(html)
    assert not {"script", "iframe", "object", "link", "foreignobject", "a"} & set(read.tags)
    for key, value in read.attributes:
        assert not key.startswith("on"), key
        if key == "src":
            assert value is not None
            assert value.startswith("data:image/jpeg;base64,")
    assert "http" not in html
    assert "url(" not in html
    return read


@pytest.mark.parametrize("text", STRANGE)
def test_names_come_out_as_text_wherever_they_stand(text: str) -> None:
    shown = text.replace("\u202e", "\\u202e")
    pieces = (
        name(text),
        table([(text, 1)], (text, "n")),
        heat_table([[1, 0], [2, 3]], [text, "b"]),
        line_chart(text, (text, "y"), [(0.5, 0.9), (1.0, 0.8)]),
        panel(text, joined([text])),
    )
    for piece in pieces:
        read = require_harmless(piece)
        assert shown in read.text or (not read.text and shown in str(read.attributes))
    assert require_harmless(picture(Image.new("RGB", (90, 30), "red"), text)).attributes[2] == ("alt", shown)


def test_html_is_not_escaped_twice() -> None:
    assert escaped("a<b") == "a&lt;b"
    assert escaped(escaped("a<b")) == "a&lt;b"
    assert isinstance(escaped(1), Html)


def test_a_column_of_numbers_is_aligned_right() -> None:
    html = table([("a", "1,234"), ("b", "–")], ("name", "n"))
    assert html.count('class="num"') == 3  # two cells and their header
    assert Read(table([], ("name",))).tags == ["table", "thead", "tr", "th", "tbody"]


def test_a_picture_is_made_small() -> None:
    html = picture(Image.new("RGB", (640, 320), "red"), "a")
    assert 'width="64" height="32"' in html
    assert len(html) < 2000


def test_charts_say_what_they_show() -> None:
    charts = (
        bar(0.25, (0.1, 0.5)),
        line_chart("accuracy", ("x", "y"), [(1.0, 1.0)]),
        reliability_chart("reliability", []),
        reliability_chart("reliability", [(0.9, 0.8, 4)]),
    )
    for chart in charts:
        read = require_harmless(chart)
        assert ("role", "img") in read.attributes
        assert "title" in read.tags
        assert "nan" not in chart
    assert "25.0%, 95 % interval 10.0–50.0%" in charts[0]
    assert bar(None) == ""


def test_ticks_are_round_and_reach_both_ends() -> None:
    html = line_chart("accuracy", ("share", "accuracy"), [(0.5, 0.973), (0.8, 0.95), (1.0, 0.921)])
    assert [int(tick) for tick in re.findall(r">(\d+)%</text>", html)] == [50, 60, 70, 80, 90, 100, 92, 94, 96, 98, 100]
