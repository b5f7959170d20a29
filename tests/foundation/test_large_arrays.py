"""Large arrays lie in files, keep their values, and leave the memory of the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from regraft.foundation import large_arrays
from regraft.foundation.files import cache_folder
from regraft.foundation.large_arrays import blocks_of, empty, give_back, take


@pytest.fixture(autouse=True)
def _small_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_arrays, "LARGEST", 100_000)


def in_a_file(x: np.ndarray) -> bool:
    base: object = x
    while isinstance(base, np.ndarray):
        base = base.base
    return base is not None


@pytest.mark.parametrize("rows", [10, 5000])
def test_values_stay_wherever_the_array_lies(rows: int) -> None:
    x = empty((rows, 70))
    assert in_a_file(x) == (rows == 5000)
    x[...] = np.arange(rows * 70, dtype=np.float32).reshape(rows, 70)
    give_back(x)
    give_back(x[3:5])
    give_back(x[:, 3])
    assert x.tolist() == np.arange(rows * 70, dtype=np.float32).reshape(rows, 70).tolist()
    assert list(cache_folder().glob("*")) == []


def test_rows_are_taken_in_any_order() -> None:
    x = empty((6000, 40))
    x[...] = np.arange(6000)[:, np.newaxis]
    rows = np.random.default_rng(0).permutation(6000)[:5000]
    found = take(x, rows.tolist())
    assert in_a_file(found)
    assert found[:, 39].tolist() == rows.tolist()
    assert take(x, []).shape == (0, 40)


def test_blocks_cover_all_rows_once() -> None:
    x = np.arange(10_000)
    assert [block.stop for block, _ in blocks_of(x)] == [4096, 8192, 10_000]
    assert np.concatenate([rows for _, rows in blocks_of(x, 3000)]).tolist() == x.tolist()
    assert list(blocks_of(x[:0])) == []


def test_a_place_that_cannot_be_written_gives_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(**_: object) -> None:
        raise OSError("no room")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    assert not in_a_file(empty((5000, 70)))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_was_given_back_is_not_memory_of_the_process() -> None:
    script = """
import re
from pathlib import Path
from regraft.foundation import large_arrays
from regraft.foundation.large_arrays import blocks_of, empty
def memory():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024
large_arrays.LARGEST = 2**20
x, before, most = empty((300_000, 256)), memory(), 0
for _, rows in blocks_of(x):
    rows[...] = 1
    most = max(most, memory())
total = sum(float(rows.sum()) for _, rows in blocks_of(x))
print(most - before, memory() - before, total == x.size)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    most, after, is_right = done.stdout.split()
    assert int(most) < 40  # of 293 MiB
    assert int(after) < 40
    assert is_right == "True"
