from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from regraft.errors import DataError
from regraft.foundation.tfrecord import example, frame
from regraft.photos.dataset import Dataset
from regraft.photos.sources.base import find_source
from tests.conftest import draw_folder


def photo(number: int, root: Path) -> bytes:
    return (draw_folder(root / str(number), {"a": 1}, seed=number) / "a" / "000.jpg").read_bytes()


def tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as file:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return path


def test_names_of_shards_give_the_split(tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    for number, name in enumerate(
        ("flowers_train-00000-of-00002", "flowers_train-00001-of-00002", "validation-0-of-1")
    ):
        record = example({"image/encoded": photo(number, tmp_path), "image/class/text": "ab"[number % 2]})
        (shards / name).write_bytes(frame(record))
    assert [r.split for r in Dataset.open(shards).records] == ["train", "train", "val"]
    assert [r.split for r in Dataset.open(shards / "flowers_train-00000-of-00002").records] == [None]
    assert len(Dataset.open(f"{shards}/flowers_train-*").records) == 2


def test_a_number_is_named_by_labels_txt(tmp_path: Path) -> None:
    (tmp_path / "x.tfrecord").write_bytes(
        b"".join(frame(example({"image": photo(i, tmp_path), "label": i})) for i in range(3))
    )
    assert Dataset.open(tmp_path / "x.tfrecord").classes == ("0", "1", "2")
    (tmp_path / "labels.txt").write_text("background\n원\n네모\n", encoding="utf-8")
    assert Dataset.open(tmp_path / "x.tfrecord").classes == ("background", "네모", "원")


def test_a_damaged_shard_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    records = [frame(example({"image/encoded": photo(i, tmp_path), "image/class/text": "a"})) for i in range(3)]
    data = bytearray(b"".join(records))
    data[len(records[0]) + 100] ^= 1
    (tmp_path / "x").write_bytes(data)
    dataset = Dataset.open(tmp_path / "x")
    assert len(dataset.records) == 1
    assert "wrong checksum; what comes after it is lost" in dataset.problems[0].reason
    (tmp_path / "x").write_bytes(b"".join(records)[:-10])
    dataset = Dataset.open(tmp_path / "x")
    assert len(dataset.records) == 2
    assert "cut off" in dataset.problems[0].reason


def test_records_of_another_kind_are_told(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(frame(b"\x0f not an example") + frame(example({"text": "hello"})))
    with pytest.raises(DataError, match=r"no record with image/encoded.*no tf.train.Example"):
        Dataset.open(tmp_path / "x")


def test_labels_of_webdataset_in_all_their_places(tmp_path: Path) -> None:
    members: dict[str, bytes] = {}
    for i, (kind, data) in enumerate(
        [("cls", b"1"), ("json", json.dumps({"label": "고양이"}).encode()), ("txt", "새".encode()), ("none", b"")]
    ):
        members |= {f"d/{i}.a.jpg" if kind == "none" else f"d/{i}.jpg": photo(i, tmp_path), f"d/{i}.{kind}": data}
    shards = tmp_path / "s"
    shards.mkdir()
    tar(shards / "train-000000.tar", members)
    (shards / "labels.txt").write_text("개\n말\n", encoding="utf-8")
    dataset = Dataset.open(shards)
    assert dataset.classes == ("고양이", "말", "새")
    assert Dataset.open(f"{shards}/train-{{000000..000003}}.tar").digest == dataset.digest


def test_a_tar_of_class_folders_is_an_archive(tmp_path: Path) -> None:
    path = tar(
        tmp_path / "p.tar", {"a/1.jpg": photo(1, tmp_path), "a/notes.json": b"{}", "b/2.jpg": photo(2, tmp_path)}
    )
    assert type(find_source(str(path))).__name__ == "Archive"
    assert Dataset.open(path).classes == ("a", "b")


def test_a_cut_off_webdataset_names_what_is_lost(tmp_path: Path) -> None:
    path = tar(
        tmp_path / "w.tar",
        {k: v for i in range(2) for k, v in {f"{i}.cls": b"0", f"{i}.jpg": photo(i, tmp_path)}.items()},
    )
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    dataset = Dataset.open(path)
    assert len(dataset.records) == 1
    assert dataset.problems
