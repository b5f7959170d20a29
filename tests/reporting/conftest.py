"""Pages in a real browser: Chromium, driven by playwright."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = "<b onmouseover=alert(1)> “안녕” שלום " + "x" * 120


def data_of(page: Path) -> dict[str, Any]:
    """The data in a page."""
    found = re.search(r'id="data">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs pip install --group browser")
    if CHROMIUM is None:
        pytest.skip("needs chromium: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@contextmanager
def visited(browser: Any, file: Path, width: int) -> Iterator[Any]:
    """A page in a window of that width. No error may come to the console, and no request leave the file."""
    context = browser.new_context(viewport={"width": width, "height": 900}, locale="en-US")
    opened, troubles = context.new_page(), []
    opened.on("console", lambda message: troubles.append(message.text))
    opened.on("pageerror", lambda error: troubles.append(str(error)))
    opened.on("dialog", lambda dialog: troubles.append(f"a dialog: {dialog.message}"))
    opened.on("request", lambda sent: None if sent.url.startswith(("file:", "data:")) else troubles.append(sent.url))
    opened.goto(file.as_uri())
    yield opened
    assert not troubles
    assert opened.evaluate("document.documentElement.scrollWidth") <= width, "the page is wider than the window"
    context.close()


def barriers(browser: Any, file: Path, scheme: str, tabs: Sequence[str]) -> list[tuple[str, str, list[str]]]:
    """What axe finds serious in the sections of a page, in a light or a dark design."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs pip install --group browser")
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme=scheme, bypass_csp=True)
    opened = context.new_page()
    opened.goto(file.as_uri())
    found = []
    for tab in tabs:
        opened.click(f"#tab-{tab}")
        for trouble in axe.Axe().run(opened).response["violations"]:
            if trouble["impact"] in ("serious", "critical"):
                found.append((tab, trouble["id"], [node["html"][:120] for node in trouble["nodes"]][:3]))
    context.close()
    return found
