"""``regraft-inception-train``: all layers of a network trained by steps on shards, as ``flowers_train.py`` did it.

What it begins with is the network's own features and a head fitted to them; what `regraft-inception-eval` measures is
in ``--train_dir`` while it goes on. Stopped, the same command goes on from the newest checkpoint.
"""

from __future__ import annotations

import datetime
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from regraft import _console
from regraft._arguments import UsageError
from regraft._tensorboard import EventFile
from regraft.classifier import Classifier
from regraft.compat._flags import Flag, parse_flags
from regraft.compat._main import entry
from regraft.compat._names import backbone_of_architecture
from regraft.config import FinetuneConfig, TrainConfig
from regraft.errors import RunError
from regraft.finetuning import finetune
from regraft.optimisation import Course
from regraft.run_folder import is_run
from regraft.training import train, whole_spec

MODEL = "model"
"""The run's folder in ``--train_dir``."""
_FROZEN = "frozen"
_TOLD, _SUMMARISED, _SAVED = 10, 100, 5000
"""Steps between lines, summaries and, at most, checkpoints."""
_NEVER = 10**9
"""Passes over the photos."""

_CACHED = "photos are decoded once, on all cores, and cached; there is no queue"

FLAGS = (
    Flag("train_dir", "/tmp/imagenet_train", "folder for what is learned, TensorBoard's events in it"),
    Flag("max_steps", 10_000_000, "steps in all; stop when you like, and type fewer to finish with what is learned"),
    Flag("subset", "train", "train; there is nothing else to train on"),
    Flag("num_gpus", 1, "nothing", "TensorFlow trains on one device, JAX on all that it finds"),
    Flag("log_device_placement", False, "nothing", "nothing is placed by hand"),
    Flag(
        "fine_tune", False, "start from weights that are pretrained; otherwise they are random, unless a file is given"
    ),
    Flag("pretrained_model_checkpoint_path", "", "weights that Keras saved; by default ImageNet's, fetched by Keras"),
    Flag("initial_learning_rate", 0.1, "of RMSprop with momentum 0.9 and epsilon 1; to fine-tune, 0.001 is a start"),
    Flag("num_epochs_per_decay", 30.0, "passes over the photos after which the rate falls"),
    Flag("learning_rate_decay_factor", 0.16, "by which it falls"),
    Flag("batch_size", 32, "photos a step; halved where memory is short"),
    Flag("image_size", 299, "pixels"),
    Flag("num_preprocess_threads", 4, "nothing", _CACHED),
    Flag("num_readers", 4, "nothing", _CACHED),
    Flag("input_queue_memory_factor", 16, "nothing", _CACHED),
    Flag("data_dir", "/tmp/mydata", "shards of regraft-build-image-data, or any other source of photos"),
    Flag("architecture", "inception_v3", "any backbone of regraft; the old command had Inception-v3 alone"),
)


def inception_train(tokens: Sequence[str]) -> int:
    """Train. Raises RegraftError."""
    options = parse_flags("regraft-inception-train", "Train all layers of a network.", FLAGS, tokens)
    if options.subset != "train":
        raise UsageError(f"--subset {options.subset}: to measure it, type regraft-inception-eval")
    if options.max_steps < 1:
        raise UsageError(f"--max_steps is {options.max_steps}; wanted at least 1")
    folder, config = Path(options.train_dir), _config(options)
    if is_run(folder / MODEL):
        raise RunError(f"{folder} holds a training that is finished; type another --train_dir")
    before = _before(options, folder / _FROZEN)
    passing = max(1, before.metrics["counts"]["train"] // options.batch_size)
    curves = EventFile(folder)
    course = Course(options.max_steps, min(_SAVED, passing), _Rate(options, passing), _Told(options, curves))
    try:
        after = finetune(folder / _FROZEN, folder / MODEL, config, existing="resume", course=course)
    finally:
        curves.close()
    val = after.metrics["val"]
    if val["n"]:
        sys.stdout.write(f"Validation accuracy = {val['accuracy']:.1%} (N={val['n']})\n")
    sys.stdout.write(f"run: {after.path}\n")
    return 0


def _before(options: Namespace, folder: Path) -> Classifier:
    """The frozen network with a head that fits it; the same one each time the command is typed."""
    wanted = TrainConfig(
        backbone=backbone_of_architecture(options.architecture),
        resolution=options.image_size,
        weights=_weights(options),
        test=0.0,
    )
    if not is_run(folder):
        return train(options.data_dir, folder, wanted)
    found = Classifier.load(folder)
    if replace(found.config, backbone=wanted.backbone) != wanted or found.source != whole_spec(options.data_dir):
        raise RunError(f"{folder.parent} was begun with another network or other photos; type another --train_dir")
    return found


def _weights(options: Namespace) -> str:
    path: str = options.pretrained_model_checkpoint_path
    if ".ckpt" in Path(path).name:
        _console.say(f"{path}: checkpoints of TensorFlow 1 are not read; Keras has ImageNet's weights of that network")
        path = ""
    return path if path or options.fine_tune else "none"


def _config(options: Namespace) -> FinetuneConfig:
    """As Inception-v3 was trained, but for batch normalisation: of weights that are pretrained it keeps still."""
    return FinetuneConfig(
        thaw="all",
        learning_rate=options.initial_learning_rate,
        head_learning_rate=options.initial_learning_rate,
        batch_size=options.batch_size,
        batch_norm="frozen" if options.fine_tune else "trained",
        optimizer="rmsprop",
        weight_decay=4e-5,
        label_smoothing=0.1,
        dropout=0.2,
        mixup=0.0,
        augment="colour",
        patience=_NEVER,
    )


class _Rate:
    """Falls by a factor, all at once, after so many passes over the photos."""

    def __init__(self, options: Namespace, passing: int) -> None:
        self._options, self._steps = options, max(1, round(passing * options.num_epochs_per_decay))

    def __call__(self, step: int) -> float:
        factor = self._options.learning_rate_decay_factor ** (step // self._steps)
        return float(self._options.initial_learning_rate * factor)


class _Told:
    """What is printed and drawn of a step, as it was."""

    def __init__(self, options: Namespace, curves: EventFile) -> None:
        self._options, self._curves = options, curves

    def __call__(self, step: int, loss: float, rate: float, seconds: float) -> None:
        if step % _TOLD == 0:
            speed = f"{self._options.batch_size / seconds:.1f} examples/sec; {seconds:.3f} sec/batch"
            sys.stdout.write(f"{datetime.datetime.now()}: step {step}, loss = {loss:.2f} ({speed})\n")
            sys.stdout.flush()
        if step % _SUMMARISED == 0:
            self._curves.scalars(step, {"total_loss": loss, "learning_rate": rate})


main = entry(
    "regraft-inception-train",
    inception_train,
    {
        "--learning-rate": "--initial_learning_rate",
        "--weights": "--pretrained_model_checkpoint_path",
        "--resolution": "--image_size",
        "another --out": "another --train_dir",
        "type --overwrite to begin anew": "type another --train_dir",
        "; type --photos FOLDER": ": they were --data_dir",
    },
)


if __name__ == "__main__":
    sys.exit(main())
