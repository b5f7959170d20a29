"""Labels that are probabilities: a table of them is trained on, checked, corrected and trained on again."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from regraft import Classifier, Dataset, cross_validate, train
from regraft.engines.base import load_engine
from regraft.features.features import extract
from regraft.heads.base import softmax
from regraft.label_tools.correction_table import append
from regraft.label_tools.corrections import Correction
from tests.conftest import Command, draw_folder

QUICK = {"effort": "quick", "folds": 0, "val": 0.2, "test": 0.2}
SURE = 0.7
"""The probability of each label of `graded`."""


@pytest.fixture
def graded(tmp_path: Path) -> Path:
    """A table of squares, each probably good, and circles, each probably bad."""
    draw_folder(tmp_path, {"Square": 20, "circle": 20})
    (tmp_path / "labels.txt").write_text("good\nbad\n")
    return table(tmp_path / "graded.csv", SURE)


def table(path: Path, sure: float) -> Path:
    rows = [f"{label}/{i:03}.jpg,{p:g}" for label, p in (("Square", 1 - sure), ("circle", sure)) for i in range(20)]
    path.write_text("\n".join(["path,label", *rows]))
    return path


def confidence(run: Classifier, photos: Path) -> float:
    """The mean probability that the head gives to its answers, before calibration."""
    extraction = extract(Dataset.open(photos).records, load_engine(run.backbone, run.config))
    return float(softmax(run.head.logits(extraction.x)).max(axis=1).mean())


def test_the_head_learns_the_probabilities_and_their_classes_are_measured(
    graded: Path, tmp_path: Path, regraft: Command
) -> None:
    regraft("train", graded, "--effort", "quick", "--val", "0.2", "--test", "0.2", "--out", "runs/graded")
    soft = Classifier.load(tmp_path / "runs" / "graded")
    hard = train(table(tmp_path / "certain.csv", 1.0), tmp_path / "runs" / "certain", QUICK)
    assert soft.classes == hard.classes == ("bad", "good")
    assert soft.metrics["test"]["accuracy"] == hard.metrics["test"]["accuracy"] == 1.0
    assert confidence(soft, graded) == pytest.approx(SURE, abs=0.05)
    assert confidence(hard, graded) > 0.9
    document = json.loads(regraft("evaluate", "runs/graded", graded, "--json").stdout)
    assert document["accuracy"] == 1.0


def test_a_run_is_trained_again_with_the_probabilities_and_corrections_are_certain(
    graded: Path, tmp_path: Path, cache: Path
) -> None:
    run = train(graded, tmp_path / "runs" / "graded", QUICK)
    again = train(graded, from_run=run)
    np.testing.assert_array_equal(again.head.state()["root_weight"], run.head.state()["root_weight"])
    for record in Dataset.open(graded).records:
        append(tmp_path / "runs" / "corrections.csv", Correction("confirm", record.digest, record.label))
    assert confidence(train(graded, from_run=run), graded) > 0.9


def test_a_head_of_classes_says_that_it_does_not_learn_probabilities(
    graded: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr("regraft.foundation.console.note", told.append)
    other = train(graded, tmp_path / "run", {**QUICK, "head": "prototype"})
    assert sum("learns from the more probable class" in line for line in told) == 1
    hard = train(table(tmp_path / "certain.csv", 1.0), tmp_path / "hard", {**QUICK, "head": "prototype"})
    assert sum("learns from the more probable class" in line for line in told) == 1
    np.testing.assert_array_equal(other.head.state()["weight"], hard.head.state()["weight"])


def test_a_third_class_makes_labels_certain_and_is_told(
    graded: Path, tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = train(graded, tmp_path / "runs" / "graded", QUICK)
    for record in Dataset.open(graded).records[:6]:
        append(tmp_path / "runs" / "corrections.csv", Correction("label", record.digest, record.label, "broken"))
    grown = train(graded, from_run=run)
    assert grown.classes == ("bad", "good", "broken")
    assert "labels are probabilities of two classes, and there are 3" in caplog.text


def test_folds_learn_the_probabilities(graded: Path, cache: Path) -> None:
    found = cross_validate(graded, {"effort": "quick"}, 4)
    assert found.evaluation.accuracy == 1.0
    assert {record.probability for record in found.dataset.records} == {SURE}


def test_a_check_keeps_the_probabilities_of_what_it_writes(graded: Path, tmp_path: Path, regraft: Command) -> None:
    regraft("check", graded, "--effort", "quick", "--write", "checked.csv")
    with (tmp_path / "checked.csv").open(encoding="utf-8", newline="") as file:
        assert {row["label"] for row in csv.DictReader(file)} == {"0.3", "0.7"}
