from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from regraft.errors import DataError
from regraft.photos.dataset import Dataset
from regraft.photos.sources.base import Listing
from regraft.photos.sources.manifest import Manifest
from regraft.photos.splitting import split
from tests.conftest import draw_folder

ROWS: list[dict[str, str | None]] = [
    {"path": "사진/고양이 1.jpg", "label": "고양이", "split": "train", "group": "7"},
    {"path": "b.jpg", "label": "dog", "split": "validation", "group": None},
]


def listing(folder: Path, name: str, text: str, encoding: str = "utf-8") -> Listing:
    (folder / name).write_text(text, encoding=encoding)
    return Manifest().list(str(folder / name))


def test_every_format_says_the_same(tmp_path: Path) -> None:
    header = list(ROWS[0])
    cells = [[row[key] or "" for key in header] for row in ROWS]
    found = [
        listing(tmp_path, "a.csv", "\r\n".join(",".join(row) for row in [header, *cells]), "utf-8-sig"),
        listing(tmp_path, "a.tsv", "\n".join("\t".join(row) for row in [header, *cells])),
        listing(tmp_path, "a.jsonl", "\n".join(json.dumps(row) for row in ROWS)),
    ]
    parquet.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    found.append(Manifest().list(str(tmp_path / "a.parquet")))
    assert all(one == found[0] for one in found)
    first, second = found[0].entries
    assert (first.path, first.label) == (tmp_path / "사진" / "고양이 1.jpg", "고양이")
    assert (first.split, first.group) == ("train", "7")
    assert (second.split, second.group) == ("val", None)


def test_a_row_that_says_too_little_is_a_problem_and_no_more(tmp_path: Path) -> None:
    found = listing(tmp_path, "a.csv", "path,label,split\na.jpg,cat,\n,cat,\nb.jpg,,\nc.jpg,dog,holdout\n")
    assert [e.path.name for e in found.entries] == ["a.jpg"]
    reasons = [p.reason for p in found.problems]
    assert "row 2 has no path" in reasons[0]
    assert "row 3 of a.csv gives it no label" in reasons[1]
    assert "'holdout'" in reasons[2]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "file,class\na.jpg,cat\n", "columns file, class; wanted columns path and label"),
        ("a.jsonl", '{"path": "a", "label": "b"}\n{nonsense', "no JSON in line 2"),
        ("a.jsonl", "[1]", "no object in line 1"),
        ("a.parquet", "hello", "no Parquet file"),
    ],
)
def test_what_is_no_manifest_says_so(name: str, text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message.replace("[", r"\[")):
        listing(tmp_path, name, text)


def test_another_encoding_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not UTF-8"):
        listing(tmp_path, "a.csv", "path,label\na.jpg,고양이\n", "cp949")


def test_a_photo_under_two_labels_is_listed_under_both_and_a_repeated_row_once(tmp_path: Path) -> None:
    found = listing(tmp_path, "a.csv", "path,label\na.jpg,cat\na.jpg,dog\na.jpg,cat\n")
    assert [e.label for e in found.entries] == ["cat", "dog"]


def test_numbers_get_their_names_from_labels_txt(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("개\n고양이\n", encoding="utf-8")
    found = listing(tmp_path, "a.csv", "path,label\na.jpg,1\nb.jpg,7\n")
    assert [e.label for e in found.entries] == ["고양이", "7"]


def table(labels: list[str]) -> str:
    return "path,label\n" + "".join(f"{i}.jpg,{label}\n" for i, label in enumerate(labels))


def read(folder: Path, labels: list[str]) -> list[tuple[str, float]]:
    return [(e.label, e.probability) for e in listing(folder, "p.csv", table(labels)).entries]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.booleans())
def test_probabilities_are_those_of_the_second_class(
    tmp_path_factory: pytest.TempPathFactory, given: list[float], named: bool
) -> None:
    folder = tmp_path_factory.mktemp("table")
    first, second = ("좋음", "나쁨") if named else ("0", "1")
    if named:
        (folder / "labels.txt").write_text("좋음\n나쁨\n", encoding="utf-8")
    given = [*given, 0.25]  # without one between 0 and 1, these are names of classes
    found = read(folder, list(map(str, given)))
    assert [label for label, _ in found] == [second if p >= 0.5 else first for p in given]
    assert all(0.5 <= probability <= 1 for _, probability in found)
    back = [probability if label == second else 1 - probability for label, probability in found]
    assert back == pytest.approx(given, abs=1e-15)


@pytest.mark.parametrize(
    "labels",
    [
        ["0", "1", "0"],
        ["0.0", "1.0"],
        ["0.5", "1", "2"],
        ["0.5", "-0.1"],
        ["0.5", "1.01"],
        ["0.5", "cat"],
        ["cat", "0.5"],
        ["0.5", "nan"],
        ["0.5", "inf"],
        ["0.5", "0_1"],
        ["0.5", "\u0661"],
        ["0.5", "50 %"],
    ],
)
def test_other_numbers_are_names_of_classes_as_ever(labels: list[str], tmp_path: Path) -> None:
    assert read(tmp_path, labels) == [(label, 1.0) for label in labels]


@pytest.mark.parametrize("names", ["좋음\n", "좋음\n나쁨\n모름\n", "좋음\n좋음\n"])
def test_only_two_names_are_those_of_probabilities(names: str, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text(names, encoding="utf-8")
    assert read(tmp_path, ["0", "1", ".75", "1e-2"]) == [("0", 1.0), ("1", 1.0), ("1", 0.75), ("0", 0.99)]


def test_every_format_holds_the_same_probabilities(tmp_path: Path) -> None:
    rows = [{"path": f"{i}.jpg", "label": p} for i, p in enumerate([0.0, 1 / 3, 0.5, 1.0])]
    found = [
        listing(tmp_path, "a.csv", table([str(row["label"]) for row in rows])),
        listing(tmp_path, "a.tsv", table([str(row["label"]) for row in rows]).replace(",", "\t")),
        listing(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows))),
    ]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    found.append(Manifest().list(str(tmp_path / "a.parquet")))
    assert all(one == found[0] for one in found)
    entries = found[0].entries
    assert [(e.label, e.probability) for e in entries] == [("0", 1.0), ("0", 1 - 1 / 3), ("1", 0.5), ("1", 1.0)]


def test_a_row_without_a_label_makes_no_names_of_probabilities(tmp_path: Path) -> None:
    found = listing(tmp_path, "a.csv", "path,label\na.jpg,0.25\nb.jpg,\nc.jpg,1\n")
    assert [(e.label, e.probability) for e in found.entries] == [("0", 0.75), ("1", 1.0)]
    assert "row 2 of a.csv gives it no label" in found.problems[0].reason


def test_two_grades_of_a_photo_are_both_listed_and_a_repeated_one_once(tmp_path: Path) -> None:
    found = listing(tmp_path, "a.csv", "path,label\na.jpg,0.2\na.jpg,0.4\na.jpg,0.2\n")
    assert [e.probability for e in found.entries] == [0.8, 0.6]


def test_probabilities_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr("regraft.foundation.console.note", told.append)
    read(tmp_path, ["0", "0.5"])
    assert told == [f"the labels of {tmp_path / 'p.csv'} are read as probabilities of '1'; below 0.5, a photo is '0'"]
    read(tmp_path, ["0", "1"])
    assert len(told) == 1


def test_a_data_set_differs_by_its_probabilities(tmp_path: Path) -> None:
    draw_folder(tmp_path, {"a": 2})
    found = []
    for name, labels in {"a.csv": ("0.1", "0.9"), "b.csv": ("0.1", "0.8"), "c.csv": ("0", "1")}.items():
        (tmp_path / name).write_text("path,label\n" + "".join(f"a/{i:03}.jpg,{p}\n" for i, p in enumerate(labels)))
        found.append(Dataset.open(tmp_path / name))
    assert [[r.probability for r in one.records] for one in found] == [[0.9, 0.9], [0.9, 0.8], [1.0, 1.0]]
    assert len({one.digest for one in found}) == 3
    assert all(one.classes == ("0", "1") for one in found)


def test_a_group_stays_on_one_side(tmp_path: Path) -> None:
    draw_folder(tmp_path, {"a": 40, "b": 40})
    lines = [f"{c}/{i:03}.jpg,{c},camera {i % 10}" for c in "ab" for i in range(40)]
    (tmp_path / "m.csv").write_text("path,label,group\n" + "\n".join(lines))
    dataset = Dataset.open(tmp_path / "m.csv")
    sides = split(dataset, (0.2, 0.2))
    groups = [{dataset.records[i].group for i in side} for side in (sides.train, sides.val, sides.test)]
    assert all(groups)
    assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
