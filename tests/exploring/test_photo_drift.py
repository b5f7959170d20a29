from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFilter

from regraft import Classifier, Drift, check_drift, train
from regraft.config.levels import Levels
from regraft.errors import ConfigError, DataError, RunError
from regraft.exploring import photo_drift
from tests.conftest import SHAPES, Command, draw_photo

LABELS = ("Square", "circle")


def draw(root: Path, counts: dict[str, int], seed: int, blur: float = 0.0) -> Path:
    """Photos of several shapes of a kind, so that no two show the same picture, in a folder for each class."""
    for label, count in counts.items():
        (root / label).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            image = draw_photo(SHAPES[label], seed + i)
            for more in range(3):
                SHAPES[label](ImageDraw.Draw(image), random.Random(31 * (seed + i) + more))
            image.filter(ImageFilter.GaussianBlur(blur)).save(root / label / f"{seed + i}.jpg", quality=90)
    return root


@pytest.fixture(scope="module")
def run(warm_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run beside its photos, and beside new ones: like them, blurred, and most of one class. Not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGRAFT_CACHE", str(warm_cache))
        folder = tmp_path_factory.mktemp("drift")
        photos = draw(folder / "photos", dict.fromkeys(LABELS, 40), 1000)
        train(photos, folder / "run", {"resolution": 64, "folds": 5})
        draw(folder / "alike", dict.fromkeys(LABELS, 30), 3000)
        draw(folder / "blurred", dict.fromkeys(LABELS, 30), 7000, blur=4)
        draw(folder / "squares", {"Square": 50, "circle": 10}, 9000)
        yield folder / "run"


@pytest.fixture(autouse=True)
def _shared_cache(warm_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGRAFT_CACHE", str(warm_cache))


def flat(folder: Path, root: Path) -> Path:
    """The photos of class folders in one folder without any."""
    root.mkdir()
    for path in sorted(folder.rglob("*.jpg")):
        shutil.copy(path, root / f"{path.parent.name} {path.name}")
    return root


def test_photos_like_those_of_the_run_do_not_differ(run: Path) -> None:
    found = check_drift(run.parent / "alike", run)
    assert found.verdict == "no difference seen"
    assert found.auc is not None
    assert found.auc.interval[0] <= 0.5 <= found.auc.interval[1]
    assert (found.run_photos, found.run_total, found.new_photos, found.new_total, found.known) == (80, 80, 60, 60, 0)
    assert found.by == "label"
    for one in found.classes:
        assert (one.share.run, one.share.new, one.share.change) == (0.5, 0.5, 0.0)
        assert one.share.interval[0] < 0 < one.share.interval[1]
        assert not one.share.changed
        assert one.auc is not None
    assert [photo.path for photo in found.photos] != sorted(photo.path for photo in found.photos)
    scores = [photo.score or 0.0 for photo in found.photos]
    assert scores == sorted(scores, reverse=True)


def test_blurred_photos_differ_clearly_and_stand_first(run: Path, tmp_path: Path) -> None:
    new = draw(tmp_path / "new", dict.fromkeys(LABELS, 15), 3000)
    for path in sorted((run.parent / "blurred").rglob("*.jpg")):
        shutil.copy(path, new / path.parent.name)
    found = check_drift(new, run)
    assert found.verdict in ("differ a little", "differ clearly")
    first = [int(photo.path.stem) // 1000 for photo in found.photos[:20]]
    assert first.count(7) >= 18
    whole = check_drift(run.parent / "blurred", Classifier.load(run))
    assert whole.verdict == "differ clearly"
    assert whole.auc is not None
    assert whole.auc.value > 0.9
    assert all(one.auc is not None and one.auc.interval[0] > 0.5 for one in whole.classes)


def test_a_class_with_more_photos_is_named_with_and_without_labels(run: Path, tmp_path: Path) -> None:
    new = run.parent / "squares"
    labelled, bare = check_drift(new, run), check_drift(flat(new, tmp_path / "flat"), run)
    assert (labelled.by, bare.by) == ("label", "prediction")
    for found in (labelled, bare):
        share = {one.label: one.share for one in found.classes}
        assert share["Square"].interval[0] > 0
        assert share["circle"].interval[1] < 0
        assert share["Square"].new == pytest.approx(50 / 60, abs=0.1)
        assert share["Square"].new_photos == 60
        assert share["Square"].changed
        assert found.verdict in ("differ a little", "differ clearly")
    assert {photo.label for photo in bare.photos} == {None}
    assert {photo.label for photo in labelled.photos} == set(LABELS)


def test_folders_that_are_no_classes_are_compared_by_prediction(run: Path, tmp_path: Path) -> None:
    for label in LABELS:
        shutil.copytree(run.parent / "alike" / label, tmp_path / "new" / f"monday {label}")
    found = check_drift(tmp_path / "new", run)
    assert found.by == "prediction"
    assert {one.label for one in found.classes} == set(LABELS)


def test_photos_of_the_run_are_left_out_and_counted(run: Path, tmp_path: Path) -> None:
    new = flat(run.parent / "alike", tmp_path / "new")
    for number, path in enumerate(sorted((run.parent / "photos").rglob("*.jpg"))[:7]):
        shutil.copy(path, new / f"renamed {number}.jpg")
    (new / "half.jpg").write_bytes(path.read_bytes()[:400])
    found = check_drift(new, run)
    assert (found.known, found.new_photos, found.new_total) == (7, 60, 60)
    assert not any("renamed" in photo.path.name for photo in found.photos)
    assert [problem.path.name for problem in found.problems] == ["half.jpg"]
    with pytest.raises(DataError, match=r"all 80 photos there are photos of .*run; type a folder with others"):
        check_drift(run.parent / "photos", run)


def test_copies_that_were_saved_again_share_a_fold_with_their_originals(run: Path, tmp_path: Path) -> None:
    """Else the head of another fold would know each of them as a photo of the run."""
    for path in (run.parent / "photos").rglob("*.jpg"):
        with Image.open(path) as image:
            (tmp_path / "new" / path.parent.name).mkdir(parents=True, exist_ok=True)
            image.save(tmp_path / "new" / path.parent.name / path.name, quality=88)
    found = check_drift(tmp_path / "new", run)
    assert found.known == 0
    assert found.auc is not None
    assert 0.3 < found.auc.value < 0.7


def test_of_many_photos_a_sample_is_compared_that_is_the_same_each_time(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photo_drift, "MOST", 40)
    first, second = (check_drift(run.parent / "alike", run) for _ in range(2))
    assert first == second
    assert (first.run_photos, first.run_total, first.new_photos, first.new_total) == (40, 80, 40, 60)


def test_a_group_counts_as_one(run: Path, tmp_path: Path) -> None:
    for number, path in enumerate(sorted((run.parent / "blurred").rglob("*.jpg"))):
        place = tmp_path / "new" / path.parent.name / f"camera {number % 6}"
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    alone = check_drift(tmp_path / "new", run)
    assert alone.verdict == "differ clearly"
    grouped = check_drift(tmp_path / "new", run, Levels(group_from="2"))
    assert (grouped.verdict, grouped.auc) == ("too few photos to tell", None)
    assert {photo.score for photo in grouped.photos} == {None}
    novelty = [photo.novelty or 0.0 for photo in grouped.photos]
    assert novelty == sorted(novelty, reverse=True)


def test_few_photos_are_described_without_an_auc(run: Path) -> None:
    one = next((run.parent / "blurred" / "circle").glob("*.jpg"))
    found = check_drift(one, run)
    assert (found.verdict, found.auc, found.new_photos, len(found.photos)) == ("too few photos to tell", None, 1, 1)


def test_photos_of_a_run_that_were_moved_are_found_where_they_are(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    shutil.copytree(run.parent / "photos", tmp_path / "elsewhere")
    expected = check_drift(run.parent / "alike", run)
    assert check_drift(run.parent / "alike", tmp_path / "run", photos=tmp_path / "elsewhere").auc == expected.auc


def test_what_cannot_be_done_is_told(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run"):
        check_drift(run.parent / "alike", tmp_path)
    with pytest.raises(DataError):
        check_drift(tmp_path / "nowhere", run)
    (tmp_path / "list.csv").write_text(f"path,label\n{next(run.parent.rglob('*.jpg'))},circle\n")
    with pytest.raises(ConfigError, match="label_from and group_from"):
        check_drift(tmp_path / "list.csv", run, Levels(label_from="last"))


def test_the_command_prints_lines_and_a_document(run: Path, regraft: Command) -> None:
    new = run.parent / "blurred"
    done = regraft("check", new, "--against", run)
    document = json.loads(regraft("check", new, "--against", run, "--json").stdout)
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert "differ clearly: AUC " in done.stderr
    assert f"60 new photos beside 80 photos of {run}" in done.stderr
    assert document["verdict"] == "differ clearly"
    assert document["auc"]["interval"][0] <= document["auc"]["value"] <= document["auc"]["interval"][1]
    assert len(lines) == len(document["photos"]) == 60
    for cells, photo in zip(lines, document["photos"], strict=True):
        none = "true" if photo["none_of_these"] else "false"
        numbers = [f"{photo['score']:.4f}", f"{photo['novelty']:.4f}"]
        assert cells == [photo["path"], *numbers, photo["label"], photo["predicted"], none]


def test_a_person_sees_tables(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from regraft.cli import drift_tables

    found = check_drift(run.parent / "blurred", run)
    drift_tables.show(found, table=True)
    told = capsys.readouterr().out
    assert told.startswith("differ clearly: AUC ")
    assert "… and 50 more; --json names all" in told
    drift_tables.show(check_drift(run.parent / "alike", run), table=True)
    assert "score" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--against", "RUN", "--write", "a.csv"], "--write is for a check without --against; leave one of them out"),
        (
            ["--against", "RUN", "--write-format", "fiftyone"],
            "--write-format is for a check without --against; leave one of them out",
        ),
        (["--against", "RUN", "--html", "a.html"], "--html is for a check without --against; leave one of them out"),
        (["--against", "RUN", "--resolution", "96"], "the run decides on resolution; leave --resolution"),
        (["--photos", "there"], "--photos is for the photos of a run; type --against RUN too"),
        (["--against", "nowhere"], "nowhere"),
    ],
)
def test_options_that_contradict_are_told_in_one_line(run: Path, regraft: Command, flags: list[str], told: str) -> None:
    words = [str(run) if word == "RUN" else word for word in flags]
    error = regraft("check", run.parent / "alike", *words, code=1).stderr
    assert told in error
    assert error.count("\n") == 1


def test_a_comparison_is_a_document(run: Path) -> None:
    found = check_drift(run.parent / "alike", run)
    assert isinstance(found, Drift)
    document = json.loads(json.dumps(found.to_dict()))
    assert document["run"] == str(run)
    assert document["photos"][0]["path"] == str(found.photos[0].path)
