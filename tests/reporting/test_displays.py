"""What notebooks show of our objects: `_repr_html_`, made from real photos and real answers."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import regraft
from regraft.classifiers.evaluation import Evaluation, measure
from regraft.classifiers.prediction import Prediction
from regraft.classifiers.predictor import Answers
from regraft.drawing.figures import has_matplotlib
from regraft.errors import RunError
from regraft.exploring.auditing import Audit, Finding, Suspect
from regraft.photos.dataset import Dataset, ImageRecord
from regraft.reporting.displays import MOST_THUMBNAILS, audit_html
from regraft.sweeping.sweeping import Sweep
from regraft.sweeping.trials import AXES, Trial
from tests.drawing.test_html import STRANGE, Read, require_harmless

MOST_BYTES = 300_000


def shown(thing: Any) -> Read:
    """What a browser makes of the display of an object, which is small and harmless."""
    html = thing._repr_html_()
    assert len(html.encode()) < MOST_BYTES
    return require_harmless(html)


def evaluation_of(classes: tuple[str, ...], n: int = 400) -> Evaluation:
    dice = np.random.default_rng(0)
    y = dice.integers(0, len(classes), n)
    p = np.exp(dice.normal(size=(n, len(classes))) + 3 * np.eye(len(classes))[y])
    p = (p / p.sum(axis=1, keepdims=True)).astype(np.float32)
    return measure(Answers(p, np.zeros(n, np.float32)), y, classes, [Path(f"{i}.jpg") for i in range(n)])


def strange_photos(root: Path, photos: Path) -> Dataset:
    """Photos of classes with strange names, of which one photo cannot be decoded."""
    files = sorted((photos / "circle").iterdir())
    broken = root / "broken.jpg"
    broken.write_bytes(files[0].read_bytes()[:300])
    paths = [broken, *files]
    records = [ImageRecord(path, label, str(i)) for i, label in enumerate(STRANGE) for path in paths]
    return Dataset(tuple(records), tuple(sorted(STRANGE)))


def test_a_data_set_shows_each_class_with_its_photos(photos: Path) -> None:
    read = shown(Dataset.open(photos))
    assert read.text.startswith("60 photos of 3 classes")
    assert all(label in read.text for label in ("circle", "Square", "줄무늬"))
    assert read.tags.count("img") == 24


def test_strange_classes_are_text_and_broken_photos_are_skipped(photos: Path, tmp_path: Path) -> None:
    dataset = strange_photos(tmp_path, photos)
    read = shown(dataset)
    for label in STRANGE:
        assert label.replace("\u202e", "\\u202e") in read.text
    assert 0 < read.tags.count("img") < MOST_THUMBNAILS  # the first of each class cannot be decoded
    shutil.rmtree(tmp_path / "gone", ignore_errors=True)
    gone = tuple(replace(record, path=tmp_path / "gone" / record.path.name) for record in dataset.records)
    assert "img" not in shown(replace(dataset, records=gone)).tags


def test_many_classes_are_counted(photos: Path) -> None:
    path = next((photos / "circle").iterdir())
    classes = tuple(f"{i:04} {'x' * 200}" for i in range(3000))
    read = shown(Dataset(tuple(ImageRecord(path, label, label) for label in classes), classes))
    assert "and 2,960 more classes" in read.text
    assert read.tags.count("img") <= MOST_THUMBNAILS
    assert "0 photos of 0 classes" in shown(Dataset((), ())).text


def test_an_audit_shows_copies_side_by_side(photos: Path) -> None:
    dataset = Dataset.open(photos)
    first, second, *others = (record.path for record in dataset.records)
    suspects = tuple(Suspect(path, "circle", STRANGE[0]) for path in others)
    findings = (
        Finding("exact-duplicate", (Suspect(first, "circle", "the same bytes", None, (second,)),)),
        Finding("mislabelled", suspects),
        Finding("class-names", classes=STRANGE),
        Finding("unreadable", (Suspect(Path(STRANGE[1]), "", "damaged"),)),
    )
    audit = Audit(dataset, findings, np.zeros(60, np.float32))
    read = shown(audit)
    (copies, *_) = re.findall(r'<div class="together">(.*?)</div>', audit_html(audit))
    assert copies.count("<img") == 2
    assert "60 photos: 4 kinds of problems found" in read.text
    assert "and 53 more photos" in read.text
    assert read.tags.count("img") == 2 + 5
    nothing = shown(Audit(Dataset((), ()), (), np.empty(0, np.float32), "no photo can be read"))
    assert "No classifier can be trained" in nothing.text


def test_an_evaluation_shows_its_figures() -> None:
    read = shown(evaluation_of(STRANGE))
    for text in ("Evaluation on 400 photos", "accuracy", "macro-F1", "label ↓ prediction →", *STRANGE[:4]):
        assert text in read.text
    assert read.tags.count("svg") > 3
    many = shown(evaluation_of(tuple(f"class {i}" for i in range(300)), 2000))
    assert "The 10 most confused of 300 classes" in many.text


@pytest.mark.parametrize(
    "half",
    [
        Evaluation(0),
        Evaluation(3, accuracy=0.5),
        Evaluation.from_dict({"n": 4, "accuracy": 0.5, "interval": [0.1, 0.9], "log_loss": 1.0}),
    ],
    ids=["no photo", "no interval", "old"],
)
def test_half_empty_evaluations_are_displayed(half: Evaluation) -> None:
    assert "Evaluation o" in shown(half).text


def test_an_evaluation_that_a_file_made_too_large_is_displayed() -> None:
    """Numbers are not checked where an evaluation is made by hand."""
    cut = replace(evaluation_of(("a", "b")), confusion=((1, 2),))
    assert "Confusion matrix" not in shown(cut).text


def test_a_prediction_shows_the_photo_and_bars(photos: Path) -> None:
    path = next((photos / "circle").iterdir())
    top = tuple(zip(STRANGE, np.linspace(0.5, 0.01, len(STRANGE)).tolist(), strict=True))
    read = shown(Prediction(path, top))
    assert read.tags.count("img") == 1
    assert STRANGE[1] in read.text
    assert shown(Prediction(path, top, novel=True)).text.startswith("none of these")
    assert "cannot be read: <b>" in shown(Prediction(Path("x"), error="<b>")).text
    assert "img" not in shown(Prediction(Path("there is no such file"), top)).tags
    assert "no answer" in shown(Prediction(Path("x"))).text


def test_a_classifier_and_a_sweep_are_displayed(photos: Path, tmp_path: Path, cache: Path) -> None:
    classifier = regraft.train(photos, tmp_path / "run", {"effort": "quick"})
    read = shown(classifier)
    assert read.text.startswith("Classifier of 3 classes")
    assert "95 % interval" in read.text
    assert "줄무늬" in read.text
    half = replace(classifier, metrics={}, path=None)
    assert "Classifier of 3 classes" in shown(half).text
    with pytest.raises(RunError, match="no run folder"):
        half.plot_curves()
    if has_matplotlib():
        assert [axes.get_title("left") for axes in classifier.plot_curves().axes] == [
            "loss (cross-entropy)",
            "top-1 accuracy",
        ]
    names = dict.fromkeys(AXES, "")
    trials = (
        Trial("one", {**names, "head": "knn"}, 0.9, 0.5, 1.0),
        Trial("two", {**names, "head": STRANGE[1]}, None, None, 0.1, STRANGE[0]),
    )
    read = shown(Sweep(tmp_path, trials, replace(classifier, metrics={}), STRANGE[1], 2.0))
    assert read.text.count("★ best") == 1
    assert f"failed: {STRANGE[0]}" in read.text
    assert "Sweep of 0 trials" in shown(Sweep(tmp_path, (), classifier, "", 0.0)).text


@pytest.mark.parametrize("schema", sorted((Path(__file__).parents[1] / "golden").glob("*/manifest.json")), ids=str)
def test_runs_of_old_schemas_are_displayed(schema: Path, cache: Path) -> None:
    assert "Classifier of" in shown(regraft.Classifier.load(schema.parent)).text
