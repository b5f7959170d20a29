"""Activations on disk: what is damaged is noticed and computed again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from regraft.engines.base import Loader
from regraft.errors import ConfigError
from regraft.finetuning import activations
from regraft.finetuning.activations import Activations, extract_maps, extract_pixels
from regraft.foundation.files import cache_folder
from regraft.photos.dataset import Dataset, ImageRecord
from regraft.photos.images import Transform

TRANSFORM = Transform(32, 1.0, "bilinear", (0, 0, 0), (1, 1, 1))


@pytest.fixture
def records(photos: Path) -> tuple[ImageRecord, ...]:
    return Dataset.open(photos).records


def pixels(records: tuple[ImageRecord, ...], disk: float = 1.0) -> np.ndarray:
    found = extract_pixels(records, TRANSFORM, disk)
    return np.stack([found[record.digest] for record in records])


class Echo:
    """An engine whose network returns the pixels that it gets."""

    fingerprint = "echo"
    backbone = SimpleNamespace(transform=TRANSFORM)

    def compute(self, loaders: Sequence[Loader]) -> Iterator[tuple[int, np.ndarray]]:
        yield from enumerate(loader() for loader in loaders)


def test_turned_photos_have_activations_of_their_own(records: tuple[ImageRecord, ...]) -> None:
    engine: Any = Echo()
    upright, turned = (extract_maps(records, engine, 1.0, turns) for turns in (0, 1))
    for record in records:
        np.testing.assert_array_equal(turned[record.digest], np.rot90(upright[record.digest]))


def part(suffix: str) -> Path:
    (found,) = cache_folder("activations").rglob(f"part-*{suffix}")
    return found


def zeroed(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[1000:1064] = bytes(64)
    path.write_bytes(data)


def shifted(path: Path) -> None:
    found = json.loads(path.read_text())
    digests = found["value"]["digests"]
    found["value"]["digests"] = digests[1:] + digests[:1]
    path.write_text(json.dumps(found))


def fewer(path: Path) -> None:
    np.save(path, np.load(path)[:5])


def made_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def made_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE: dict[str, tuple[str, Callable[[Path], None]]] = {
    "maps with zeros": (".npy", zeroed),
    "maps cut off": (".npy", lambda path: os.truncate(path, 5000)),
    "maps empty": (".npy", lambda path: os.truncate(path, 0)),
    "maps of other shape": (".npy", fewer),
    "maps that are a pipe": (".npy", made_pipe),
    "maps gone": (".npy", lambda path: path.unlink()),
    "digests shifted": (".json", shifted),
    "digests cut off": (".json", lambda path: os.truncate(path, 100)),
    "digests that are a folder": (".json", made_folder),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_activations_are_computed_again(
    name: str, records: tuple[ImageRecord, ...], caplog: pytest.LogCaptureFixture
) -> None:
    before = pixels(records)
    suffix, damage = DAMAGE[name]
    path = part(suffix)
    damage(path)
    assert np.array_equal(pixels(records), before)
    assert str(path) in caplog.text
    caplog.clear()
    assert np.array_equal(pixels(records), before)
    assert caplog.text == ""


def test_only_parts_with_a_photo_that_is_asked_for_are_opened(
    records: tuple[ImageRecord, ...], caplog: pytest.LogCaptureFixture
) -> None:
    pixels(records[:20])
    zeroed(part(".npy"))
    pixels(records[20:])
    assert caplog.text == ""


def test_activations_that_cannot_be_cached_are_temporary(
    records: tuple[ImageRecord, ...], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activations, "_PART_BYTES", 20 * 32 * 32 * 3)  # three parts
    expected = pixels(records)
    (folder,) = cache_folder("activations").iterdir()
    shutil.rmtree(folder)
    folder.write_text("in the way")
    assert np.array_equal(pixels(records), expected)
    assert caplog.text.count("cannot be written") == 1
    assert folder.read_text() == "in the way"


def test_no_more_than_the_disk_that_is_allowed(records: tuple[ImageRecord, ...]) -> None:
    with pytest.raises(ConfigError, match="disk allows"):
        pixels(records, disk=1e-5)


def test_what_was_written_is_read_without_a_second_look(tmp_path: Path) -> None:
    maps = np.arange(24, dtype=np.float16).reshape(2, 2, 2, 3)
    written = Activations(tmp_path)
    written.write(["a", "b"], list(maps))
    assert np.array_equal(written["b"], maps[1])
    again = Activations(tmp_path)
    assert "c" not in again
    assert np.array_equal(again["a"], maps[0])
