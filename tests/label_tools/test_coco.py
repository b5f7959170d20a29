from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from regraft.classifiers.classifier import Classifier, open_photos
from regraft.errors import DataError
from regraft.label_tools.coco import Coco
from regraft.photos.dataset import Dataset
from regraft.photos.images import decode, read
from regraft.photos.sources.base import Listing
from regraft.photos.splitting import split
from tests.conftest import SHAPES, Command, draw_folder, draw_photo

CATEGORIES = [{"id": 0, "name": "empty"}, {"id": 7, "name": "fox"}, {"id": 9, "name": "deer"}]


def written(to: Path, images: list[dict[str, Any]], pairs: list[tuple[Any, int]], **more: object) -> str:
    """The spec of a COCO file with these images, and one annotation for each pair of an image and a category."""
    annotations = [{"id": i, "image_id": image, "category_id": c} for i, (image, c) in enumerate(pairs)]
    document = {"info": {}, "images": images, "annotations": annotations, "categories": CATEGORIES, **more}
    (to / "labels.json").write_text(json.dumps(document), encoding="utf-8")
    return f"coco:{to / 'labels.json'}"


def labels(found: Listing) -> dict[str, str]:
    return {entry.path.name: entry.label for entry in found.entries}


def test_the_category_of_the_annotations_is_the_label(tmp_path: Path) -> None:
    images: list[dict[str, Any]] = [{"id": 1, "file_name": "a.jpg"}, {"id": "2", "file_name": "deep/b.jpg"}]
    found = Coco().list(written(tmp_path, images, [(1, 7), (1, 7), ("2", 0)]))
    assert labels(found) == {"a.jpg": "fox", "b.jpg": "empty"}
    assert [entry.path for entry in found.entries] == [tmp_path / "a.jpg", tmp_path / "deep" / "b.jpg"]


def test_a_photo_without_one_label_is_named_and_left_out(tmp_path: Path) -> None:
    images = [{"id": i, "file_name": f"{i}.jpg"} for i in range(4)]
    found = Coco().list(written(tmp_path, images, [(0, 7), (1, 7), (1, 9)]))
    assert labels(found) == {"0.jpg": "fox"}
    reasons = {problem.path.name: problem.reason for problem in found.problems}
    assert sorted(reasons) == ["1.jpg", "2.jpg", "3.jpg"]
    assert "deer, fox" in reasons["1.jpg"]
    assert "no label" in reasons["2.jpg"]


def test_a_missing_file_is_named_when_the_photos_are_read(tmp_path: Path) -> None:
    draw_photo(SHAPES["circle"], 1).save(tmp_path / "a.jpg")
    images = [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "gone.jpg"}]
    found = Dataset.open(written(tmp_path, images, [(1, 7), (2, 9)]))
    assert [(problem.path.name, problem.reason) for problem in found.problems] == [
        ("gone.jpg", "there is no such file")
    ]


def test_the_spec_may_name_the_folder_of_the_photos(tmp_path: Path) -> None:
    (tmp_path / "a: b").mkdir()
    spec = written(tmp_path, [{"id": 1, "file_name": "a.jpg"}], [(1, 7)])
    assert Coco().list(f"{spec}:{tmp_path / 'a: b'}").entries[0].path == tmp_path / "a: b" / "a.jpg"
    with pytest.raises(DataError, match="no folder"):
        Coco().list(f"{spec}:{tmp_path / 'nowhere'}")


@pytest.mark.parametrize(
    ("places", "groups"),
    [
        (("33", "34", 34), ["location 33", "location 34", "location 34"]),
        (("33", "33", "33"), ["sequence s0", "sequence s0", "sequence s1"]),
        (("", None, None), ["sequence s0", "sequence s0", "sequence s1"]),
        (("33", "34", None), ["location 33", "location 34", "sequence s1"]),
    ],
)
def test_groups_are_locations_or_else_sequences(tmp_path: Path, places: tuple[Any, ...], groups: list[str]) -> None:
    images = [
        {"id": i, "file_name": f"{i}.jpg", "location": place, "seq_id": f"s{i // 2}"} for i, place in enumerate(places)
    ]
    found = Coco().list(written(tmp_path, images, [(i, 7) for i in range(len(images))]))
    assert [entry.group for entry in found.entries] == groups


def test_photos_of_one_camera_stay_on_one_side(tmp_path: Path) -> None:
    images = [{"id": i, "file_name": f"{i}.jpg", "location": i % 10} for i in range(60)]
    for image in images:
        draw_photo(SHAPES["circle"], int(str(image["id"]))).save(tmp_path / str(image["file_name"]))
    dataset = Dataset.open(written(tmp_path, images, [(i, 7 if i % 3 else 9) for i in range(60)]))
    sides = split(dataset, (0.2, 0.2))
    cameras = [{dataset.records[i].group for i in side} for side in (sides.train, sides.val, sides.test)]
    assert all(cameras)
    assert sum(map(len, cameras)) == 10


def test_two_images_of_one_file_are_one_photo(tmp_path: Path) -> None:
    images = [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "a.jpg"}, {"id": 3, "file_name": "b.jpg"}]
    found = Coco().list(written(tmp_path, images, [(1, 7), (2, 9), (3, 9)]))
    assert labels(found) == {"b.jpg": "deer"}
    assert "deer, fox" in found.problems[0].reason


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "wanted the JSON of COCO"),
        (json.dumps([{"id": i, "data": {"image": "a.jpg"}} for i in range(99)]), "wanted the JSON of COCO"),
        ('{"images": []}', "categories is missing"),
        ("{nonsense", "damaged"),
        ('{"images": [{"id": 1}], "categories": [], "annotations": []}', "file_name is missing"),
        ('{"images": [], "categories": [], "annotations": [{"category_id": 3}]}', "category_id is 3"),
        (
            '{"images": [{"id": 1}, {"id": 1}], "categories": [], "annotations": []}',
            r"images\[1\]: id is 1; wanted an id of",
        ),
        ('{"images": [], "categories": [{"id": 1}, {"id": 1}], "annotations": []}', r"categories\[1\]: id is 1"),
        ('{"images": [], "categories": [], "annotations": []}', "names no photo"),
    ],
)
def test_a_file_of_another_kind_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "labels.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message) as caught:
        Coco().list(f"coco:{tmp_path / 'labels.json'}")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_missing_file_of_labels_says_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="wanted coco:FILE or coco:FILE:FOLDER"):
        Coco().list(f"coco:{tmp_path / 'labels.json'}")


def test_a_name_that_no_file_can_have_is_a_problem(tmp_path: Path) -> None:
    images = [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "x" * 5000}, {"id": 3, "file_name": ""}]
    found = Coco().list(written(tmp_path, images, [(1, 7), (2, 7), (3, 7)]))
    assert labels(found) == {"a.jpg": "fox"}
    assert len(found.problems) == 2


def boxed(to: Path, images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> Listing:
    document = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    (to / "labels.json").write_text(json.dumps(document), encoding="utf-8")
    return Coco().list(f"coco-boxes:{to / 'labels.json'}")


def test_each_box_is_a_photo_and_what_has_none_is_named(tmp_path: Path) -> None:
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 320, "height": 240, "location": i} for i in range(4)]
    for image in images[:3]:
        draw_photo(SHAPES["circle"], 1).save(tmp_path / str(image["file_name"]))
    annotations: list[dict[str, Any]] = [
        {"image_id": 0, "category_id": 7, "bbox": [80, 60, 160, 120]},
        {"image_id": 0, "category_id": 9, "bbox": [0, 0, 32, 24]},
        {"image_id": 1, "category_id": 0},
        {"image_id": 2, "category_id": 7, "bbox": [400, 0, 10, 10]},
        {"image_id": 2, "category_id": 7, "bbox": [0, 0, 10, 10], "iscrowd": 1},
        {"image_id": 3, "category_id": 7, "bbox": [0, 0, 10, 10]},
    ]
    found = boxed(tmp_path, images, annotations)
    assert [(e.path.name, e.label, e.group) for e in found.entries] == [
        ("0.jpg#box=0.25,0.25,0.5,0.5@1.333", "fox", "location 0"),
        ("0.jpg#box=0,0,0.1,0.1@1.333", "deer", "location 0"),
    ]
    assert decode(read(found.entries[0].path, found.entries[0].part)).size == (80, 60)  # the file is 160×120
    reasons = {problem.path.name: problem.reason for problem in found.problems}
    assert "no box" in reasons["1.jpg"]
    assert "no area" in reasons["2.jpg"]
    assert "no such file" in reasons["3.jpg"]


def test_a_box_without_the_size_of_its_image_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="width is missing"):
        boxed(tmp_path, [{"id": 1, "file_name": "a.jpg"}], [{"image_id": 1, "category_id": 7, "bbox": [0, 0, 1, 1]}])


def test_a_run_finds_its_photos_from_any_folder(
    tmp_path: Path, regraft: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_folder(tmp_path / "photos", {"Square": 10, "circle": 10})
    paths = sorted((tmp_path / "photos").rglob("*.jpg"))
    images = [{"id": i, "file_name": str(path.relative_to(tmp_path / "photos"))} for i, path in enumerate(paths)]
    written(tmp_path, images, [(i, 7 if path.parent.name == "Square" else 9) for i, path in enumerate(paths)])
    regraft("train", "coco:labels.json:photos", "--effort", "quick", "--out", "run")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert open_photos(Classifier.load(tmp_path / "run")).counts() == {"fox": 10, "deer": 10}
