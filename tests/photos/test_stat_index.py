"""The index of files that were read before: it saves reading, and never gives the digest of other bytes."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regraft.foundation.cache_files import write_sealed
from regraft.foundation.files import cache_folder
from regraft.photos import dataset, images, stat_index
from regraft.photos.dataset import Dataset
from regraft.sharding import shard

TICK = 0.05
"""Seconds: longer than a tick of this machine's file systems, and shorter than the tests want to wait."""


@pytest.fixture(autouse=True)
def _short_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stat_index, "RACY_SECONDS", TICK)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The paths that were read since it was last cleared."""
    found: list[Path] = []

    def read(path: Path, *more: object) -> bytes:
        found.append(path)
        return original(path, *more)  # type: ignore[arg-type]

    original = images.read_whole
    monkeypatch.setattr(dataset, "read_whole", read)
    return found


def a_photo(byte: int) -> bytes:
    """Bytes that begin as a JPEG does, all of one length."""
    return b"\xff\xd8\xff" + bytes([byte])


def make(root: Path, names: tuple[str, ...] = ("a.jpg", "b.jpg")) -> None:
    for number, label in enumerate(("cat", "dog")):
        (root / label).mkdir(parents=True)
        for more, name in enumerate(names):
            (root / label / name).write_bytes(a_photo(10 * number + more))


def require_true_digests(root: Path) -> None:
    """Require the digest of each photo to be that of its bytes."""
    records = Dataset.open(root).records
    assert {r.path: r.digest for r in records} == {
        path: hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*.jpg")
    }


def test_only_what_changed_is_read_again(tmp_path: Path, reads: list[Path]) -> None:
    make(tmp_path / "photos")
    time.sleep(2 * TICK)
    before = Dataset.open(tmp_path / "photos")
    assert len(reads) == 4
    reads.clear()
    assert Dataset.open(tmp_path / "photos") == before
    assert reads == []
    changed = tmp_path / "photos" / "cat" / "a.jpg"
    changed.write_bytes(a_photo(99))
    require_true_digests(tmp_path / "photos")
    assert reads == [changed]


def test_a_file_that_was_read_within_a_tick_of_its_change_is_read_again(
    tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "photos")
    with monkeypatch.context() as slow_clock:
        slow_clock.setattr(stat_index, "RACY_SECONDS", 3600.0)
        Dataset.open(tmp_path / "photos")
    time.sleep(2 * TICK)
    reads.clear()
    Dataset.open(tmp_path / "photos")
    assert len(reads) == 4
    reads.clear()
    Dataset.open(tmp_path / "photos")
    assert reads == []


def test_everything_is_read_where_the_user_says_so(tmp_path: Path, reads: list[Path]) -> None:
    make(tmp_path / "photos")
    time.sleep(2 * TICK)
    Dataset.open(tmp_path / "photos")
    reads.clear()
    with stat_index.every_file_is_read():
        Dataset.open(tmp_path / "photos")
    assert len(reads) == 4


def test_photos_in_shards_are_not_read_again(photos: Path, tmp_path: Path, reads: list[Path]) -> None:
    shard(photos, tmp_path / "shards")
    time.sleep(2 * TICK)
    reads.clear()
    before = Dataset.open(tmp_path / "shards")
    assert len(reads) == len(before.records) == 60
    reads.clear()
    assert Dataset.open(tmp_path / "shards") == before
    assert reads == []


@pytest.mark.parametrize("damage", [b"", b"short", b"x" * 88])
def test_a_damaged_index_is_passed_over(tmp_path: Path, reads: list[Path], damage: bytes) -> None:
    make(tmp_path / "photos")
    time.sleep(2 * TICK)
    Dataset.open(tmp_path / "photos")
    (index,) = cache_folder("indexes").glob("*.index")
    index.write_bytes(damage)
    reads.clear()
    require_true_digests(tmp_path / "photos")
    assert len(reads) == 4


def test_an_index_of_another_length_is_passed_over(tmp_path: Path, reads: list[Path]) -> None:
    make(tmp_path / "photos")
    time.sleep(2 * TICK)
    Dataset.open(tmp_path / "photos")
    (index,) = cache_folder("indexes").glob("*.index")
    write_sealed(index, b"x" * 89)
    require_true_digests(tmp_path / "photos")


def restored(path: Path, data: bytes) -> None:
    """Change a file and give it the times that it had."""
    facts = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def replaced(path: Path, data: bytes) -> None:
    """Put another file, with the same times, at the place of a file."""
    facts = path.stat()
    other = path.with_suffix(".new")
    other.write_bytes(data)
    os.utime(other, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    other.replace(path)


def changed(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def twice(path: Path, data: bytes) -> None:
    """Change a file, list it, and change it again as soon as possible."""
    path.write_bytes(a_photo(200))
    Dataset.open(path.parent.parent)
    path.write_bytes(data)


def swapped(path: Path, _: bytes) -> None:
    """Exchange a file with one of the other class."""
    other = next(p for p in sorted(path.parent.parent.glob("*/*")) if p.parent != path.parent)
    aside = path.with_suffix(".aside")
    path.rename(aside)
    other.rename(path)
    aside.rename(other)


def moved(path: Path, _: bytes) -> None:
    """Exchange the two class folders."""
    first, second = sorted(folder for folder in path.parent.parent.iterdir())
    aside = first.with_name(".aside")
    first.rename(aside)
    second.rename(first)
    aside.rename(second)


def renamed(path: Path, _: bytes) -> None:
    """Change the case of a name: on some file systems both names are one file."""
    path.rename(path.with_name(path.name.swapcase().replace(".JPG", ".jpg")))


def linked(path: Path, data: bytes) -> None:
    """Put a link to another file at the place of a file."""
    elsewhere = path.parent.parent.parent / f"elsewhere-{data[-1]}"
    elsewhere.write_bytes(data)
    path.unlink()
    path.symlink_to(elsewhere)


EDITS: list[Callable[[Path, bytes], None]] = [changed, restored, replaced, twice, swapped, moved, renamed, linked]
if sys.platform == "win32":
    EDITS.remove(restored)  # Windows does not tell when a file was changed last, only when it was made
    EDITS.remove(linked)


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@given(
    edits=st.lists(
        st.tuples(st.sampled_from(EDITS), st.integers(0, 3), st.integers(0, 255), st.booleans()), min_size=1, max_size=6
    )
)
@settings(max_examples=60, deadline=None)
def test_no_edit_leaves_an_old_digest(
    place: Path, edits: list[tuple[Callable[[Path, bytes], None], int, int, bool]]
) -> None:
    shutil.rmtree(place)
    make(place / "photos")
    for edit, which, byte, waits in edits:
        if waits:
            time.sleep(1.2 * TICK)
        require_true_digests(place / "photos")
        edit(sorted((place / "photos").rglob("*.[jJ][pP][gG]"))[which], a_photo(byte))
        require_true_digests(place / "photos")


@pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")
@pytest.mark.parametrize("attempt", range(5))
def test_a_kill_while_the_index_is_written_gives_no_wrong_digest(tmp_path: Path, attempt: int) -> None:
    root = tmp_path / "photos"
    make(root, tuple(f"{i}.jpg" for i in range(200)))
    script = f"""
import os, sys, time
from pathlib import Path
from regraft import Dataset
from regraft.photos import stat_index
stat_index.RACY_SECONDS = {TICK}
root = Path(sys.argv[1])
for i in range(1000):
    time.sleep({TICK})
    Dataset.open(root)
    print("opened", flush=True)
    for n in range(200):  # no file is ever half written
        (root / "new").write_bytes(bytes.fromhex("ffd8ff") + i.to_bytes(4, "big"))
        os.replace(root / "new", root / "cat" / f"{{n}}.jpg")
"""
    process = subprocess.Popen([sys.executable, "-c", script, str(root)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    for _ in range(2 + attempt):
        process.stdout.readline()
    time.sleep(TICK + 0.004 * attempt)  # now it looks up, reads or writes
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    (root / "new").unlink(missing_ok=True)
    require_true_digests(root)
    time.sleep(2 * TICK)
    require_true_digests(root)
    require_true_digests(root)
