"""``regraft-inception-eval``: measure each new checkpoint of ``regraft-inception-train``, each photo once."""

from __future__ import annotations

import datetime
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from regraft.classifiers.evaluation import Evaluation
from regraft.cli.arguments import UsageError
from regraft.compat._flags import Flag, parse_flags
from regraft.compat._main import entry
from regraft.compat.inception_train import MODEL
from regraft.errors import DataError
from regraft.finetuning.watching import follow
from regraft.foundation.tensorboard import EventFile
from regraft.photos.dataset import Dataset
from regraft.photos.sources.base import Side

_TRAINED = "the size is that of the training"
_CACHED = "photos are decoded on all cores; there is no queue"
_SIDES: dict[str, Side] = {"train": "train", "validation": "val"}

FLAGS = (
    Flag("eval_dir", "/tmp/imagenet_eval", "folder for TensorBoard's events"),
    Flag("checkpoint_dir", "/tmp/imagenet_train", "the --train_dir of the training"),
    Flag("eval_interval_secs", 300, "seconds between looks for a newer checkpoint, until the training is finished"),
    Flag("run_once", False, "measure the newest checkpoint, and end"),
    Flag("num_examples", 50_000, "the most photos to measure on"),
    Flag("subset", "validation", "validation or train"),
    Flag("data_dir", "/tmp/mydata", "shards, or any other source of photos that has a split of its own"),
    Flag("batch_size", 32, "nothing", _CACHED),
    Flag("image_size", 299, "nothing", _TRAINED),
    Flag("num_preprocess_threads", 4, "nothing", _CACHED),
    Flag("num_readers", 4, "nothing", _CACHED),
    Flag("input_queue_memory_factor", 16, "nothing", _CACHED),
)


def inception_eval(tokens: Sequence[str]) -> int:
    """Print precision @ 1 and recall @ 5 of each checkpoint. Raises RegraftError."""
    options = parse_flags("regraft-inception-eval", "Measure checkpoints.", FLAGS, tokens)
    if options.subset not in _SIDES:
        raise UsageError(f"unknown subset {options.subset!r}; choose from {', '.join(_SIDES)}")
    interval = None if options.run_once else options.eval_interval_secs
    curves = EventFile(Path(options.eval_dir))
    try:
        for number, found in follow(Path(options.checkpoint_dir) / MODEL, _photos(options), interval):
            _tell(found)
            curves.scalars(number, {"Precision @ 1": found.accuracy or 0.0, "Recall @ 5": _recall(found)})
    finally:
        curves.close()
    return 0


def _photos(options: Namespace) -> Dataset:
    """Return the photos of the subset, at most ``--num_examples``: which ones depends on their content alone."""
    dataset = Dataset.open(options.data_dir)
    of_side = [record for record in dataset.records if record.split == _SIDES[options.subset]]
    if not of_side:
        raise DataError(f"{options.data_dir} has no {options.subset} photos of its own; see regraft-build-image-data")
    records = tuple(sorted(of_side, key=lambda record: record.digest)[: max(1, options.num_examples)])
    return replace(dataset, records=records, classes=tuple(sorted({record.label for record in records})))


def _recall(found: Evaluation) -> float:
    """Return the recall @ 5: the share of photos with their class among the first five; 1 for five classes or fewer."""
    return 1.0 if found.top5 is None else found.top5


def _tell(found: Evaluation) -> None:
    """Print the figures of a checkpoint in the form of the original command."""
    if found.accuracy is None:
        raise DataError("none of the photos can be read")
    now, figures = datetime.datetime.now(), f"precision @ 1 = {found.accuracy:.4f} recall @ 5 = {_recall(found):.4f}"
    sys.stdout.write(f"{now}: {figures} [{found.n} examples]\n")
    sys.stdout.flush()


main: Callable[..., int] = entry("regraft-inception-eval", inception_eval)


if __name__ == "__main__":
    sys.exit(main())
