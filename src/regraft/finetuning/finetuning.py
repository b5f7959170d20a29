"""Fine-tuning: train the last blocks of a run's backbone and a linear head further, on the photos of the run.

In: a run folder. Out: a new `Classifier` and its run.
Why: frozen features distinguish best what ImageNet's classes distinguish; training the last blocks adds to that.
Surprise: the frozen blocks run once. Their activations are cached, and augmented as if they were photos: convolutions
commute with shifts, and nearly with mirroring.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from regraft.classifiers.classifier import Classifier, open_photos, run_path
from regraft.classifiers.metrics import Metrics, require_accuracy
from regraft.classifiers.paired_evaluation import compare_predictors, what_is_worse
from regraft.classifiers.run_folder import LAYOUT, is_run, is_unfinished
from regraft.config.features import seconds_of
from regraft.config.finetuning import FinetuneConfig
from regraft.config.values import options_of
from regraft.engines.keras_backend import trainable_keras
from regraft.errors import AccuracyError, RunError, TrainingError, option
from regraft.finetuning.begun import Begun, existing_option, read_begun, write_begun
from regraft.finetuning.conclusion import conclude, write_learned
from regraft.finetuning.epoch_logs import EpochLogs
from regraft.finetuning.folds import TunedFolds, discard, is_to_overwrite, tune_folds
from regraft.finetuning.history_plot import plot_history
from regraft.finetuning.pace import Course
from regraft.finetuning.starting_point import (
    Opened,
    in_floats,
    linear_head,
    require_fit,
    starting_point,
    with_features,
)
from regraft.finetuning.thawed_network import Photos, Thawed, affordable
from regraft.finetuning.training_loop import Epoch, Trainer, is_out_of_memory
from regraft.foundation import console
from regraft.foundation.documents import write_tensors
from regraft.foundation.files import as_path, atomic_folder, digest_json, write_json
from regraft.foundation.places import Product, Site, locked, require_free
from regraft.label_tools.corrections import carry_corrections
from regraft.photos.dataset import Dataset, ImageRecord
from regraft.photos.splitting import Split
from regraft.training.preparation import Clock

_FINETUNING = Product("a run folder", lambda folder: is_run(folder) or is_unfinished(folder))
SHOWN = f"{LAYOUT.checkpoints}/classifier-"
"""The path of the newest epoch's classifier, without the epoch's number: `follow` measures it during training."""


def finetune(
    run: str | os.PathLike[str] | Classifier,
    out: str | os.PathLike[str] | None = None,
    config: FinetuneConfig | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    photos: str | os.PathLike[str] | None = None,
    existing: str = "",
    as_trial: bool = False,
    course: Course | None = None,
    min_accuracy: float | None = None,
) -> Classifier:
    """Train the last blocks of a run's backbone, and a linear head, and write a new run.

    A run with the head ``kernel`` gets such a head again, which is fitted on the features of the trained blocks beside
    those of the frozen ones. A run with ``symmetry`` keeps it.

    Args:
        run: the run folder to start from, or the classifier that was loaded from it.
        out: the new run folder; by default the name of the old one with ``-ft``.
        config: the options, as a `FinetuneConfig`, a dict of values by name, or the path of a TOML file.
        photos: where the run's photos are now, if they were moved.
        existing: what to do with a run at ``out``: ``overwrite`` it, or ``resume`` an unfinished fine-tuning.
        as_trial: whether this is a trial of a sweep: test is not measured, hyperparameters are not logged.
        course: a number of steps and a schedule that replace the configured epochs and schedule.
        min_accuracy: the accuracy, in 0..1, that the lower end of the 95 % interval must reach, so that the run is
            kept.

    Returns:
        The new classifier, measured on the val and test photos of the old one, or on those drawn now if it has folds;
        or, with folds in ``config``, on all photos in turns.

    Raises:
        BackboneError: neither TensorFlow nor JAX is installed, or the backbone cannot be fine-tuned.
        DataError: the photos of the run are not found.
        RunError: ``run`` is not a run folder, or ``out`` exists already.
        TrainingError: the training diverged, there is too little memory, or the accuracy may be below ``min_accuracy``.
        ConfigError: an option is not valid.
    """
    run, config = run_path(run), options_of(FinetuneConfig, config)
    before = Classifier.load(run)
    require_fit(before, config)
    if before.backbone.options.symmetry == "all" and config.symmetry == "mirror":
        config = replace(config, symmetry="all")  # the photos of such a run have no up
    place = Path(f"{run}-ft") if out is None else as_path(out, "out")
    work = Path(f"{place}-folds")
    how = "overwrite" if existing == "resume" and not is_unfinished(place) and is_to_overwrite(work) else existing
    with locked(place, _FINETUNING) as site:
        _require_free(site.path, run, how)
        dataset, clock = open_photos(before, photos), Clock()
        with clock("keras"):
            trainable_keras(config.backend)
        with clock("features"):
            opened = with_features(before, dataset, photos)
        folds = None
        if config.folds and opened.has_own_sides:
            console.note("there are no folds, as the photos have sides of their own")
        elif config.folds:
            with clock("folds"):
                folds = tune_folds(opened, config, work, existing, finetune)
        try:
            after, sides = _finetuned(opened, site, config, how, as_trial, course, folds, clock)
            require_accuracy(*Metrics.from_dict(after.metrics).measured, min_accuracy)
            _keep(after, opened, sides, site.path, folds)
            if folds:
                discard(work)
            return after
        except AccuracyError:
            site.put_back()
            if is_unfinished(site.path):  # there was nothing to put back
                shutil.rmtree(site.path, ignore_errors=True)
            raise
        except BaseException:
            if is_unfinished(site.path) and not _has_learned(site.path):
                site.put_back()
            raise


def _finetuned(
    opened: Opened,
    site: Site,
    config: FinetuneConfig,
    existing: str,
    as_trial: bool,
    course: Course | None,
    folds: TunedFolds | None,
    clock: Clock,
) -> tuple[Classifier, Split]:
    """Fine-tune a classifier in the folder of ``site``; the other arguments are those of `finetune`.

    The answers of ``folds``, where there are any, measure the result in place of a test side. ``clock`` measures the
    steps.

    Returns:
        The fine-tuned classifier, whose run is not yet written, and the split of its photos.
    """
    folder, dataset = site.path, opened.dataset
    with clock("start"):
        before, sides = starting_point(opened, folds is not None)
        head = linear_head(before, opened.features, sides)
        asked, config = config, _within_budget(config, folder, before, head, len(sides.train), existing)
        thawed = Thawed(before.backbone, head, config)
    with clock("activations"):
        seen = Photos(dataset.records, opened.features, sides.train, sides.val)
        thawed.load(seen, in_floats(before), config, before.precision)
    _begin(site, opened.before, asked, config.thaw, existing)
    with clock("training"):
        budget = seconds_of(asked.budget) if asked.budget else 0.0
        trainer = _trained(thawed, config, folder, {} if as_trial else asdict(config), course, budget)
    measured = ("val",) if as_trial or folds else ("val", "test")
    with clock("measuring"):
        after = conclude(opened, before, sides, thawed, folder, measured)
    finetuned = {
        "blocks": thawed.blocks,
        "epochs": trainer.history[-1].number,
        "blend": trainer.blend_,
        "from": str((opened.before.path or Path()).resolve()),
        "frozen": {side: (before.metrics[side] or {}).get("accuracy") for side in ("val", "test")},
        **_beside_frozen(before, after, {side: _records(dataset, getattr(sides, side)) for side in measured}, folds),
    }
    if finetuned["worse"] and not as_trial:
        console.warn(_made_worse(finetuned["worse"], str(opened.before.path)))
    pooled = {"test": None, "folds": folds.to_dict()} if folds else {}
    after = replace(after, metrics={**after.metrics, **pooled, "seconds": clock.seconds(), "finetuned": finetuned})
    write_json(folder / LAYOUT.history, [epoch.to_dict() for epoch in trainer.history])
    if not plot_history(trainer.history, folder / LAYOUT.curves):
        console.note(f"{LAYOUT.curves} is not drawn, as matplotlib is not installed")
    return after, sides


def _keep(after: Classifier, opened: Opened, sides: Split, folder: Path, folds: TunedFolds | None) -> None:
    """Write a fine-tuned run, with the corrections of the run before, and delete what only the fine-tuning needed."""
    dataset = opened.dataset
    if folds:
        folds.in_order_of(dataset, sides).write(folder)
    carry_corrections(opened.before.path or Path(), folder)
    after.save(folder, dataset, asdict(sides))
    for rest in (LAYOUT.checkpoints, LAYOUT.replaced):
        shutil.rmtree(folder / rest, ignore_errors=True)
    (folder / LAYOUT.unfinished).unlink()


def _records(dataset: Dataset, indices: Sequence[int]) -> list[ImageRecord]:
    return [dataset.records[i] for i in indices]


def _beside_frozen(
    before: Classifier, after: Classifier, photos: Mapping[str, list[ImageRecord]], folds: TunedFolds | None
) -> dict[str, Any]:
    """Compare the frozen and the fine-tuned classifier on the same photos of each side; list what became worse."""
    frozen = replace(before, config=in_floats(before), int8=None)  # fine-tuning started from it in floats
    found = {side: compare_predictors(frozen, after, records) for side, records in photos.items()}
    beside = {side: compared for side, compared in found.items() if compared is not None}
    beside |= {"folds": folds.compared} if folds else {}
    worse = [sentence for side, compared in beside.items() for sentence in what_is_worse(side, compared)]
    return {"beside": {side: asdict(compared) for side, compared in beside.items()}, "worse": worse}


def _made_worse(worse: Sequence[str], run: str) -> str:
    slower = f"fine-tune with a lower {option('learning_rate')} or fewer blocks, as {option('thaw', '1')}"
    instead = f"use the frozen run {run}, or {slower}"
    return f"fine-tuning made some figures worse: {'; '.join(worse)}; {instead}"


def _require_free(folder: Path, run: Path, existing: str) -> None:
    """Raise RunError where ``folder`` exists, and ``existing`` does not allow to replace or resume what is in it."""
    if folder.resolve() == run.resolve():
        raise RunError(f"{folder} is the run to start from; type another {option('out')}")
    if is_unfinished(folder) and existing == "resume":
        read_begun(folder)  # a damaged record fails now, not after minutes
        return
    if is_unfinished(folder) and not _has_learned(folder):
        return
    how = existing_option("overwrite")
    if is_unfinished(folder):
        how = f"{existing_option('resume')} to continue it, or {how}"
    require_free(folder, replace(_FINETUNING, overwrite=how), existing == "overwrite")


def _has_learned(folder: Path) -> bool:
    """Return whether an unfinished fine-tuning has a checkpoint to resume from."""
    return (folder / LAYOUT.checkpoints / LAYOUT.history).exists()


def _within_budget(
    config: FinetuneConfig, folder: Path, before: Classifier, head: Any, photos: int, existing: str
) -> FinetuneConfig:
    """Return the options with the number of blocks that the time budget allows; resuming keeps the recorded number."""
    if not config.budget:
        return config
    resumed = existing == "resume" and is_unfinished(folder)
    thaw = read_begun(folder).thaw if resumed else affordable(before.backbone, head, config, photos)
    return replace(config, thaw=thaw, budget="")


def _begin(site: Site, before: Classifier, config: FinetuneConfig, thaw: str, existing: str) -> None:
    """Make the run folder, with a record of options and run; a run that it replaces is kept until the new one is done.

    Raises:
        RunError: ``existing`` is ``resume``, and the fine-tuning was begun with other options or from another run.
    """
    run, folder = str((before.path or Path()).resolve()), site.path
    wanted = {"config": asdict(config), "from": digest_json([before.backbone.fingerprint, before.metrics])}
    if existing == "resume" and is_unfinished(folder):
        if read_begun(folder).wanted != wanted:
            raise RunError(
                f"{folder} was begun with other options or from another run; type {existing_option('overwrite')} "
                "to begin anew"
            )
        return

    def fill(fresh: Path) -> None:
        write_begun(fresh, Begun(wanted, run, thaw))
        (fresh / LAYOUT.checkpoints).mkdir(exist_ok=True)

    if not is_unfinished(folder):
        site.begin(fill)
        return
    for path in folder.iterdir():  # delete an earlier attempt, but not the run that it was to replace
        if path.is_dir() and path.name != LAYOUT.replaced:
            shutil.rmtree(path)
    fill(folder)


def _show(thawed: Thawed, folder: Path, number: int) -> None:
    """Write the classifier of epoch ``number`` for `follow`, then remove that of the epoch before."""
    path = Path(f"{folder / SHOWN}{number:04}")
    with atomic_folder(path) as fresh:
        write_tensors(fresh / LAYOUT.head, write_learned(thawed, fresh).state())
    for older in path.parent.glob(f"{Path(SHOWN).name}*"):
        if older != path:
            shutil.rmtree(older, ignore_errors=True)


def _trained(
    thawed: Thawed,
    config: FinetuneConfig,
    folder: Path,
    hyperparameters: Mapping[str, Any],
    course: Course | None,
    budget: float,
) -> Trainer:
    """Train the network; where memory is too short, begin again with half the batch size."""
    begun = thawed.model.get_weights()
    while True:
        try:
            trainer = Trainer(thawed.model, config, folder / LAYOUT.checkpoints, thawed.dense.variables, course, budget)
            return _trained_once(trainer, thawed, config, folder, hyperparameters)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if config.batch_size == 1:
                raise TrainingError("memory is too short for a batch size of 1; thaw fewer blocks") from error
            config = replace(config, batch_size=config.batch_size // 2)
            console.warn(f"memory is too short: starting again with a batch size of {config.batch_size}")
            thawed.model.set_weights(begun)
            shutil.rmtree(folder / LAYOUT.checkpoints)
            (folder / LAYOUT.checkpoints).mkdir()


def _trained_once(
    trainer: Trainer, thawed: Thawed, config: FinetuneConfig, folder: Path, hyperparameters: Mapping[str, Any]
) -> Trainer:
    with EpochLogs(folder / LAYOUT.logs, hyperparameters, thawed, config.histograms) as draw:

        def on_epoch(epoch: Epoch) -> None:
            draw(epoch)
            if epoch.number and epoch is trainer.history[-1]:  # on resuming, `draw` gets the earlier epochs again
                _show(thawed, folder, epoch.number)

        return trainer.fit(thawed.train_batches(config), thawed.validate, on_epoch)
