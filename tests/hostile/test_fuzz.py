"""A little of `benchmarks/fuzz.py` at each run of the tests, and every input on which it once found something."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from regraft.errors import DataError
from tests.hostile import fuzzing
from tests.hostile.fuzzing import TARGETS, Finding, Target, findings, read_once

SEEDS = sorted((Path(__file__).parent / "seeds").glob("*-*"))


@pytest.mark.parametrize("name", TARGETS)
def test_damage_ends_in_success_or_one_error(name: str) -> None:
    """The first seeds, as many as there is time for: always the same ones, so that a failure here stays one."""
    ran = list(findings(TARGETS[name], 0, time.monotonic() + 4))
    assert [one for one in ran if isinstance(one, Finding)] == []
    assert sum(one for one in ran if not isinstance(one, Finding)) > 20


@pytest.mark.parametrize("path", SEEDS, ids=lambda path: path.name)
def test_what_once_failed_does_so_no_more(path: Path, tmp_path: Path) -> None:
    """A seed is called TARGET-WHAT, then the suffix of the input."""
    copied = tmp_path / f"x{path.suffix}"
    shutil.copyfile(path, copied)
    assert read_once(TARGETS[path.name.partition("-")[0]], copied) == ""


def test_what_goes_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each kind once: an error of Python, a crash, memory, time, and what never ends."""
    monkeypatch.setattr(fuzzing, "SECONDS", 1.0)
    monkeypatch.setattr(fuzzing, "MEBIBYTES", 100)
    seeds = {str(random.Random(seed).random()): seed for seed in range(12)}

    def make(dice: random.Random, folder: Path) -> Path:
        (folder / "x").write_text(str(dice.random()))
        return folder / "x"

    def read(path: Path) -> object:
        match seeds[path.read_text()]:
            case 3:
                raise KeyError("three")
            case 5:
                os.kill(os.getpid(), signal.SIGTERM)
            case 7:
                return bytearray(b"x") * (200 * 2**20)
            case 8:
                time.sleep(1.2)
            case 9:
                time.sleep(60)
        raise DataError("as it should be")

    monkeypatch.setattr(fuzzing, "BATCH", 12)
    ran = findings(Target(make, read), 0, time.monotonic() + 60)
    found: dict[int, str] = {}
    while 9 not in found:
        one = next(ran)
        found |= {one.seed: one.what} if isinstance(one, Finding) else {}
    assert sorted(found) == [3, 5, 7, 8, 9]
    assert "KeyError: 'three'" in found[3]
    assert found[5] == "died or hung: SIGTERM"
    assert "MiB" in found[7]
    assert found[8].startswith("took 1.")
    assert found[9] == "died or hung: SIGKILL"
