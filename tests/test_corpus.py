"""Unusual and malformed files, through every door: nothing crashes, nothing is dropped in silence."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from regraft.errors import ImageError
from regraft.photos.images import decode, read
from tests.conftest import Command, draw_folder
from tests.corpus import BLUE, RED, Case, bad, good, make

GOOD, BAD = list(good()), list(bad())


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "odd"
    make(folder)
    return folder


def test_there_are_enough() -> None:
    assert len(GOOD) + len(BAD) >= 90
    assert len({case.name for case in GOOD + BAD}) == len(GOOD) + len(BAD)


@pytest.mark.parametrize("case", GOOD, ids=lambda case: ascii(case.name)[:40])
def test_what_can_be_shown_is_shown_right(case: Case, corpus: Path) -> None:
    if not (corpus / case.name).exists():
        pytest.skip("this file system does not take the name")
    left, right = (BLUE, RED) if case.name == "photo.heic" else (case.left, case.right)
    pixels = np.asarray(decode(read(corpus / case.name), at_least=64), int)
    width = pixels.shape[1]
    assert np.abs(pixels[:, : max(width * 2 // 5, 1)].mean((0, 1)) - left).max() < 16
    assert np.abs(pixels[:, -max(width * 2 // 5, 1) :].mean((0, 1)) - right).max() < 16


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.name)
def test_what_cannot_be_shown_says_why(case: Case, corpus: Path) -> None:
    with pytest.raises(ImageError, match=case.reason):
        decode(read(corpus / case.name))


@pytest.fixture(scope="module")
def photos_with_corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Case]]:
    root = draw_folder(tmp_path_factory.mktemp("walk") / "photos", {"circle": 12, "Square": 12})
    return root, make(root / "odd")


def check_problems(told: list[dict[str, str]], made: list[Case]) -> None:
    """Each bad file is told by name with its reason, and no other."""
    reasons = {Path(p["path"]).name: p["reason"] for p in told}
    for case in made:
        name = case.name.encode("utf-8", "backslashreplace").decode()
        if case.reason is None:
            assert name not in reasons, (name, reasons.get(name))
        else:
            assert re.search(case.reason, reasons[name]), (name, reasons[name])


def test_every_verb_takes_them(photos_with_corpus: tuple[Path, list[Case]], regraft: Command, tmp_path: Path) -> None:
    root, made = photos_with_corpus
    shown = 24 + sum(case.reason is None for case in made)

    trained = json.loads(regraft("train", root, "--effort", "quick", "--json", "--out", "run").stdout)
    check_problems(trained["problems"], made)
    assert sum(trained["counts"].values()) == shown

    checked = json.loads(regraft("check", root, "--effort", "quick", "--json", "--write", "clean.csv").stdout)
    found = {f["kind"]: f["photos"] for f in checked["findings"]}
    check_problems(found["unreadable"], made)
    assert checked["photos"] == shown
    odd_names = sum("\\udc" in ascii(case.name) for case in made)
    kept = json.loads(regraft("train", "clean.csv", "--effort", "quick", "--json").stdout)
    dropped = {p["path"] for kind in ("exact-duplicate", "blank") for p in found[kind]}
    assert sum(kept["counts"].values()) == shown - odd_names - len(dropped)
    assert kept["problems"] == []

    sharded = json.loads(regraft("shard", root, "--json").stdout)
    check_problems(sharded["problems"], made)
    assert sharded["photos"] == shown

    answers = json.loads(regraft("predict", "run", root, "--json", code=1).stdout)
    asked = [case for case in made if case.name != "a folder.jpg"]  # predict looks into folders, whatever their names
    check_problems([{"path": a["path"], "reason": a["error"]} for a in answers if "error" in a], asked)
    assert sum("top" in a for a in answers) == shown
