"""A fine-tuning that is under way → its newest checkpoint, measured again and again.

In: the folder it writes to, and photos. Out: one evaluation a checkpoint, also as a TensorBoard run.
Why: whoever trains for an hour wants to see on other photos whether it is worth the next one.
Surprise: checkpoints are soon gone, so what they compute goes to a cache that is thrown away.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from regraft._files import as_path, scratch_cache
from regraft._levels import Levels
from regraft._tensorboard import EventFile
from regraft.begun import read_begun
from regraft.calibration import Calibration
from regraft.classifier import Classifier
from regraft.dataset import Dataset, takes_levels
from regraft.errors import ConfigError, RunError
from regraft.evaluation import Evaluation, evaluate, open_side
from regraft.finetuning import SHOWN, linear_options, tuned_backbone
from regraft.run_folder import LAYOUT, is_run, is_unfinished, read_head


def follow(
    run: str | os.PathLike[str],
    photos: str | os.PathLike[str] | Dataset,
    seconds: float | None = None,
    levels: Mapping[str, str] | None = None,
) -> Iterator[tuple[int, Evaluation]]:
    """Measure the newest checkpoint, and each newer one until the fine-tuning is finished.

    Args:
        run: the folder that `finetune` writes to.
        photos: what to measure on; of a spec whose photos have sides of their own, test, or else val.
        seconds: how often to look for a newer one; None measures the newest and ends.
        levels: which folders name classes and groups, in place of what the run says: values for `Levels`.

    Yields:
        The epoch, and what was measured after it; of a finished run also what came out in the end.

    Raises:
        ConfigError: ``seconds`` is no time.
        DataError: the photos cannot be measured.
        RunError: there is no checkpoint yet and ``seconds`` is None, or ``run`` is neither under way nor finished.
    """
    folder = as_path(run, "the run")
    if seconds is not None and seconds <= 0:
        raise ConfigError(f"watch {seconds:g} is no time; type, for example, --watch 30")
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
    run = folder if is_run(folder) else read_begun(folder).run
    own = {"label_from": Classifier.load(run).config.label_from} if takes_levels(photos) else {}
    return open_side(photos, levels=Levels(**{**own, **levels}))


def _finished(folder: Path) -> tuple[int, Classifier]:
    classifier = Classifier.load(folder)
    return int(classifier.metrics.get("finetuned", {}).get("epochs", 0)), classifier


def _newest(folder: Path, scratch: Path) -> tuple[int, Classifier | None]:
    """The newest checkpoint as a classifier; None where there is none, or it was removed while it was read."""
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
