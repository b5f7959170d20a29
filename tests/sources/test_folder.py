from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from regraft.errors import DataError
from regraft.sources import find_source
from regraft.sources.folder import Folder


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
