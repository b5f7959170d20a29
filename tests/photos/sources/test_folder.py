from __future__ import annotations

import tarfile
import unicodedata
from pathlib import Path

import pytest

from regraft.config.levels import Levels
from regraft.errors import ConfigError, DataError
from regraft.photos.dataset import Dataset
from regraft.photos.sources.base import find_source
from regraft.photos.sources.folder import Folder
from tests.conftest import draw_folder


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def labels(root: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for entry in Folder().list(str(root)).entries:
        found.setdefault(entry.label, []).append(entry.path.name)
    return found


def test_deeper_folders_belong_to_their_class(tmp_path: Path) -> None:
    touch(tmp_path / "cat" / "1.jpg", tmp_path / "cat" / "2019" / "may" / "2.jpg", tmp_path / "dog" / "3.jpg")
    assert labels(tmp_path) == {"cat": ["1.jpg", "2.jpg"], "dog": ["3.jpg"]}


def test_litter_and_hidden_files_are_passed_over(tmp_path: Path) -> None:
    touch(
        tmp_path / "cat" / "1.jpg",
        tmp_path / "cat" / ".DS_Store",
        tmp_path / "cat" / "Thumbs.db",
        tmp_path / "cat" / "._1.jpg",
        tmp_path / "__MACOSX" / "cat" / "1.jpg",
        tmp_path / ".ipynb_checkpoints" / "1.jpg",
        tmp_path / "LICENSE.txt",
    )
    listing = Folder().list(str(tmp_path))
    assert [e.path.name for e in listing.entries] == ["1.jpg"]
    assert listing.problems == ()


def test_photos_beside_the_class_folders_are_reported(tmp_path: Path) -> None:
    touch(tmp_path / "cat" / "1.jpg", tmp_path / "stray.jpg")
    (problem,) = Folder().list(str(tmp_path)).problems
    assert problem.path.name == "stray.jpg"
    assert "beside the class folders" in problem.reason


def test_class_names_are_nfc_and_keep_their_case(tmp_path: Path) -> None:
    touch(
        tmp_path / unicodedata.normalize("NFD", "강아지") / "1.jpg",
        tmp_path / "Dog_1" / "1.jpg",
        tmp_path / "dog 1" / "1.jpg",
    )
    assert sorted(labels(tmp_path)) == ["Dog_1", "dog 1", "강아지"]


def test_two_folders_that_nfc_makes_one_are_one_class(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path / unicodedata.normalize("NFD", "café") / "1.jpg", tmp_path / "café" / "2.jpg")
    if len(list(tmp_path.iterdir())) == 1:
        pytest.skip("this file system normalises names itself")
    assert labels(tmp_path) == {"café": ["1.jpg", "2.jpg"]}
    assert "different Unicode forms: taken as one class" in caplog.text


def test_a_split_of_its_own_is_kept(tmp_path: Path) -> None:
    touch(
        tmp_path / "Training" / "cat" / "1.jpg",
        tmp_path / "valid" / "cat" / "2.jpg",
        tmp_path / "test" / "dog" / "3.jpg",
    )
    sides = {e.path.name: (e.split, e.label) for e in Folder().list(str(tmp_path)).entries}
    assert sides == {"1.jpg": ("train", "cat"), "2.jpg": ("val", "cat"), "3.jpg": ("test", "dog")}


def test_classes_that_are_called_like_sides_stay_classes(tmp_path: Path) -> None:
    touch(tmp_path / "train" / "1.jpg", tmp_path / "test" / "2.jpg", tmp_path / "bus" / "3.jpg")
    assert sorted(labels(tmp_path)) == ["bus", "test", "train"]
    touch(tmp_path / "b" / "train" / "1.jpg", tmp_path / "b" / "test" / "2.jpg")
    assert sorted(labels(tmp_path / "b")) == ["test", "train"]  # no class folders below: a train is a vehicle


def test_links_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere" / "1.jpg", tmp_path / "photos" / "dog" / "2.jpg")
    (tmp_path / "photos" / "cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos" / "dog" / "again").symlink_to(tmp_path / "photos" / "dog")
    listing = Folder().list(str(tmp_path / "photos"))
    assert sorted((e.label, e.path.name) for e in listing.entries) == [("cat", "1.jpg"), ("dog", "2.jpg")]
    assert "link back" in listing.problems[0].reason


def test_empty_classes_are_named(tmp_path: Path) -> None:
    touch(tmp_path / "cat" / "1.jpg")
    (tmp_path / "ghost").mkdir()
    assert Folder().list(str(tmp_path)).empty_classes == ("ghost",)


def test_no_class_folder_says_what_is_wanted(tmp_path: Path) -> None:
    touch(tmp_path / "1.jpg")
    with pytest.raises(DataError, match="holds no folders; wanted one folder of photos for each class"):
        Folder().list(str(tmp_path))


def test_a_wrong_path_offers_the_near_one(tmp_path: Path) -> None:
    (tmp_path / "flowers").mkdir()
    with pytest.raises(DataError, match=r"there is no .*flower; did you mean .*flowers\?"):
        find_source(str(tmp_path / "flower"))
    touch(tmp_path / "a.txt")
    with pytest.raises(DataError, match="no list of photos"):
        find_source(str(tmp_path / "a.txt"))


def by_cameras(root: Path, cameras: int = 3, classes: tuple[str, ...] = ("cat", "dog", "새")) -> Path:
    for camera in range(cameras):
        for label in classes:
            touch(root / f"cam{camera}" / label / "1.jpg", root / f"cam{camera}" / label / "2.jpg")
    return root


@pytest.mark.parametrize(
    ("label_from", "group_from", "found"),
    [
        ("first", "", {("cam0", None), ("cam1", None)}),
        ("last", "first", {("cat", "cam0"), ("dog", "cam0"), ("cat", "cam1"), ("dog", "cam1")}),
        ("2", "1", {("cat", "cam0"), ("dog", "cam0"), ("cat", "cam1"), ("dog", "cam1")}),
        ("first", "last", {("cam0", "cat"), ("cam0", "dog"), ("cam1", "cat"), ("cam1", "dog")}),
        ("last", "", {("cat", None), ("dog", None)}),
    ],
)
def test_levels_name_class_and_group(
    label_from: str, group_from: str, found: set[tuple[str, str | None]], tmp_path: Path
) -> None:
    by_cameras(tmp_path, 2, ("cat", "dog"))
    levels = Levels(label_from=label_from, group_from=group_from)
    listing = Folder().list_levels(str(tmp_path), levels)
    assert {(e.label, e.group) for e in listing.entries} == found
    assert len(listing.entries) == 8
    assert listing.problems == ()


def test_levels_count_from_below_a_split_of_its_own(tmp_path: Path) -> None:
    by_cameras(tmp_path / "train")
    by_cameras(tmp_path / "test")
    listing = Folder().list_levels(str(tmp_path), Levels(label_from="last", group_from="first"))
    assert {(e.split, e.label) for e in listing.entries} == {
        (side, label) for side in ("train", "test") for label in ("cat", "dog", "새")
    }
    assert {e.group for e in listing.entries} == {"cam0", "cam1", "cam2"}


def test_photos_less_deep_than_the_level_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    by_cameras(tmp_path)
    touch(tmp_path / "cam0" / "loose.jpg", tmp_path / "cam0" / "notes.txt")
    (problem,) = Folder().list_levels(str(tmp_path), Levels(label_from="2")).problems
    assert problem.path.name == "loose.jpg"
    assert problem.reason == "lies in too few folders: its class is to be the name of folder number 2"
    listing = Folder().list_levels(str(tmp_path), Levels(label_from="last", group_from="1"))
    assert {e.label for e in listing.entries if e.group is None} == {"cam0"}
    assert "2 of 20 photos have no folder that names their group" in caplog.text


@pytest.mark.parametrize(
    ("levels", "says"),
    [
        (Levels(label_from="99"), "label_from 99: no photo .* lies in so many folders, at most in 2; type a lower"),
        (Levels(group_from="99"), "group_from 99: no photo .* has such a folder .*at most 2 folders"),
        (Levels(label_from="2", group_from="last"), "group_from last: no photo .* beside the one that names its class"),
    ],
)
def test_levels_that_no_photo_has_are_refused(levels: Levels, says: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=says):
        Folder().list_levels(str(by_cameras(tmp_path)), levels)


@pytest.mark.parametrize("level", ["0", "-1", "abc", "", "1.5", "First", "last ", "12345", "１"])
def test_what_is_no_level_is_refused(level: str) -> None:
    with pytest.raises(ConfigError, match=r"label_from .* is no level of folders; wanted first, last, or a number"):
        Levels(label_from=level)


@pytest.mark.parametrize(("one", "two"), [("first", "first"), ("first", "1"), ("last", "last"), ("2", "2")])
def test_one_level_cannot_name_both(one: str, two: str) -> None:
    with pytest.raises(ConfigError, match="each class would be one group"):
        Levels(label_from=one, group_from=two)


def test_empty_folders_of_the_level_are_empty_classes(tmp_path: Path) -> None:
    by_cameras(tmp_path)
    (tmp_path / "cam1" / "ghost").mkdir()
    (tmp_path / "cam9").mkdir()
    assert Folder().list(str(tmp_path)).empty_classes == ("cam9",)
    assert Folder().list_levels(str(tmp_path), Levels(label_from="2")).empty_classes == ("ghost",)
    assert Folder().list_levels(str(tmp_path), Levels(label_from="last")).empty_classes == ("cam9", "ghost")


HINT = "if those are the classes, type label_from='last'"


def test_cameras_above_the_classes_give_a_hint(tmp_path: Path) -> None:
    hint = Folder().list(str(by_cameras(tmp_path, 5))).hint
    assert hint == (
        "3 names (cat, dog, 새) stand for folders under most of the 5 folders (cam0, cam1, cam2, …): "
        f"{HINT} group_from='first'"
    )
    assert Folder().list_levels(str(tmp_path), Levels(label_from="last")).hint == ""


def test_one_folder_above_the_classes_gives_a_hint(tmp_path: Path) -> None:
    assert Folder().list(str(by_cameras(tmp_path, 1))).hint.endswith(f"under the folder cam0: {HINT}")


@pytest.mark.parametrize(
    "paths",
    [
        ["cat/1.jpg", "dog/2.jpg"],
        ["cat/cam1/1.jpg", "cat/cam2/1.jpg", "dog/cam1/1.jpg", "dog/cam2/1.jpg"],
        ["cat/2019/may/1.jpg", "cat/2019/june/1.jpg", "dog/3.jpg"],
        ["cat/train/1.jpg", "cat/test/1.jpg", "dog/train/1.jpg", "dog/test/1.jpg"],
        ["cat/a/1.jpg", "cat/b/1.jpg", "dog/c/1.jpg", "dog/d/1.jpg"],
    ],
)
def test_deeper_folders_that_are_no_classes_give_none(paths: list[str], tmp_path: Path) -> None:
    touch(*(tmp_path / path for path in paths))
    assert Folder().list(str(tmp_path)).hint == ""


def test_levels_are_for_folders_and_archives(tmp_path: Path) -> None:
    draw_folder(tmp_path / "p" / "cam1", {"circle": 2, "Square": 1})
    draw_folder(tmp_path / "p" / "cam2", {"circle": 1, "Square": 2}, seed=9)
    with tarfile.open(tmp_path / "p.tgz", "w:gz") as file:
        file.add(tmp_path / "p", "p")
    opened = [Dataset.open(tmp_path / name, "last", "first") for name in ("p", "p.tgz")]
    assert [d.counts() for d in opened] == [{"Square": 3, "circle": 3}] * 2
    assert [{r.group for r in d.records} for d in opened] == [{"cam1", "cam2"}] * 2
    (tmp_path / "p.csv").write_text("path,label\np/cam1/circle/000.jpg,a\np/cam1/Square/000.jpg,b\n")
    with pytest.raises(ConfigError, match=r"are for folders and archives; .*p\.csv names its classes itself"):
        Dataset.open(tmp_path / "p.csv", "last")
