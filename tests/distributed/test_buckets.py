"""Photos in an object store: only what is new is copied, and nothing lands outside of the cache."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from regraft.classifiers.classifier import Classifier
from regraft.data_sets import bucket as buckets
from regraft.errors import DataError
from regraft.foundation.buckets import place_of
from regraft.foundation.tfrecord import example, frame
from regraft.photos.dataset import Dataset
from regraft.photos.unlabelled import photos_in
from tests.conftest import Command
from tests.s3 import s3_server

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The objects that were copied."""
    found: list[str] = []
    original = buckets._copy

    def copy(system: Any, info: Any, path: Path) -> str:
        found.append(path.name)
        return original(system, info, path)

    monkeypatch.setattr(buckets, "_copy", copy)
    monkeypatch.setattr(buckets, "_TICK_NS", 0)
    return found


def put(address: str, name: str, data: bytes) -> None:
    system, base = place_of(address)
    with system.open_output_stream(f"{base}/{name}") as stream:
        stream.write(data)


def fill(address: str, photos: Path) -> None:
    for path in sorted(photos.rglob("*.jpg")):
        put(address, path.relative_to(photos).as_posix(), path.read_bytes())


def test_only_what_is_new_or_changed_is_copied(photos: Path, copied: list[str]) -> None:
    address = s3_server()
    fill(address, photos)
    assert Dataset.open(address).digest == Dataset.open(photos).digest
    assert len(copied) == 60
    copied.clear()
    before = Dataset.open(address)
    assert copied == []
    new, changed = sorted(photos.rglob("*.jpg"))[:2]
    put(address, f"{new.parent.name}/new.jpg", new.read_bytes() + b"new")
    put(address, changed.relative_to(photos).as_posix(), changed.read_bytes() + b"changed")
    system, base = place_of(address)
    system.delete_file(f"{base}/{new.relative_to(photos).as_posix()}")
    after = Dataset.open(address)
    assert sorted(copied) == sorted(["new.jpg", changed.name])
    assert len(after.records) == 60
    assert len({r.digest for r in after.records} - {r.digest for r in before.records}) == 2
    assert not any(record.path.name == new.name and record.label == new.parent.name for record in after.records)


def test_an_object_that_was_written_just_now_is_copied_again(
    photos: Path, copied: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "_TICK_NS", 3600 * 10**9)
    address = s3_server()
    fill(address, photos)
    for _ in range(2):
        copied.clear()
        Dataset.open(address)
        assert len(copied) == 60


def test_names_that_lead_elsewhere_are_left_out(photos: Path) -> None:
    address = s3_server()
    fill(address, photos)
    data = next(photos.rglob("*.jpg")).read_bytes()
    put(address, f"circle/{'n' * 300}.jpg", data)
    dataset = Dataset.open(address)
    assert len(dataset.records) == 60
    assert {problem.reason for problem in dataset.problems} == {"a name that no file of the cache can have"}
    assert not any(buckets._is_fit(name) for name in ("../out.jpg", "a/../../out.jpg", "/out.jpg", "a//b", ".", "a\nb"))


def test_shards_and_archives_are_found_in_a_bucket(photos: Path) -> None:
    shards, archive = s3_server("shards"), s3_server("set.tar")
    records = [
        frame(example({"image/encoded": path.read_bytes(), "image/class/text": path.parent.name}))
        for path in sorted(photos.rglob("*.jpg"))
    ]
    put(shards, "data-00000-of-00002", b"".join(records[:30]))
    put(shards, "data-00001-of-00002", b"".join(records[30:]))
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as file:
        file.add(photos, "photos")
    system, base = place_of(archive)
    with system.open_output_stream(base) as stream:
        stream.write(packed.getvalue())
    here = Dataset.open(photos).digest
    assert Dataset.open(shards).digest == here
    assert Dataset.open(archive).digest == here


def test_a_store_that_cannot_be_used_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"there is nothing in s3://.*/photos; wanted photos or shards"):
        Dataset.open(s3_server())
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(DataError, match=r"s3://nowhere/photos cannot be used: "):
        Dataset.open("s3://nowhere/photos?scheme=http&region=us-east-1&endpoint_override=127.0.0.1%3A9")


def test_a_disk_without_room_is_told(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = s3_server()
    fill(address, photos)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: _Full())
    with pytest.raises(
        DataError, match=r"that are not in the cache, whose disk has room for 0\.0 GB; set REGRAFT_CACHE"
    ):
        Dataset.open(address)


class _Full:
    free = 10


def test_photos_without_class_folders_are_answered(photos: Path, regraft: Command, tmp_path: Path) -> None:
    address, run = s3_server("new"), tmp_path / "run"
    for path in sorted((photos / "circle").glob("*.jpg")):
        put(address, path.name, path.read_bytes())
    regraft("train", photos, "--resolution", "64", "--out", run)
    assert len(regraft("predict", run, address).stdout.splitlines()) == 20
    regraft("embed", address, "--resolution", "64", "--out", tmp_path / "features.parquet")
    assert parquet.read_table(tmp_path / "features.parquet").num_rows == 20


def test_commands_take_a_bucket(photos: Path, regraft: Command, tmp_path: Path) -> None:
    address = s3_server()
    fill(address, photos)
    run = tmp_path / "run"
    regraft("train", address, "--resolution", "64", "--out", run)
    printed = regraft("predict", run, address).stdout.splitlines()
    assert len(printed) == 60
    assert len(list(photos_in(address))) == 60
    put(address, "circle/new.jpg", next(photos.rglob("*.jpg")).read_bytes() + b"new")
    regraft("train", address, "--from", run, "--out", tmp_path / "again")
    assert len(Classifier.load(tmp_path / "again").metrics["problems"]) == 0
