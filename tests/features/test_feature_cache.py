"""Part files of the cache: merged without a loss, whoever reads and whenever a process is killed; and their limit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regraft.errors import ConfigError
from regraft.features import cache_limit, feature_cache
from regraft.features.cache_limit import keep_within_limit
from regraft.features.feature_cache import FeatureCache
from regraft.features.parts import LOOK, read_part
from regraft.foundation.files import cache_folder, folder_size

WIDTH = 5


def digest_of(number: int) -> str:
    return f"{number:064x}"


def row_of(number: int) -> np.ndarray:
    return np.arange(number, number + WIDTH, dtype=np.float32)


def write(cache: FeatureCache, numbers: range) -> None:
    """Write one part file."""
    looks = np.zeros(len(numbers), LOOK)
    looks["width"] = list(numbers)
    cache.write_part([digest_of(n) for n in numbers], [(row_of(n), looks[i]) for i, n in enumerate(numbers)])


def rows_of(cache: FeatureCache, wanted: list[str]) -> dict[str, tuple[Any, Any]]:
    """Return the cached rows by digest."""
    found = (row for part in cache.read(wanted) for row in zip(part.digests, part.x, part.looks, strict=True))
    return {digest: (x, look) for digest, x, look in found}


def require_rows(cache: FeatureCache, numbers: range) -> None:
    """Require the cache to have the right row for each number."""
    found = rows_of(cache, [digest_of(n) for n in numbers])
    assert len(found) == len(numbers)
    for n in numbers:
        x, look = found[digest_of(n)]
        assert x.tolist() == row_of(n).tolist()
        assert look["width"] == n


def parts(cache: FeatureCache) -> list[Path]:
    return sorted(cache.folder.glob("part-*.parquet"))


@pytest.fixture
def store() -> FeatureCache:
    return FeatureCache("f" * 64, WIDTH, "a network")


def test_many_small_parts_become_one(store: FeatureCache) -> None:
    for i in range(15):
        write(store, range(10 * i, 10 * i + 10))
    store.merge()
    assert len(parts(store)) == 15
    write(store, range(150, 160))
    store.merge()
    assert len(parts(store)) == 1
    require_rows(store, range(160))


def test_a_photo_that_two_processes_computed_is_kept_once(store: FeatureCache) -> None:
    for i in range(16):
        write(store, range(5 * i, 5 * i + 10))
    store.merge()
    require_rows(store, range(85))
    (part,) = parts(store)
    from pyarrow import parquet

    assert parquet.read_metadata(part).num_rows == 85


def test_merged_parts_have_a_limit(store: FeatureCache, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(20):
        write(store, range(10 * i, 10 * i + 10))
    size = parts(store)[0].stat().st_size
    monkeypatch.setattr(feature_cache, "MERGED_BYTES", 5 * size + size // 2)  # files differ by some bytes
    store.merge()
    assert len(parts(store)) == 4
    require_rows(store, range(200))


def test_a_damaged_part_is_set_aside_and_the_others_are_merged(store: FeatureCache) -> None:
    for i in range(16):
        write(store, range(10 * i, 10 * i + 10))
    lost = parts(store)[3]
    data = bytearray(lost.read_bytes())
    data[len(data) // 2] ^= 1
    lost.write_bytes(data)
    store.merge()
    assert len(parts(store)) == 1
    assert len(list(store.folder.glob("*.damaged"))) == 1
    assert len(store.known(digest_of(n) for n in range(160))) == 150


def test_parts_of_a_later_version_stay(store: FeatureCache, monkeypatch: pytest.MonkeyPatch) -> None:
    from regraft.features import parts as part_files

    monkeypatch.setattr(part_files, "SCHEMA", 99)
    for i in range(16):
        write(store, range(10 * i, 10 * i + 10))
    monkeypatch.setattr(part_files, "SCHEMA", 2)
    store.merge()
    assert len(parts(store)) == 16


def test_a_reader_finds_all_rows_while_parts_are_merged(store: FeatureCache) -> None:
    stopped = threading.Event()
    failures: list[BaseException] = []

    def read() -> None:
        try:
            while not stopped.is_set():
                require_rows(FeatureCache("f" * 64, WIDTH), range(100))
        except BaseException as error:
            failures.append(error)

    write(store, range(100))
    reader = threading.Thread(target=read)
    reader.start()
    for i in range(200):
        write(store, range(1000 + i, 1001 + i))
        store.merge()
    stopped.set()
    reader.join()
    assert failures == []


def test_merging_runs_while_rows_are_written(store: FeatureCache) -> None:
    for i in range(16):
        write(store, range(10 * i, 10 * i + 10))
    with store.writer() as add:
        add(digest_of(500), (row_of(500), np.zeros(1, LOOK)[0]))
    assert len(parts(store)) == 2
    require_rows(store, range(160))


@pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")
@pytest.mark.parametrize("attempt", range(6))
def test_a_kill_while_parts_are_merged_loses_nothing(store: FeatureCache, attempt: int) -> None:
    for i in range(40):
        write(store, range(10 * i, 10 * i + 10))
    script = (
        "from regraft.features import feature_cache as f; f.MERGED_BYTES = 30_000; print('begun', flush=True);"
        "f.FeatureCache('f' * 64, 5).merge()"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    if attempt:  # at once, or when so many files were merged
        deadline = time.monotonic() + 20
        while len(parts(store)) > 40 - 6 * attempt and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.0005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    require_rows(store, range(400))
    store.merge()
    require_rows(store, range(400))


def aged(path: Path, hours: float) -> Path:
    """Let a file look as if it was last used so many hours ago."""
    then = time.time() - 3600 * hours
    os.utime(path, (then, then))
    return path


def test_what_was_not_used_for_the_longest_time_goes_first(
    store: FeatureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(4):
        write(store, range(10 * i, 10 * i + 10))
    first, second, third, fourth = parts(store)
    for hours, path in ((9, third), (7, first), (5, second), (0.1, fourth)):
        aged(path, hours)
    size = folder_size(cache_folder())
    monkeypatch.setenv("REGRAFT_CACHE_LIMIT", str(size - 1))
    keep_within_limit()
    assert parts(store) == [first, second, fourth]
    monkeypatch.setenv("REGRAFT_CACHE_LIMIT", "1")
    keep_within_limit()
    assert parts(store) == [fourth]


@pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")
@pytest.mark.parametrize("attempt", range(6))
def test_a_kill_while_the_cache_is_made_smaller_leaves_no_wrong_row(
    store: FeatureCache, attempt: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(60):
        write(store, range(10 * i, 10 * i + 10))
    kept = {path for i, path in enumerate(parts(store)) if i % 2}
    for path in set(parts(store)) - kept:
        aged(path, 5)
    activations = cache_folder("activations") / ("a" * 32)
    for i in range(300):
        (activations / str(i)).mkdir(parents=True)
        (activations / str(i) / "maps").write_bytes(bytes(10))
    aged(activations, 9)
    in_use = {
        digest for path in kept for part in [read_part(path, "f" * 64, WIDTH, None)] if part for digest in part.digests
    }
    monkeypatch.setenv("REGRAFT_CACHE_LIMIT", "1")
    script = "from regraft.features.cache_limit import keep_within_limit as k; print('begun', flush=True); k()"
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    deadline = time.monotonic() + 20
    while len(parts(store)) > 60 - 6 * attempt and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.0005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    for digest, (x, look) in rows_of(store, [digest_of(n) for n in range(600)]).items():
        assert x.tolist() == row_of(int(digest, 16)).tolist()
        assert look["width"] == int(digest, 16)
    for path in set(parts(store)) - kept:  # reading has made them younger
        aged(path, 5)
    keep_within_limit()  # the next process finishes
    assert set(parts(store)) == kept
    assert store.known([digest_of(n) for n in range(600)]) == in_use
    assert list(cache_folder("activations").iterdir()) == []


def test_what_is_read_counts_as_used(store: FeatureCache, monkeypatch: pytest.MonkeyPatch) -> None:
    write(store, range(10))
    write(store, range(10, 20))
    for path in parts(store):
        aged(path, 5)
    require_rows(store, range(10))
    monkeypatch.setenv("REGRAFT_CACHE_LIMIT", "1")
    keep_within_limit()
    require_rows(store, range(10))
    assert store.known([digest_of(10)]) == set()


def test_downloads_stay_and_whole_folders_go(monkeypatch: pytest.MonkeyPatch) -> None:
    download = cache_folder("downloads") / "weights"
    activations = cache_folder("activations") / ("a" * 32) / "part"
    for path in (download, activations):
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes(1000))
        aged(path, 48)
    aged(activations.parent, 48)
    monkeypatch.setenv("REGRAFT_CACHE_LIMIT", "1KB")
    keep_within_limit()
    assert download.exists()
    assert not activations.parent.exists()


@pytest.mark.parametrize(
    ("text", "size"), [("", None), ("1000", 1000), ("5 kb", 5000), ("1.5GB", 1_500_000_000), ("2T", 2 * 10**12)]
)
def test_a_limit_is_a_size(text: str, size: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGRAFT_CACHE_LIMIT", text)
    assert cache_limit.cache_limit() == size


def test_a_limit_that_is_no_size_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGRAFT_CACHE_LIMIT", "much")
    with pytest.raises(ConfigError, match="REGRAFT_CACHE_LIMIT is 'much'; wanted a size such as 500MB or 20GB"):
        keep_within_limit()
