from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from regraft import Classifier, TrainConfig, train
from regraft.errors import DataError, RunError
from regraft.training.training import claimed_run, default_run
from tests.conftest import draw_folder
from tests.features.test_duplicates import scene

QUICK = TrainConfig(effort="quick", folds=0)


def test_it_learns_and_measures(photos: Path, tmp_path: Path, cache: Path) -> None:
    classifier = train(photos, tmp_path / "run", QUICK)
    m = classifier.metrics
    assert sum(m["counts"].values()) == 60
    assert m["classes"] == ["Square", "circle", "줄무늬"]
    assert m["test"]["n"] == m["counts"]["test"] >= 3
    assert m["test"]["accuracy"] > 0.6
    assert m["features"] == {"computed": 60, "cached": 0}
    assert set(m["seconds"]) == {"scan", "extract", "duplicates", "fit", "evaluate", "total"}


def test_the_same_photos_give_the_same_classifier_wherever_they_are(photos: Path, tmp_path: Path, cache: Path) -> None:
    first = train(photos, tmp_path / "a", QUICK)
    moved = shutil.copytree(photos, tmp_path / "moved")
    for path in moved.rglob("*.jpg"):
        path.rename(path.with_name(f"z{999 - int(path.stem)}.jpeg"))
    shutil.rmtree(cache / "features")  # computed anew, in another order
    second = train(moved, tmp_path / "b", QUICK)
    for name, array in first.head.state().items():
        np.testing.assert_array_equal(array, second.head.state()[name])
    assert first.metrics["test"]["confusion"] == second.metrics["test"]["confusion"]


def test_nothing_under_the_photos_is_touched(photos: Path, tmp_path: Path, cache: Path) -> None:
    def state() -> dict[str, tuple[int, bytes]]:
        return {str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in photos.rglob("*") if p.is_file()}

    before = state()
    train(photos, tmp_path / "run", QUICK)
    assert state() == before


def test_bad_photos_are_left_out_by_name(
    photos: Path, tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = shutil.copytree(photos, tmp_path / "p")
    whole = (root / "circle" / "000.jpg").read_bytes()
    (root / "circle" / "cut.jpg").write_bytes(whole[:500])
    (root / "circle" / "text.jpg").write_text("text")
    m = train(root, tmp_path / "run", QUICK).metrics
    assert {Path(p["path"]).name for p in m["problems"]} == {"cut.jpg", "text.jpg"}
    assert sum(m["counts"].values()) == 60
    assert "cut.jpg: damaged" in caplog.text


@pytest.mark.parametrize("head", ["prototype", "knn", "kernel"])
def test_every_head_goes_the_whole_way(head: str, photos: Path, tmp_path: Path, cache: Path) -> None:
    classifier = train(photos, tmp_path / "run", TrainConfig(effort="quick", head=head))
    loaded = Classifier.load(tmp_path / "run")
    path = photos / "circle" / "000.jpg"
    np.testing.assert_allclose(loaded.predict_proba([path]), classifier.predict_proba([path]))


def test_classes_too_few_have_their_own_answers(tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(DataError, match="only one class, 'circle'; wanted photos of at least two"):
        train(draw_folder(tmp_path / "one", {"circle": 5}), tmp_path / "r1", QUICK)
    assert not (cache / "features").exists()  # told before anything was extracted
    root = draw_folder(tmp_path / "two", {"circle": 5, "Square": 1})
    (root / "ghost").mkdir()
    m = train(root, tmp_path / "r2", QUICK).metrics
    assert m["classes"] == ["Square", "circle"]
    assert "classes without any photo are left out: ghost" in caplog.text
    assert "cannot be measured: Square" in caplog.text
    assert not (tmp_path / "r1").exists()


def test_two_photos_are_enough_to_train_on(tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    m = train(draw_folder(tmp_path / "p", {"circle": 1, "Square": 1}), tmp_path / "r", QUICK).metrics
    assert m["counts"] == {"train": 2, "val": 0, "test": 0}
    assert m["test"]["accuracy"] is None
    assert json.loads((tmp_path / "r" / "metrics.json").read_text(encoding="utf-8"))["test"]["interval"] is None


def test_twenty_photos_a_class_never_give_an_empty_side(tmp_path: Path, cache: Path) -> None:
    root = draw_folder(tmp_path / "p", {"circle": 20, "Square": 20})
    for salt in map(str, range(5)):
        counts = train(root, tmp_path / salt, TrainConfig(effort="quick", salt=salt, folds=0)).metrics["counts"]
        assert min(counts.values()) >= 2


def test_tensorboard_reads_the_logs(photos: Path, tmp_path: Path, cache: Path) -> None:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    m = train(photos, tmp_path / "run", QUICK).metrics
    for name in ("train", "validation"):
        events = accumulators.EventAccumulator(str(tmp_path / "run" / "logs" / name)).Reload()
        assert sorted(events.Tags()["scalars"]) == ["accuracy", "cross_entropy"]
        assert len(events.Scalars("accuracy")) > 3
    best = min(event.value for event in events.Scalars("cross_entropy"))
    assert best <= m["val"]["uncalibrated"]["log_loss"] + 1e-3


def test_an_existing_run_is_never_overwritten_unasked(photos: Path, tmp_path: Path, cache: Path) -> None:
    train(photos, tmp_path / "run", QUICK)
    before = (tmp_path / "run" / "metrics.json").read_bytes()
    with pytest.raises(RunError, match="type overwrite=True to replace it"):
        train(photos, tmp_path / "run", QUICK)
    assert (tmp_path / "run" / "metrics.json").read_bytes() == before
    train(photos, tmp_path / "run", QUICK, overwrite=True)
    assert (tmp_path / "run" / "metrics.json").read_bytes() != before


def test_a_folder_that_is_no_run_is_never_overwritten(tmp_path: Path, photos: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("precious")
    with pytest.raises(RunError, match="not a run folder, so it is not overwritten"):
        train(photos, tmp_path / "home", QUICK, overwrite=True)
    assert (tmp_path / "home" / "thesis.txt").exists()


def test_default_names_are_free_and_safe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert default_run("my photos/") == Path("runs/my-photos")
    for expected in ("my-photos", "my-photos-2", "my-photos-3"):
        with claimed_run("my photos", None, False) as place:
            assert place.path == Path("runs") / expected
            (place.fresh / "manifest.json").write_text("{}")
    with claimed_run("my photos", None, False) as first, claimed_run("my photos", None, False) as second:
        assert (first.path.name, second.path.name) == ("my-photos-4", "my-photos-5")
    assert default_run("demo:elpv") == Path("runs/elpv")
    assert default_run("http://host/x/flower_photos.tgz#sha256=00") == Path("runs/flower_photos")
    assert default_run("data/photos.csv") == Path("runs/photos")
    assert default_run("tfds:cats_vs_dogs") == Path("runs/tfds-cats_vs_dogs")
    assert default_run(".") == Path("runs") / tmp_path.name


def by_cameras(root: Path, cameras: int = 6) -> Path:
    """``cam0/circle/000.jpg`` and so on: six photos of two classes from each camera, none like another."""
    for camera in range(cameras):
        for number in range(6):
            folder = root / f"cam{camera}" / ("circle" if number % 2 else "Square")
            folder.mkdir(parents=True, exist_ok=True)
            scene(100 * camera + number).save(folder / f"{number}.jpg")
    return root


def test_cameras_are_no_classes_but_groups(tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = by_cameras(tmp_path / "p")
    m = train(root, tmp_path / "wrong", QUICK).metrics
    assert m["classes"] == [f"cam{i}" for i in range(6)]
    assert m["groups"] == {}
    assert "if those are the classes, type label_from='last' group_from='first'" in caplog.text
    caplog.clear()
    config = TrainConfig(effort="quick", label_from="last", group_from="first", folds=0)
    m = train(root, tmp_path / "right", config).metrics
    assert m["classes"] == ["Square", "circle"]
    assert m["counts"] == {"train": 24, "val": 6, "test": 6}
    assert m["groups"] == {"train": 4, "val": 1, "test": 1}
    assert caplog.text == ""
    assert Classifier.load(tmp_path / "right").config == config


def test_what_cannot_be_measured_is_said_as_it_is(
    tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = by_cameras(tmp_path / "p", 2)
    train(root, tmp_path / "a", TrainConfig(effort="quick", val=0, test=0))
    assert "there are no val and no test photos: the accuracy of the classifier cannot be measured" in caplog.text
    assert "there are no test photos: the val" not in caplog.text
    caplog.clear()
    train(root, tmp_path / "b", TrainConfig(effort="quick", test=0))
    assert "there are no test photos: the val figures are slightly too high, as they also chose the head" in caplog.text
    caplog.clear()
    m = train(root, tmp_path / "c", TrainConfig(effort="quick", label_from="last", group_from="first", folds=0)).metrics
    assert m["counts"] == {"train": 6, "val": 0, "test": 6}
    assert "val is empty: groups stay whole, and 2 groups are too few for train, val and test: 3 are" in caplog.text


def test_a_class_that_stays_together_is_named(tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [
        f"p/{path.relative_to(tmp_path / 'p')},{path.parent.name},"
        for path in by_cameras(tmp_path / "p").rglob("*.jpg")
    ]
    rows = [row + ("one burst" if "Square" in row else "") for row in rows]
    (tmp_path / "p.csv").write_text("\n".join(["path,label,group", *rows]))
    m = train(tmp_path / "p.csv", tmp_path / "run", QUICK).metrics
    assert m["groups"] == {"train": 1, "val": 0, "test": 0}
    assert "classes with all their photos in train, which cannot be measured: Square" in caplog.text
