from __future__ import annotations

import csv
import html
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import regraft
from regraft import ConfigError, DataError, Dataset, report, train
from regraft.classifiers.classifier import Classifier
from regraft.features.neighbours import last_stage
from regraft.reporting import report_building
from regraft.reporting.page_data import chosen_photos
from regraft.reporting.pictures import MOST_BYTES, pictures
from regraft.reporting.projection import project
from regraft.reporting.report_facts import gather
from regraft.reporting.verdict import WORDS, Sentence, judge
from tests.conftest import Command, draw_folder
from tests.reporting.conftest import data_of

QUICK = {"effort": "quick"}
TABS = ("overview", "mistakes", "classes", "labels", "copies", "confidence", "map", "run")


@pytest.fixture
def mixed(photos: Path, tmp_path: Path) -> Path:
    """The drawn photos, of which three have the label of another class, and one is there twice."""
    folder = tmp_path / "mixed"
    shutil.copytree(photos, folder)
    for name in ("000.jpg", "001.jpg", "002.jpg"):
        (folder / "circle" / name).rename(folder / "Square" / f"round {name}")
    shutil.copy(folder / "줄무늬" / "000.jpg", folder / "줄무늬" / "copy.jpg")
    return folder


def test_a_report_of_folds_counts_what_the_run_counted(mixed: Path, tmp_path: Path, cache: Path) -> None:
    classifier = train(mixed, tmp_path / "run", QUICK)
    found = report(tmp_path / "run")
    assert found.report == str(tmp_path / "run" / "report.html")
    assert (found.photos, found.shown, found.measured, found.measured_on) == (61, 61, 61, "folds")
    assert found.bytes == (tmp_path / "run" / "report.html").stat().st_size < 1_000_000
    data = data_of(tmp_path / "run" / "report.html")
    metrics = classifier.metrics["folds"]
    assert data["evaluation"]["confusion"] == [list(row) for row in metrics["confusion"]]
    assert data["evaluation"]["interval"] == pytest.approx(metrics["interval"])
    assert found.mistakes == len(metrics["mistakes"]) >= 3
    columns = data["photos"]
    counted = np.zeros((3, 3), int)
    np.add.at(counted, (columns["label"], columns["answer"]), 1)
    assert counted.tolist() == data["evaluation"]["confusion"]
    wrong = {Path(m["path"]).name for m in metrics["mistakes"]}
    assert {Path(columns["path"][i]).name for i in range(found.mistakes)} == wrong  # mistakes come first
    flipped = [i for i in data["suspects"] if Path(columns["path"][i]).name.startswith("round")]
    assert len(flipped) >= 2
    assert {columns["suggested"][i] for i in flipped} == {data["classes"].index("circle")}
    copies = [{columns["path"][i] for i in group["photos"]} for group in data["copies"] if group["same"]]
    assert len(copies) == 1
    assert copies[0] >= {"줄무늬/000.jpg", "줄무늬/copy.jpg"}
    assert "Labels that look wrong" in " ".join(found.limits)


def test_the_nearest_photos_are_of_other_folds_and_exact(mixed: Path, tmp_path: Path, cache: Path) -> None:
    classifier = train(mixed, tmp_path / "run", QUICK)
    facts = gather(classifier)
    found, similarities = facts.nearest(range(61))
    rows = last_stage(facts.features.x, facts.features.stages).astype(np.float64)
    digests = facts.features.digests
    for i, (near, similar) in enumerate(zip(found, similarities, strict=True)):
        others = [j for j in range(61) if facts.fold[j] != facts.fold[i] and digests[j] != digests[i]]
        best = sorted(others, key=lambda j: (-rows[i] @ rows[j], j))[:3]
        assert near.tolist() == best
        np.testing.assert_allclose(similar, [rows[i] @ rows[j] for j in best], atol=1e-6)


def test_a_run_with_sides_is_measured_on_test(photos: Path, tmp_path: Path, cache: Path) -> None:
    classifier = train(photos, tmp_path / "run", {**QUICK, "folds": 0})
    found = report(classifier, out=tmp_path / "sides.html")
    counts = classifier.metrics["counts"]
    assert (found.measured_on, found.measured) == ("test", counts["test"])
    data = data_of(tmp_path / "sides.html")
    assert data["evaluation"]["confusion"] == [list(row) for row in classifier.metrics["test"]["confusion"]]
    assert sum(data["photos"]["measured"]) == counts["test"]
    assert sum(data["counts"]["train"]) == counts["train"]
    train_side = data["sides"].index("train")
    assert all(data["photos"]["side"][j] == train_side for row in data["photos"]["near"] for j in row)


def test_other_photos_can_be_measured_and_photos_may_move(photos: Path, tmp_path: Path, cache: Path) -> None:
    train(photos, tmp_path / "run", QUICK)
    moved = tmp_path / "moved"
    shutil.copytree(photos, moved)
    (moved / "circle" / "000.jpg").unlink()
    found = report(tmp_path / "run", moved, tmp_path / "moved.html")
    assert (found.measured_on, found.measured, found.missing) == ("folds", 59, 1)
    other = draw_folder(tmp_path / "other", {"circle": 4, "Square": 4}, seed=77)
    found = report(tmp_path / "run", other, tmp_path / "other.html")
    assert (found.measured_on, found.measured, found.missing) == ("photos", 8, 0)
    shutil.copy(photos / "circle" / "000.jpg", other / "circle" / "known.jpg")
    found = report(tmp_path / "run", other, tmp_path / "other.html")
    assert (found.photos, found.measured_on, found.measured, found.missing) == (9, "photos", 8, 0)
    draw_folder(tmp_path / "strange", {"circle": 2, "zebra": 2})
    with pytest.raises(DataError, match="zebra"):
        report(tmp_path / "run", tmp_path / "strange", tmp_path / "strange.html")
    assert not (tmp_path / "strange.html").exists()


def test_the_table_is_read_by_pyarrow_and_agrees_with_the_page(mixed: Path, tmp_path: Path, cache: Path) -> None:
    from pyarrow import parquet

    train(mixed, tmp_path / "run", QUICK)
    found = report(tmp_path / "run")
    table = parquet.read_table(found.table)
    rows = table.to_pylist()
    assert len(rows) == 61
    assert {Path(row["path"]).exists() for row in rows} == {True}
    assert sum(row["label"] != row["answer"] for row in rows) == found.mistakes
    assert all(len(row["neighbours"]) == 3 and 0 <= row["x"] <= 1 and 0 <= row["y"] <= 1 for row in rows)
    worst = sorted(rows, key=lambda row: -row["suspect_score"])[:3]
    flipped = [row for row in worst if Path(row["path"]).name.startswith("round")]
    assert len(flipped) >= 2
    assert {row["suggested_label"] for row in flipped} == {"circle"}
    assert table.schema.metadata[b"classes"].decode().split("\n") == ["Square", "circle", "줄무늬"]


def test_names_are_text_and_nothing_else(photos: Path, tmp_path: Path, cache: Path) -> None:
    names = ["<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "שלום </b> 안녕 " + "x" * 180]
    with (tmp_path / "photos.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label"))
        for folder, name in zip(sorted(p for p in photos.iterdir()), names, strict=True):
            writer.writerows((path, name) for path in sorted(folder.iterdir()))
    train(tmp_path / "photos.csv", tmp_path / "run", QUICK)
    page = tmp_path / "run" / "report.html"
    report(tmp_path / "run")
    text = page.read_text(encoding="utf-8")
    assert sorted(data_of(page)["classes"]) == sorted(names)
    assert "<script>alert" not in text
    assert "<img" not in text
    assert text.count("<script") == 3
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1])  # type: ignore[index]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_every_sentence_is_in_every_language() -> None:
    words = json.loads(WORDS.read_text(encoding="utf-8"))
    assert list(words) == ["en", "ko"]
    assert words["en"].keys() == words["ko"].keys()
    for key, text in words["en"].items():
        assert set(re.findall(r"\{(\w+)\}", text)) == set(re.findall(r"\{(\w+)\}", words["ko"][key])), key
        assert words["ko"][key].strip()
    folder = WORDS.parent  # type: ignore[attr-defined]
    script = "".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.js")))
    used = set(re.findall(r'(?:say|format|line|figure)\("(\w+)"', script))
    assert used
    assert {key for key in used if not key.endswith("_")} <= words["en"].keys()
    for prefix, names in (("tab_", TABS), ("side_", ("train", "val", "test", "new")), ("map_", ("exact", "occlusion"))):
        assert {prefix + name for name in names} <= words["en"].keys()


def test_a_sentence_in_words() -> None:
    sentence = Sentence("next_finetune", {"command": {"code": "regraft finetune runs/x"}})
    assert sentence.text() == "Fine-tune the network: regraft finetune runs/x"
    assert Sentence("limit_small", {"labels": ["a", "b"], "count": 2, "least": 20}).text("ko").endswith("a, b.")


def test_the_verdict_names_what_limits(mixed: Path, tmp_path: Path, cache: Path) -> None:
    classifier = train(mixed, tmp_path / "run", QUICK)
    facts = gather(classifier)
    verdict = judge(facts, "runs/x")
    low, high = facts.evaluation.interval or (0, 0)
    assert verdict.verdict.values["low"] == int(100 * low)
    assert verdict.verdict.values["high"] >= 100 * high - 1
    assert {s.key for s in verdict.limits} >= {"limit_suspects", "limit_small", "limit_few"}
    assert verdict.following[-1].text() == "Try it on new photos: regraft predict runs/x PHOTOS"


def test_more_photos_than_a_page_holds_are_sampled(
    mixed: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_building, "chosen_photos", lambda facts, first: chosen_photos(facts, first, 10))
    train(mixed, tmp_path / "run", QUICK)
    found = report(tmp_path / "run")
    assert (found.photos, found.shown, found.measured) == (61, 10, 61)
    data = data_of(tmp_path / "run" / "report.html")
    assert data["total"] == 61
    assert sum(map(sum, data["evaluation"]["confusion"])) == 61
    wrong = [a != b for a, b in zip(data["photos"]["label"], data["photos"]["answer"], strict=True)]
    assert sum(wrong) == min(10, found.mistakes)


def test_pictures_keep_to_their_budget(photos: Path) -> None:
    records = Dataset.open(photos).records
    transform = regraft.load_backbone("efficientnet_lite0").transform
    found = pictures(records, transform, 10**9)
    assert len(found.thumbnails) == len(found.tiles) == 60
    assert max(map(len, found.thumbnails.values())) <= MOST_BYTES
    assert found.sprite
    assert len(found.sprite) <= 800 * 60
    half = found.within(sum(map(len, found.thumbnails.values())) // 2)
    assert list(half.thumbnails) == list(range(len(half.thumbnails)))
    assert 20 < len(half.thumbnails) < 40
    assert not pictures(records, transform, 0).thumbnails


@pytest.mark.parametrize("count", [1, 2, 5, 60])
def test_the_map_is_the_same_each_time_and_in_its_square(count: int) -> None:
    rows = np.random.default_rng(0).normal(size=(count, 20)).astype(np.float32)
    points, method = project(rows)
    again, _ = project(rows)
    np.testing.assert_array_equal(points, again)
    assert method in ("PCA", "t-SNE")
    assert points.shape == (count, 2)
    assert np.isfinite(points).all()
    assert points.min() >= -1e-6
    assert points.max() <= 1 + 1e-6


def test_equal_photos_have_a_map_too() -> None:
    pytest.importorskip("openTSNE", reason="needs the extra report")
    points, method = project(np.ones((50, 8), np.float32))
    assert method == "PCA"
    assert np.isfinite(points).all()


@pytest.mark.parametrize("count", [12, 14, 20, 30, 50])
def test_photos_that_differ_are_not_drawn_on_one_point(count: int) -> None:
    rows = np.random.default_rng(count).normal(1.0, 0.3, (count, 64)).astype(np.float32)
    points, _ = project(rows / np.linalg.norm(rows, axis=1, keepdims=True))
    assert len(np.unique(points.round(3), axis=0)) > count / 2


def test_an_older_report_is_replaced_and_another_file_is_not(photos: Path, tmp_path: Path, regraft: Command) -> None:
    regraft("train", photos, "--out", "run", "--effort", "quick")
    printed = regraft("report", "run", "--out", "seen.html").stdout
    assert "of 100 new photos will be right" in printed
    assert "report: seen.html" in printed
    document = json.loads(regraft("report", "run", "--out", "seen.html", "--json").stdout)
    assert document["report"] == "seen.html"
    assert document["measured"] == 60
    (tmp_path / "mine.html").write_text("mine")
    refused = regraft("report", "run", "--out", "mine.html", code=1)
    assert "is not a report" in refused.stderr
    assert (tmp_path / "mine.html").read_text() == "mine"
    (tmp_path / "own.parquet").write_text("mine")
    assert "is not the table of a report" in regraft("report", "run", "--out", "own.html", code=1).stderr
    assert (tmp_path / "own.parquet").read_text() == "mine"
    assert "does not end in .html" in regraft("report", "run", "--out", "x.parquet", code=1).stderr
    assert "is not a run folder" in regraft("report", photos, code=1).stderr


def test_train_says_how_to_look(photos: Path, regraft: Command) -> None:
    assert "look at it: regraft report run" in regraft("train", photos, "--out", "run", "--effort", "quick").stdout


def test_a_classifier_without_a_run_has_no_place_for_a_report(photos: Path, tmp_path: Path, cache: Path) -> None:
    classifier = train(photos, tmp_path / "run", QUICK)
    bare = Classifier(classifier.backbone, classifier.head, classifier.classes, classifier.config)
    with pytest.raises(regraft.RunError, match="no run folder"):
        report(bare)
    with pytest.raises(ConfigError):
        report(tmp_path / "run", out=tmp_path)


def test_two_runs_of_the_same_photos(mixed: Path, tmp_path: Path, cache: Path) -> None:
    first = train(mixed, tmp_path / "first", {**QUICK, "head": "prototype"})
    second = train(mixed, tmp_path / "second", QUICK)
    found = report(second, before=first)
    assert found.report == str(tmp_path / "second" / "against-first.html")
    old, new = (run.metrics["folds"] for run in (first, second))
    assert found.difference
    assert found.difference.n == 61
    assert found.difference.difference == pytest.approx(new["accuracy"] - old["accuracy"])
    data = data_of(Path(found.report))
    wrong = [{Path(m["path"]).name for m in side["mistakes"]} for side in (old, new)]
    names = [Path(path).name for path in data["photos"]["path"]]
    change = data["comparison"]
    assert {names[i] for i in change["gained"]} == wrong[0] - wrong[1]
    assert {names[i] for i in change["lost"]} == wrong[1] - wrong[0]
    assert sum(row["gained"] for row in change["per_class"]) == found.difference.gained == len(change["gained"])
    assert change["accuracy"] == pytest.approx([old["accuracy"], new["accuracy"]])
    assert all(change["earlier"][str(i)] != data["classes"][data["photos"]["label"][i]] for i in change["gained"])
    assert "first" in found.verdict


def test_runs_without_a_photo_in_common_cannot_be_compared(photos: Path, tmp_path: Path, cache: Path) -> None:
    for name, held in (("one", 0), ("two", 1)):  # each measures what the other was trained on
        with (tmp_path / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("path", "label", "split"))
            for i, path in enumerate(sorted(photos.rglob("*.jpg"))):
                writer.writerow((path, path.parent.name, "test" if i % 2 == held else "train"))
        train(tmp_path / f"{name}.csv", tmp_path / name, QUICK)
    with pytest.raises(DataError, match="measured in both"):
        report(tmp_path / "two", before=tmp_path / "one")


def test_a_run_says_how_it_learned(photos: Path, tmp_path: Path, cache: Path) -> None:
    found = report(train(photos, tmp_path / "run", {**QUICK, "folds": 0}))
    curves = data_of(Path(found.report))["curves"]
    assert {curve["kind"] for curve in curves} == {"loss", "accuracy"}
    assert all(curve["step"] == "step" and curve["table"]["train"] and curve["table"]["val"] for curve in curves)


def test_plots_stand_beside_the_page(photos: Path, tmp_path: Path, cache: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra plot")
    found = report(train(photos, tmp_path / "run", QUICK), out=tmp_path / "seen.html")
    assert {Path(path).name for path in found.figures} == {"seen-map.png", "seen-confusion.png", "seen-reliability.png"}
    assert all(Path(path).read_bytes().startswith(b"\x89PNG") for path in found.figures)
    (tmp_path / "other-map.png").write_bytes(b"mine")
    with pytest.raises(ConfigError, match="is not a plot of ours"):
        report(tmp_path / "run", out=tmp_path / "other.html")
    assert not (tmp_path / "other.html").exists()
