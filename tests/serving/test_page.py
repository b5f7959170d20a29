"""The page of a server in a real browser: trying photos, and a project that begins with nothing."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SHAPES, draw_folder, draw_photo
from tests.reporting.conftest import HOSTILE
from tests.serving.browsing import CAMERA, chromium, drop, opened_page, serious
from tests.serving.servers import EXPORT as COLOURS
from tests.serving.servers import served_at

ANSWERED = "#csv:not([disabled])"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium(*CAMERA) as opened:
        yield opened


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, warm_cache: Path) -> Path:
    """A folder with a cache, a run of drawn photos with a hostile class name, and 20 photos to try, one broken."""
    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(warm_cache, folder / "cache", ignore=shutil.ignore_patterns("features"))
    draw_folder(folder / "photos", {"circle": 12, "Square": 12, HOSTILE: 12})
    (folder / "new" / "in a folder").mkdir(parents=True)
    for i in range(19):
        shape = list(SHAPES.values())[i % 3]
        name = "in a folder/한 장, 둘.jpg" if i == 0 else f"{i:02}.jpg"
        draw_photo(shape, 900 + i).save(folder / "new" / name, quality=90)
    (folder / "new" / "broken.jpg").write_bytes(b"\xff\xd8\xff, but no photo")
    (folder / "new" / "notes.txt").write_text("no photo")
    command(folder, "train", "photos", "--out", "shapes", "--effort", "quick")
    return folder


def command(folder: Path, *arguments: str) -> None:
    environment = {**os.environ, "REGRAFT_CACHE": str(folder / "cache")}
    line = [sys.executable, "-m", "regraft", *arguments]
    subprocess.run(line, cwd=folder, env=environment, check=False, timeout=300, capture_output=True)


@pytest.fixture(scope="module")
def address(place: Path) -> Iterator[str]:
    with served_at(place / "cache", place / "shapes", "--name", f"colours={COLOURS}") as url:
        yield url + "/"


def test_twenty_photos_are_dropped_and_one_is_broken(browser: Any, address: str, place: Path) -> None:
    with opened_page(browser, address) as page:
        drop(page, "#drop", place / "new")
        page.wait_for_selector(ANSWERED)
        cards = page.query_selector_all("#answers .card")
        assert len(cards) == 20
        paths = [card.query_selector(".path").text_content() for card in cards]
        assert paths == sorted(paths), "in the order of the folder"
        broken = cards[paths.index("new/broken.jpg")]
        assert "Cannot be read" in broken.text_content()
        assert "not an image" in broken.text_content()
        page.wait_for_selector("#answers li:first-child canvas.heat")
        page.wait_for_selector("#answers li:first-child .near li:nth-child(3)")
        loaded = "[...document.querySelectorAll('#answers li:first-child .near img')].every((one) => one.naturalWidth)"
        page.wait_for_timeout(300)
        assert page.evaluate(loaded), "the thumbnails of training photos are there"
        assert not page.query_selector("[onmouseover]"), "names are text"
        with page.expect_download() as downloaded:
            page.click("#csv")
        command(place, "predict", "shapes", "new", "--top", "5", "--out", "answers.csv")
        ours, theirs = rows(Path(downloaded.value.path())), rows(place / "answers.csv")
        assert ours[0] == theirs[0], "the columns are those of regraft predict"
        assert len(ours) == len(theirs) == 21
        for mine, wanted in zip(sorted(ours[1:]), sorted(theirs[1:]), strict=True):
            assert mine[0] == wanted[0]
            assert mine[5] == wanted[5], "the reason of the broken photo is the same"
            assert bool(mine[4]) == bool(wanted[4]), "the novelty of each photo that can be read is there"
            numbers = [(a, b) for i, (a, b) in enumerate(zip(mine, wanted, strict=True)) if i in (2, 4) and a]
            assert all(abs(float(a) - float(b)) < 0.05 for a, b in numbers)
            assert mine[1] == wanted[1] or float(mine[2]) < 0.6


def rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_a_photo_in_large_by_keyboard_alone(browser: Any, address: str, place: Path) -> None:
    with opened_page(browser, address, 390) as page:
        page.wait_for_load_state("networkidle")  # what the page draws at its start may take the focus away
        with page.expect_file_chooser() as chooser:
            page.press("#pick-photos-button", "Enter")
        chooser.value.set_files([place / "new" / "01.jpg", place / "new" / "02.jpg"])
        page.wait_for_selector("#answers li:first-child canvas.heat")
        page.focus("#clear")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.wait_for_selector("dialog[open] canvas.heat")
        assert len(page.query_selector_all("dialog .near li")) == 3
        assert len(page.query_selector_all("dialog .bars tr")) == 3
        page.keyboard.press("Escape")
        assert not page.is_visible("dialog")
        page.focus("#clear")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "pick-photos-button"


def test_korean_and_another_model(browser: Any, address: str, place: Path) -> None:
    with opened_page(browser, address, locale="ko-KR") as page:
        assert page.inner_text("#tab-try") == "시험하기"
        page.set_input_files("#pick-photos", [place / "new" / "01.jpg"])
        page.wait_for_selector("#answers .near li")
        page.select_option("#model", "colours")
        page.wait_for_selector(ANSWERED)
        assert not page.query_selector("#answers .near"), "an export has no training photos"
        page.click("#answers .seen")
        assert "내보낸 모델" in page.inner_text("dialog")
        page.click("dialog button")
        assert "/predict/colours" in page.text_content("#curl")
        page.click('[data-language="en"]')
        assert page.inner_text("#tab-try") == "Try"
        assert page.query_selector("#answers .card"), "the answers are still there"


def test_the_camera_is_answered_and_takes_a_picture(browser: Any, address: str) -> None:
    with opened_page(browser, address) as page:
        page.click("#camera")
        page.wait_for_selector("#live-answer .bars")
        page.click("#take")
        page.wait_for_selector("#answers .card .bars")
        page.click("#camera")
        assert not page.query_selector("video")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_where_photos_are_tried(browser: Any, address: str, place: Path, scheme: str) -> None:
    with opened_page(browser, address, color_scheme=scheme, bypass_csp=True) as page:
        assert not serious(page)
        page.set_input_files("#pick-photos", [place / "new" / "01.jpg", place / "new" / "broken.jpg"])
        page.wait_for_selector(ANSWERED)
        page.wait_for_selector("#answers .near li")
        assert not serious(page)
        page.click("#answers .seen")
        assert not serious(page)


def test_a_token_is_asked_for_and_taken_from_the_address(browser: Any, place: Path) -> None:
    with served_at(place / "cache", place / "shapes", "--token", "s3cret") as url:
        with opened_page(browser, url + "/#token=s3cret") as page:
            page.wait_for_selector("#drop")
            assert "s3cret" not in page.url
        context = browser.new_context(locale="en-US")
        page = context.new_page()
        for wrong in ("%ED%95%9C", "%"):  # not Latin, and damaged
            page.goto("about:blank")
            page.goto(f"{url}/#token={wrong}")
            page.wait_for_selector("#token")
        page.fill("#token", "wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("[role=alert]")
        page.fill("#token", "s3cret")
        page.keyboard.press("Enter")
        page.set_input_files("#pick-photos", [place / "new" / "01.jpg"])
        page.wait_for_selector("#answers .near img[src^=blob]")
        context.close()


def test_a_project_begins_with_nothing(browser: Any, place: Path) -> None:
    project, other = place / "내 project", "stripes & 'x'"
    with served_at(place / "cache", "--new", project) as url, opened_page(browser, url + "/") as page:
        for name in ("원", other):
            page.fill("#new-class", name)
            page.keyboard.press("Enter")
            page.wait_for_selector(f'[data-class="{name}"]')
        assert page.is_disabled("#train")
        drop(page, '[data-class="원"]', place / "photos" / "circle", place / "new" / "broken.jpg")
        page.wait_for_selector('[data-class="원"] .thumbs li:nth-child(12)')
        page.wait_for_selector("#message.wrong")
        assert "broken.jpg" in page.inner_text("#message")
        drop(page, f'[data-class="{other}"]', place / "photos" / HOSTILE)
        page.wait_for_selector(f'[data-class="{other}"] .thumbs li:nth-child(12)')
        page.click("#train")
        page.wait_for_selector("#go-try")
        assert "of 100 new photos" in page.inner_text("#trained")
        page.click("#go-try")
        page.set_input_files("#pick-photos", [place / "new" / "01.jpg"])
        page.wait_for_selector("#answers .near li")
        page.click("#tab-project")
        page.reload()
        page.wait_for_selector('[data-class="원"] .thumbs li:nth-child(12)')
        page.click("#train")
        page.wait_for_selector("#version")
        assert "2" in page.inner_text("#version")
    assert sorted(path.name for path in (project / "runs").iterdir() if path.name.isdecimal()) == ["1", "2"]


def test_a_class_is_renamed_and_removed_and_nothing_is_lost(browser: Any, place: Path) -> None:
    project = place / "other"
    with served_at(place / "cache", "--new", project) as url, opened_page(browser, url + "/", 390) as page:
        page.fill("#new-class", "cat")
        page.keyboard.press("Enter")
        page.set_input_files("#pick-0-photos", [place / "new" / "01.jpg", place / "new" / "02.jpg"])
        page.wait_for_selector('[data-class="cat"] .thumbs li:nth-child(2)')
        page.click(".folder summary")
        page.fill("#name-0", "dog")
        page.keyboard.press("Enter")
        page.wait_for_selector('[data-class="dog"] .thumbs li:nth-child(2)')
        page.focus('[data-class="dog"] .remove')
        page.keyboard.press("Enter")
        page.wait_for_selector('[data-class="dog"] .thumbs li:only-child')
        page.click(".folder summary")
        page.click("#remove-0")
        page.wait_for_selector(".folder", state="detached")
    assert len(list((project / "removed").rglob("*.jpg"))) == 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_a_project(browser: Any, place: Path, scheme: str) -> None:
    project = place / "shown"
    shutil.copytree(place / "photos", project / "photos", dirs_exist_ok=True)
    with (
        served_at(place / "cache", "--new", project) as url,
        opened_page(browser, url + "/", color_scheme=scheme, bypass_csp=True) as page,
    ):
        page.wait_for_selector(".folder:nth-child(3) .thumbs li:nth-child(12)")
        assert not serious(page)
