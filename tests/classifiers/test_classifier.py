from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regraft import Classifier, TrainConfig, train
from regraft.classifiers.classifier import open_photos, sides_of
from regraft.errors import ImageError, RunError
from regraft.photos.dataset import Dataset
from regraft.photos.images import Problem
from regraft.photos.sources.base import SIDES
from regraft.photos.splitting import split
from regraft.photos.unlabelled import Photo


@pytest.fixture
def trained(photos: Path, tmp_path: Path, cache: Path) -> Classifier:
    return train(photos, tmp_path / "run", TrainConfig(effort="quick"))


def test_what_is_loaded_is_what_was_saved(trained: Classifier, photos: Path) -> None:
    assert trained.path is not None
    loaded = Classifier.load(trained.path)
    records = Dataset.open(photos).records
    np.testing.assert_array_equal(loaded.predict_proba(records), trained.predict_proba(records))
    assert loaded.classes == trained.classes == ("Square", "circle", "줄무늬")
    assert loaded.config == trained.config
    assert loaded.metrics == json.loads(json.dumps(trained.metrics))


def test_every_kind_of_photo_gets_the_same_answer(trained: Classifier, photos: Path) -> None:
    path = photos / "circle" / "003.jpg"
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    kinds: list[Photo] = [path, str(path), path.read_bytes(), image, np.asarray(image)]
    found = trained.predict_proba(kinds)
    assert found.shape == (5, 3)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(found, np.tile(found[:1], (5, 1)), atol=2e-2)
    assert trained.classes[found[0].argmax()] == "circle"


def test_an_unreadable_photo_raises_or_is_told(trained: Classifier, photos: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_text("text")
    good = photos / "circle" / "000.jpg"
    with pytest.raises(ImageError, match=r"bad\.jpg: not an image"):
        trained.predict_proba([good, bad])
    told: list[Problem] = []
    found = trained.predict_proba([good, bad], on_problem=told.append)
    assert [p.path for p in told] == [bad]
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all()


def test_arrays_that_are_no_photo_are_refused(trained: Classifier) -> None:
    with pytest.raises(ImageError, match="wanted RGB pixels"):
        trained.predict_proba([np.zeros((4, 4), np.uint8)])


def test_no_photo_gives_no_row(trained: Classifier) -> None:
    assert trained.predict_proba([]).shape == (0, 3)


def test_the_run_folder_holds_what_the_docs_say(trained: Classifier) -> None:
    assert trained.path is not None
    found = {p.name for p in trained.path.iterdir()}
    assert found == {
        "manifest.json",
        "head.safetensors",
        "calibration.safetensors",
        "folds.safetensors",
        "config.toml",
        "split.json",
        "metrics.json",
        "labels.txt",
        "logs",
        "MODEL_CARD.md",
    }
    assert (trained.path / "labels.txt").read_text(encoding="utf-8") == "Square\ncircle\n줄무늬\n"
    manifest = json.loads((trained.path / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["schema"] == 2
    assert manifest["made_by"]["regraft"]
    assert len(trained.trained_digests()) == trained.metrics["counts"]["train"]


@pytest.mark.parametrize("name", ["manifest.json", "head.safetensors", "config.toml", "metrics.json"])
def test_a_damaged_run_says_which(trained: Classifier, name: str) -> None:
    assert trained.path is not None
    (trained.path / name).write_bytes(b"{")
    with pytest.raises(RunError, match="damaged"):
        Classifier.load(trained.path)


def test_what_is_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no run folder"):
        Classifier.load(tmp_path / "none")
    with pytest.raises(RunError, match=r"it has no manifest\.json"):
        Classifier.load(tmp_path)


def test_a_run_of_a_newer_regraft_is_refused(trained: Classifier) -> None:
    assert trained.path is not None
    path = trained.path / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), "schema": 99}), encoding="utf-8")
    with pytest.raises(RunError, match="schema 99; this regraft reads schemas up to 4; type: pip install -U regraft"):
        Classifier.load(trained.path)


def test_a_run_on_another_backbone_version_is_refused(trained: Classifier) -> None:
    assert trained.path is not None
    path = trained.path / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["backbone"]["fingerprint"] = "0" * 64
    path.write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(RunError, match="trained on another version of embedded:efficientnet_lite0"):
        Classifier.load(trained.path)


GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize("schema", [1, 2])
def test_old_runs_keep_loading_and_answering(schema: int, photos: Path, cache: Path, tmp_path: Path) -> None:
    run = shutil.copytree(GOLDEN / f"run-schema-{schema}", tmp_path / "old")
    classifier = Classifier.load(run)
    expected = json.loads((GOLDEN / f"run-schema-{schema}.json").read_text(encoding="utf-8"))
    found = classifier.predict_proba([photos / path for path in expected])
    # bf16 and f32 processors answer a little differently.
    np.testing.assert_allclose(found, list(expected.values()), atol=0.05)
    assert (classifier.threshold is None) == (schema < 2)  # from the second on, none of these may be the answer


@pytest.mark.parametrize("schema", [1, 2])
def test_old_runs_keep_the_split_that_they_have(schema: int, photos: Path, cache: Path, tmp_path: Path) -> None:
    run = shutil.copytree(GOLDEN / f"run-schema-{schema}", tmp_path / "old")
    known = json.loads((run / "split.json").read_text(encoding="utf-8"))
    dataset = open_photos(Classifier.load(run), photos)
    found = sides_of(Classifier.load(run), dataset)
    for side in SIDES:
        assert {dataset.records[i].digest for i in getattr(found, side)} == set(known[side])
    assert found != split(dataset)  # it was drawn by another rule


def test_a_run_knows_photos_again_that_were_made_from_its_own(trained: Classifier, photos: Path) -> None:
    dataset = Dataset.open(photos)
    made = tuple(replace(r, digest=f"{i:064}", origin=r.digest) for i, r in enumerate(dataset.records))
    first, second = (sides_of(trained, replace(dataset, records=records)) for records in (dataset.records, made))
    assert first == second
    assert trained.path is not None
    file = trained.path / "split.json"
    by_bytes = {r.origin: r.digest for r in made}
    known = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({side: [by_bytes[digest] for digest in known[side]] for side in SIDES}))
    assert sides_of(trained, replace(dataset, records=made)) == first  # as runs of old shards have it
