"""The page of a check: what is in the file, and how it looks in a real browser."""

from __future__ import annotations

import html
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageOps

from regraft import ConfigError, check
from regraft.config.features import FeatureConfig
from regraft.exploring.auditing import KINDS
from regraft.photos.dataset import Dataset
from regraft.reporting import check_page
from regraft.reporting.pictures import MOST_BYTES, whole_thumbnails
from regraft.reporting.verdict import WORDS
from tests.conftest import Command, draw_folder
from tests.features.test_duplicates import scene
from tests.reporting.conftest import HOSTILE, barriers, data_of, visited

QUICK = FeatureConfig(effort="quick")
FOUND = ("unreadable", "two_labels", "mislabelled", "exact_duplicate", "near_duplicate", "blank", "extreme_shape")


def draw_troubles(folder: Path) -> Path:
    """Three classes, of which one has a hostile name, with troubles of most kinds."""
    draw_folder(folder, {"circle": 20, "Square": 20, HOSTILE: 20})
    draw_folder(folder, {"circle_": 2})
    for name in ("000.jpg", "001.jpg"):
        (folder / "circle" / name).rename(folder / "Square" / f"round {name}")
    (folder / "circle" / "text <img src=x>.jpg").write_text("hello")
    for i in range(15):
        shutil.copy(folder / "circle" / "005.jpg", folder / "circle" / f"005 again {i:02}.jpg")
    shutil.copy(folder / "Square" / "006.jpg", folder / HOSTILE / "square.jpg")
    scene(1).save(folder / HOSTILE / "large.jpg")
    ImageOps.mirror(scene(1)).resize((160, 120)).save(folder / HOSTILE / "small.jpg")
    Image.new("RGB", (300, 300), (40, 40, 41)).save(folder / "Square" / "night.jpg")
    scene(2).resize((800, 100)).save(folder / "Square" / "panorama.jpg")
    return folder


def finding(data: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(found for found in data["findings"] if found["kind"] == kind)


def shown(data: dict[str, Any], kind: str) -> list[list[str]]:
    """The names of the photos that stand side by side."""
    paths = data["photos"]["path"]
    return [[Path(paths[i]).name for i in item["photos"]] for item in finding(data, kind)["items"]]


def test_the_page_shows_what_was_found(tmp_path: Path, cache: Path) -> None:
    audit = check(draw_troubles(tmp_path / "photos"), QUICK)
    written = audit.write_html(tmp_path / "check.html")
    assert written == tmp_path / "check.html"
    data = data_of(written)
    assert data["name"] == "photos"
    counts = {found.kind.replace("-", "_"): len(found.photos) or len(found.classes) for found in audit.findings}
    assert {found["kind"]: found["count"] for found in data["findings"]} == counts
    assert set(FOUND) <= counts.keys()
    assert finding(data, "unreadable")["files"] == [["circle/text <img src=x>.jpg", "not an image"]]
    assert ["large.jpg", "small.jpg"] in shown(data, "near_duplicate")  # the photo to keep comes first
    again = next(item for item in finding(data, "exact_duplicate")["items"])
    assert [data["photos"]["path"][i] for i in again["photos"][:2]] == ["circle/005.jpg", "circle/005 again 00.jpg"]
    assert (len(again["photos"]), again["more"]) == (12, 4)
    labels, classes = data["photos"]["label"], data["classes"]
    groups = [item["photos"] for item in finding(data, "two_labels")["items"]]
    names = shown(data, "two_labels")
    (group,) = (group for group, found in zip(groups, names, strict=True) if "square.jpg" in found)
    assert {classes[labels[i]] for i in group} >= {"Square", HOSTILE}
    suspects = {Path(s.path).name: s for found in audit.findings if found.kind == "mislabelled" for s in found.photos}
    for item, (name,) in zip(finding(data, "mislabelled")["items"], shown(data, "mislabelled"), strict=True):
        assert (item["suggested"], item["probability"]) == (suspects[name].suggested, suspects[name].probability)
    panorama = data["photos"]["path"].index("Square/panorama.jpg")
    assert data["photos"]["size"][panorama] == [800, 100]
    assert finding(data, "class_names")["names"] == ["'circle' / 'circle_'"]
    assert ["circle_", 2] in finding(data, "small_class")["sizes"]
    assert min(data["photos"]["thumb"]) >= 0
    assert max(data["photos"]["thumb"]) == len(data["thumbs"]) - 1
    text = written.read_text(encoding="utf-8")
    assert text.count("<script") == 3
    assert "<img" not in text
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1])  # type: ignore[index]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_copies_on_several_sides_stand_together(tmp_path: Path, cache: Path) -> None:
    for number, folder in enumerate(("train/circle", "train/Square", "test/circle", "test/Square")):
        (tmp_path / "p" / folder).mkdir(parents=True)
        for i in range(6):
            scene(100 * number + i).save(tmp_path / "p" / folder / f"{i:03}.jpg")
    for name in ("a.jpg", "b.jpg"):
        shutil.copy(tmp_path / "p/test/circle/003.jpg", tmp_path / "p/train/circle" / name)
    data = data_of(check(tmp_path / "p", QUICK).write_html(tmp_path / "check.html"))
    groups = [item["photos"] for item in finding(data, "shared_by_splits")["items"]]
    paths, sides = data["photos"]["path"], data["photos"]["side"]
    leaked = [[(paths[i], sides[i]) for i in group] for group in groups if any("a.jpg" in paths[i] for i in group)]
    wanted = [("test/circle/003.jpg", "test"), ("train/circle/a.jpg", "train"), ("train/circle/b.jpg", "train")]
    assert leaked == [wanted]


def test_pictures_are_of_whole_photos_and_keep_to_their_budget(tmp_path: Path, cache: Path) -> None:
    audit = check(draw_troubles(tmp_path / "photos"), QUICK)
    records = [record for record in audit.dataset.records if record.path.name == "panorama.jpg"]
    (made,) = whole_thumbnails(records, 10**6).values()
    assert Image.open(io.BytesIO(made)).size == (144, 18)
    assert len(made) <= MOST_BYTES
    records = list(Dataset.open(tmp_path / "photos").records)
    budget = 70 * MOST_BYTES
    assert len(whole_thumbnails(records, budget)) >= 64
    assert sum(map(len, whole_thumbnails(records, budget).values())) <= budget
    assert not whole_thumbnails(records, 10)


def test_kinds_take_turns_where_there_is_no_room(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audit = check(draw_troubles(tmp_path / "photos"), QUICK)
    monkeypatch.setattr(check_page, "MOST_PHOTOS", 20)
    monkeypatch.setattr(check_page, "picture_budget", lambda data: 0)
    data = data_of(audit.write_html(tmp_path / "check.html"))
    assert not data["thumbs"]
    assert len(data["photos"]["path"]) == 20
    assert set(data["photos"]["thumb"]) == {-1}
    assert data["absent"] > 0
    for kind in FOUND[1:]:
        assert finding(data, kind)["items"], f"the worst photos of {kind} are there"


def test_every_kind_has_its_words() -> None:
    words = json.loads(WORDS.read_text(encoding="utf-8"))
    for kind in KINDS:
        name = kind.replace("-", "_")
        for language in words.values():
            assert language[f"tab_{name}"]
            assert language[f"why_{name}"]


def test_an_older_page_is_replaced_and_mistakes_show_before_the_work(tmp_path: Path, regraft: Command) -> None:
    draw_folder(tmp_path / "photos", {"circle": 6, "Square": 6})
    command = ("check", "photos", "--effort", "quick")
    for _ in range(2):
        printed = regraft(*command, "--html", "check.html").stdout
        assert "page: check.html" in printed
    assert json.loads(regraft(*command, "--html", "check.html", "--json").stdout)["html"] == "check.html"
    assert json.loads(regraft(*command, "--json").stdout)["html"] == ""
    (tmp_path / "mine.html").write_text("mine")
    for name, wrong in (("mine.html", "is not a page of a check"), ("photos", "is not a page of a check")):
        refused = regraft(*command, "--html", name, code=1)
        assert wrong in refused.stderr
        assert "type another --html" in refused.stderr
        assert refused.stdout == ""
    assert (tmp_path / "mine.html").read_text() == "mine"
    refused = regraft(*command, "--html", "both", "--write", "both", code=1)
    assert "--write and --html both name both" in refused.stderr
    assert not (tmp_path / "both").exists()


def test_the_page_of_photos_that_cannot_be_used(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "p" / "a").mkdir(parents=True)
    (tmp_path / "p" / "a" / "x.jpg").write_bytes(b"\xff\xd8\xff\xe0 half")
    data = data_of(check(tmp_path / "p", QUICK).write_html(tmp_path / "none.html"))
    assert (data["trainable"], data["total"], data["classes"]) == (False, 0, ["a"])
    assert finding(data, "unreadable")["files"][0][0] == "x.jpg"
    draw_folder(tmp_path / "one", {"circle": 30})
    audit = check(tmp_path / "one", QUICK)
    data = data_of(audit.write_html(tmp_path / "one.html"))
    assert (data["trainable"], data["classes"]) == (False, ["circle"])
    with pytest.raises(ConfigError, match="is not a page of a check"):
        audit.write_html(tmp_path)


# ---- in a browser


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, warm_cache: Path) -> Path:
    """The page of drawn photos with troubles."""
    folder = tmp_path_factory.mktemp("check")
    shutil.copytree(warm_cache, folder / "cache", ignore=shutil.ignore_patterns("features"))
    draw_troubles(folder / "photos")
    command = [sys.executable, "-m", "regraft", "check", "photos", "--html", "check.html", "--effort", "quick"]
    environment = {**os.environ, "REGRAFT_CACHE": str(folder / "cache")}
    subprocess.run(command, cwd=folder, env=environment, check=True, timeout=300, stdout=subprocess.DEVNULL)
    return folder / "check.html"


@pytest.fixture(params=[1280, 390])
def page(request: pytest.FixtureRequest, browser: Any, made: Path) -> Iterator[Any]:
    with visited(browser, made, request.param) as opened:
        yield opened


def test_each_section_opens_and_speaks_both_languages(page: Any, made: Path) -> None:
    data = data_of(made)
    for language, word in (("ko", "요약"), ("en", "Overview")):
        page.click(f'[data-language="{language}"]')
        assert page.evaluate("document.documentElement.lang") == language
        assert page.inner_text("#tab-overview") == word
        for tab in ("overview", *FOUND, "classes"):
            page.click(f"#tab-{tab}")
            assert page.get_attribute(f"#tab-{tab}", "aria-selected") == "true"
            text = page.inner_text("main")
            assert len(text) > 40
            assert "undefined" not in text
            assert "NaN" not in text
            if tab in FOUND[1:]:
                wanted = {i for item in finding(data, tab)["items"] for i in item["photos"]}
                listed = page.query_selector_all("main [data-photo]")
                assert {int(one.get_attribute("data-photo")) for one in listed} == wanted
    page.click("#tab-overview")
    page.click('[data-kind="small_class"]')
    assert page.get_attribute("#tab-classes", "aria-selected") == "true"


def test_copies_and_labels_stand_side_by_side(page: Any) -> None:
    page.click("#tab-exact_duplicate")
    first = page.query_selector_all(".group")[0]
    figures = first.query_selector_all("figure")
    assert len(figures) == 12
    assert "keep" in figures[0].inner_text()
    assert "copy" in figures[1].inner_text()
    assert figures[0].bounding_box()["y"] == figures[1].bounding_box()["y"]
    assert "and 4 more" in first.inner_text()
    page.click("#tab-two_labels")
    labels = {figure.inner_text().splitlines()[0] for figure in page.query_selector_all(".group figure")}
    assert {"Square", HOSTILE.strip()} <= labels
    page.click("#tab-mislabelled")
    assert "Suggested: circle" in page.inner_text("main")


def test_names_are_shown_as_text(page: Any) -> None:
    page.click("#tab-unreadable")
    assert "circle/text <img src=x>.jpg" in page.inner_text("main")
    page.click("#tab-classes")
    assert HOSTILE in page.inner_text("main table")
    assert not page.query_selector("[onmouseover], main img[src=x]")


def test_it_can_be_used_by_keyboard_and_printed(page: Any) -> None:
    page.focus("#tab-overview")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == "tab-unreadable"
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    text = page.inner_text("main")
    for heading in ("What was found", "Unreadable files", "Two labels", "Exact copies", "Photos of each class"):
        assert heading in text
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert "Exact copies" not in page.inner_text("main")


def test_all_pictures_are_printed(page: Any, made: Path) -> None:
    page.click("#tab-blank")  # the pictures of the other sections are made for the printer
    assert len(re.findall(rb"/Subtype\s*/Image", page.pdf())) >= len(set(data_of(made)["thumbs"])) > 10


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Any, made: Path, scheme: str) -> None:
    assert not barriers(browser, made, scheme, ("overview", *FOUND, "classes"))


def test_without_scripts_the_verdict_is_there(browser: Any, made: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    opened = context.new_page()
    opened.goto(made.as_uri())
    assert "files need a look" in opened.inner_text("body")
    context.close()
