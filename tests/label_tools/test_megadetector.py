from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from regraft.errors import DataError
from regraft.label_tools.megadetector import MegaDetector
from regraft.photos.dataset import Dataset
from regraft.photos.sources.base import Listing
from tests.conftest import Command, draw_folder

CATEGORIES = {"1": "animal", "2": "person", "3": "vehicle"}


def box(conf: float, category: str = "1", bbox: tuple[float, ...] = (0.1, 0.1, 0.5, 0.5)) -> dict[str, Any]:
    return {"category": category, "conf": conf, "bbox": list(bbox)}


def spec_of(to: Path, photos: Path, images: dict[str, Any], info: dict[str, Any]) -> str:
    listed = [{"file": name, "detections": found} for name, found in images.items()]
    document = {"images": listed, "detection_categories": CATEGORIES, "info": info}
    (to / "md.json").write_text(json.dumps(document), encoding="utf-8")
    return f"megadetector:{to / 'md.json'}:{photos}"


def listing(to: Path, images: dict[str, Any], **info: Any) -> Listing:
    """Of photos of foxes, and of one person."""
    draw_folder(to / "photos", {"fox": 4, "Person": 1})
    return MegaDetector().list(spec_of(to, to / "photos", images, {"detector": "md_v5a.0.0.pt", **info}))


def counts(found: Listing) -> dict[str, int]:
    names = [entry.path.name.partition("#")[0] for entry in found.entries]
    return {name: names.count(name) for name in names}


def test_each_sure_animal_is_a_photo_with_the_label_of_the_whole(tmp_path: Path) -> None:
    other = (0.5, 0.5, 0.5, 0.5)
    found = listing(
        tmp_path,
        {
            "fox/000.jpg": [box(0.9), box(0.21, bbox=other), box(0.19, bbox=(0, 0, 1, 1)), box(0.9, "2", (0, 0, 1, 1))],
            "fox/001.jpg": [box(0.1)],
            "fox\\002.jpg": None,
            "Person/000.jpg": [box(0.9), box(0.8, "2", other)],
        },
    )
    assert [(e.path.name, e.label) for e in found.entries] == [
        ("000.jpg#box=0.5,0.5,0.5,0.5", "Person"),
        ("000.jpg#box=0.1,0.1,0.5,0.5", "fox"),
        ("000.jpg#box=0.5,0.5,0.5,0.5", "fox"),
    ]
    reasons = {problem.path.name: problem.reason for problem in found.problems}
    assert "no animal in it with at least 0.2" in reasons["001.jpg"]
    assert "no animal" in reasons["002.jpg"]
    assert "does not name it" in reasons["003.jpg"]


@pytest.mark.parametrize(
    ("info", "boxes"),
    [
        ({"detector": "md_v5a.0.0.pt"}, 3),
        ({"detector": "md_v4.1.0.pb"}, 1),
        ({"detector": ""}, 1),
        ({"detector_metadata": {"typical_detection_threshold": 0.5}}, 2),
    ],
)
def test_the_file_says_how_sure_a_box_must_be(tmp_path: Path, info: dict[str, Any], boxes: int) -> None:
    three = [box(conf, bbox=(0, 0, conf, conf)) for conf in (0.3, 0.6, 0.9)]
    assert counts(listing(tmp_path, {"fox/000.jpg": three}, **info)) == {"000.jpg": boxes}


def test_a_name_that_fits_two_photos_is_not_guessed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"alike: 000\.jpg"):
        listing(tmp_path, {"000.jpg": [box(0.9)]})
    (tmp_path / "both").mkdir()
    assert counts(listing(tmp_path / "both", {"001.jpg": [box(0.9)], "photos/fox/000.jpg": [box(0.9)]}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "wanted the JSON that MegaDetector writes"),
        ('{"images": []}', "detection_categories is missing"),
        ('{"images": [], "detection_categories": {}}', "has no box for any photo"),
    ],
)
def test_a_file_of_another_kind_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    draw_folder(tmp_path / "photos", {"fox": 1})
    (tmp_path / "md.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        MegaDetector().list(f"megadetector:{tmp_path / 'md.json'}:{tmp_path / 'photos'}")
    for rest in (
        f"{tmp_path / 'md.json'}",
        f"{tmp_path / 'md.json'}:",
        f"{tmp_path / 'gone.json'}:{tmp_path / 'photos'}",
    ):
        with pytest.raises(DataError, match="wanted megadetector:FILE:PHOTOS"):
            MegaDetector().list(f"megadetector:{rest}")


def test_crops_train_and_their_manifest_computes_nothing_again(tmp_path: Path, regraft: Command) -> None:
    draw_folder(tmp_path / "photos", {"Square": 20, "circle": 20})
    names = [f"{label}/{i:03}.jpg" for label in ("Square", "circle") for i in range(20)]
    spec = spec_of(tmp_path, tmp_path / "photos", {name: [box(0.9)] for name in names}, {"detector": "md_v5a.0.0.pt"})
    found = json.loads(regraft("check", spec, "--effort", "quick", "--json", "--write", "crops.csv").stdout)
    assert found["photos"] == 40
    assert found["features"]["computed"] == 40
    document = json.loads(regraft("train", "crops.csv", "--effort", "quick", "--json").stdout)
    assert document["features"]["computed"] == 0
    crops, table = Dataset.open(spec), Dataset.open(tmp_path / "crops.csv")
    assert {r.digest for r in table.records} <= {r.digest for r in crops.records}
    regraft("train", spec, "--effort", "quick", "--out", "crops")
    compared = json.loads(regraft("export", "crops", "--format", "openvino", "--json").stdout)
    assert compared["comparison"]["agreement"] == 1.0
    regraft("shard", spec, "--out", "shards")
    assert Dataset.open(tmp_path / "shards").counts() == {"Square": 20, "circle": 20}
