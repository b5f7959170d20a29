from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from regraft import Classifier, TrainConfig, cross_validate, export, train
from regraft.classifiers.held_out import HeldOut
from regraft.classifiers.run_folder import LAYOUT, read_split
from regraft.errors import ConfigError, RunError, TrainingError
from regraft.training.folding import NEVER
from tests.conftest import SHAPES, draw_folder

QUICK = {"effort": "quick"}


def test_a_run_with_folds_trains_on_all_and_measures_all(photos: Path, tmp_path: Path, cache: Path) -> None:
    classifier = train(photos, tmp_path / "run", {**QUICK, "folds": 4})
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["counts"] == {"train": 60, "val": 0, "test": 0}
    assert metrics["test"] is None
    folds = metrics["folds"]
    assert (folds["k"], folds["n"]) == (4, 60)
    assert folds["interval"][0] < folds["accuracy"] <= folds["interval"][1] + 1e-9
    assert sum(row["n"] for row in folds["per_class"]) == 60
    assert np.array(folds["confusion"]).sum() == 60
    assert folds["right"] + folds["wrong"] + folds["refused"] == 60
    assert Classifier.load(tmp_path / "run").threshold == classifier.threshold is not None
    card = (tmp_path / "run" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "Accuracy on 60 photos:" in card
    assert "not trained on it, in turns (cross-validation)" in card


def test_the_answers_are_kept_and_are_of_heads_that_did_not_see_the_photo(
    photos: Path, tmp_path: Path, cache: Path
) -> None:
    classifier = train(photos, tmp_path / "run", QUICK)
    kept = HeldOut.read(tmp_path / "run", len(SHAPES))
    place = {digest: i for i, digest in enumerate(read_split(tmp_path / "run").train)}
    found = cross_validate(photos, QUICK)
    rows = [place[record.identity] for record in found.dataset.records]
    np.testing.assert_array_equal(kept.fold[rows], found.held_out.fold)
    np.testing.assert_array_equal(kept.answers.probabilities[rows], found.held_out.answers.probabilities)
    y = np.array([classifier.classes.index(record.label) for record in found.dataset.records])
    accuracy = float((kept.answers.probabilities[rows].argmax(axis=1) == y).mean())
    assert accuracy == pytest.approx(classifier.metrics["folds"]["accuracy"])
    seen = classifier.predict_proba(found.dataset.records)
    assert (seen[np.arange(60), y] > kept.answers.probabilities[rows][np.arange(60), y]).mean() > 0.7


def test_few_photos_get_folds_unless_sides_are_wanted(photos: Path, tmp_path: Path, cache: Path) -> None:
    for name, options, folds in (("a", {}, 5), ("b", {"folds": 0}, 0), ("c", {"val": 0.2}, 0), ("d", {"test": 0.2}, 0)):
        classifier = train(photos, tmp_path / name, {**QUICK, **options})
        assert classifier.config.folds == Classifier.load(tmp_path / name).config.folds == folds
        assert ("folds" in classifier.metrics) == (tmp_path / name / LAYOUT.held_out).exists() == bool(folds)
    assert TrainConfig().folds_for(1999) == 5
    assert TrainConfig().folds_for(2000) == 0
    assert TrainConfig(folds=3).folds_for(10**6) == 3


def test_photos_with_sides_of_their_own_keep_them(photos: Path, tmp_path: Path, cache: Path) -> None:
    for side, step in (("train", 0), ("test", 1)):
        for path in sorted(photos.rglob("*.jpg")):
            if int(path.stem) % 2 == step:
                target = tmp_path / "photos" / side / path.parent.name / path.name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
    classifier = train(tmp_path / "photos", tmp_path / "run", {**QUICK, "folds": 5})
    assert classifier.config.folds == 0
    assert classifier.metrics["test"]["n"] == 30
    with pytest.raises(ConfigError, match="has sides of its own"):
        cross_validate(tmp_path / "photos", QUICK)


def test_a_class_of_one_photo_is_trained_on_and_not_measured(tmp_path: Path, cache: Path) -> None:
    photos = draw_folder(tmp_path / "photos", {"Square": 12, "circle": 12, "줄무늬": 1})
    classifier = train(photos, tmp_path / "run", QUICK)
    assert classifier.classes == ("Square", "circle", "줄무늬")
    assert classifier.metrics["folds"]["n"] == 24
    kept = HeldOut.read(tmp_path / "run", 3)
    assert (kept.fold == NEVER).sum() == 1
    assert np.isnan(kept.answers.novelty).sum() == 1


@pytest.mark.parametrize("head", ["knn", "prototype", "sgd", "kernel"])
def test_every_head_can_be_measured_in_folds(head: str, photos: Path, tmp_path: Path, cache: Path) -> None:
    classifier = train(photos, tmp_path / "run", {**QUICK, "head": head})
    assert classifier.metrics["folds"]["accuracy"] > 0.6


def test_nothing_is_kept_that_may_be_below_the_wanted_accuracy(photos: Path, tmp_path: Path, cache: Path) -> None:
    train(photos, tmp_path / "run", QUICK)
    before = (tmp_path / "run" / "manifest.json").read_bytes()
    with pytest.raises(TrainingError, match=r"folds accuracy .*the lower end .* is below min_accuracy=0.99"):
        train(photos, tmp_path / "run", {**QUICK, "salt": "b"}, overwrite=True, min_accuracy=0.99)
    assert (tmp_path / "run" / "manifest.json").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "run"]
    train(photos, tmp_path / "run", {**QUICK, "salt": "b"}, overwrite=True, min_accuracy=0.5)
    assert (tmp_path / "run" / "manifest.json").read_bytes() != before
    with pytest.raises(TrainingError, match="folds accuracy"):
        export(tmp_path / "run", config={"format": "openvino"}, min_accuracy=0.99)
    assert not (tmp_path / "run" / "exports" / "openvino").exists()


def test_damaged_answers_are_told(photos: Path, tmp_path: Path, cache: Path) -> None:
    with pytest.raises(RunError, match=r"has no out-of-fold answers; train it with folds=5"):
        HeldOut.read(tmp_path, 3)
    train(photos, tmp_path / "run", QUICK)
    with pytest.raises(RunError, match=r"folds.safetensors is damaged: probabilities"):
        HeldOut.read(tmp_path / "run", 4)
    (tmp_path / "run" / LAYOUT.held_out).write_bytes(b"not a file of tensors")
    with pytest.raises(RunError, match="train the run again"):
        HeldOut.read(tmp_path / "run", 3)
