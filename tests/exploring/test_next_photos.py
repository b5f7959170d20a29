from __future__ import annotations

import csv
import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from regraft import Classifier, Dataset, NextPhotos, next_photos, train
from regraft.errors import ConfigError, DataError
from regraft.exploring.active_learning import margins
from regraft.foundation.files import digest_file
from regraft.label_tools.correction_table import append
from regraft.label_tools.corrections import Correction, beside
from tests.conftest import SHAPES, Command, draw_folder, draw_photo


@pytest.fixture(scope="module")
def run(warm_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A trained run beside its photos and a folder of other, unlabelled photos. Not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGRAFT_CACHE", str(warm_cache))
        folder = tmp_path_factory.mktemp("next")
        train(draw_folder(folder / "photos", dict.fromkeys(SHAPES, 12)), folder / "run", {"resolution": 64})
        (folder / "new").mkdir()
        for number, shape in enumerate([SHAPES["Square"], SHAPES["circle"]] * 8):
            image = draw_photo(shape, 5000 + number)
            for more in range(3):  # several shapes of a kind, so that no two photos show the same picture
                shape(ImageDraw.Draw(image), random.Random(100 * number + more))
            image.save(folder / "new" / f"{number:02}.jpg")
        yield folder / "run"


@pytest.fixture(autouse=True)
def _shared_cache(warm_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGRAFT_CACHE", str(warm_cache))


def names(found: NextPhotos) -> list[str]:
    return [one.path.name for one in found.photos]


def test_the_least_certain_photos_come_first_with_the_answer_of_the_run(run: Path) -> None:
    new = run.parent / "new"
    found = next_photos(new, run, 8)
    assert (len(found.photos), found.candidates, found.known, found.copies, found.problems) == (8, 16, 0, 0, ())
    classifier = Classifier.load(run)
    answers = classifier.answers([one.path for one in found.photos])
    margin = margins(answers.probabilities)
    assert (np.diff(margin) >= -1e-4).all()
    everything = margins(classifier.predict_proba(new))
    assert margin.max() <= np.sort(everything)[15]
    assert margin[0] == pytest.approx(everything.min(), abs=1e-3)
    for one, p, novelty in zip(found.photos, answers.probabilities, answers.novelty, strict=True):
        assert one.suggested == classifier.classes[int(p.argmax())]
        assert one.probability == pytest.approx(float(p.max()), abs=1e-3)
        assert one.novelty == pytest.approx(float(novelty), abs=1e-2)
        assert one.digest == digest_file(one.path)
        threshold = classifier.threshold
        assert one.why == ("novel" if threshold is not None and (one.novelty or 0.0) > threshold else "uncertain")


def test_a_stranger_of_which_the_run_is_uncertain_is_called_novel(run: Path, tmp_path: Path) -> None:
    dice = np.random.default_rng(0)
    Image.fromarray(dice.integers(0, 255, (96, 96, 3), np.uint8)).save(tmp_path / "noise.png")
    assert [one.why for one in next_photos(tmp_path, Classifier.load(run)).photos] == ["novel"]


def test_without_a_run_each_group_of_similar_photos_is_named(run: Path) -> None:
    found = next_photos(run.parent / "new", count=6)
    assert len(found.photos) == 6
    assert {int(name[:2]) % 2 for name in names(found)} == {0, 1}
    assert {(one.why, one.suggested, one.probability, one.novelty) for one in found.photos} == {
        ("typical", None, None, None)
    }


def test_photos_with_labels_and_copies_are_not_named(run: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    shutil.copytree(run.parent / "new", new)
    shutil.copy(run.parent / "photos" / "circle" / "003.jpg", new / "renamed.jpg")
    shutil.copy(new / "00.jpg", new / "again.jpg")
    with Image.open(new / "02.jpg") as image:
        image.resize((120, 90)).save(new / "smaller.png")
    own = tmp_path / "runs" / "run"
    shutil.copytree(run, own)
    labelled = Correction("label", digest_file(new / "05.jpg"), "", "circle", str(new / "05.jpg"))
    append(beside(own), labelled)
    for classifier, known in ((own, 2), (None, 0)):
        found = next_photos(new, classifier, 100)
        assert found.known == known
        assert found.copies == 2
        assert len(found.photos) == found.candidates == len({one.digest for one in found.photos})
        assert ("05.jpg" in names(found)) == (classifier is None)
        assert len({"00.jpg", "again.jpg"} & set(names(found))) == 1
        assert len({"02.jpg", "smaller.png"} & set(names(found))) == 1


def test_names_and_order_of_files_do_not_change_the_choice(run: Path, tmp_path: Path) -> None:
    for number, path in enumerate(sorted((run.parent / "new").iterdir())):
        shutil.copy(path, tmp_path / f"{99 - number}.jpg")
    for classifier in (run, None):
        first, second = (next_photos(place, classifier, 7) for place in (run.parent / "new", tmp_path))
        assert [one.digest for one in first.photos] == [one.digest for one in second.photos]


def test_photos_that_cannot_be_read_are_named(run: Path, tmp_path: Path) -> None:
    shutil.copy(run.parent / "new" / "00.jpg", tmp_path / "good.jpg")
    (tmp_path / "half.jpg").write_bytes((tmp_path / "good.jpg").read_bytes()[:400])
    (tmp_path / "text.jpg").write_text("text")
    found = next_photos([tmp_path, tmp_path / "none.jpg"], run)
    assert names(found) == ["good.jpg"]
    assert {one.path.name for one in found.problems} == {"half.jpg", "text.jpg", "none.jpg"}


def test_a_folder_of_the_photos_of_a_run_has_nothing_to_label(run: Path) -> None:
    found = next_photos(run.parent / "photos", run)
    assert (found.photos, found.known, found.candidates) == ((), 36, 0)


def test_what_cannot_be_done_is_told(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="count is 0; wanted at least 1"):
        next_photos(run.parent / "new", run, 0)
    with pytest.raises(DataError, match="in memory among the photos; wanted files"):
        next_photos([np.zeros((8, 8, 3), np.uint8)], run)
    (tmp_path / "text.jpg").write_text("text")
    with pytest.raises(
        DataError, match=r"no photo that can be read: .*text.jpg: not an image; wanted unlabelled photos"
    ):
        next_photos(tmp_path, run)
    with pytest.raises(DataError, match="no photo that can be read; wanted unlabelled photos"):
        next_photos([], None)
    found = next_photos(run.parent / "new" / "00.jpg", run)
    with pytest.raises(ConfigError, match=r"wanted a name that ends in .csv"):
        found.write_csv(tmp_path / "next.txt")
    (tmp_path / "next.csv").write_text("mine")
    with pytest.raises(ConfigError, match="is there already"):
        found.write_csv(tmp_path / "next.csv")


def test_the_command_prints_lines_a_document_and_a_table(run: Path, tmp_path: Path, regraft: Command) -> None:
    new = tmp_path / "new"
    shutil.copytree(run.parent / "new", new)
    (new / "text.jpg").write_text("text")
    done = regraft("next", run, new, "-n", 4, "--out", tmp_path / "next.csv")
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert f"left out {new / 'text.jpg'}: not an image" in done.stderr
    assert "4 of 16 photos; left out: 0 with labels, 0 copies" in done.stderr
    document = json.loads(regraft("next", run, new, "-n", 4, "--json").stdout)
    with (tmp_path / "next.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(lines) == len(document["photos"]) == len(rows) == 4
    for cells, photo, row in zip(lines, document["photos"], rows, strict=True):
        assert cells == [
            photo["path"],
            photo["suggested"],
            f"{photo['probability']:.4f}",
            f"{photo['novelty']:.4f}",
            photo["why"],
        ]
        assert (row["path"], row["label"], row["why"]) == (photo["path"], photo["suggested"], photo["why"])
    typical = regraft("next", new, "-n", 2, "-q")
    assert [line.split("\t")[1:] for line in typical.stdout.splitlines()] == [["", "", "", "typical"]] * 2
    assert Dataset.open(tmp_path / "next.csv").counts()  # once the labels are right, it is a source of photos


def test_a_run_without_photos_is_told_in_one_line(run: Path, tmp_path: Path, regraft: Command) -> None:
    alone = regraft("next", run, code=1)
    assert alone.stderr.strip().endswith("is a run; type the unlabelled photos after it: regraft next RUN PHOTOS")
    assert "--count is 0; wanted at least 1" in regraft("next", run, run.parent / "new", "-n", 0, code=1).stderr
    taken = tmp_path / "next.csv"
    taken.write_text("mine")
    assert "is there already" in regraft("next", run, run.parent / "new", "--out", taken, code=1).stderr
