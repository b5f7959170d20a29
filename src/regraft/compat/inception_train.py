"""``regraft-inception-train``: train all layers of a network on shards for a number of steps, as ``flowers_train.py``.

The training begins with the backbone and a head that is fitted on its features. ``regraft-inception-eval`` measures its
checkpoints in ``--train_dir``. A stopped training continues from the newest checkpoint with the same command.
"""

from __future__ import annotations

import datetime
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from regraft.classifiers.classifier import Classifier
from regraft.classifiers.run_folder import is_run
from regraft.cli.arguments import UsageError
from regraft.compat._flags import Flag, parse_flags
from regraft.compat._main import entry
from regraft.compat._names import backbone_of_architecture
from regraft.config.finetuning import FinetuneConfig
from regraft.config.training import TrainConfig
from regraft.errors import RunError
from regraft.finetuning.finetuning import finetune
from regraft.finetuning.pace import Course
from regraft.foundation import console
from regraft.foundation.tensorboard import EventFile
from regraft.training.preparation import whole_spec
from regraft.training.training import train

MODEL = "model"
"""The name of the fine-tuned run's folder in ``--train_dir``."""
_FROZEN = "frozen"
"""The name of the folder in ``--train_dir`` of the run from which training starts."""
_PRINT_EVERY, _SUMMARY_EVERY = 10, 100  # steps
_MAX_STEPS_PER_CHECKPOINT = 5000
_NO_EARLY_STOPPING = 10**9
"""A patience, in checkpoints, that never ends a training early."""

_CACHED = "photos are decoded once, on all cores, and cached; there is no queue"

FLAGS = (
    Flag("train_dir", "/tmp/imagenet_train", "folder for the runs, the checkpoints and TensorBoard's events"),
    Flag("max_steps", 10_000_000, "number of steps; to finish a stopped training early, type fewer steps"),
    Flag("subset", "train", "train; no other side of the split can be trained on"),
    Flag("num_gpus", 1, "nothing", "TensorFlow trains on one device, JAX on all that it finds"),
    Flag("log_device_placement", False, "nothing", "no operation is placed on a device by hand"),
    Flag("fine_tune", False, "start from pretrained weights; otherwise from random weights, unless a file is given"),
    Flag(
        "pretrained_model_checkpoint_path", "", "file of weights that Keras saved; by default Keras' ImageNet weights"
    ),
    Flag(
        "initial_learning_rate",
        0.1,
        "first learning rate of RMSprop (momentum 0.9, epsilon 1); to fine-tune, try 0.001",
    ),
    Flag(
        "num_epochs_per_decay", 30.0, "number of epochs after which the learning rate is multiplied by the decay factor"
    ),
    Flag("learning_rate_decay_factor", 0.16, "decay factor of the learning rate"),
    Flag("batch_size", 32, "batch size; it is halved where memory is too short"),
    Flag("image_size", 299, "side of the photos in pixels"),
    Flag("num_preprocess_threads", 4, "nothing", _CACHED),
    Flag("num_readers", 4, "nothing", _CACHED),
    Flag("input_queue_memory_factor", 16, "nothing", _CACHED),
    Flag("data_dir", "/tmp/mydata", "shards of regraft-build-image-data, or any other source of photos"),
    Flag("architecture", "inception_v3", "any backbone of regraft; the original command had only Inception-v3"),
)


def inception_train(tokens: Sequence[str]) -> int:
    """Train all layers of a network, and print the validation accuracy. Raises RegraftError."""
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
    course = Course(
        options.max_steps, min(_MAX_STEPS_PER_CHECKPOINT, passing), _Rate(options, passing), _Printed(options, curves)
    )
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
    """Return the classifier from which training starts: the frozen backbone with a fitted head.

    It is trained when the command is run for the first time, and loaded after that.

    Raises:
        RunError: ``folder`` holds a classifier with another network, or of other photos.
    """
    wanted = TrainConfig(
        backbone=backbone_of_architecture(options.architecture),
        resolution=options.image_size,
        weights=_weights(options),
        test=0.0,
        folds=0,
    )
    if not is_run(folder):
        return train(options.data_dir, folder, wanted)
    found = Classifier.load(folder)
    if replace(found.config, backbone=wanted.backbone) != wanted or found.source != whole_spec(options.data_dir):
        raise RunError(f"{folder.parent} was begun with another network or other photos; type another --train_dir")
    return found


def _weights(options: Namespace) -> str:
    """Return the option ``weights``: a file, an empty string for ImageNet weights, or ``none`` for random weights."""
    path: str = options.pretrained_model_checkpoint_path
    if ".ckpt" in Path(path).name:
        console.say(f"{path}: checkpoints of TensorFlow 1 are not read; Keras has ImageNet's weights of that network")
        path = ""
    return path if path or options.fine_tune else "none"


def _config(options: Namespace) -> FinetuneConfig:
    """Return the fine-tuning options with which Inception-v3 was trained.

    One differs: batch normalisation stays frozen where training starts from pretrained weights.
    """
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
        patience=_NO_EARLY_STOPPING,
    )


class _Rate:
    """The learning rate of a step: it falls by a factor after each ``--num_epochs_per_decay`` epochs.

    Args:
        options: the values of the flags.
        passing: the number of steps in an epoch.
    """

    def __init__(self, options: Namespace, passing: int) -> None:
        self._options, self._steps = options, max(1, round(passing * options.num_epochs_per_decay))

    def __call__(self, step: int) -> float:
        factor = self._options.learning_rate_decay_factor ** (step // self._steps)
        return float(self._options.initial_learning_rate * factor)


class _Printed:
    """Prints a line on a step, and writes TensorBoard summaries, in the form of the original command."""

    def __init__(self, options: Namespace, curves: EventFile) -> None:
        self._options, self._curves = options, curves

    def __call__(self, step: int, loss: float, rate: float, seconds: float) -> None:
        if step % _PRINT_EVERY == 0:
            speed = f"{self._options.batch_size / seconds:.1f} examples/sec; {seconds:.3f} sec/batch"
            sys.stdout.write(f"{datetime.datetime.now()}: step {step}, loss = {loss:.2f} ({speed})\n")
            sys.stdout.flush()
        if step % _SUMMARY_EVERY == 0:
            self._curves.scalars(step, {"total_loss": loss, "learning_rate": rate})


main: Callable[..., int] = entry(
    "regraft-inception-train",
    inception_train,
    {
        "learning_rate": "--initial_learning_rate",
        "weights": "--pretrained_model_checkpoint_path",
        "resolution": "--image_size PIXELS",
        "out": "--train_dir",
        "overwrite": "another --train_dir",
        "photos": "--data_dir",
        "disk": "fewer photos",
    },
)


if __name__ == "__main__":
    sys.exit(main())
