from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from regraft.errors import ConfigError, DataError
from regraft.foundation import console
from regraft.label_tools.writing import Format, Reviewed, write_photos
from regraft.photos.dataset import Dataset
from regraft.photos.images import Part
from tests.conftest import draw_folder


@pytest.fixture
def reviewed(tmp_path: Path) -> list[Reviewed]:
    """Three photos each of two classes; of the first one the label is doubtful."""
    records = Dataset.open(draw_folder(tmp_path / "a b", {"Square": 3, "줄무늬": 3})).records
    doubtful = Reviewed(records[0], ("mislabelled", "tiny"), "Square? 줄무늬 is more probable", "줄무늬", 0.9)
    return [doubtful, *(Reviewed(record) for record in records[1:])]


def written(to: Path, photos: list[Reviewed], name: Format) -> Any:
    assert write_photos(to, photos, name) == len(photos)
    return json.loads(to.read_text(encoding="utf-8"))


def test_label_studio_gets_labels_as_annotations_and_doubts_as_predictions(
    tmp_path: Path, reviewed: list[Reviewed], capsys: pytest.CaptureFixture[str]
) -> None:
    console.turn_on()
    tasks = written(tmp_path / "tasks.json", reviewed, "label-studio")
    first = tasks[0]
    assert first["data"]["findings"] == "mislabelled, tiny"
    assert first["annotations"][0]["result"][0]["value"] == {"choices": ["Square"]}
    (prediction,) = first["predictions"]
    assert prediction["score"] == 0.9
    assert prediction["result"][0]["value"] == {"choices": ["줄무늬"]}
    assert all("predictions" not in task for task in tasks[1:])
    places = [parse_qs(urlsplit(task["data"]["image"]).query)["d"][0] for task in tasks]
    assert [tmp_path / place for place in places] == [photo.record.path for photo in reviewed]
    told = capsys.readouterr().err
    assert f"DOCUMENT_ROOT={tmp_path}" in told
    assert '<Choice value="줄무늬"/>' in told


def test_what_label_studio_gives_back_trains(tmp_path: Path, reviewed: list[Reviewed]) -> None:
    tasks = written(tmp_path / "tasks.json", reviewed, "label-studio")
    tasks[0]["annotations"] = [{"result": tasks[0]["predictions"][0]["result"]}]  # the reviewer agrees
    (tmp_path / "export.json").write_text(json.dumps(tasks), encoding="utf-8")
    found = Dataset.open(f"labelstudio:{tmp_path / 'export.json'}")
    assert found.counts() == {"Square": 2, "줄무늬": 4}
    assert {record.digest for record in found.records} == {photo.record.digest for photo in reviewed}


def test_fiftyone_gets_absolute_paths_and_doubts_as_attributes(
    tmp_path: Path, reviewed: list[Reviewed], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    photos = [replace(one, record=replace(one.record, path=one.record.path.relative_to(tmp_path))) for one in reviewed]
    document = written(tmp_path / "labels.json", photos, "fiftyone")
    assert document["classes"] == ["Square", "줄무늬"]
    labels = document["labels"]
    assert list(labels) == [str(photo.record.path) for photo in reviewed]
    assert labels[str(reviewed[0].record.path)] == {
        "label": 0,
        "attributes": {
            "findings": "mislabelled, tiny",
            "reason": "Square? 줄무늬 is more probable",
            "suggested": "줄무늬",
            "probability": 0.9,
        },
    }
    assert labels[str(reviewed[-1].record.path)] == {"label": 1, "attributes": {}}


@pytest.mark.parametrize("name", ["label-studio", "fiftyone"])
def test_photos_inside_other_files_are_left_out(
    tmp_path: Path, reviewed: list[Reviewed], name: Format, capsys: pytest.CaptureFixture[str]
) -> None:
    part = Part(tmp_path / "shard", 0, 10)
    inside = [replace(one, record=replace(one.record, part=part)) for one in reviewed]
    assert write_photos(tmp_path / "some.json", [*inside[:2], *reviewed[2:]], name) == 4
    assert "2 photos are not in" in capsys.readouterr().err
    with pytest.raises(DataError, match="no photo"):
        write_photos(tmp_path / "none.json", inside, name)
    assert not (tmp_path / "none.json").exists()


def test_a_manifest_keeps_probabilities_where_their_classes_are_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = draw_folder(tmp_path / "p", {"a": 4})
    (folder / "labels.txt").write_text("good\nbad\n")
    (folder / "p.csv").write_text(
        "path,label\n" + "".join(f"a/{i:03}.jpg,{p}\n" for i, p in enumerate((0, 1 / 3, 0.5, 1)))
    )
    graded = Dataset.open(folder / "p.csv")
    photos = [Reviewed(record) for record in graded.records]
    write_photos(folder / "again.csv", photos)
    again = Dataset.open(folder / "again.csv")
    assert [r.label for r in again.records] == ["good", "good", "bad", "bad"]
    assert [r.probability for r in again.records] == pytest.approx([r.probability for r in graded.records])
    assert caplog.text == ""
    write_photos(tmp_path / "elsewhere.csv", photos)
    assert "has the more probable class of each photo: no labels.txt beside it" in caplog.text
    elsewhere = Dataset.open(tmp_path / "elsewhere.csv")
    assert [(r.label, r.probability) for r in elsewhere.records] == [(r.label, 1.0) for r in graded.records]


def test_nothing_is_replaced(tmp_path: Path, reviewed: list[Reviewed]) -> None:
    (tmp_path / "labels.json").write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="is there already"):
        write_photos(tmp_path / "labels.json", reviewed, "fiftyone")
    assert (tmp_path / "labels.json").read_text(encoding="utf-8") == "mine"
