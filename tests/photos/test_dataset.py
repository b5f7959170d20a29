from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from regraft.errors import DataError
from regraft.photos.dataset import Dataset
from regraft.photos.images import Problem


def test_the_digest_goes_by_content_and_label_alone(photos: Path, tmp_path: Path) -> None:
    before = Dataset.open(photos)
    moved = shutil.copytree(photos, tmp_path / "elsewhere")
    for path in moved.rglob("*.jpg"):
        path.rename(path.with_name("renamed-" + path.stem + ".png"))
    after = Dataset.open(moved)
    assert after.digest == before.digest
    assert after.counts() == before.counts() == {"Square": 20, "circle": 20, "줄무늬": 20}
    (moved / "circle").rename(moved / "round")
    assert Dataset.open(moved).digest != before.digest


def test_what_is_no_image_is_named_with_its_reason(photos: Path, tmp_path: Path) -> None:
    root = shutil.copytree(photos, tmp_path / "p")
    (root / "circle" / "notes.jpg").write_text("not a photo")
    (root / "circle" / "zero.png").touch()
    (root / "circle" / "gone.jpg").symlink_to("nowhere")
    found = {p.path.name: p.reason for p in Dataset.open(root).problems}
    assert found == {"notes.jpg": "not an image", "zero.png": "empty file (0 bytes)", "gone.jpg": "a broken link"}


def test_no_photo_at_all_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.jpg").write_text("text")
    with pytest.raises(DataError, match="no photo was found"):
        Dataset.open(tmp_path)


def test_without_keeps_the_rest_and_drops_emptied_classes(photos: Path) -> None:
    dataset = Dataset.open(photos)
    bad = [Problem(r.path, "damaged") for r in dataset.records if r.label == "circle"]
    rest = dataset.without(bad)
    assert rest.classes == ("Square", "줄무늬")
    assert len(rest.problems) == 20
    with pytest.raises(DataError, match="none of the 60 photos can be read: damaged"):
        dataset.without([Problem(r.path, "damaged") for r in dataset.records])
