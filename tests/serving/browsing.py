"""The page of a server in a real browser: Chromium, driven by playwright."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.reporting.conftest import CHROMIUM

CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")


@contextmanager
def chromium(*arguments: str) -> Iterator[Any]:
    """A browser."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs pip install --group browser")
    if CHROMIUM is None:
        pytest.skip("needs chromium: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *arguments])
        yield opened
        opened.close()


@contextmanager
def opened_page(browser: Any, url: str, width: int = 1280, **options: Any) -> Iterator[Any]:
    """A page of the server. No error may come to the console, and no request leave the server."""
    context = browser.new_context(viewport={"width": width, "height": 900}, **{"locale": "en-US", **options})
    page, troubles = context.new_page(), []
    page.set_default_timeout(60_000)
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    own = (url.partition("#")[0], "blob:")
    page.on("request", lambda sent: None if sent.url.startswith(own) else troubles.append(sent.url))
    page.goto(url)
    yield page
    assert not troubles
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page is wider than the window"
    context.close()


def drop(page: Any, selector: str, *paths: Path) -> None:
    """Drop files and folders on an element, as a user does with the mouse."""
    page.locator(selector).scroll_into_view_if_needed()
    box = page.locator(selector).bounding_box()
    place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + min(40, box["height"] / 2)}
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    devtools = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        devtools.send("Input.dispatchDragEvent", {"type": kind, **place, "data": data})


def serious(page: Any) -> list[tuple[str, list[str]]]:
    """What axe finds serious on a page. The page must be opened with ``bypass_csp=True``."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs pip install --group browser")
    found = axe.Axe().run(page).response["violations"]
    kinds: Sequence[str] = ("serious", "critical")
    return [(one["id"], [node["html"][:120] for node in one["nodes"]][:3]) for one in found if one["impact"] in kinds]
