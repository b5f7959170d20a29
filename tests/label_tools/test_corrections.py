"""The table of corrections: what a person said is on the disk, whatever is killed; and what it does to a data set."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regraft import Dataset
from regraft.errors import ConfigError, DataError
from regraft.foundation import tables
from regraft.foundation.files import digest_file
from regraft.label_tools import correction_table
from regraft.label_tools.correction_table import append, read_corrections, undo
from regraft.label_tools.corrections import COLUMNS, Correction, Corrections, beside
from regraft.photos.sources.base import label_of
from tests.conftest import draw_folder

DIGEST = "ab" * 32
LABELS = st.text(st.characters(exclude_categories=("Cc", "Zl", "Zp", "Cs")), min_size=1, max_size=12).map(
    lambda text: label_of(text) or "x"
)
PATHS = st.text(max_size=20).map(lambda text: "/" + text.replace("\0", "\n"))
DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)
ROWS = st.lists(
    st.builds(Correction, st.just("label"), DIGESTS, LABELS, LABELS, PATHS)
    | st.builds(Correction, st.just("exclude"), DIGESTS, LABELS, st.just(""), PATHS)
    | st.builds(Correction, st.just("confirm"), DIGESTS, LABELS, st.just("") | LABELS, PATHS),
    max_size=8,
)


@given(rows=ROWS, cut=st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_whatever_is_left_of_the_table_all_whole_rows_are_read(
    rows: list[Correction], cut: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    table = tmp_path_factory.mktemp("table") / "corrections.csv"
    ends = [0]
    for row in rows:
        append(table, row)
        ends.append(table.stat().st_size)
    whole = table.read_bytes() if rows else b""
    assert read_corrections(table) == Corrections(tuple(rows))
    kept = round(cut * len(whole))
    table.write_bytes(whole[:kept])
    left = [row for row, end in zip(rows, ends[1:], strict=True) if end <= kept]
    assert read_corrections(table) == Corrections(tuple(left))
    more = Correction("exclude", DIGEST, "a")
    append(table, more)  # cuts off the rest of a line
    assert read_corrections(table) == Corrections((*left, more))


@given(st.lists(st.integers(0, 11), max_size=12))
@settings(max_examples=100, deadline=None)
def test_an_undo_takes_back_what_it_names_and_an_undo_of_it_puts_that_back(targets: list[int]) -> None:
    """Held against a second way to say it: a row is undone if an undo of it is not undone."""
    rows = [Correction("label", DIGEST, "a", "b")]
    for target in targets:
        rows.append(Correction("undo", DIGEST, "a", rows[target % len(rows)].id))
    by_target: dict[str, list[Correction]] = {}
    for row in rows[1:]:
        by_target.setdefault(row.label, []).append(row)

    def is_undone(row: Correction) -> bool:
        return any(not is_undone(other) for other in by_target.get(row.id, []))

    assert bool(Corrections(tuple(rows)).in_force) is not is_undone(rows[0])


def test_the_last_row_that_is_not_undone_wins(tmp_path: Path) -> None:
    table = tmp_path / "runs" / "corrections.csv"
    first, second = Correction("label", DIGEST, "a", "b"), Correction("label", DIGEST, "a", "c")
    for row in (first, second, Correction("confirm", DIGEST, "z")):
        append(table, row)
    found = read_corrections(table)
    assert found.in_force[DIGEST, "a"] == second
    assert found.confirmed == {(DIGEST, "z")}
    back = undo(table, second.id)
    assert read_corrections(table).in_force[DIGEST, "a"] == first
    undo(table, back.id)
    assert read_corrections(table).in_force[DIGEST, "a"] == second
    with pytest.raises(DataError, match="no row"):
        undo(table, "0" * 32)


def test_rows_of_two_tables_stand_in_the_order_of_the_later_one() -> None:
    first, second, own = (Correction("label", DIGEST, "a", label) for label in "bcd")
    both = Corrections((own, second)).followed_by(Corrections((first, second)))
    assert both.rows == (own, first, second)
    assert both.in_force[DIGEST, "a"] == second


_APPENDING = """
import sys
from pathlib import Path
from regraft.label_tools.correction_table import append
from regraft.label_tools.corrections import Correction
table, count = Path(sys.argv[1]), int(sys.argv[2])
for number in range(count):
    row = Correction("label", f"{number:064x}", "a", "b" * (number % 50 + 1))
    append(table, row)
    print(row.id, flush=True)
"""


def _appending(table: Path, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _APPENDING, str(table), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8")


def test_two_processes_and_two_threads_at_once_lose_nothing(tmp_path: Path) -> None:
    table = tmp_path / "corrections.csv"
    processes = [_appending(table, 60) for _ in range(2)]
    mine = [Correction("exclude", f"{number:064x}", "a") for number in range(60)]

    def work(rows: list[Correction]) -> None:
        for row in rows:
            append(table, row)

    workers = [threading.Thread(target=work, args=(mine[i::2],)) for i in range(2)]
    for thread in workers:
        thread.start()
    told = [process.communicate()[0].split() for process in processes]
    for thread in workers:
        thread.join()
    assert [process.returncode for process in processes] == [0, 0]
    found = read_corrections(table)
    assert not found.problems
    assert {row.id for row in found.rows} == {*told[0], *told[1], *(row.id for row in mine)}
    assert len(found.rows) == 180


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is of Unix")
@pytest.mark.parametrize("after", [1, 7, 40])
def test_a_kill_loses_no_confirmed_row(after: int, tmp_path: Path) -> None:
    table = tmp_path / "corrections.csv"
    process = _appending(table, 100_000)
    assert process.stdout is not None
    told = [process.stdout.readline().strip() for _ in range(after)]
    os.kill(process.pid, signal.SIGKILL)
    told += process.stdout.read().split()
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    found = read_corrections(table)
    ids = [row.id for row in found.rows]
    assert ids[: len(told)] == [name for name in told if len(name) == 32]
    assert len(ids) <= len(told) + 1  # one may have reached the disk and not yet been told
    more = Correction("exclude", DIGEST, "a")
    append(table, more)
    assert read_corrections(table) == Corrections((*found.rows, more))


def test_a_full_disk_leaves_the_rows_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, row = tmp_path / "corrections.csv", Correction("exclude", DIGEST, "a")
    append(table, row)
    before, real = table.read_bytes(), os.write
    monkeypatch.setattr(os, "write", lambda number, data: real(number, data[:20]))
    with pytest.raises(OSError, match=r"[Nn]o space"):
        append(table, Correction("exclude", DIGEST, "b"))
    assert table.read_bytes() == before


def test_a_spreadsheet_may_change_the_ends_of_lines(tmp_path: Path) -> None:
    table, row = tmp_path / "corrections.csv", Correction("label", DIGEST, "줄무늬", 'a, "b"', "/x\ny\\z\udcff.jpg")
    append(table, row)
    assert table.read_bytes().count(b"\n") == 2
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes().replace(b"\n", b"\r\n"))
    assert read_corrections(table).rows == (row,)
    append(table, replace(row, id="1" * 32))
    assert len(read_corrections(table).rows) == 2


HEADER = ",".join(COLUMNS).encode() + b"\n"
GOOD = Correction("exclude", DIGEST, "a", id="1" * 32, time="2026-11-27T10:00:00.000+00:00").to_line()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (GOOD.replace(b"exclude", b"delete"), "action 'delete'"),
        (GOOD.replace(b"ab", b"xy", 1), "digest"),
        (GOOD.replace(b"ab" * 32, b""), "digest"),
        (GOOD.replace(b",a,", b",a\x00b,"), "label"),
        (GOOD.replace(b",a,", b",a\\u000ab,"), "label"),
        (GOOD.replace(b",a,", b"," + b"a" * 5000 + b","), "more than 4,000"),
        (GOOD.replace(b",a,", b",\xff,"), "damaged"),
        (GOOD.replace(b"exclude", b"label"), "no label"),
        (GOOD.replace(b"exclude", b"undo"), "row to undo"),
        (GOOD.replace(b"1" * 32, b"1"), "id"),
        (GOOD.replace(b"2026", b"soon"), "time"),
        (GOOD.replace(b",,\n", b",/x\\u0000,\n"), "path that no file"),
        (b"1,2,3\n", "3 cells"),
        (b"\n", "cells"),
        (bytes(300) + b"\n", "cells"),
        (GOOD, "earlier row"),
    ],
)
def test_a_row_that_is_none_is_left_out_by_its_line(line: bytes, reason: str, tmp_path: Path) -> None:
    table = tmp_path / "corrections.csv"
    table.write_bytes(HEADER + GOOD + line + GOOD.replace(b"1" * 32, b"2" * 32))
    found = read_corrections(table)
    assert [row.id[0] for row in found.rows] == ["1", "2"]
    (problem,) = found.problems
    assert problem.path == table
    assert problem.reason.startswith("line 3 ")
    assert reason in problem.reason
    assert "\n" not in problem.reason


def test_a_file_that_is_no_table_of_corrections_is_refused_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, row = tmp_path / "corrections.csv", Correction("exclude", DIGEST, "a")
    for content in (b"path,label\na.jpg,a\n", bytes(100), b"id,time\n", os.urandom(5000), b"x" * 2**21):
        table.write_bytes(content)
        with pytest.raises(DataError, match=r"no table of corrections|wanted a table of corrections"):
            read_corrections(table)
        with pytest.raises(DataError, match=r"no table of corrections"):
            append(table, row)
        assert table.read_bytes() == content
    table.write_bytes(HEADER + b"x" * 2**21 + b"\n")
    with pytest.raises(DataError, match="a line of more than"):
        read_corrections(table)
    table.write_bytes(HEADER)
    with table.open("rb+") as file:
        file.truncate(tables.MAX_BYTES + 1)
    with pytest.raises(DataError, match="more than the 512"):
        read_corrections(table)
    monkeypatch.setattr(correction_table, "MAX_ROWS", 3)
    table.write_bytes(HEADER + b"x\n" * 4)
    with pytest.raises(DataError, match="more than 3 rows"):
        read_corrections(table)
    table.unlink()
    table.mkdir()
    with pytest.raises(DataError, match="no regular file"):
        read_corrections(table)


@pytest.mark.parametrize(
    "row",
    [
        Correction("label", DIGEST, "a", "two\nlines"),
        Correction("label", "..", "a", "b"),
        Correction("label", DIGEST, "", "b", "not/absolute.jpg"),
        Correction("confirm", DIGEST, "", "", "/x.jpg"),
        Correction("sudo", DIGEST, "a"),  # type: ignore[arg-type]
    ],
)
def test_a_row_with_a_flaw_is_not_written(row: Correction, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the correction "):
        append(tmp_path / "corrections.csv", row)
    assert not list(tmp_path.iterdir())


def test_there_are_no_corrections_without_a_table(tmp_path: Path) -> None:
    assert not read_corrections(beside(tmp_path / "runs" / "pets"))
    assert beside(tmp_path / "runs" / "pets") == tmp_path / "runs" / "corrections.csv"


@pytest.fixture
def three(tmp_path: Path) -> Dataset:
    return Dataset.open(draw_folder(tmp_path / "photos", {"Square": 2, "circle": 2}))


def test_a_data_set_has_the_labels_of_the_rows(three: Dataset, tmp_path: Path) -> None:
    first, second, third, fourth = three.records
    new = draw_folder(tmp_path / "new", {"x": 2}, seed=50) / "x" / "000.jpg"
    gone, changed = tmp_path / "gone.jpg", new.with_name("001.jpg")
    rows = Corrections(
        (
            Correction("label", first.digest, "Square", "apple"),
            Correction("exclude", second.digest, "Square"),
            Correction("label", third.digest, "Square", "apple"),  # the user has moved it to circle since
            Correction("confirm", fourth.digest, "circle"),
            Correction("label", digest_file(new), "", "banana", str(new)),
            Correction("label", "0" * 64, "", "banana", str(gone)),
            Correction("label", "1" * 64, "", "banana", str(changed)),
            Correction("label", third.digest, "", "banana", str(third.path)),  # the source has it now
        )
    )
    found, used = rows.applied(three)
    assert [record.label for record in found.records] == ["apple", "circle", "circle", "banana"]
    assert found.classes == ("circle", "apple", "banana")
    assert [problem.path for problem in found.problems] == [gone, changed]
    assert used.rows == (rows.rows[0], rows.rows[1], rows.rows[3], rows.rows[4])
    assert rows.confirmed == {(fourth.digest, "circle")}
    assert len(rows.apply(three, adds=False).records) == 3
    assert three.records[0].label == "Square"  # a new data set, not this one


def test_a_correction_is_certain(tmp_path: Path) -> None:
    draw_folder(tmp_path, {"a": 4})
    (tmp_path / "p.csv").write_text("path,label\n" + "".join(f"a/{i:03}.jpg,{0.2 * i:.1f}\n" for i in range(4)))
    graded = Dataset.open(tmp_path / "p.csv")
    assert [(r.label, r.probability) for r in graded.records] == [("0", 1.0), ("0", 0.8), ("0", 0.6), ("1", 0.6)]
    _, second, third, _ = graded.records
    rows = Corrections((Correction("label", second.digest, "0", "1"), Correction("confirm", third.digest, "0")))
    found = rows.apply(graded).records
    assert [(r.label, r.probability) for r in found] == [("0", 1.0), ("1", 1.0), ("0", 1.0), ("1", 0.6)]


def test_an_added_photo_is_of_the_runs_of_its_source(three: Dataset, tmp_path: Path) -> None:
    new = draw_folder(tmp_path / "new", {"x": 1}, seed=50) / "x" / "000.jpg"
    row = Correction("label", digest_file(new), "", "b", str(new), source="/pets")
    assert len(Corrections((row,)).of_source("/pets").apply(three).records) == 5
    assert len(Corrections((row,)).of_source("/flowers").apply(three).records) == 4
    assert len(Corrections((replace(row, source=""),)).of_source("/flowers").apply(three).records) == 5


def test_rows_that_leave_nothing_are_refused(three: Dataset) -> None:
    rows = Corrections(tuple(Correction("exclude", record.digest, record.label) for record in three.records))
    with pytest.raises(DataError, match="leave out all 4 photos"):
        rows.apply(three)
