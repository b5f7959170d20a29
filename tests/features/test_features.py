from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from regraft.backbones.base import load_backbone
from regraft.engines.openvino import OpenVinoEngine
from regraft.features.feature_cache import FeatureCache
from regraft.features.features import extract
from regraft.features.parts import LOOK
from regraft.photos.dataset import Dataset


def engine() -> OpenVinoEngine:
    return OpenVinoEngine(load_backbone("efficientnet_lite0"))


def parts(cache: Path) -> list[Path]:
    return sorted((cache / "features").rglob("part-*.parquet"))


def test_what_is_known_is_never_computed_again(photos: Path, tmp_path: Path, cache: Path) -> None:
    first = extract(Dataset.open(photos).records, engine())
    assert (first.computed, first.cached, first.problems) == (60, 0, ())
    moved = shutil.copytree(photos, tmp_path / "moved")
    (moved / "circle").rename(moved / "원")
    (moved / "Square" / "000.jpg").rename(moved / "Square" / "new name.png")
    records = Dataset.open(moved).records
    second = extract(records, engine())
    assert (second.computed, second.cached) == (0, 60)
    by_digest = dict(zip((r.digest for r in Dataset.open(photos).records), first.x, strict=True))
    assert all(np.array_equal(by_digest[r.digest], row) for r, row in zip(records, second.x, strict=True))


def test_ten_new_photos_compute_ten(photos: Path, tmp_path: Path, cache: Path) -> None:
    from tests.conftest import draw_folder

    root = shutil.copytree(photos, tmp_path / "p")
    extract(Dataset.open(root).records, engine())
    draw_folder(root / "more", {"circle": 10}, seed=777)
    shutil.copytree(root / "more" / "circle", root / "circle" / "more")
    shutil.rmtree(root / "more")
    found = extract(Dataset.open(root).records, engine())
    assert (found.computed, found.cached) == (10, 60)


def test_byte_equal_photos_are_computed_once(photos: Path, tmp_path: Path, cache: Path) -> None:
    root = shutil.copytree(photos, tmp_path / "p")
    shutil.copy(root / "circle" / "000.jpg", root / "Square" / "twin.jpg")
    found = extract(Dataset.open(root).records, engine())
    assert (found.computed, found.cached) == (60, 1)
    assert not np.isnan(found.x).any()


def test_a_bad_photo_is_a_problem_and_stops_nothing(photos: Path, tmp_path: Path, cache: Path) -> None:
    root = shutil.copytree(photos, tmp_path / "p")
    whole = (root / "circle" / "000.jpg").read_bytes()
    (root / "circle" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    for computed in (60, 0):  # cold, then warm: the problem is told each time
        found = extract(Dataset.open(root).records, engine())
        assert [p.path.name for p in found.problems] == ["cut.jpg"]
        assert found.problems[0].reason.startswith("damaged")
        assert np.isnan(found.x[:, 0]).sum() == 1
        assert (found.computed, found.cached) == (computed, 60 - computed)


def test_a_file_that_changed_meanwhile_is_not_cached_under_its_old_digest(
    photos: Path, tmp_path: Path, cache: Path
) -> None:
    root = shutil.copytree(photos, tmp_path / "p")
    records = Dataset.open(root).records
    shutil.copy(root / "circle" / "000.jpg", root / "Square" / "000.jpg")
    (problem,) = extract(records, engine()).problems
    assert "changed" in problem.reason


def test_a_damaged_part_is_set_aside_and_computed_again(
    photos: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    records = Dataset.open(photos).records
    first = extract(records, engine())
    (part,) = parts(cache)
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 0xFF  # one bit of one feature: only a checksum can tell
    part.write_bytes(data)
    second = extract(records, engine())
    assert "set aside" in caplog.text
    assert second.computed == 60
    assert np.array_equal(first.x, second.x)
    assert part.with_suffix(".damaged").exists()
    assert extract(records, engine()).cached == 60


@pytest.mark.parametrize("size", [0, 4, 1000])
def test_a_cut_off_part_is_set_aside(photos: Path, cache: Path, size: int) -> None:
    records = Dataset.open(photos).records
    extract(records, engine())
    (part,) = parts(cache)
    os.truncate(part, size)
    assert extract(records, engine()).computed == 60


def test_what_is_being_written_is_not_read(photos: Path, cache: Path) -> None:
    records = Dataset.open(photos).records
    extract(records, engine())
    (part,) = parts(cache)
    part.rename(part.with_name(".tmp-half"))
    assert extract(records, engine()).computed == 60


def test_precisions_do_not_share_rows(photos: Path, cache: Path) -> None:
    records = Dataset.open(photos).records[:3]
    backbone = load_backbone("efficientnet_lite0")
    extract(records, OpenVinoEngine(backbone, "f32"))
    assert extract(records, OpenVinoEngine(backbone, "bf16")).computed == 3


def test_two_processes_may_share_the_folder(photos: Path, cache: Path) -> None:
    script = (
        "import sys; from regraft.photos.dataset import Dataset; from regraft.engines.openvino import OpenVinoEngine;"
        "from regraft.backbones.base import load_backbone; from regraft.features.features import extract;"
        "e = extract(Dataset.open(sys.argv[1]).records, OpenVinoEngine(load_backbone('efficientnet_lite0')));"
        "print(e.computed + e.cached)"
    )
    both = [subprocess.Popen([sys.executable, "-c", script, photos], stdout=subprocess.PIPE) for _ in range(2)]
    assert [int(p.communicate(timeout=120)[0]) for p in both] == [60, 60]
    assert extract(Dataset.open(photos).records, engine()).cached == 60


def test_rows_come_back_bit_for_bit() -> None:
    cache = FeatureCache("f" * 64, 5)
    rows = np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32)
    looks = np.zeros(300, LOOK)
    looks["width"], looks["thumbnail"] = np.arange(300), np.arange(300)[:, np.newaxis, np.newaxis] % 256
    digests = [f"{i:064x}" for i in range(300)]
    with cache.writer() as write:
        for digest, row, look in zip(digests, rows, looks, strict=True):
            write(digest, (row, look))
    assert len(list(cache.folder.glob("part-*.parquet"))) == 2
    read = cache.read([*digests[50:], "0" * 63 + "x"])
    found = {d: row for part in read for d, *row in zip(part.digests, part.x, part.looks, strict=True)}
    assert set(found) == set(digests[50:])
    assert all(np.array_equal(row, rows[int(d, 16)]) and look == looks[int(d, 16)] for d, (row, look) in found.items())


def test_an_error_in_a_worker_reaches_the_caller(photos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no such luck")

    monkeypatch.setattr(OpenVinoEngine, "_compile", broken)
    with pytest.raises(RuntimeError, match="no such luck"):
        extract(Dataset.open(photos).records, engine())


def test_a_kill_loses_no_finished_part(photos: Path, cache: Path, tmp_path: Path) -> None:
    """A real process, really killed, until one gets through: all photos but one part's are computed once."""
    script = (
        "import sys; from regraft.features import feature_cache, features; feature_cache.PART_ROWS = 8;"
        "from regraft.photos.dataset import Dataset; from regraft.engines.openvino import OpenVinoEngine;"
        "from regraft.backbones.base import load_backbone;"
        "e = features.extract(Dataset.open(sys.argv[1]).records, OpenVinoEngine(load_backbone('efficientnet_lite0')));"
        "print(e.computed)"
    )
    known = 0
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", script, photos], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while len(parts(cache)) <= known and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        known = len(parts(cache))
    assert known >= 1
    found = extract(Dataset.open(photos).records, engine())
    assert found.cached >= 8 * min(known, 7)
    assert found.computed + found.cached == 60
    assert not np.isnan(found.x).any()
