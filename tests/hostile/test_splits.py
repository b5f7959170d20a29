"""Levels, groups and shares that cannot be, or leave little to measure: each has its answer."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from regraft.photos.sources.base import SIDES
from tests.features.test_duplicates import scene
from tests.hostile.conftest import Hostile

QUICK = ("--effort", "quick", "--folds", "0", "--json")
LEARNING = 60.0
"""Seconds that a case may take which trains."""


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``cam0/circle/001.jpg`` and so on: 48 photos of four cameras and two classes. Not to be changed."""
    root = tmp_path_factory.mktemp("cameras") / "photos"
    for camera in range(4):
        for number in range(12):
            folder = root / f"cam{camera}" / ("circle" if number % 2 else "Square")
            folder.mkdir(parents=True, exist_ok=True)
            scene(100 * camera + number).resize((96, 72)).save(folder / f"{number:03}.jpg")
    return root


def manifest(drawn: Path, to: Path, groups: list[object], sides: list[str] | None = None) -> Path:
    """The photos with a group each, in turn, and perhaps a side each."""
    with to.open("w", encoding="utf-8") as file:
        for number, path in enumerate(sorted(drawn.rglob("*.jpg"))):
            row = {"path": os.path.relpath(path, to.parent), "label": path.parent.name}
            side = {"split": sides[number % len(sides)]} if sides else {}
            group = groups[number % len(groups)]
            file.write(json.dumps({**row, **side, **({} if group is None else {"group": group})}) + "\n")
    return to


LEVELS = ["0", "-1", "abc", "", " ", "1.5", "first,last", "12345", "FIRST", "\x1b[31m", "１", "9" * 3000, "last/"]


@pytest.mark.parametrize("option", ["--label-from", "--group-from"])
@pytest.mark.parametrize("level", LEVELS)
def test_what_is_no_level(option: str, level: str, drawn: Path, hostile: Hostile) -> None:
    if option == "--group-from" and not level:
        return  # which is to say none
    name = option[2:].replace("-", "_")
    hostile(
        "train", drawn, f"{option}={level}", says=f"{name} '.*' is no level of folders; wanted first, last, or a num"
    )


@pytest.mark.parametrize("verb", ["train", "check", "sweep", "shard", "embed"])
@pytest.mark.parametrize(
    ("levels", "says"),
    [
        (("--label-from", "99"), r"label_from 99: no photo in .* lies in so many folders, at most in 2"),
        (("--group-from", "9999"), r"group_from 9999: no photo .* has such a folder .* at most 2 folders"),
        (
            ("--label-from", "last", "--group-from", "2"),
            r"group_from 2: no photo .* beside the one that names its class",
        ),
        (
            ("--label-from", "1", "--group-from", "first"),
            r"label_from and group_from are both 1: each class would be one",
        ),
    ],
)
def test_levels_that_no_photo_has(
    verb: str, levels: tuple[str, ...], says: str, drawn: Path, hostile: Hostile, tmp_path: Path
) -> None:
    hostile(verb, drawn, *levels, says=says)
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "shards").exists()
    assert not (tmp_path / "features.parquet").exists()


@pytest.mark.parametrize("verb", ["train", "check", "sweep", "shard", "embed"])
def test_levels_of_what_is_no_folder(verb: str, drawn: Path, hostile: Hostile, tmp_path: Path) -> None:
    table = manifest(drawn, tmp_path / "photos.jsonl", [None])
    hostile(
        verb,
        table,
        "--label-from",
        "last",
        says="are for folders and archives; .*photos.jsonl names its classes itself",
    )


@pytest.mark.parametrize("verb", ["finetune", "export", "predict"])
def test_verbs_that_read_the_levels_of_a_run_take_none(verb: str, drawn: Path, hostile: Hostile) -> None:
    hostile(verb, drawn, "--label-from", "last", code=2, says="unknown flag --label-from")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("0", "label_from is 0; wanted a text"),
        ("[]", r"label_from is \[\]; wanted a text"),
        ("true", "label_from is True; wanted a text"),
    ],
)
def test_levels_of_a_file(value: str, says: str, drawn: Path, hostile: Hostile, tmp_path: Path) -> None:
    (tmp_path / "options.toml").write_text(f"label_from = {value}\n", encoding="utf-8")
    hostile("train", drawn, "--config", "options.toml", says=says)


def test_a_salt_that_no_file_can_record(drawn: Path, hostile: Hostile) -> None:
    hostile("train", drawn, "--salt", os.fsdecode(b"\xff"), code=2, says=r"--salt .* is not Unicode text \(UTF-8\)")


@pytest.mark.parametrize(
    ("shares", "says"),
    [
        (("--val", "1"), "val 1.0 and test 0.1 must be at least 0 and leave something"),
        (("--val", "0.5", "--test", "0.5"), "leave something to train on"),
        (("--test=-0.1",), "test -0.1 must be at least 0"),
    ],
)
def test_shares_that_cannot_be(shares: tuple[str, ...], says: str, drawn: Path, hostile: Hostile) -> None:
    hostile("train", drawn, *shares, says=says)


@pytest.mark.parametrize("share", ["nan", "inf", "-inf"])
def test_a_share_that_is_no_finite_number(share: str, drawn: Path, hostile: Hostile) -> None:
    hostile("train", drawn, f"--val={share}", code=2, says=f"--val: {share} is no finite number")


def test_a_group_that_is_an_object_is_no_group(drawn: Path, hostile: Hostile, tmp_path: Path) -> None:
    table = manifest(drawn, tmp_path / "photos.jsonl", [{"camera": 1}, None, ["a"]])
    outcome = hostile("check", table, "--json", "--effort", "quick", code=0, limit=LEARNING)
    assert outcome.stdout.count("gives it a group that is no text") == 32
    assert json.loads(outcome.stdout)["photos"] == 16


NEITHER = "neither val nor test|no val and no test photos"
TOO_FEW = "groups stay whole, and {} too few for train, val and test: 3 are needed"


@pytest.mark.parametrize(
    ("groups", "sides", "says"),
    [
        (["one"], (48, 0, 0), "val and test are empty: " + TOO_FEW.format("1 group is")),
        (["", "  ", None], (38, 5, 5), ""),
        (["a"] * 24 + ["b"] * 24, (24, 0, 24), "val is empty: " + TOO_FEW.format("2 groups are")),
        ([number // 6 for number in range(48)], (36, 6, 6), ""),
        (["Square"] * 6 + ["circle"] * 6, (48, 0, 0), "val and test are empty: .*: 3 are needed"),
        (["a"] * 6 + ["b"] * 6 + ["a"] * 6 + ["c"] * 6, (36, 0, 12), "wanted every class in 3 .*, found 'Square' in 1"),
        ([f"\ud800 {n // 6}" for n in range(48)], (36, 6, 6), ""),
        ([f"\x1b[31m\n\0 {n // 6}" for n in range(48)], (36, 6, 6), ""),
        ([str(n // 6) * 100_000 for n in range(48)], (36, 6, 6), ""),
        ([n / 2 for n in range(48)], (38, 5, 5), ""),
        ([float("nan")], (38, 5, 5), ""),
    ],
    ids=[
        "one",
        "blank",
        "two",
        "eight",
        "classes",
        "whole-classes",
        "surrogates",
        "controls",
        "long",
        "each-its-own",
        "nan",
    ],
)
def test_groups(
    groups: list[object], sides: tuple[int, int, int], says: str, drawn: Path, hostile: Hostile, tmp_path: Path
) -> None:
    table = manifest(drawn, tmp_path / "photos.jsonl", groups)
    outcome = hostile("train", table, *QUICK, code=0, limit=LEARNING)
    document = json.loads(outcome.stdout)
    assert tuple(document["counts"].values()) == pytest.approx(sides, abs=0 if 0 in sides else 1)
    assert sum(document["counts"].values()) == 48
    told = " ".join(outcome.stderr.split())
    assert re.search(says, told) if says else "empty" not in told, told
    assert ("there are no test photos" in told) == (sides[1] > 0 == sides[2])
    assert ("there are no val and no test photos" in told) == (sides[1] == 0 == sides[2])


def test_a_group_on_two_given_sides_is_told(drawn: Path, hostile: Hostile, tmp_path: Path) -> None:
    table = manifest(drawn, tmp_path / "photos.jsonl", ["burst"], ["train", "train", "test"])
    outcome = hostile("train", table, *QUICK, code=0, limit=LEARNING)
    assert "16 photos of test are also in train or of a group in train, so its accuracy is too high" in outcome.stderr
    counts = json.loads(outcome.stdout)["counts"]
    assert counts == {"train": 32, "val": 0, "test": 16}
    assert "val is empty: groups stay whole, and 1 group is too few for train and val: 2 are needed" in outcome.stderr


def test_forged_digests_of_shards_leave_a_run_and_the_truth(drawn: Path, hostile: Hostile, tmp_path: Path) -> None:
    hostile("shard", drawn, "--label-from", "last", "--format", "webdataset", code=0)
    (shard,) = (tmp_path / "shards").glob("*.tar")
    data, digest = shard.read_bytes(), b'"digest": "'
    parts = data.split(digest)
    shard.write_bytes(parts[0] + b"".join(digest + b"0" * 64 + part[64:] for part in parts[1:]))
    outcome = hostile("train", "shards", *QUICK, code=0, limit=LEARNING)
    assert json.loads(outcome.stdout)["counts"] == {"train": 48, "val": 0, "test": 0}
    assert "no val and no test photos" in outcome.stderr


@pytest.mark.parametrize("kind", ["loop", "deep", "bytes", "controls", "empty"])
def test_folders_that_are_odd(kind: str, drawn: Path, hostile: Hostile, tmp_path: Path) -> None:
    root = Path(shutil.copytree(drawn, tmp_path / "photos"))
    photo = (root / "cam0" / "circle" / "001.jpg").read_bytes()
    if kind == "loop":
        (root / "cam0" / "circle" / "up").symlink_to(root / "cam0")
    elif kind == "empty":
        (root / "cam4" / "circle").mkdir(parents=True)
        (root / "cam5").mkdir()
    else:
        name = {"deep": "a/" * 60, "bytes": os.fsdecode(b"\xff\xfe"), "controls": "\x1b[31m\nred"}[kind]
        folder = root / name / "circle"
        folder.mkdir(parents=True)
        (folder / "own.jpg").write_bytes(photo + b" ")
    options = ("--label-from", "last", "--group-from", "first", "--out", "s", "--json")
    document = json.loads(hostile("shard", "photos", *options, code=0).stdout)
    assert document["classes"] == ["Square", "circle"]
    assert document["photos"] == 48 + (kind in ("deep", "bytes", "controls"))


def test_a_run_is_read_with_the_levels_it_was_trained_with(drawn: Path, hostile: Hostile, tmp_path: Path) -> None:
    options = ("--label-from", "last", "--group-from", "first", "--out", "run")
    trained = json.loads(hostile("train", drawn, *options, *QUICK, code=0, limit=LEARNING).stdout)
    assert trained["classes"] == ["Square", "circle"]
    assert trained["groups"] == {"train": 2, "val": 1, "test": 1}
    assert 'label_from = "last"' in (tmp_path / "run" / "config.toml").read_text(encoding="utf-8")
    known = json.loads((tmp_path / "run" / "split.json").read_text(encoding="utf-8"))
    assert {side: len(known[side]) for side in SIDES} == trained["counts"]
    outcome = hostile("evaluate", "run", drawn, "--json", code=0, limit=LEARNING)
    assert json.loads(outcome.stdout)["n"] == 48
    assert "24 of the 48 photos were trained on" in outcome.stderr
    followed = hostile("evaluate", "run", drawn, "--once", "--json", code=0, limit=LEARNING)
    assert json.loads(followed.stdout)["accuracy"] == json.loads(outcome.stdout)["accuracy"]
    made = json.loads(hostile("export", "run", "--format", "openvino", "--json", code=0, limit=LEARNING).stdout)
    assert (made["comparison"]["side"], made["comparison"]["n"]) == ("val", 12)
    table = manifest(drawn, tmp_path / "moved.jsonl", [None])
    again = ("export", "run", "--format", "openvino", "--out", "e", "--photos", table, "--json")
    assert json.loads(hostile(*again, code=0, limit=LEARNING).stdout)["comparison"]["n"] == 12
    hostile(
        "evaluate", "run", drawn, "--label-from", "first", says="the photos have classes the classifier does not know"
    )
