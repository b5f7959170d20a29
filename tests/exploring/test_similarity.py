from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regraft import Classifier, Dataset, SimilarPhotos, TrainConfig, embed, similar, train
from regraft.errors import ConfigError, DataError
from regraft.features.unit_roots import unit_roots
from tests.conftest import SHAPES, Command, draw_folder
from tests.exploring.test_embedding import features_in, rows_of


@pytest.fixture(scope="module")
def run(warm_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A trained run beside its photos. Not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGRAFT_CACHE", str(warm_cache))
        folder = tmp_path_factory.mktemp("similar")
        train(draw_folder(folder / "photos", dict.fromkeys(SHAPES, 12)), folder / "run", {"resolution": "64+96"})
        yield folder / "run"


@pytest.fixture(autouse=True)
def _shared_cache(warm_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGRAFT_CACHE", str(warm_cache))


def seen(found: SimilarPhotos) -> list[tuple[str, str | None, bool]]:
    return [(one.path.name, one.label, one.same) for one in found.similar]


def test_the_result_is_that_of_cosines_of_the_last_stages(run: Path, tmp_path: Path) -> None:
    photos = run.parent / "photos"
    embed(photos, tmp_path / "f.parquet", run=run)
    x = features_in(tmp_path / "f.parquet").astype(np.float64)
    half = x.shape[1] // 2
    width = Classifier.load(run).backbone.widths[-1]
    ends = [unit_roots(x[:, end - width : end].astype(np.float32)).astype(np.float64) for end in (half, 2 * half)]
    cosines = (ends[0] @ ends[0].T + ends[1] @ ends[1].T) / 2
    paths = [row["path"] for row in rows_of(tmp_path / "f.parquet")]
    answers = similar(run, Dataset.open(photos), top=4)
    assert [str(answer.path) for answer in answers] == paths
    for number, answer in enumerate(answers):
        order = np.argsort(-cosines[number], kind="stable")[:4]
        assert [str(one.path) for one in answer.similar] == [paths[i] for i in order]
        assert [one.similarity for one in answer.similar] == pytest.approx(cosines[number][order], abs=1e-6)
        assert answer.similar[0].same
        assert not any(one.same for one in answer.similar[1:])


def test_a_photo_is_found_by_its_bytes_and_by_its_look(run: Path, tmp_path: Path) -> None:
    photo = run.parent / "photos" / "줄무늬" / "004.jpg"
    shutil.copy(photo, tmp_path / "copy.jpg")
    with Image.open(photo) as image:
        image.save(tmp_path / "again.jpg", quality=70)
        pixels = np.asarray(image)
    first = similar(run, tmp_path / "copy.jpg")[0]
    assert seen(first)[0] == ("004.jpg", "줄무늬", True)
    assert first.similar[0].similarity == pytest.approx(1, abs=1e-6)
    assert len(first.similar) == 5
    assert [seen(found)[0] for found in similar(run, [tmp_path / "again.jpg", pixels, photo.read_bytes()])] == [
        ("004.jpg", "줄무늬", False),
        ("004.jpg", "줄무늬", False),
        ("004.jpg", "줄무늬", True),
    ]


def test_a_photo_that_cannot_be_read_is_told_and_all_others_are_answered(run: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_text("no photo")
    photo = run.parent / "photos" / "circle" / "000.jpg"
    found = similar(Classifier.load(run), [tmp_path / "bad.jpg", photo, tmp_path / "none.jpg"], 1)
    assert [answer.error for answer in found] == ["not an image", None, "there is no such file"]
    assert [len(answer.similar) for answer in found] == [0, 1, 0]
    assert found[0].to_dict() == {"path": str(tmp_path / "bad.jpg"), "error": "not an image"}


def test_a_run_is_searched_without_the_photos_that_it_does_not_know(run: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(run.parent / "photos", moved)
    shutil.copy(moved / "circle" / "000.jpg", tmp_path / "asked.jpg")
    with Image.open(tmp_path / "asked.jpg") as image:
        image.save(moved / "circle" / "new.jpg", quality=95)
    found = similar(run, tmp_path / "asked.jpg", 40, moved)[0]
    assert len(found.similar) == 36
    assert "new.jpg" not in {one.path.name for one in found.similar}
    assert {one.path.parents[1] for one in found.similar} == {moved}
    assert "new.jpg" in {one.path.name for one in similar(moved, tmp_path / "asked.jpg", 40)[0].similar}


def test_photos_without_labels_are_searched(run: Path, tmp_path: Path) -> None:
    found = similar(run.parent / "photos" / "circle", run.parent / "photos" / "circle" / "003.jpg", 2)[0]
    assert seen(found)[0] == ("003.jpg", None, True)
    assert similar(run.parent / "photos", [], 2) == []


def test_what_cannot_be_searched_is_told(run: Path, tmp_path: Path) -> None:
    photos, photo = run.parent / "photos", run.parent / "photos" / "circle" / "000.jpg"
    with pytest.raises(ConfigError, match="top is 0; wanted at least 1"):
        similar(run, photo, 0)
    with pytest.raises(ConfigError, match="is no run, whose photos may have moved; leave photos out"):
        similar(photos, photo, 1, photos)
    with pytest.raises(DataError, match="there is no "):
        similar(tmp_path / "none", photo)
    with pytest.raises(DataError, match="photos are an int"):
        similar(run, 7)
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "half.jpg").write_bytes(photo.read_bytes()[:500])
    with pytest.raises(DataError, match="none of the 1 photos can be read"):
        similar(tmp_path / "flat", photo)


def test_the_command_prints_lines_and_a_document(photos: Path, tmp_path: Path, regraft: Command) -> None:
    train(photos, tmp_path / "run", TrainConfig(resolution=64))
    asked = photos / "circle" / "000.jpg"
    (tmp_path / "bad.jpg").write_text("no photo")
    done = regraft("similar", "run", asked, "bad.jpg", "--top", "2", code=1)
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert lines[0] == [str(asked), "1.0000", "circle", str(asked), "true"]
    assert len(lines) == 2
    assert lines[1][-1] == "false"
    assert done.stderr.endswith("regraft: bad.jpg: not an image\n")
    (document,) = json.loads(regraft("similar", "run", asked, "--top", "1", "--json").stdout)
    (first,) = document["similar"]
    assert first.pop("similarity") == pytest.approx(1, abs=1e-6)
    assert document["path"] == str(asked)
    assert first == {"path": str(asked), "label": "circle", "same": True}
