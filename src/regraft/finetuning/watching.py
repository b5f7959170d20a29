"""Measure the checkpoints of a fine-tuning on photos while the fine-tuning goes on.

In: the folder that the fine-tuning writes to, and photos. Out: one evaluation for each checkpoint, also in TensorBoard.
Why: the accuracy on other photos shows during a long training whether it is worth continuing.
Surprise: a checkpoint is soon replaced, so its features go to a temporary cache, which is deleted at the end.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from regraft.classifiers.calibration import Calibration
from regraft.classifiers.classifier import Classifier
from regraft.classifiers.evaluation import Evaluation, evaluate, open_side
from regraft.classifiers.run_folder import LAYOUT, is_run, is_unfinished, read_head
from regraft.config.levels import Levels
from regraft.errors import ConfigError, RunError, option
from regraft.finetuning.begun import read_begun
from regraft.finetuning.conclusion import linear_options, tuned_backbone
from regraft.finetuning.finetuning import SHOWN
from regraft.foundation.files import as_path, scratch_cache
from regraft.foundation.tensorboard import EventFile
from regraft.photos.dataset import Dataset, takes_levels


def follow(
    run: str | os.PathLike[str],
    photos: str | os.PathLike[str] | Dataset,
    seconds: float | None = None,
    levels: Mapping[str, str] | None = None,
) -> Iterator[tuple[int, Evaluation]]:
    """Measure the newest checkpoint of a fine-tuning, and each newer one until the fine-tuning is finished.

    Args:
        run: the folder that `finetune` writes to.
        photos: the labelled photos to measure on; of a spec whose photos have a split of their own, its test photos,
            or its val photos where it has no test photos.
        seconds: the seconds between two looks for a newer checkpoint; None measures the newest checkpoint and ends.
        levels: which folders name classes and groups: values for `Levels`, which replace those of the run.

    Yields:
        The number of the epoch, and the evaluation of its checkpoint; at the end, the evaluation of the finished run.

    Raises:
        ConfigError: ``seconds`` is not above 0.
        DataError: the photos cannot be measured.
        RunError: there is no checkpoint yet and ``seconds`` is None, or ``run`` is neither an unfinished fine-tuning
            nor a run.
    """
    folder = as_path(run, "the run")
    if seconds is not None and seconds <= 0:
        raise ConfigError(f"{seconds:g} seconds are not above 0; type, for example, {option('watch', '30')}")
    if not is_unfinished(folder) and not is_run(folder):
        raise RunError(f"nothing is fine-tuned in {folder}; `regraft finetune RUN --out {folder}` does")
    dataset, last = photos if isinstance(photos, Dataset) else _opened(folder, os.fspath(photos), levels or {}), -1
    curves = EventFile(folder / LAYOUT.logs / "eval")
    with scratch_cache() as scratch:
        try:
            while True:
                finished = is_run(folder)
                epoch, classifier = _finished(folder) if finished else _newest(folder, scratch)
                if classifier and (finished or epoch != last):
                    found, _ = evaluate(classifier, dataset)
                    _draw(curves, epoch, found)
                    yield epoch, found
                    last = epoch
                if finished or (seconds is None and classifier):
                    return
                if seconds is None:
                    raise RunError(f"{folder} has no checkpoint yet; there is one after each epoch")
                time.sleep(seconds)
        finally:
            curves.close()


def _opened(folder: Path, photos: str, levels: Mapping[str, str]) -> Dataset:
    """Return the photos to measure on; ``label_from`` is by default that of the run from which training started."""
    run = folder if is_run(folder) else read_begun(folder).run
    own = {"label_from": Classifier.load(run).config.label_from} if takes_levels(photos) else {}
    return open_side(photos, levels=Levels(**{**own, **levels}))


def _finished(folder: Path) -> tuple[int, Classifier]:
    """Return the number of trained epochs and the classifier of a finished run."""
    classifier = Classifier.load(folder)
    return int(classifier.metrics.get("finetuned", {}).get("epochs", 0)), classifier


def _newest(folder: Path, scratch: Path) -> tuple[int, Classifier | None]:
    """Return the epoch and the classifier of the newest checkpoint.

    The classifier is None where there is no checkpoint, or the training removed it while it was copied.
    """
    found = sorted(folder.glob(f"{SHOWN}*"))
    if not found:
        return 0, None
    own = scratch / found[-1].name
    try:
        shutil.copytree(found[-1], own, dirs_exist_ok=True)
    except (FileNotFoundError, shutil.Error):
        return 0, None
    before = Classifier.load(read_begun(folder).run)
    backbone = tuned_backbone(before, own / LAYOUT.backbone)
    head = read_head(own / LAYOUT.head, "logistic", len(before.classes), backbone.num_features)
    config = linear_options(before)
    number = int(own.name.rpartition("-")[2])
    return number, replace(before, backbone=backbone, head=head, config=config, int8=None, calibration=Calibration())


def _draw(curves: EventFile, epoch: int, found: Evaluation) -> None:
    values = {"accuracy": found.accuracy, "cross_entropy": found.log_loss, "top_5": found.top5}
    curves.scalars(epoch, {name: value for name, value in values.items() if value is not None})
