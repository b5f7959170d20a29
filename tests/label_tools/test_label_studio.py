from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from regraft.errors import DataError
from regraft.label_tools.label_studio import LabelStudio
from regraft.photos.sources.base import Listing


def listing(folder: Path, tasks: object, name: str = "export.json") -> Listing:
    text = tasks if isinstance(tasks, str) else json.dumps(tasks)
    (folder / name).write_text(text, encoding="utf-8")
    return LabelStudio().list(f"labelstudio:{folder / name}")


def task(image: str, *annotations: dict[str, Any], **more: object) -> dict[str, Any]:
    return {"id": 1, "data": {"image": image}, "annotations": list(annotations), "predictions": [], **more}


def chosen(*choices: str, name: str = "choice", **more: object) -> dict[str, Any]:
    box = {"type": "rectanglelabels", "from_name": "box", "to_name": "image", "value": {"rectanglelabels": ["x"]}}
    answer = {"type": "choices", "from_name": name, "to_name": "image", "value": {"choices": list(choices)}}
    return {"result": [box, answer], **more}


def test_the_choice_is_the_label_and_others_are_named(tmp_path: Path) -> None:
    found = listing(
        tmp_path,
        [
            task("a.jpg", chosen("fox"), chosen("fox")),
            task("b.jpg", chosen("fox"), chosen("deer")),
            task("c.jpg"),
            task("d.jpg", chosen("fox"), chosen("deer", was_cancelled=True)),
            task("e.jpg", chosen("fox"), chosen("deer", ground_truth=True)),
            task("f.jpg", chosen("fox", "deer")),
            task("https://example.org/g.jpg", chosen("fox")),
            task("s3://bucket/h.jpg", chosen("fox")),
        ],
    )
    assert {e.path.name: e.label for e in found.entries} == {"a.jpg": "fox", "d.jpg": "fox", "e.jpg": "deer"}
    reasons = {problem.path.name: problem.reason for problem in found.problems}
    assert sorted(reasons) == ["b.jpg", "c.jpg", "f.jpg", "g.jpg", "h.jpg"]
    assert "deer, fox" in reasons["b.jpg"]
    assert "no label" in reasons["c.jpg"]
    assert "URL" in reasons["g.jpg"]


@pytest.mark.parametrize(
    ("image", "file"),
    [
        ("/data/local-files/?d=photos/a%20b.jpg", "photos/a b.jpg"),
        ("/data/local-files/?d=photos/a+b.jpg", "photos/a+b.jpg"),
        ("http://localhost:8080/data/local-files/?d=photos/%EC%82%AC%EC%A7%84.jpg", "photos/사진.jpg"),
        ("/data/upload/3/0a1b2c3d-a_b.jpg", "upload/3/0a1b2c3d-a_b.jpg"),
        ("/data/upload/3/0a1b2c3d-a_b.jpg", "0a1b2c3d-a_b.jpg"),
        ("/data/upload/3/0a1b2c3d-a_b.jpg", "a_b.jpg"),
        ("photos/a b.jpg", "photos/a b.jpg"),
    ],
)
def test_photos_are_found_by_the_paths_of_label_studio(tmp_path: Path, image: str, file: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_bytes(b"x")
    assert listing(tmp_path, [task(image, chosen("fox"))]).entries[0].path == tmp_path / file


def test_the_image_may_have_another_key(tmp_path: Path) -> None:
    tasks = [{"data": {"note": "seen twice", "photo": "a.JPG"}, "annotations": [chosen("fox")]}]
    assert listing(tmp_path, tasks).entries[0].path.name == "a.JPG"


def test_the_short_forms_say_the_same(tmp_path: Path) -> None:
    row = {"image": "a.jpg", "id": 1, "choice": "fox", "annotator": 1, "annotation_id": 4, "lead_time": 2.5}
    several = {**row, "image": "b.jpg", "choice": {"choices": ["fox", "deer"]}}
    short = listing(tmp_path, [row, several, {"image": "c.jpg", "id": 3}])
    csv = "annotation_id,annotator,choice,created_at,id,image\n4,1,fox,,1,a.jpg\n,,,,3,c.jpg\n"
    csv += '5,1,"{""choices"":[""fox"",""deer""]}",,2,b.jpg\n'
    for found in (short, listing(tmp_path, csv, "export.csv")):
        assert [(entry.path.name, entry.label) for entry in found.entries] == [("a.jpg", "fox")]
        assert {problem.path.name for problem in found.problems} == {"b.jpg", "c.jpg"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "wanted the list of tasks"),
        ("[1]", "wanted the list of tasks"),
        ("[]", "no photo with one choice"),
        (json.dumps([task("a.jpg", chosen("fox"), chosen("sharp", name="quality"))]), "choice, quality"),
        (json.dumps([{"data": {"text": "hello"}, "annotations": []}]), "the path of an image"),
        (json.dumps([{"image": "a.jpg", "kind": "fox", "quality": "sharp"}]), "kind, quality"),
        (json.dumps([{"id": 1}]), "wanted one with paths of images"),
    ],
)
def test_a_file_of_another_kind_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        listing(tmp_path, text)
    assert "\n" not in str(caught.value)
