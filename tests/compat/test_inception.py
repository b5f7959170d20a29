"""Shards, training by steps, measuring: post 001's commands, killed and gone on with as well."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from regraft.photos.dataset import Dataset
from tests.compat.conftest import Old
from tests.conftest import SHAPES, draw_folder

accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
needs_tensorflow = pytest.mark.skipif(find_spec("tensorflow") is None, reason="needs the extra tensorflow")
SMALL = ("--architecture=efficientnet_lite0", "--image_size=96", "--batch_size=8", "--fine_tune")
RATES = ("--initial_learning_rate=0.001", "--num_epochs_per_decay=1", "--learning_rate_decay_factor=0.5")


@pytest.fixture
def shards(photos: Path, tmp_path: Path, old: Old) -> Path:
    """60 photos to train on, 15 to measure."""
    draw_folder(tmp_path / "val", dict.fromkeys(SHAPES, 5), seed=500)
    (tmp_path / "val" / "circle" / "notes.png").write_text("no photo")
    command = ("--train_directory", photos, "--validation_directory", "val", "--output_directory", "shards")
    done = old("build_image_data", *command, "--train_shards", "3")
    assert re.search(r"SKIPPED: val.circle.notes.png: not an image", done.stdout)
    assert "shards: 60 images in 3 train shards" in done.stdout
    assert "shards: 15 images in 2 validation shards" in done.stdout
    return tmp_path / "shards"


def test_shards_are_those_of_the_old_pipeline(shards: Path, photos: Path, old: Old) -> None:
    assert (shards / "labels.txt").read_text(encoding="utf-8").split() == ["background", "Square", "circle", "줄무늬"]
    files = {f"{side}-0000{i}-of-0000{n}" for side, n in (("train", 3), ("validation", 2)) for i in range(n)}
    assert {path.name for path in shards.iterdir()} == {*files, "labels.txt", "shards.json"}
    found = Dataset.open(shards)
    assert {side: sum(r.split == side for r in found.records) for side in ("train", "val")} == {"train": 60, "val": 15}
    same = ("--train_directory", photos, "--validation_directory", photos, "--output_directory", "other")
    assert "is to be both train and validation" in old("build_image_data", *same, code=1).stderr
    into = ("--train_directory", photos, "--validation_directory", "val", "--output_directory", "val")
    assert (
        "is not a folder of shards, so it is not overwritten; type another --output_directory"
        in old("build_image_data", *into, code=1).stderr
    )


@needs_tensorflow
def test_training_by_steps_tells_what_it_told(shards: Path, tmp_path: Path, old: Old) -> None:
    command = ("--data_dir", shards, "--train_dir", "train", *SMALL, *RATES, "--max_steps", "15", "--num_readers=8")
    done = old("inception_train", *command, "--pretrained_model_checkpoint_path=models/inception-v3/model.ckpt-157585")
    assert "checkpoints of TensorFlow 1 are not read" in done.stderr
    line = r"step (\d+), loss = \d+\.\d\d \([\d.]+ examples/sec; [\d.]+ sec/batch\)"
    assert re.findall(line, done.stdout) == ["0", "10"]
    assert "--num_readers: photos are decoded once" in done.stderr
    curves = accumulators.EventAccumulator(str(tmp_path / "train")).Reload()
    assert set(curves.Tags()["scalars"]) == {"total_loss", "learning_rate"}
    history = json.loads((tmp_path / "train" / "model" / "history.json").read_text())
    assert [epoch["learning_rate"] for epoch in history[1:]] == [0.001, 0.0005, 0.00025]
    assert "holds a training that is finished" in old("inception_train", *command, code=1).stderr

    measure = ("--data_dir", shards, "--checkpoint_dir", "train", "--eval_dir", "eval")
    once = old("inception_eval", *measure, "--run_once").stdout
    found = re.search(r"precision @ 1 = ([\d.]+) recall @ 5 = 1\.0000 \[15 examples\]", once)
    assert found
    assert float(found[1]) > 0.7
    assert "[7 examples]" in old("inception_eval", *measure, "--num_examples=7", "--eval_interval_secs=1").stdout
    assert "[60 examples]" in old("inception_eval", *measure, "--subset=train", "--run_once").stdout
    drawn = accumulators.EventAccumulator(str(tmp_path / "eval")).Reload()
    assert set(drawn.Tags()["scalars"]) == {"Precision @ 1", "Recall @ 5"}


@needs_tensorflow
def test_killed_it_goes_on_from_its_checkpoint(shards: Path, tmp_path: Path, cache: Path, old: Old) -> None:
    command = ("--data_dir", str(shards), "--train_dir", "train", *SMALL, "--initial_learning_rate=0.001")
    settings = {key: value for key, value in os.environ.items() if key != "KERAS_BACKEND"}
    started = subprocess.Popen(
        [sys.executable, "-m", "regraft.compat.inception_train", *command],
        cwd=tmp_path,
        env={**settings, "REGRAFT_CACHE": str(cache)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    history, deadline = tmp_path / "train" / "model" / "checkpoints" / "history.json", time.monotonic() + 240
    while not history.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    measured = old("inception_eval", "--data_dir", shards, "--checkpoint_dir", "train", "--eval_dir", "e", "--run_once")
    started.send_signal(signal.SIGKILL)
    started.wait()
    assert "[15 examples]" in measured.stdout
    known = len(json.loads(history.read_text())) - 1  # passes over the photos, of seven steps each
    assert known > 0
    done = old("inception_train", *command, "--max_steps", str(7 * known + 4))
    steps = [int(step) for step in re.findall(r"step (\d+), loss", done.stdout)]
    assert all(step >= 7 * known for step in steps)
    assert len(json.loads((tmp_path / "train" / "model" / "history.json").read_text())) - 1 == known + 1
    assert "begun with another network" in old("inception_train", *_unfinished(tmp_path, command), code=1).stderr


def _unfinished(folder: Path, command: tuple[str, ...]) -> tuple[str, ...]:
    """The same training, as if it had just begun, with photos of another size."""
    (folder / "train" / "model" / "manifest.json").unlink()
    return (*command, "--image_size=128")


def test_what_cannot_be_is_told(shards: Path, photos: Path, old: Old) -> None:
    assert "type regraft-inception-eval" in old("inception_train", "--subset=validation", code=2).stderr
    assert "wanted at least 1" in old("inception_train", "--max_steps=0", code=2).stderr
    assert "batch_size is 0; wanted at least 1" in old("inception_train", "--batch_size=0", code=1).stderr
    assert "choose from train, validation" in old("inception_eval", "--subset=all", code=2).stderr
    nothing = ("--data_dir", shards, "--checkpoint_dir", "nowhere", "--eval_dir", "e", "--run_once")
    assert "nothing is fine-tuned in nowhere" in old("inception_eval", *nothing, code=1).stderr
    unsplit = ("--data_dir", photos, "--checkpoint_dir", "nowhere", "--eval_dir", "e", "--run_once")
    assert "has no validation photos of its own" in old("inception_eval", *unsplit, code=1).stderr
