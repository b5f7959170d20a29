"""A real run, damaged at random: it is read and answers with finite probabilities, or a typed error says why not.

`fuzz_runs` does the same for as long as one likes; a number it finds wanting is kept in ``KEPT`` and tried for ever.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from regraft import Classifier, Dataset, TrainConfig, train
from regraft.classifiers.run_folder import read_split
from regraft.cli.information import describe
from regraft.errors import RegraftError
from tests.conftest import SHAPES, draw_folder

KEPT: tuple[int, ...] = (2087126379,)
"""Numbers of cases that were answered wrongly once."""

ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63, -(2**70), 10**400, 0.5, -0.0, 1e-300, 1e300, 1e308),
    *("", " ", "x", "\0", "\n", "\x1b[31m", "\ud800", "../..", "/dev/zero", "9" * 5000, "a" * 100_000),
    *([], {}, [[]], [None], [1, 2, 3], ["a", "b"], {"a": 1}, [[[[[[]]]]]], {"": {"": {"": ""}}}),
)
ODD_NUMBERS = (np.nan, np.inf, -np.inf, 0.0, 1e-45, 3e38, -3e38, 1e20)


def mutate(run: Path, dice: random.Random) -> str:
    """Damage a run in one to three ways; return what was done."""
    return "; ".join(_mutate_once(run, dice) for _ in range(dice.choice((1, 1, 1, 2, 3))))


def _mutate_once(run: Path, dice: random.Random) -> str:
    file = dice.choice(sorted(path for path in run.iterdir() if path.is_file()))
    ways: list[Callable[[Path, random.Random], str]] = [_bytes, _bytes, _replaced]
    ways += [_json] * 9 if file.suffix == ".json" else [_tensors] * 9 if file.suffix == ".safetensors" else []
    try:
        return f"{file.name}: {dice.choice(ways)(file, dice)}"
    except (ValueError, SafetensorError, RecursionError, OSError):  # an earlier damage has left nothing to change
        return f"{file.name}: {_bytes(file, dice)}"


def _bytes(file: Path, dice: random.Random) -> str:
    data = bytearray(file.read_bytes())
    how = dice.choice(("flip", "cut", "insert", "repeat", "zero"))
    place = dice.randrange(len(data) + 1)
    if how == "flip":
        for _ in range(dice.choice((1, 1, 4, 100))):
            if data:
                data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    elif how == "cut":
        del data[place:]
    elif how == "insert":
        data[place:place] = dice.randbytes(dice.choice((1, 8, 300)))
    elif how == "repeat":
        data[place:place] = data[dice.randrange(len(data) + 1) :]
    else:
        data[place : place + dice.choice((1, 8, 300))] = bytes(dice.choice((1, 8, 300)))
    file.write_bytes(data)
    return f"{how} at {place}"


def _replaced(file: Path, dice: random.Random) -> str:
    others = sorted(path for path in file.parent.iterdir() if path.is_file())
    what = dice.choice(("pipe", "folder", "/dev/zero", "itself", "gone", "another", "empty"))
    data = dice.choice(others).read_bytes()
    file.unlink()
    if what == "pipe":
        os.mkfifo(file)
    elif what == "folder":
        file.mkdir()
    elif what in ("/dev/zero", "itself"):
        file.symlink_to(what if what[0] == "/" else file.name)
    elif what != "gone":
        file.write_bytes(data if what == "another" else b"")
    return what


def _json(file: Path, dice: random.Random) -> str:
    document = json.loads(file.read_text(encoding="utf-8"))
    places = list(_places(document))
    container, key = dice.choice(places)
    how = dice.choice(("odd", "odd", "odd", "delete", "add", "scale", "swap"))
    if how == "delete":
        del container[key]
    elif how == "add" and isinstance(container, dict):
        container["unknown" if dice.random() < 0.5 else "classes"] = dice.choice(ODD_VALUES)
    elif how == "scale" and isinstance(container[key], int | float):
        container[key] *= dice.choice((-1, 0, 1e-9, 1e9, 1e200, float("nan"), float("inf")))
    elif how == "swap":
        other, name = dice.choice(places)
        container[key], other[name] = other[name], container[key]
    else:
        container[key] = dice.choice(ODD_VALUES)
    file.write_text(json.dumps(document), encoding="utf-8")
    return f"{how} {key}"


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every container and key of a document; of long lists the first items."""
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for number, (key, value) in enumerate(list(items)):
        if number < 40:
            yield document, key
            yield from _places(value)


def _tensors(file: Path, dice: random.Random) -> str:
    arrays = {name: array.copy() for name, array in load_file(file).items()}
    name = dice.choice(sorted(arrays))
    array = arrays[name]
    how = dice.choice(("number", "number", "fill", "shape", "cut", "type", "drop", "add", "rename", "swap"))
    if how == "number" and array.size and array.dtype.kind == "f":
        array.ravel()[dice.randrange(array.size)] = dice.choice(ODD_NUMBERS)
    elif how == "fill" and array.dtype.kind == "f":
        array[...] = dice.choice(ODD_NUMBERS)
    elif how == "shape":
        arrays[name] = array.reshape(dice.choice(((-1,), (1, -1), (-1, 1), (1, 1, -1), array.T.shape)))
    elif how == "cut":
        arrays[name] = array[: dice.randrange(len(array) + 1)]
    elif how == "type":
        with np.errstate(all="ignore"):
            arrays[name] = array.astype(dice.choice((np.float64, np.float16, np.int64, np.uint8, np.bool_)))
    elif how == "drop":
        del arrays[name]
    elif how in ("add", "rename"):
        arrays["" if how == "add" else "x" * 50] = arrays.pop(name) if how == "rename" else np.zeros((0, 3), np.float32)
    else:
        other = dice.choice(sorted(arrays))
        arrays[name], arrays[other] = arrays[other], arrays[name]
    with np.errstate(all="ignore"):
        save_file({key: np.ascontiguousarray(value) for key, value in arrays.items()}, file)
    return f"{how} {name}"


class Bench:
    """A sound run, the features of its photos, and what is expected of a damaged copy."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs: list[Path] = []
        photos = draw_folder(folder / "photos", dict.fromkeys(SHAPES, 20))
        for head in ("logistic", "knn"):
            self.runs.append(
                train(photos, folder / head, TrainConfig(effort="quick", val=0.2, head=head)).path or Path()
            )
            shutil.rmtree(self.runs[-1] / "logs")
        self._sound = Classifier.load(self.runs[0])
        self._x: NDArray[np.float32] = self._sound.features(Dataset.open(photos).records[::7])[0]

    def case(self, number: int) -> tuple[str, str]:
        """Damage a copy of a run, and read it: what was done, and how it ended."""
        dice = random.Random(number)
        run = Path(shutil.copytree(dice.choice(self.runs), self.folder / "damaged"))
        try:
            done = mutate(run, dice)
            return done, self._read(run)
        finally:
            shutil.rmtree(run)

    def _read(self, run: Path) -> str:
        ends = []
        for reads in (self._answers, lambda run: describe(str(run)), read_split):
            found, told = None, "read"
            try:
                found = reads(run)
            except RegraftError as error:
                told = str(error)
            assert told.strip(), "an error that says nothing"
            assert "\n" not in told, f"more than one line: {told}"
            ends.append("read" if told == "read" else "told")
            if isinstance(found, dict):
                json.dumps(found, allow_nan=False)
        return " ".join(ends)

    def _answers(self, run: Path) -> None:
        classifier = Classifier.load(run)
        assert classifier.backbone.fingerprint == self._sound.backbone.fingerprint
        answers = classifier.answers_to(self._x)
        assert answers.probabilities.shape == (len(self._x), len(classifier.classes))
        assert np.isfinite(answers.probabilities).all()
        np.testing.assert_allclose(answers.probabilities.sum(axis=1), 1, atol=1e-4)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, warm_cache: Path) -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGRAFT_CACHE", str(warm_cache))
        yield Bench(tmp_path_factory.mktemp("fuzz"))


def _tried(bench: Bench, number: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGRAFT_CACHE", str(bench.folder / "no-cache"))
        bench.case(number)


@pytest.mark.parametrize("number", KEPT)
def test_what_was_wrong_once_is_right(number: int, bench: Bench) -> None:
    _tried(bench, number)


def test_a_run_that_is_damaged_at_random_is_read_or_told(bench: Bench) -> None:
    @settings(max_examples=300, deadline=None, database=None)
    @given(st.integers(0, 2**32))
    @example(0)
    def tried(number: int) -> None:
        _tried(bench, number)

    tried()


def fuzz_runs(minutes: float, first: int | None = None) -> dict[str, Any]:
    """Try damaged runs for some minutes.

    Returns:
        How many cases were tried, how they ended, the longest in seconds, and of those that ended otherwise than by an
        answer or a typed error the number, what was done, and the last lines of the traceback.
    """
    number = random.SystemRandom().randrange(2**31) if first is None else first
    ends: Counter[str] = Counter()
    wrong: list[dict[str, Any]] = []
    slowest = (0.0, -1)
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGRAFT_CACHE", str(Path(name) / "cache"))
        bench = Bench(Path(name))
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end:
            start = time.monotonic()
            try:
                ends[bench.case(number)[1]] += 1
            except Exception:
                wrong.append({"number": number, "traceback": traceback.format_exc().splitlines()[-6:]})
            slowest = max(slowest, (time.monotonic() - start, number))
            number += 1
    return {"cases": sum(ends.values()) + len(wrong), "ends": dict(ends), "slowest": slowest, "wrong": wrong}
