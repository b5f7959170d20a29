"""A run from an older run: photos keep their places, corrections hold, and both are measured on the same photos."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from regraft import Classifier, Dataset, TrainConfig, evaluate, export, report, train
from regraft.classifiers.classifier import open_photos, sides_of
from regraft.classifiers.held_out import HeldOut
from regraft.classifiers.run_folder import LAYOUT, read_split
from regraft.engines.base import load_engines
from regraft.errors import ConfigError, DataError, RunError, TrainingError
from regraft.features.features import extract_all, labelled_features
from regraft.foundation.files import digest_file
from regraft.heads.base import head_of
from regraft.label_tools.correction_table import append, read_corrections
from regraft.label_tools.corrections import Correction
from regraft.training.training import update
from regraft.training.updating import next_names
from tests.conftest import SHAPES, Command, draw_folder

QUICK = {"effort": "quick"}
SIDED = {**QUICK, "val": 0.2, "test": 0.3}


@pytest.fixture
def pets(tmp_path: Path, photos: Path) -> Path:
    """The drawn photos, to be changed; 14 of each class."""
    folder = tmp_path / "pets"
    for label in SHAPES:
        (folder / label).mkdir(parents=True)
        for path in sorted((photos / label).iterdir())[:14]:
            shutil.copy(path, folder / label)
    return folder


def add(pets: Path, label: str, count: int, seed: int = 500) -> None:
    (pets / label).mkdir(exist_ok=True)
    for path in draw_folder(pets.parent / f"more-{label}", {label: count}, seed).rglob("*.jpg"):
        shutil.copy(path, pets / label / f"more-{path.name}")


def correct(pets: Path, name: str, action: str, label: str = "", runs: Path | None = None) -> Correction:
    path = pets / name
    row = Correction(action, digest_file(path), path.parent.name, label, str(path))  # type: ignore[arg-type]
    append((runs or pets.parent / "runs") / "corrections.csv", row)
    return row


def require_same_head(one: Classifier, other: Classifier) -> None:
    assert one.head.state().keys() == other.head.state().keys()
    for name, array in one.head.state().items():
        np.testing.assert_array_equal(other.head.state()[name], array)


def folds_by_identity(run: Path, classes: int) -> dict[str, int]:
    return dict(zip(read_split(run).train, HeldOut.read(run, classes).fold.tolist(), strict=True))


def test_photos_keep_their_folds_and_the_difference_is_of_photos_that_neither_learned(
    pets: Path, tmp_path: Path, cache: Path
) -> None:
    old = train(pets, tmp_path / "runs" / "pets", QUICK)
    add(pets, "circle", 6)
    add(pets, "blob", 5)
    (pets / "Square" / "000.jpg").unlink()
    gone = correct(pets, "Square/001.jpg", "exclude")
    moved = correct(pets, "Square/002.jpg", "label", "circle")
    new = train(pets, from_run=tmp_path / "runs" / "pets")
    assert new.path == tmp_path / "runs" / "pets-2"
    assert new.classes == ("Square", "circle", "줄무늬", "blob")  # added at the end, not where the alphabet has it
    assert new.config == old.config
    assert new.metrics["features"]["computed"] == 11
    before, after = folds_by_identity(tmp_path / "runs" / "pets", 3), folds_by_identity(new.path, 4)
    kept = before.keys() & after.keys()
    assert len(kept) == 40
    assert all(before[name] == after[name] for name in kept)
    assert gone.digest not in after
    grown = new.metrics["grown"]
    assert (grown["new"], grown["gone"], grown["relabelled"], grown["excluded"], grown["added"]) == (11, 2, 1, 1, 0)
    assert (grown["new_classes"], grown["unknown"]) == (["blob"], 5)
    dataset = open_photos(new)
    labels = {record.identity: record.label for record in dataset.records}
    assert labels[moved.digest] == "circle"
    held = HeldOut.read(tmp_path / "runs" / "pets", 3).answers.probabilities
    rows = {name: row for row, name in enumerate(read_split(tmp_path / "runs" / "pets").train)}
    right = [old.classes[held[rows[name]].argmax()] == labels[name] for name in kept]
    added = [record for record in dataset.records if record.identity not in rows and record.label != "blob"]
    answers = old.predict_proba(added).argmax(axis=1)
    right += [old.classes[best] == record.label for best, record in zip(answers, added, strict=True)]
    found = new.metrics["before"]
    assert (found["n"], found["accuracy"]) == (46, pytest.approx(np.mean(right)))
    difference = new.metrics["difference"]
    own = HeldOut.read(new.path, 4).answers.probabilities
    places = {name: row for row, name in enumerate(read_split(new.path).train)}
    right_now = np.mean(
        [new.classes[own[places[name]].argmax()] == labels[name] for name in places if labels[name] != "blob"]
    )
    assert difference["n"] == 46
    assert found["accuracy"] + difference["difference"] == pytest.approx(right_now)
    assert difference["interval"][0] <= difference["difference"] <= difference["interval"][1]


def test_photos_keep_their_sides_and_the_classifier_is_that_of_the_split(
    pets: Path, tmp_path: Path, cache: Path
) -> None:
    old = train(pets, tmp_path / "runs" / "1", SIDED)
    add(pets, "circle", 10)
    add(pets, "Zebra", 10, 900)
    correct(pets, "circle/003.jpg", "label", "Square")
    new = train(pets, from_run=old)
    assert new.path == tmp_path / "runs" / "2"
    first, second = read_split(tmp_path / "runs" / "1"), read_split(new.path)
    for side in ("train", "val", "test"):
        assert set(getattr(first, side)) <= set(getattr(second, side))
    counts = new.metrics["counts"]
    assert sum(counts.values()) == 62
    assert abs(counts["val"] - 0.2 * 62) <= 2
    assert abs(counts["test"] - 0.3 * 62) <= 2
    dataset = open_photos(new)
    sides = sides_of(new, dataset)
    engines = load_engines(new.backbone, new.config, trained=new.precision)
    _, features, _ = labelled_features(dataset, extract_all(dataset.records, engines), new.backbone)
    order = sorted(sides.train, key=lambda i: dataset.records[i].identity)
    val = sorted(sides.val, key=lambda i: dataset.records[i].identity)
    head = head_of(new.config).fit(features.select(order), features.select(val))
    for name, array in head.state().items():
        np.testing.assert_array_equal(new.head.state()[name], array)
    test = [dataset.records[i] for i in sides.test]
    known = [record for record in test if record.label != "Zebra"]
    right = [old.classes[row.argmax()] == r.label for row, r in zip(old.predict_proba(known), known, strict=True)]
    assert new.metrics["before"]["n"] == new.metrics["difference"]["n"] == len(known) < len(test)
    assert new.metrics["before"]["accuracy"] == pytest.approx(np.mean(right))
    assert new.metrics["grown"]["unknown"] == len(test) - len(known)


def test_a_run_with_corrections_is_the_same_to_every_command(pets: Path, tmp_path: Path, cache: Path) -> None:
    old = train(pets, tmp_path / "runs" / "pets", QUICK)
    extra = draw_folder(tmp_path / "camera", {"roll": 2}, 700) / "roll" / "000.jpg"
    rows = [
        correct(pets, "circle/000.jpg", "label", "Aquarium"),  # sorts first, and stands last
        correct(pets, "circle/001.jpg", "label", "Aquarium"),
        correct(pets, "circle/002.jpg", "label", "Aquarium"),
        correct(pets, "circle/004.jpg", "exclude"),
        correct(pets, "circle/005.jpg", "confirm"),
    ]
    added = Correction("label", digest_file(extra), "", "Aquarium", str(extra), source=old.source)
    other = Correction("label", digest_file(extra), "", "Elsewhere", str(extra), source="/another/folder")
    for row in (added, other, Correction("label", "e" * 64, "cat", "dog")):  # the others are about other photos
        append(tmp_path / "runs" / "corrections.csv", row)
    new = update(tmp_path / "runs" / "pets")
    folder = new.path or Path()
    assert new.classes == ("Square", "circle", "줄무늬", "Aquarium")
    assert read_corrections(folder / LAYOUT.corrections).rows == (*rows, added)
    assert json.loads((folder / LAYOUT.manifest).read_text(encoding="utf-8"))["schema"] == 4
    assert json.loads((tmp_path / "runs" / "pets" / LAYOUT.manifest).read_text(encoding="utf-8"))["schema"] == 2
    loaded = Classifier.load(folder)
    found = open_photos(loaded)
    assert found.classes == loaded.classes == new.classes
    assert found.counts() == {"Square": 14, "circle": 10, "줄무늬": 14, "Aquarium": 4}
    (tmp_path / "runs" / "corrections.csv").unlink()  # the run has its own
    told = report(folder, before=tmp_path / "runs" / "pets")
    assert told.measured == new.metrics["folds"]["n"] == 42
    assert told.difference is not None
    assert told.difference.n == 38  # without those of the class that the older run does not know
    assert report(folder, photos=pets, out=tmp_path / "moved.html").photos == 42
    aquarium = tmp_path / "aquarium" / "Aquarium"
    aquarium.mkdir(parents=True)
    shutil.copy(extra, aquarium)
    assert evaluate(loaded, tmp_path / "aquarium")[0].n == 1
    exported = export(folder, config={"format": "openvino"})
    assert exported.comparison.agreement == 1
    assert exported.comparison.accuracy == exported.comparison.run_accuracy
    labels = (Path(exported.folder) / LAYOUT.labels).read_text(encoding="utf-8").split()
    assert labels == list(new.classes)
    with ThreadPoolExecutor(1) as pool:  # as a server does
        third = pool.submit(update, folder).result()
    assert third.path == tmp_path / "runs" / "pets-3"
    assert third.classes == new.classes
    require_same_head(third, new)
    assert third.metrics["difference"]["difference"] == 0
    assert read_corrections(third.path / LAYOUT.corrections).rows == (*rows, added)


def test_a_label_that_the_user_changes_later_overrides_a_correction(pets: Path, tmp_path: Path, cache: Path) -> None:
    train(pets, tmp_path / "runs" / "pets", QUICK)
    row = correct(pets, "circle/000.jpg", "label", "Square")
    (pets / "circle" / "000.jpg").rename(pets / "줄무늬" / "moved.jpg")
    new = update(tmp_path / "runs" / "pets")
    assert {r.label for r in open_photos(new).records if r.digest == row.digest} == {"줄무늬"}
    assert not ((new.path or Path()) / LAYOUT.corrections).exists()


def test_what_the_run_has_is_kept_and_what_it_may_have_otherwise_is_taken(
    pets: Path, tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "runs" / "pets"
    train(pets, run, {**QUICK, "head": "sgd", "steps": 40, "learning_rate": 0.1})
    for values, name in (
        ({"backbone": "efficientnet_lite2"}, "backbone"),
        ({"resolution": 288}, "resolution"),
        ({"precision": "fp32"}, "precision"),
        ({"folds": 3}, "folds"),
        ({"salt": "x"}, "salt"),
        (TrainConfig(val=0.2), "val"),
    ):
        with pytest.raises(ConfigError, match=f"^{name}=.* from_run="):
            train(pets, config=values, from_run=run)
    assert not (tmp_path / "runs" / "pets-2").exists()
    alike = {"backbone": "embedded:efficientnet_lite0", "resolution": 224, "folds": 5, "head": "knn"}
    new = train(pets, config=alike, from_run=run)
    assert (new.config.head, new.config.steps, new.config.backbone) == ("knn", 4000, "efficientnet_lite0")
    again = train(pets, config={"steps": 60}, from_run=run, out=tmp_path / "again")
    assert (again.config.head, again.config.steps, again.config.learning_rate) == ("sgd", 60, 0.1)
    shutil.rmtree(pets / "circle")
    smaller = update(run)
    assert smaller.classes == ("Square", "줄무늬")
    assert smaller.metrics["grown"]["gone_classes"] == ["circle"]
    assert "have no photo any more are left out: circle" in caplog.text
    assert "14 of the 42 photos" in caplog.text


def test_photos_of_another_kind_are_refused(pets: Path, photos: Path, tmp_path: Path, cache: Path) -> None:
    run = tmp_path / "runs" / "pets"
    old = train(pets, run, QUICK)
    strangers = draw_folder(tmp_path / "strangers", dict.fromkeys(SHAPES, 3), 3000)
    with pytest.raises(DataError, match=r"none of the 42 photos of .* wanted the photos of the run together"):
        train(strangers, from_run=run)
    with pytest.raises(ConfigError, match=r"type from_run=RUN"):
        train(pets, if_better=True)
    with pytest.raises(RunError, match="is there already"):
        update(run, out=run)
    with pytest.raises(RunError, match="no run folder"):
        update(tmp_path / "nothing")
    for path in pets.rglob("*.jpg"):
        correct(pets, str(path.relative_to(pets)), "exclude")
    with pytest.raises(DataError, match="leave out all 42 photos"):
        update(run)
    assert sorted(path.name for path in run.parent.iterdir()) == ["corrections.csv", "pets"]
    (run.parent / "corrections.csv").unlink()
    replaced = update(run, out=run, overwrite=True)
    assert replaced.path == run
    require_same_head(Classifier.load(run), old)


def test_a_run_that_is_surely_worse_is_not_kept(pets: Path, tmp_path: Path, cache: Path, regraft: Command) -> None:
    old = train(pets, tmp_path / "runs" / "pets", SIDED)
    wrong = dict(zip(old.classes, (*old.classes[1:], old.classes[0]), strict=True))
    for record in open_photos(old).records:
        if record.digest not in read_split(tmp_path / "runs" / "pets").test:
            row = Correction("label", record.digest, record.label, wrong[record.label])
            append(tmp_path / "runs" / "corrections.csv", row)
    done = regraft("train", pets, "--from", "runs/pets", "--if-better", code=1)
    assert done.stdout == ""
    assert "surely worse than runs/pets on the same 13 photos" in done.stderr
    assert done.stderr.count("regraft: ") == 1
    with pytest.raises(TrainingError, match="surely worse"):
        update(tmp_path / "runs" / "pets", out=tmp_path / "runs" / "pets", overwrite=True, if_better=True)
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["corrections.csv", "pets"]
    require_same_head(Classifier.load(tmp_path / "runs" / "pets"), old)


def test_the_command_line_says_what_changed(pets: Path, cache: Path, regraft: Command) -> None:
    regraft("train", pets, "--effort", "quick", "--out", "runs/pets")
    add(pets, "blob", 4)
    correct(pets, "circle/000.jpg", "label", "Square")
    done = regraft("train", pets, "--from", "runs/pets")
    assert "from runs/pets: new photos: 4; corrected labels: 1; new classes: blob" in done.stdout
    assert "folds accuracy on 42 photos from which neither run has learned: " in done.stdout
    assert "left out of this comparison: 4 photos" in done.stdout
    assert "run: runs/pets-2 " in done.stdout
    document = json.loads(regraft("train", pets, "--from", "runs/pets-2", "--head", "knn", "--json").stdout)
    schemas = Path(__file__).parents[2] / "docs" / "reference" / "schemas"
    Draft202012Validator(json.loads((schemas / "train.json").read_text(encoding="utf-8"))).validate(document)
    assert document["run"] == "runs/pets-3"
    assert (document["before"]["n"], document["difference"]["n"]) == (46, 46)
    failed = regraft("train", pets, "--from", "runs/pets", "--effort", "thorough", code=1)
    assert "--effort thorough does not go with --from, which has quick" in failed.stderr


_UPDATING = """
import sys
from pathlib import Path
from regraft.training import training
from regraft.training.training import update
real = getattr(training, sys.argv[2])
def stop(*arguments, **options):
    result = real(*arguments, **options) if sys.argv[3] == "after" else None
    print("here", flush=True)
    sys.stdin.read()
setattr(training, sys.argv[2], stop)
update(Path(sys.argv[1]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is of Unix")
@pytest.mark.parametrize(("step", "when"), [("prepare", "before"), ("learn", "after"), ("compare", "after")])
def test_a_kill_leaves_the_run_and_the_corrections_as_they_were(
    step: str, when: str, pets: Path, tmp_path: Path, cache: Path
) -> None:
    run = tmp_path / "runs" / "pets"
    train(pets, run, QUICK)
    correct(pets, "circle/000.jpg", "label", "Square")
    there = {path: path.read_bytes() for path in (tmp_path / "runs").rglob("*") if path.is_file()}
    command = [sys.executable, "-c", _UPDATING, str(run), step, when]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8")
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert {path: path.read_bytes() for path in there} == there
    assert not list((tmp_path / "runs").glob("pets-*"))
    new = update(run)
    assert new.path == run.with_name("pets-2")
    assert new.metrics["grown"]["relabelled"] == 1


def test_runs_are_numbered_after_the_run_that_they_come_from() -> None:
    for name, wanted in (
        ("runs/pets", "runs/pets-2"),
        ("runs/pets-2", "runs/pets-3"),
        ("runs/9", "runs/10"),
        ("runs/pets-2024", "runs/pets-2024-2"),
        ("runs/v2", "runs/v2-2"),
    ):
        assert next(next_names(Path(name))) == Path(wanted)


@pytest.mark.skipif(find_spec("tensorflow") is None, reason="needs the extra tensorflow")
def test_a_fine_tuned_run_gets_a_new_head_over_its_features(
    pets: Path, tmp_path: Path, cache: Path, regraft: Command
) -> None:
    regraft("train", pets, "--effort", "quick", "--test", "0.2", "--out", "runs/pets")
    correct(pets, "circle/000.jpg", "label", "Aquarium")
    correct(pets, "circle/001.jpg", "label", "Aquarium")
    regraft("train", pets, "--from", "runs/pets")
    regraft("finetune", "runs/pets-2", "--thaw", "1", "--epochs", "2", "--out", "runs/tuned")
    tuned = Classifier.load(tmp_path / "runs" / "tuned")
    assert tuned.classes == ("Square", "circle", "줄무늬", "Aquarium")
    assert read_corrections(tmp_path / "runs" / "tuned" / LAYOUT.corrections).rows
    assert open_photos(tuned).counts()["Aquarium"] == 2
    add(pets, "circle", 8)
    document = json.loads(regraft("train", pets, "--from", "runs/tuned", "--json").stdout)
    new = Classifier.load(tmp_path / "runs" / "tuned-2")
    assert document["features"]["computed"] == 8 or document["features"]["computed"] <= 50
    assert new.backbone.fingerprint == tuned.backbone.fingerprint
    assert document["difference"]["n"] == document["test"]["n"] > 0
    shutil.rmtree(tmp_path / "runs" / "tuned")
    photo = next((pets / "circle").glob("more-*.jpg"))
    assert Classifier.load(tmp_path / "runs" / "tuned-2").predict_proba(photo).shape == (1, 4)
    assert "the fine-tuned features of" in (tmp_path / "runs" / "tuned-2" / LAYOUT.card).read_text(encoding="utf-8")


def test_a_run_of_another_split_is_compared_where_neither_learned(pets: Path, tmp_path: Path, cache: Path) -> None:
    """The old run was measured in folds; the photos then got sides of their own."""
    train(pets, tmp_path / "runs" / "pets", QUICK)
    sided = tmp_path / "sided"
    for path in sorted(pets.rglob("*.jpg")):
        side = "test" if int(path.stem) < 4 else "train"
        (sided / side / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, sided / side / path.parent.name)
    new = train(sided, from_run=tmp_path / "runs" / "pets")
    assert new.metrics["test"]["n"] == new.metrics["difference"]["n"] == 12
    back = train(pets, from_run=new)  # its train photos are known to it, so that only test compares
    assert back.metrics["difference"]["n"] == 12


def test_a_data_set_keeps_the_order_of_classes_without_its_unreadable_photos(pets: Path) -> None:
    dataset = Dataset.open(pets).in_order(("줄무늬", "nothing", "circle"))
    assert dataset.classes == ("줄무늬", "circle", "Square")
