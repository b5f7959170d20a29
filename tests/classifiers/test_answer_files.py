"""Files of answers: whole or not there, and the same to the byte whenever a command was killed."""

from __future__ import annotations

import csv
import json
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regraft.classifiers import answer_files
from regraft.classifiers.answer_files import Kept, digest_of, keep_answers, require_free
from regraft.classifiers.prediction import CHUNK
from regraft.classifiers.predictor import Answers
from regraft.errors import ConfigError
from regraft.photos.images import Problem
from regraft.photos.sources.base import Entry


class ByPlace:
    """A double whose answers depend on the photo and on how many photos it is asked about at once.

    So do those of a real one, in their last bit: BLAS adds up in another order.
    """

    classes = ("a", "b", "c")
    temperature = 1.0
    threshold: float | None = 1.0

    def answers(self, images: Any, on_problem: Callable[[Problem], None] | None = None) -> Answers:
        rows = np.zeros((len(images), 3), np.float32)
        for i, photo in enumerate(images):
            number = int(photo.path.stem.rpartition("-")[2])
            rows[i] = number % 7 + 1, 3, len(images) / CHUNK
            if number % 10 == 9:
                assert on_problem is not None
                on_problem(Problem(photo.path, "damaged"))
                rows[i] = np.nan
        novelty = np.array([2.0 if "strange" in photo.path.name else 0.0 for photo in images], np.float32)
        return Answers(rows / rows.sum(axis=1, keepdims=True), novelty)

    def predict_proba(self, images: Any, on_problem: Callable[[Problem], None] | None = None) -> np.ndarray:
        return self.answers(images, on_problem).probabilities


def photos(count: int = 200, name: str = "photo") -> Iterator[Entry]:
    return (Entry(Path(f"{name}-{i}.jpg"), "") for i in range(count))


def keep(out: Path, found: Iterator[Entry] | None = None, run: str = "run", top: int = 1) -> Kept:
    return keep_answers(ByPlace(), photos() if found is None else found, out, run, top, lambda *_, **__: None)


def stopped_after(count: int, out: Path, total: int = 200) -> Path:
    """Return the log of a command that was stopped before photo number ``count``."""

    def until() -> Iterator[Entry]:
        for number, photo in enumerate(photos(total)):
            if number == count:
                raise KeyboardInterrupt
            yield photo

    with pytest.raises(KeyboardInterrupt):
        keep(out, until())
    assert not out.exists()
    return out.with_name(f"{out.name}.partial")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_log_that_is_cut_anywhere_ends_in_the_same_file(suffix: str, tmp_path: Path) -> None:
    whole, out = tmp_path / f"whole{suffix}", tmp_path / f"out{suffix}"
    assert keep(whole).before == 0
    log = stopped_after(190, out)
    text = log.read_bytes()
    starts = [i + 1 for i, byte in enumerate(text) if byte == ord("\n")]
    assert len(starts) == 3  # what it is of, and two chunks
    cuts = {0, 1, len(text), *(start + step for start in starts for step in (-2, -1, 0, 1, 2))}
    cuts |= set(range(0, len(text), 997))
    for cut in sorted(cut for cut in cuts if cut <= len(text)):
        out.unlink(missing_ok=True)
        log.write_bytes(text[:cut])
        kept = keep(out)
        assert kept.before == CHUNK * sum(start <= cut for start in starts[1:])
        assert kept.photos == 200
        assert out.read_bytes() == whole.read_bytes()
        assert not log.exists()


def test_what_a_power_cut_leaves_is_not_read(tmp_path: Path) -> None:
    whole, out = tmp_path / "whole.csv", tmp_path / "out.csv"
    keep(whole)
    log = stopped_after(190, out)
    text = log.read_bytes()
    log.write_bytes(text[:-50] + bytes(50))
    assert keep(out).before == CHUNK
    log.write_bytes(text[: text.index(b"\n") + 1] + b"7\n" + text)
    out.unlink()
    assert keep(out).before == 0
    assert out.read_bytes() == whole.read_bytes()


def test_a_kill_between_the_file_and_its_log_changes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    keep(out)
    text = out.read_bytes()
    other = tmp_path / "other.csv"
    log = stopped_after(200, other, total=201)
    log.rename(tmp_path / "out.csv.partial")
    assert keep(out).photos == 200
    assert out.read_bytes() == text
    assert not (tmp_path / "out.csv.partial").exists()


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"

    def found() -> Iterator[Entry]:
        yield from photos()
        out.write_text("somebody's")

    with pytest.raises(ConfigError, match="was written by another program meanwhile, and is not replaced"):
        keep(out, found())
    assert out.read_text() == "somebody's"
    assert (tmp_path / "out.csv.partial").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda out: keep(out, run="other"), "was begun with another run; delete it"),
        (lambda out: keep(out, top=2), "was begun with another top; delete it"),
        (lambda out: keep(out, photos(name="other")), r"was begun with other photos \(photo-0.jpg was number 1\)"),
        (lambda out: keep(out, photos(70)), r"was begun with other photos \(photo-70.jpg was number 71\)"),
    ],
)
def test_answers_of_other_commands_are_not_mixed(change: Callable[[Path], Kept], message: str, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    log = stopped_after(190, out)
    before = log.read_bytes()
    with pytest.raises(ConfigError, match=message):
        change(out)
    assert log.read_bytes() == before
    assert not out.exists()
    assert keep(out).before == 2 * CHUNK


@pytest.mark.parametrize("text", ["not ours", "{}\n", "[]\n", '{"regraft predict": 99}\n', "\n", "\0" * 100])
def test_a_log_that_is_not_ours_is_left_alone(text: str, tmp_path: Path) -> None:
    log = tmp_path / "out.csv.partial"
    log.write_text(text)
    with pytest.raises(ConfigError, match="delete it, or type another out"):
        keep(tmp_path / "out.csv")
    assert log.read_text() == text


def test_two_commands_do_not_write_one_file(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"

    def found() -> Iterator[Entry]:
        with pytest.raises(ConfigError, match="another regraft predict is writing"):
            keep(out)
        yield from photos()

    assert keep(out, found()).photos == 200


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("out", r"has no known suffix; wanted a file that ends in .csv, .jsonl, .parquet"),
        ("out.txt", "has no known suffix"),
        ("there.csv", "is there already; delete it"),
        ("folder.csv", "is a folder; wanted a file"),
        (f"{'x' * 300}.csv", "cannot be written: file name too long"),
    ],
)
def test_where_answers_cannot_go_is_told_first(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "there.csv").write_text("somebody's")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ConfigError, match=message):
        require_free(tmp_path / name)
    assert (tmp_path / "there.csv").read_text() == "somebody's"


def test_a_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        keep(tmp_path / "file" / "out.csv")


def test_the_three_formats_hold_the_same(tmp_path: Path) -> None:
    odd = b"odd-\xff-1.jpg".decode("utf-8", "surrogateescape")
    names = ["photo-0.jpg", "strange-1.jpg", "bad-9.jpg", 'a,"b\n-2.jpg', odd, "강아지-3.jpg"]
    for suffix in (".csv", ".jsonl", ".parquet"):
        found = (Entry(Path(name), "") for name in names)
        kept = keep(tmp_path / f"out{suffix}", found, top=2)
        assert (kept.photos, kept.rejected, kept.unreadable) == (6, 1, 1)
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "label", "probability", "rejected", "novelty", "error", "label2", "probability2"]
    assert [row["path"] for row in rows] == [*names[:4], "odd-\\udcff-1.jpg", "강아지-3.jpg"]
    assert [row["rejected"] for row in rows] == ["false", "true", "", "false", "false", "false"]
    assert rows[2] == dict.fromkeys(rows[2], "") | {"path": "bad-9.jpg", "error": "damaged"}
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    assert [line["path"] for line in lines] == names
    assert lines[2] == {"path": "bad-9.jpg", "error": "damaged"}
    from pyarrow import parquet

    table = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    for row, cells, line in zip(table, rows, lines, strict=True):
        assert row["path"] == cells["path"]
        assert row["error"] == (cells["error"] or None)
        if row["error"] is None:
            best, second = line["top"]
            assert (
                (row["label"], row["label2"]) == (best["label"], second["label"]) == (cells["label"], cells["label2"])
            )
            assert row["probability"] == best["probability"]
            assert float(cells["probability"]) == pytest.approx(row["probability"], abs=1e-6)
            assert row["rejected"] == line["none_of_these"] == (cells["rejected"] == "true")
            assert row["novelty"] == pytest.approx(line["novelty"])
            assert float(cells["novelty"]) == pytest.approx(row["novelty"], abs=1e-6)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_no_photo_gives_an_empty_file(suffix: str, tmp_path: Path) -> None:
    assert keep(tmp_path / f"out{suffix}", photos(0)).photos == 0
    assert (tmp_path / f"out{suffix}").exists()


def test_more_classes_than_there_are_leave_no_empty_column(tmp_path: Path) -> None:
    keep(tmp_path / "out.csv", photos(5), top=10**9)
    assert (tmp_path / "out.csv").read_text().splitlines()[0].endswith("label3,probability3")


def test_memory_does_not_grow_with_the_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_files, "_ROWS_PER_GROUP", 1000)

    def peak(count: int) -> int:
        tracemalloc.start()
        try:
            keep(tmp_path / f"{count}.csv", photos(count))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(60_000) < 8_000_000  # the answers take 25 MB; Python's own table of names grows to 4 MB and shrinks


def test_the_digest_is_of_what_answers(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "manifest.json").write_text("{}")
    out = tmp_path / "out.csv"
    first = digest_of(run, out)
    (run / "notes.txt").write_text("mine")
    assert digest_of(run, out) == first
    (run / "manifest.json").write_text('{"schema": 2}')
    second = digest_of(run, out)
    assert second != first
    (run / "head.safetensors").write_text("another head, whose manifest is the same where there was no val")
    assert digest_of(run, out) != second
    exported = tmp_path / "exported"
    exported.mkdir()
    (exported / "saved_model.pb").write_text("graph")
    before = digest_of(exported, exported / "out.csv")
    (exported / "out.csv.partial").write_text("begun")
    assert digest_of(exported, exported / "out.csv") == before
    model = tmp_path / "model.xml"
    model.write_text("graph")
    alone = digest_of(model, out)
    (tmp_path / "model.bin").write_text("weights")
    assert digest_of(model, out) != alone
