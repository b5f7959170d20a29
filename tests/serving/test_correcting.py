"""Look, Correct, Train again and Label in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep
from typing import Any

import pytest

from regraft.label_tools.correction_table import read_corrections
from tests.reporting.conftest import browser  # noqa: F401 (a fixture)
from tests.serving.labelling import Server, copy_of, prepare

pytest.importorskip("starlette", reason="needs pip install 'regraft[serve]'")
pytest.importorskip("playwright.sync_api", reason="needs pip install --group browser")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, warm_cache: Path) -> Path:
    return prepare(tmp_path_factory.mktemp("correcting"), warm_cache)


@pytest.fixture
def server(folder: Path, tmp_path: Path) -> Iterator[Server]:
    with Server(copy_of(folder, tmp_path)) as started:
        started.wait("/page/report")
        yield started


@contextmanager
def opened(chromium: Any, server: Server, section: str, width: int = 1280, **options: Any) -> Iterator[Any]:
    """A section of the page. No error may come to the console, and no request leave the server."""
    context = chromium.new_context(viewport={"width": width, "height": 900}, **{"locale": "en-US", **options})
    page, troubles = context.new_page(), []
    page.set_default_timeout(60_000)
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    mine = (server.url, "blob:", "data:")
    page.on("request", lambda sent: None if sent.url.startswith(mine) else troubles.append(sent.url))
    page.goto(f"{server.url}/#{section}")
    page.wait_for_selector(".report" if section == "look" else "#labelling")
    yield page
    assert not troubles
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page is wider than the window"
    context.close()


def settled(page: Any, pending: int) -> None:
    """Wait until the server has confirmed all corrections, and so many wait for a training."""
    page.wait_for_selector(f'#pending[data-count="{pending}"]')
    page.wait_for_function("document.querySelectorAll('[data-waits=true]').length === 0")


def press(page: Any, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def test_three_labels_by_keyboard_an_undo_and_a_training(browser: Any, server: Server) -> None:  # noqa: F811
    with opened(browser, server, "look") as page, opened(browser, server, "look") as second:
        second.click(".report #tab-mistakes")
        page.click(".report #tab-mistakes")
        page.fill("#filter", "round 00")
        before = page.locator('[data-cell="0-1"]').inner_text()
        page.click("main .card .seen")
        classes = page.locator("dialog [data-class]").all_inner_texts()
        circle = str(1 + next(i for i, text in enumerate(classes) if "circle" in text))
        press(page, circle, "ArrowRight", circle, "ArrowRight", "x")
        assert "left out" in page.inner_text("dialog .state")
        settled(page, 3)
        press(page, "u")
        settled(page, 2)
        press(page, "c")
        page.wait_for_selector("dialog .mark.good")
        press(page, circle)
        settled(page, 3)
        press(page, "Escape")
        page.wait_for_selector("dialog", state="hidden")
        assert len(page.query_selector_all("main .card .mark.new")) == 3
        assert page.locator("main .card").count() >= 3, "what was corrected stays in the list"
        after = page.query_selector('[data-cell="0-1"]')
        assert (int(after.inner_text()) if after else 0) == int(before) - 3, "the matrix is counted again"
        settled(second, 3)  # another tab sees the corrections without being asked
        page.reload()
        page.wait_for_selector(".report")
        settled(page, 3)
        page.click("#retrain")
        page.wait_for_selector("#outcome")
        figures = page.locator("#outcome .figures dd:not(.small)").all_inner_texts()
        assert len(figures) == 2
        assert all(text.endswith("%") for text in figures)
        assert "shapes-2" in page.inner_text("#outcome")
        settled(page, 0)
        second.wait_for_selector("#outcome")
        page.click("#look-new")
        page.wait_for_selector(".report")
        page.click(".report #tab-corrected")
        assert page.locator(".corrected tbody tr").count() == 3
        page.reload()
        page.wait_for_selector(".report")
        page.click(".report #tab-corrected")
        assert page.locator(".corrected tbody tr").count() == 3, "nothing is lost"
        page.click(".corrected tbody tr >> button")
        settled(page, 1)  # a label that was corrected in version 2 is taken back
    rows = read_corrections(server.folder / "runs" / "corrections.csv")
    assert [row.action for row in rows.in_force.values()] == ["label", "label", "confirm"], "what held before"


def test_a_new_class_is_typed(browser: Any, server: Server) -> None:  # noqa: F811
    with opened(browser, server, "look") as page:
        page.click(".report #tab-all")
        page.locator("main .card .seen").first.focus()
        press(page, "ArrowRight", "x")
        settled(page, 1)
        press(page, "Enter", "t")
        page.keyboard.type("삼각형 <b>x</b>")
        press(page, "Enter")
        settled(page, 1)
        assert "삼각형 <b>x</b>" in page.inner_text("dialog .state")
        press(page, "Escape")
        page.click(".report #tab-classes")
        assert "삼각형 <b>x</b>" in page.inner_text("main table.classes")
    [row] = read_corrections(server.folder / "runs" / "corrections.csv").in_force.values()
    assert row.label == "삼각형 <b>x</b>"


def test_keys_that_are_faster_than_the_server_hold_in_their_order(browser: Any, server: Server) -> None:  # noqa: F811
    def pass_late(route: Any) -> None:
        sleep(0.2)
        route.continue_()

    with opened(browser, server, "look") as page:
        page.click(".report #tab-all")
        page.locator("main .card .seen").first.focus()
        page.route("**/page/corrections?*", pass_late)
        press(page, "1", "u", "x")  # what is taken back is the first
        table = server.folder / "runs" / "corrections.csv"
        for _ in range(600):  # the page must stay open until the last of them is sent
            if table.exists() and table.read_bytes().count(b"\n") == 4:
                break
            page.wait_for_timeout(100)
        settled(page, 1)
        page.unroute("**/page/corrections?*")
    [row] = read_corrections(table).in_force.values()
    assert row.action == "exclude"


def test_photos_to_label_are_confirmed_by_one_key(browser: Any, server: Server) -> None:  # noqa: F811
    with opened(browser, server, "label") as page:
        suggested = page.inner_text(".suggestion bdi")
        tiles = page.locator(".strip button")
        count = tiles.count()
        press(page, "Enter", "2", "x")
        page.wait_for_selector(".strip .mark.out")
        settled(page, 2)
        assert suggested in tiles.nth(0).inner_text()
        press(page, *["Enter"] * (count - 3))
        settled(page, count - 1)
        assert page.is_enabled("#more-next")
        page.reload()
        page.wait_for_selector("#labelling, #more-next")
        settled(page, count - 1)
        page.click("#retrain")
        page.wait_for_selector("#outcome")
        assert "version 2" in page.inner_text("#outcome h2")
    rows = read_corrections(server.folder / "runs" / "corrections.csv").in_force.values()
    assert {row.was for row in rows} == {""}


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_both_languages_and_no_barriers(browser: Any, server: Server, width: int, scheme: str) -> None:  # noqa: F811
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs pip install --group browser")
    options = {"color_scheme": scheme, "bypass_csp": True}
    with opened(browser, server, "look", width, **options) as page:
        for language, word in (("en", "Train again"), ("ko", "다시 학습")):
            page.click(f'[data-language="{language}"]')
            page.wait_for_selector(".report .tabs")
            assert page.inner_text("#retrain") == word
            for tab in ("overview", "mistakes", "labels", "corrected", "all"):
                page.click(f".report #tab-{tab}")
                assert not serious(axe, page), tab
                assert "undefined" not in page.inner_text("main")
        page.click("main .card .seen")
        assert not serious(axe, page)
        press(page, "x")
        settled(page, 1)
        press(page, "Escape")
        page.click("#retrain")
        page.wait_for_selector("#outcome")
        assert not serious(axe, page)
        page.evaluate("location.hash = '#label'")
        page.wait_for_selector("#labelling")
        assert not serious(axe, page)


def serious(axe: Any, page: Any) -> list[tuple[str, list[str]]]:
    """What axe finds serious on a page."""
    found = axe.Axe().run(page).response["violations"]
    return [
        (one["id"], [node["html"][:120] for node in one["nodes"]][:3])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
