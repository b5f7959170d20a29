"""The projector's files, read by TensorBoard itself: a process of its own, asked on 127.0.0.1."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regraft.classifiers.classifier import Classifier
from regraft.drawing.figures import has_matplotlib
from regraft.errors import RunError
from regraft.reporting import projector
from regraft.reporting.projector import write_projector
from tests.conftest import SHAPES, Command, draw_folder

accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
Ask = Callable[[str], bytes]


@contextmanager
def tensorboard(logs: Path) -> Iterator[Ask]:
    """Start TensorBoard on a free port; yields a function that returns the answer to a path of its HTTP API."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", logs, "--host", "127.0.0.1", "--port", "0"]
    with (logs.parent / "tensorboard.txt").open("w+b") as told:
        process = subprocess.Popen([*map(str, command), "--load_fast", "false"], stdout=told, stderr=told)
        try:
            place = None
            for _ in range(300):
                told.seek(0)
                if place := re.search(rb"http://127\.0\.0\.1:\d+/", told.read()):
                    break
                time.sleep(0.2)
            assert place, "TensorBoard did not start"
            address = place[0].decode()

            def ask(path: str) -> bytes:
                with urllib.request.urlopen(f"{address}data/plugin/projector/{path}", timeout=60) as answer:
                    data: bytes = answer.read()
                    return data

            yield ask
        finally:
            process.terminate()
            process.wait(30)


def test_tensorboard_serves_the_projector(tmp_path: Path, regraft: Command) -> None:
    photos = draw_folder(tmp_path / "photos", dict.fromkeys(SHAPES, 12))
    odd = photos / "circle" / 'tab\there\nand <b>".jpg'
    (photos / "circle" / "000.jpg").rename(odd)
    done = regraft("train", "photos", "--effort", "quick", "--val", "0.2", "--out", "run", "--projector")
    assert "tensorboard --logdir" in done.stderr
    logs = tmp_path / "run" / "logs"
    with tensorboard(logs) as ask:
        for _ in range(100):  # TensorBoard finds the runs in the background
            if "projector" in json.loads(ask("runs")):
                break
            time.sleep(0.2)
        (found,) = json.loads(ask("info?run=projector"))["embeddings"]
        assert found["tensorName"] == "features"
        n, d = found["tensorShape"]
        assert n == 36
        x = np.frombuffer(ask("tensor?run=projector&name=features"), np.float32).reshape(n, d)
        assert np.isfinite(x).all()
        assert len(np.unique(x, axis=0)) == n
        rows = [line.split("\t") for line in ask("metadata?run=projector&name=features").decode().splitlines()]
        assert rows[0] == ["label", "split", "path"]
        assert len(rows) == n + 1
        assert {len(row) for row in rows} == {3}
        assert {row[1] for row in rows[1:]} == {"train", "val", "test"}
        assert any(row[2].endswith('tab\\there\\nand <b>".jpg') for row in rows)
        with Image.open(io.BytesIO(ask("sprite_image?run=projector&name=features"))) as sprite:
            assert sprite.size == (6 * 64, 6 * 64)
    if has_matplotlib():
        events = accumulators.EventAccumulator(str(logs / "projector")).Reload()
        assert "confusion matrix" in events.Tags()["images"]


def test_many_photos_are_thinned_and_their_thumbnails_shrink(
    tmp_path: Path, photos: Path, regraft: Command, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(projector, "MOST_POINTS", 20)
    monkeypatch.setattr(projector, "_MOST_SPRITE", 100)
    copy = shutil.copytree(photos, tmp_path / "copy")
    regraft("train", copy, "--effort", "quick", "--out", "run")
    assert write_projector(Classifier.load(tmp_path / "run")) == 20
    assert "the projector shows 20 of 60 photos" in caplog.text
    folder = tmp_path / "run" / "logs" / "projector"
    with Image.open(folder / "sprite.png") as sprite:
        assert sprite.size == (100, 100)
    assert len((folder / "metadata.tsv").read_text().splitlines()) == 21
    assert "single_image_dim: 20" in (folder / "projector_config.pbtxt").read_text()


def test_a_classifier_without_a_run_is_one_line(tmp_path: Path, photos: Path, regraft: Command) -> None:
    regraft("train", photos, "--effort", "quick", "--out", "run")
    with pytest.raises(RunError, match="has no run folder"):
        write_projector(replace(Classifier.load(tmp_path / "run"), path=None))
