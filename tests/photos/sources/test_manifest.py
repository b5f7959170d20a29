from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
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


def test_a_group_stays_on_one_side(tmp_path: Path) -> None:
    draw_folder(tmp_path, {"a": 40, "b": 40})
    lines = [f"{c}/{i:03}.jpg,{c},camera {i % 10}" for c in "ab" for i in range(40)]
    (tmp_path / "m.csv").write_text("path,label,group\n" + "\n".join(lines))
    dataset = Dataset.open(tmp_path / "m.csv")
    sides = split(dataset, (0.2, 0.2))
    groups = [{dataset.records[i].group for i in side} for side in (sides.train, sides.val, sides.test)]
    assert all(groups)
    assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
