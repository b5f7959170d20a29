"""Classifier → a better one: its last blocks and its head trained further, on the photos and split it has.

In: a run folder. Out: a new `Classifier` and its run.
Why: frozen features end where ImageNet's classes end; training the last blocks goes beyond.
Surprise: the frozen part runs once. Its maps at the cut are cached, and augmented as if they were photos: convolutions
commute with shifts, and nearly with mirroring.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft import _console
from regraft._documents import write_tensors
from regraft._files import as_path, atomic_folder, digest_json, write_json
from regraft._places import Product, Site, locked, require_free
from regraft._tensorboard import EventFile
from regraft._values import options_of
from regraft.accelerator import load_engine
from regraft.backbones import Backbone, load_backbone
from regraft.backbones._tuned import write_weights
from regraft.begun import Begun, read_begun, write_begun
from regraft.classifier import Classifier, open_photos, run_path, sides_of
from regraft.config import OF_ONE_HEAD, FinetuneConfig, TrainConfig
from regraft.dataset import Dataset, ImageRecord
from regraft.errors import DataError, RunError, TrainingError
from regraft.features import Features, extract
from regraft.heads.logistic import LogisticRegression
from regraft.keras_backend import trainable_keras
from regraft.optimisation import Course, Epoch, Trainer, is_out_of_memory
from regraft.paired import compare_predictors, what_is_worse
from regraft.plots import plot_history
from regraft.run_folder import LAYOUT, is_run, is_unfinished
from regraft.splitting import Split, group_counts
from regraft.thawing import Photos, Thawed, affordable
from regraft.training import Clock, calibrate, evaluate_side, readable

_FINETUNING = Product("a run folder", lambda folder: is_run(folder) or is_unfinished(folder))
_SAMPLE = 1000
"""Training photos that show, through the new weights, what is none of the classes."""
SHOWN = f"{LAYOUT.checkpoints}/classifier-"
"""How the folder of the newest epoch's weights begins, for those who follow; its number comes next."""


def finetune(
    run: str | os.PathLike[str] | Classifier,
    out: str | os.PathLike[str] | None = None,
    config: FinetuneConfig | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    photos: str | os.PathLike[str] | None = None,
    existing: str = "",
    as_trial: bool = False,
    course: Course | None = None,
) -> Classifier:
    """Train the last blocks of a run's backbone, and its head, and write a new run.

    Args:
        run: the run folder to start from, or the classifier that was loaded from it.
        out: the new run folder; by default the old one's name with ``-ft``.
        config: the options.
        photos: where the run's photos are now, if not where they were.
        existing: what to do with a run at ``out``: ``overwrite`` it, or ``resume`` one that was stopped.
        as_trial: as a trial of a sweep, which leaves test alone and tells the hyperparameters itself.
        course: steps in place of the configured epochs and schedule.

    Returns:
        The new classifier, measured on the old one's val and test photos.

    Raises:
        BackboneError: nothing that trains is installed, or the backbone is one that stays frozen.
        DataError: the run's photos are not there.
        RunError: ``run`` is no run, or ``out`` is in the way.
        TrainingError: the training diverged.
    """
    run, config = run_path(run), options_of(FinetuneConfig, config)
    before = Classifier.load(run)
    with locked(Path(f"{run}-ft") if out is None else as_path(out, "out"), _FINETUNING) as site:
        _require_free(site.path, run, existing)
        try:
            return _finetuned(before, site, config, photos, existing, as_trial, course)
        except BaseException:
            if is_unfinished(site.path) and not _has_learned(site.path):
                site.put_back()
            raise


def _finetuned(
    before: Classifier,
    site: Site,
    config: FinetuneConfig,
    photos: str | os.PathLike[str] | None,
    existing: str,
    as_trial: bool,
    course: Course | None,
) -> Classifier:
    clock, folder = Clock(), site.path
    options, dataset = linear_options(before), open_photos(before, photos)
    trainable_keras(config.backend)
    dataset, sides, features = _readable(before, dataset)
    head = _linear_head(before, features, sides)
    asked, config = config, _within_budget(config, folder, before, head, len(sides.train), existing)
    thawed = Thawed(before.backbone, head, config)
    with clock("activations"):
        seen = Photos(dataset.records, features, sides.train, sides.val)
        thawed.load(seen, in_floats(before), config, before.precision)
    _begin(site, before, asked, config.thaw, existing)
    with clock("training"):
        trainer = _trained(thawed, config, folder, {} if as_trial else asdict(config), course)
    learned_head = _write_learned(thawed, folder)
    measured = ("val",) if as_trial else ("val", "test")
    after = _measured(replace(before, config=options), (dataset, sides), learned_head, folder, measured)
    told = {
        "blocks": thawed.blocks,
        "epochs": trainer.history[-1].number,
        "blend": trainer.blend_,
        "from": str((before.path or Path()).resolve()),
        "frozen": {side: before.metrics[side]["accuracy"] for side in ("val", "test")},
        **_beside_frozen(before, after, {side: _records(dataset, getattr(sides, side)) for side in measured}),
    }
    if told["worse"] and not as_trial:
        _console.warn(_made_worse(told["worse"], str(before.path)))
    after = replace(after, metrics={**after.metrics, "seconds": clock.seconds(), "finetuned": told})
    write_json(folder / LAYOUT.history, [epoch.to_dict() for epoch in trainer.history])
    if not plot_history(trainer.history, folder / LAYOUT.curves):
        _console.note(f"{LAYOUT.curves} is not drawn, as matplotlib is not installed")
    after.save(folder, dataset, asdict(sides))
    for rest in (LAYOUT.checkpoints, LAYOUT.replaced):
        shutil.rmtree(folder / rest, ignore_errors=True)
    (folder / LAYOUT.unfinished).unlink()
    return after


def _records(dataset: Dataset, indices: Sequence[int]) -> list[ImageRecord]:
    return [dataset.records[i] for i in indices]


def _beside_frozen(before: Classifier, after: Classifier, photos: Mapping[str, list[ImageRecord]]) -> dict[str, Any]:
    """The frozen and the fine-tuned classifier on the same photos, by side (`compare_predictors`); what is worse."""
    frozen = replace(before, config=in_floats(before), int8=None)  # in floats the training began
    found = {side: compare_predictors(frozen, after, records) for side, records in photos.items()}
    beside = {side: compared for side, compared in found.items() if compared}
    worse = [sentence for side, compared in beside.items() for sentence in what_is_worse(side, compared)]
    return {"beside": beside, "worse": worse}


def _made_worse(worse: Sequence[str], run: str) -> str:
    instead = f"use the frozen run {run}, or fine-tune with a lower --learning-rate or fewer blocks, as --thaw 1"
    return f"fine-tuning made it worse: {'; '.join(worse)}; {instead}"


def _require_free(folder: Path, run: Path, existing: str) -> None:
    """Raise RunError where something is in the way at ``folder`` that is not to be replaced or gone on with."""
    if folder.resolve() == run.resolve():
        raise RunError(f"{folder} is the run to start from; type another --out")
    if is_unfinished(folder) and existing == "resume":
        read_begun(folder)  # damage is told now, not after minutes
        return
    if is_unfinished(folder) and not _has_learned(folder):
        return
    how = "--resume to go on with it, or --overwrite" if is_unfinished(folder) else "--overwrite"
    require_free(folder, replace(_FINETUNING, overwrite=how), existing == "overwrite")


def _has_learned(folder: Path) -> bool:
    """Whether a fine-tuning that is not finished has a checkpoint to go on from."""
    return (folder / LAYOUT.checkpoints / LAYOUT.history).exists()


def _within_budget(
    config: FinetuneConfig, folder: Path, before: Classifier, head: Any, photos: int, existing: str
) -> FinetuneConfig:
    """With as many blocks as the budget allows; a run that is gone on with keeps those it was begun with."""
    if not config.budget:
        return config
    resumed = existing == "resume" and is_unfinished(folder)
    thaw = read_begun(folder).thaw if resumed else affordable(before.backbone, head, config, photos)
    return replace(config, thaw=thaw, budget="")


def _begin(site: Site, before: Classifier, config: FinetuneConfig, thaw: str, existing: str) -> None:
    """Make the run folder, with what must be alike to go on. Raises RunError where it is not.

    A run that is there is kept in it, whole, until the new one is finished.
    """
    run, folder = str((before.path or Path()).resolve()), site.path
    wanted = {"config": asdict(config), "from": digest_json([before.backbone.fingerprint, before.metrics])}
    if existing == "resume" and is_unfinished(folder):
        if read_begun(folder).wanted != wanted:
            raise RunError(f"{folder} was begun with other options or from another run; type --overwrite to begin anew")
        return

    def fill(fresh: Path) -> None:
        write_begun(fresh, Begun(wanted, run, thaw))
        (fresh / LAYOUT.checkpoints).mkdir(exist_ok=True)

    if not is_unfinished(folder):
        site.begin(fill)
        return
    for path in folder.iterdir():  # an earlier attempt that is given up; a run that it replaces stays
        if path.is_dir() and path.name != LAYOUT.replaced:
            shutil.rmtree(path)
    fill(folder)


def in_floats(before: Classifier) -> TrainConfig:
    """The run's options, with nothing quantised."""
    return replace(before.config, precision="auto") if before.config.precision == "int8" else before.config


def linear_options(before: Classifier) -> TrainConfig:
    """The run's options as a fine-tuned run has them: a linear head, nothing quantised, no option of another head."""
    defaults = TrainConfig()
    others = {name: getattr(defaults, name) for name, head in OF_ONE_HEAD.items() if head != defaults.head}
    return replace(in_floats(before), head=defaults.head, **others)


def tuned_backbone(before: Classifier, weights: Path) -> Backbone:
    """A run's backbone with the weights of a file that `write_weights` wrote."""
    old = before.backbone
    options = {key: getattr(old.options, key) for key in ("stages", "weights", "pixels")}
    return load_backbone(old.name, old.transform.size, **options, tuned=str(weights.resolve()))


def _readable(before: Classifier, dataset: Dataset) -> tuple[Dataset, Split, Features]:
    """The run's photos that can be read, on the sides that they had, and their features."""
    if not sides_of(before, dataset).train:
        raise DataError(f"the photos that {before.path} was trained on are not there; type --photos FOLDER")
    extraction = extract(dataset.records, load_engine(before.backbone, in_floats(before), trained=before.precision))
    dataset, features, _ = readable(dataset, extraction, before.backbone)
    if dataset.classes != before.classes:
        raise DataError(
            f"the photos have the classes {', '.join(dataset.classes)}; the run has {', '.join(before.classes)}"
        )
    sides = sides_of(before, dataset)
    return dataset, sides, features


def _linear_head(
    before: Classifier, features: Features, sides: Split
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The run's own head where it is linear, else one that is fitted now."""
    state = before.head.state()
    if not {"weight", "bias"} <= set(state):
        _console.note("the run's head is not linear: training starts from a logistic regression")
        state = LogisticRegression().fit(features.select(sides.train), features.select(sides.val)).state()
    return state["weight"], state["bias"]


def _write_learned(thawed: Thawed, folder: Path) -> LogisticRegression:
    """Write the backbone's weights as they are now; the head."""
    thawed.upper.write_back()
    learned = [original for original, _, _ in thawed.upper.layers]
    write_weights(thawed.whole, learned, folder / LAYOUT.backbone, thawed.backbone.options.tuned)
    weight, bias = (np.asarray(w, np.float32) for w in thawed.dense.get_weights())
    return LogisticRegression.from_state({"weight": weight, "bias": bias})


def _show(thawed: Thawed, folder: Path, number: int) -> None:
    """Write the epoch's classifier for those who follow, then remove the one before."""
    path = Path(f"{folder / SHOWN}{number:04}")
    with atomic_folder(path) as fresh:
        write_tensors(fresh / LAYOUT.head, _write_learned(thawed, fresh).state())
    for older in path.parent.glob(f"{Path(SHOWN).name}*"):
        if older != path:
            shutil.rmtree(older, ignore_errors=True)


def _trained(
    thawed: Thawed, config: FinetuneConfig, folder: Path, hyperparameters: Mapping[str, Any], course: Course | None
) -> Trainer:
    """Train; where memory is short, with half the photos a step."""
    begun = thawed.model.get_weights()
    while True:
        try:
            return _trained_once(thawed, config, folder, hyperparameters, course)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if config.batch_size == 1:
                raise TrainingError("memory is too short for one photo a step; thaw fewer blocks") from error
            config = replace(config, batch_size=config.batch_size // 2)
            _console.warn(f"memory is too short: beginning again with {config.batch_size} photos a step")
            thawed.model.set_weights(begun)
            shutil.rmtree(folder / LAYOUT.checkpoints)
            (folder / LAYOUT.checkpoints).mkdir()


def _trained_once(
    thawed: Thawed, config: FinetuneConfig, folder: Path, hyperparameters: Mapping[str, Any], course: Course | None
) -> Trainer:
    trainer = Trainer(thawed.model, config, folder / LAYOUT.checkpoints, thawed.dense.variables, course)
    with _TensorBoard(folder / LAYOUT.logs, hyperparameters, thawed, config.histograms) as draw:

        def on_epoch(epoch: Epoch) -> None:
            draw(epoch)
            if epoch.number and epoch is trainer.history[-1]:  # those before a resumption were shown then
                _show(thawed, folder, epoch.number)

        return trainer.fit(thawed.train_batches(config), thawed.validate, on_epoch)


class _TensorBoard:
    """Curves of each epoch in two TensorBoard runs, ``train`` and ``validation``."""

    def __init__(self, logs: Path, hyperparameters: Mapping[str, Any], thawed: Thawed, histograms: bool) -> None:
        self._train, self._validation = EventFile(logs / "train"), EventFile(logs / "validation")
        if hyperparameters:
            self._train.hyperparameters(hyperparameters)
        self._train.graph(thawed.model.to_json())
        self._variables = thawed.model.trainable_variables if histograms else []

    def __enter__(self) -> _TensorBoard:
        return self

    def __call__(self, epoch: Epoch) -> None:
        """Write one epoch."""
        self._train.scalars(
            epoch.number,
            {
                "accuracy": epoch.train_accuracy,
                "cross_entropy": epoch.train_loss,
                "top_5": epoch.train_top5,
                "learning_rate": epoch.learning_rate,
            },
        )
        self._train.histograms(epoch.number, {v.path: np.asarray(v.numpy(), np.float32) for v in self._variables})
        self._validation.scalars(
            epoch.number,
            {"accuracy": epoch.val_accuracy, "cross_entropy": epoch.val_loss, "top_5": epoch.val_top5},
        )

    def __exit__(self, *_: Any) -> None:
        self._train.close()
        self._validation.close()


def _measured(
    before: Classifier,
    photos: tuple[Dataset, Split],
    head: LogisticRegression,
    folder: Path,
    measured: Sequence[str],
) -> Classifier:
    """The new classifier, on the sides to be measured, as every user of it will run it.

    ``before`` is the old one, with the options of the new one.
    """
    dataset, sides = photos
    backbone = tuned_backbone(before, folder / LAYOUT.backbone)
    config = before.config
    sample = sides.train[:: -(-len(sides.train) // _SAMPLE)]
    wanted = sorted({*sample, *(i for side in measured for i in getattr(sides, side))})
    extraction = extract([dataset.records[i] for i in wanted], load_engine(backbone, config, trained=before.precision))
    x = np.full((len(dataset.records), extraction.x.shape[1]), np.nan, np.float32)
    x[wanted] = extraction.x
    y = np.array([dataset.classes.index(r.label) for r in dataset.records], np.int64)
    features = Features(x, y, dataset.classes, tuple(r.digest for r in dataset.records), backbone.name)
    calibration = calibrate(head, features, replace(sides, train=sample), backbone, config)
    found = {
        side: evaluate_side(head, features, dataset, getattr(sides, side) if side in measured else (), calibration)
        for side in ("val", "test")
    }
    kept = {key: before.metrics[key] for key in ("classes", "problems", "duplicate_groups") if key in before.metrics}
    counts = {side: len(getattr(sides, side)) for side in ("train", "val", "test")}
    computed = {"computed": extraction.computed, "cached": extraction.cached}
    evaluations = {side: evaluation.to_dict() for side, evaluation in found.items()}
    metrics = {**kept, "counts": counts, "groups": group_counts(dataset, sides), **evaluations, "features": computed}
    return Classifier(
        backbone,
        head,
        dataset.classes,
        config,
        metrics,
        folder,
        source=before.source,
        calibration=calibration,
        precision=before.precision,
    )
