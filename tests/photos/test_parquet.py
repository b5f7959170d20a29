"""Parquet files that hold the bytes of photos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow.parquet import write_table

from regraft.data_sets import parquet as source
from regraft.errors import DataError
from regraft.photos.dataset import Dataset
from regraft.photos.sources.base import find_source


@pytest.fixture
def rows(photos: Path) -> list[tuple[bytes, str]]:
    return [(path.read_bytes(), path.parent.name) for path in sorted(photos.rglob("*.jpg"))]


def write(path: Path, columns: dict[str, Any], metadata: dict[str, Any] | None = None) -> Path:
    table = pa.table(columns)
    write_table(table.replace_schema_metadata({"huggingface": json.dumps(metadata)}) if metadata else table, path)
    return path


def test_photos_as_the_hub_has_them(rows: list[tuple[bytes, str]], tmp_path: Path) -> None:
    names = sorted({label for _, label in rows})
    told = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}, "image": {"_type": "Image"}}}}
    for name, some in (("train-00000-of-00001.parquet", rows[:40]), ("test-00000-of-00001.parquet", rows[40:])):
        photos = [{"bytes": data, "path": "a.jpg"} for data, _ in some]
        write(tmp_path / name, {"image": photos, "label": [names.index(label) for _, label in some]}, told)
    dataset = Dataset.open(tmp_path)
    assert dataset.classes == tuple(names)
    assert [sum(r.split == side for r in dataset.records) for side in ("train", "test")] == [40, 20]
    assert {(r.read(), r.label) for r in dataset.records} == set(rows)


def test_splits_groups_and_numbers(rows: list[tuple[bytes, str]], tmp_path: Path) -> None:
    names = sorted({label for _, label in rows})
    (tmp_path / "labels.txt").write_text("\n".join(names) + "\n")
    write(
        tmp_path / "photos.parquet",
        {
            "jpg": [data for data, _ in rows],
            "cls": [names.index(label) for _, label in rows],
            "split": ["val" if i % 3 == 0 else "train" for i in range(60)],
            "group": [None if i == 5 else i // 2 for i in range(60)],
        },
    )
    records = Dataset.open(tmp_path / "photos.parquet").records
    assert {(r.read(), r.label) for r in records} == set(rows)
    assert sum(r.split == "val" for r in records) == 20
    assert sum(r.group is None for r in records) == 1
    assert len({r.group for r in records}) == 31


def test_rows_without_a_photo_or_a_label_are_left_out_by_name(rows: list[tuple[bytes, str]], tmp_path: Path) -> None:
    images: list[bytes | None] = [data for data, _ in rows]
    labels: list[str | None] = [label for _, label in rows]
    images[3], labels[5], images[7] = None, None, b"no photo at all"
    write(tmp_path / "photos.parquet", {"image": images, "label": labels})
    dataset = Dataset.open(tmp_path / "photos.parquet")
    assert len(dataset.records) == 57
    assert len(dataset.problems) == 3


def test_photos_are_copied_once(rows: list[tuple[bytes, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "p.parquet", {"image": [data for data, _ in rows], "label": [label for _, label in rows]})
    first = Dataset.open(path)
    original, copied = source._copy, list[Path]()

    def copy(file: Path, *more: Any) -> None:
        copied.append(file)
        original(file, *more)

    monkeypatch.setattr(source, "_copy", copy)
    assert Dataset.open(path) == first
    assert copied == []
    write(path, {"image": [data for data, _ in rows[:50]], "label": [label for _, label in rows[:50]]})
    assert len(Dataset.open(path).records) == 50
    assert copied == [path]


def test_other_tables_stay_tables(photos: Path, tmp_path: Path) -> None:
    paths = [str(path) for path in sorted(photos.rglob("*.jpg"))]
    path = write(
        tmp_path / "t.parquet", {"path": paths, "label": [Path(p).parent.name for p in paths], "thumb": [b"x"] * 60}
    )
    assert type(find_source(str(path))).__name__ == "Manifest"
    assert len(Dataset.open(path).records) == 60


@pytest.mark.parametrize("damage", [b"PAR1", b"PAR1" + bytes(100), b""])
def test_a_damaged_file_is_a_data_error(damage: bytes, tmp_path: Path) -> None:
    (tmp_path / "p.parquet").write_bytes(damage)
    with pytest.raises(DataError):
        Dataset.open(tmp_path / "p.parquet")


def test_a_damaged_page_is_told_and_nothing_is_kept(rows: list[tuple[bytes, str]], tmp_path: Path, cache: Path) -> None:
    path = write(tmp_path / "p.parquet", {"image": [data for data, _ in rows], "label": [label for _, label in rows]})
    data = bytearray(path.read_bytes())
    data[10:2000] = bytes(1990)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"p\.parquet cannot be copied into the cache: "):
        Dataset.open(path)
    assert list(cache.rglob("*.tfrecord")) == []
