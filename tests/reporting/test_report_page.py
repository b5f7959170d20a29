"""The page of a report in a real browser: Chromium, driven through its own protocol."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import draw_folder
from tests.reporting.conftest import HOSTILE, barriers, data_of, visited


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, warm_cache: Path) -> tuple[Path, dict[str, Any]]:
    """A report of drawn photos, some with a wrong label and one class with a hostile name; and its data."""
    folder = tmp_path_factory.mktemp("report")
    shutil.copytree(warm_cache, folder / "cache", ignore=shutil.ignore_patterns("features"))
    photos = draw_folder(folder / "photos", {"circle": 20, "Square": 20, HOSTILE: 20})
    for name in ("000.jpg", "001.jpg", "002.jpg", "003.jpg"):
        (photos / "circle" / name).rename(photos / "Square" / f"round {name}")
    for command in (["train", "photos", "--out", "run", "--effort", "quick"], ["report", "run"]):
        environment = {**os.environ, "REGRAFT_CACHE": str(folder / "cache")}
        subprocess.run(
            [sys.executable, "-m", "regraft", *command], cwd=folder, env=environment, check=True, timeout=300
        )
    page = folder / "run" / "report.html"
    return page, data_of(page)


@pytest.fixture(params=[1280, 390])
def page(request: pytest.FixtureRequest, browser: Any, made: tuple[Path, dict[str, Any]]) -> Iterator[Any]:
    with visited(browser, made[0], request.param) as opened:
        yield opened


def listed(page: Any) -> set[int]:
    """The positions of the photos that are listed."""
    return {int(card.get_attribute("data-photo")) for card in page.query_selector_all("main .card")}


def test_a_cell_shows_its_photos(page: Any, made: tuple[Path, dict[str, Any]]) -> None:
    columns, confusion = made[1]["photos"], made[1]["evaluation"]["confusion"]
    for i, row in enumerate(confusion):
        for j, count in enumerate(row):
            if i != j and count:
                page.click("#tab-overview")
                page.click(f'[data-cell="{i}-{j}"]')
                wanted = {
                    at
                    for at, (label, answer) in enumerate(zip(columns["label"], columns["answer"], strict=True))
                    if (label, answer) == (i, j) and columns["measured"][at]
                }
                assert listed(page) == wanted
                assert len(wanted) == count
    assert sum(map(sum, confusion)) - sum(confusion[i][i] for i in range(3)) >= 3, "there must be mistakes to look at"


def test_each_section_opens_and_speaks_both_languages(page: Any) -> None:
    for language, word in (("ko", "요약"), ("en", "Overview")):
        page.click(f'[data-language="{language}"]')
        assert page.evaluate("document.documentElement.lang") == language
        assert page.inner_text("#tab-overview") == word
        for tab in ("overview", "mistakes", "classes", "labels", "copies", "confidence", "map", "run"):
            page.click(f"#tab-{tab}")
            assert page.get_attribute(f"#tab-{tab}", "aria-selected") == "true"
            assert len(page.inner_text("main")) > 40
            assert "undefined" not in page.inner_text("main")
            assert "NaN" not in page.inner_text("main")


def test_the_filter_and_the_detail_of_a_photo(page: Any, made: tuple[Path, dict[str, Any]]) -> None:
    page.click("#tab-mistakes")
    every = listed(page)
    page.fill("#filter", "round 00")
    paths = made[1]["photos"]["path"]
    assert listed(page) == {i for i in every if "round 00" in paths[i]} < every
    first = page.query_selector("main .card .seen")
    first.click()
    assert page.is_visible("dialog[open]")
    assert page.query_selector("dialog canvas.heat"), "the activation map is drawn"
    assert len(page.query_selector_all("dialog .near li")) == 3
    assert "round 00" in page.inner_text("dialog .facts")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("dialog .tools").split("/")[0].strip().endswith("3"), "the keys go on working"
    page.keyboard.press("Escape")
    assert not page.is_visible("dialog[open]")
    page.uncheck("main input[type=checkbox]")
    assert not page.query_selector("main canvas.heat")


def test_the_map_tells_of_the_point_under_the_pointer(page: Any, made: tuple[Path, dict[str, Any]]) -> None:
    page.click("#tab-map")
    page.locator(".map > canvas").scroll_into_view_if_needed()
    page.focus(".map > canvas")  # which may scroll the page
    columns = made[1]["photos"]
    box = page.query_selector(".map > canvas").bounding_box()
    side = 0.94 * min(box["width"], box["height"])
    i = 0  # a mistake, as mistakes come first
    x = box["x"] + box["width"] / 2 + (columns["x"][i] - 0.5) * side
    y = box["y"] + box["height"] / 2 + (columns["y"][i] - 0.5) * side
    page.mouse.move(x, y)
    tip = page.locator(".tip")
    assert tip.is_visible()
    found = int(tip.get_attribute("data-photo"))
    assert (columns["x"][found] - columns["x"][i]) ** 2 + (columns["y"][found] - columns["y"][i]) ** 2 < (
        15 / side
    ) ** 2
    assert page.query_selector(".tip canvas"), "the tile of the sprite is drawn"
    page.keyboard.press("+")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("0")
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.up()
    assert page.is_visible("dialog[open]")


def test_the_threshold_tells_its_price(page: Any, made: tuple[Path, dict[str, Any]]) -> None:
    curve = made[1]["threshold_curve"]
    page.click("#tab-confidence")
    page.fill("#threshold", "0")
    refused = curve["right"][0] + curve["wrong"][0]
    assert f"{refused} of 60 known photos are refused" in page.inner_text("main")


def test_names_are_shown_as_text(page: Any) -> None:
    page.click("#tab-classes")
    assert HOSTILE in page.inner_text("main table")
    assert not page.query_selector("[onmouseover]")


def test_it_can_be_used_by_keyboard(page: Any) -> None:
    page.focus("#tab-overview")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == "tab-mistakes"
    assert page.get_attribute("#tab-mistakes", "aria-selected") == "true"


def test_on_paper_all_sections_are_there(page: Any) -> None:
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    text = page.inner_text("main")
    for heading in (
        "What limits it",
        "Confusion matrix",
        "Per class",
        "Suspected labels",
        "Reliability",
        "Map of the photos",
    ):
        assert heading in text
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert "Per class" not in page.inner_text("main")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Any, made: tuple[Path, dict[str, Any]], scheme: str) -> None:
    tabs = ("overview", "mistakes", "classes", "labels", "copies", "confidence", "map", "run")
    assert not barriers(browser, made[0], scheme, tabs)


def test_without_scripts_the_verdict_is_there(browser: Any, made: tuple[Path, dict[str, Any]]) -> None:
    context = browser.new_context(java_script_enabled=False)
    opened = context.new_page()
    opened.goto(made[0].as_uri())
    assert "of 100 new photos will be right" in opened.inner_text("body")
    context.close()
