"""Labelled photos → a `Classifier`: the main function of regraft, `train`.

In: a folder (or another spec) of labelled photos, and a `TrainConfig`. Out: a `Classifier` and its run folder.
Why: this is what regraft is for.
Surprise: the run folder appears complete, at the end; until then its files are in a hidden folder beside it.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from regraft.backbones.base import Backbone
from regraft.classifiers.calibration import FEWEST, MOST_LOGITS, PHOTOS, Calibration
from regraft.classifiers.classifier import Classifier, run_path
from regraft.classifiers.evaluation import Evaluation, measure_parts
from regraft.classifiers.metrics import Metrics, require_accuracy
from regraft.classifiers.run_folder import LAYOUT, is_run
from regraft.config.training import TrainConfig
from regraft.config.values import options_of
from regraft.engines.base import load_engine
from regraft.errors import ConfigError, RunError, option
from regraft.features.backbone_choice import require_backbone
from regraft.features.features import Features, extract, labelled_features
from regraft.foundation import console
from regraft.foundation.file_names import portable_name
from regraft.foundation.large_arrays import row_blocks, rows_of
from regraft.foundation.places import Place, Product, claimed
from regraft.foundation.tensorboard import EventFile
from regraft.heads import base as head_base
from regraft.heads.base import Head, OnStep, Step
from regraft.heads.logistic import LogisticRegression
from regraft.photos.dataset import Dataset
from regraft.photos.sources.base import spec_of
from regraft.photos.splitting import Split
from regraft.training.cross_validation import hold_out
from regraft.training.preparation import Clock, Prepared, open_labelled, prepare, require_trainable
from regraft.training.updating import compare, next_names, require_no_worse, start_from, updated_options

_LONGEST_NAME = 100  # characters of the name of a run folder that is named after its photos
_FILE_SUFFIXES = re.compile(r"(\.(csv|tsv|jsonl|ndjson|parquet|zip|tgz|tar|tfrecord))?(\.(gz|bz2|xz))?$", re.IGNORECASE)


def train(
    photos: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    config: TrainConfig | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    min_accuracy: float | None = None,
    from_run: str | os.PathLike[str] | Classifier | None = None,
    if_better: bool = False,
) -> Classifier:
    """Train a classifier and write its run folder.

    Args:
        photos: a folder of class folders, or any other spec that `Dataset.open` takes.
        out: the run folder; by default a folder under ``runs/`` that is named after the photos, with a number where
            that name is taken; with ``from_run``, the next free name beside that run.
        config: the options, as a `TrainConfig`, a dict of values by name, or the path of a TOML file; with
            ``from_run``, those that the new run has otherwise.
        overwrite: whether to replace an existing run at ``out``.
        min_accuracy: the accuracy, in 0..1, that the lower end of the 95 % interval must reach, so that the run is
            kept.
        from_run: an older run of these photos, to which photos were added or labels were corrected: see `update`.
        if_better: with ``from_run``, whether a new run is dropped that is surely worse than the old one.

    Returns:
        The classifier. Its ``metrics`` hold the counts, the measurements and the seconds; ``path`` is the run folder.

    Raises:
        ConfigError: the head is unknown, or the value of an option or a path is not valid.
        DataError: there are no readable photos, or they are of fewer than two classes.
        BackboneError: the backbone is unknown or not installed.
        RunError: ``out`` exists already, or another process is writing there.
        TrainingError: the accuracy may be below ``min_accuracy``; nothing is kept or replaced.
    """
    if from_run is not None:
        return update(from_run, out, photos, config, overwrite, min_accuracy, if_better)
    if if_better:
        raise ConfigError(f"{option('if_better', True)} compares with another run; type {option('from_run', 'RUN')}")
    photos, config, clock = spec_of(photos), options_of(TrainConfig, config), Clock()
    with claimed_run(photos, out, overwrite) as place:
        head_base.registry.load(config.head)  # an unknown name fails now, not after minutes of extraction
        require_backbone(config)
        with clock("scan"):
            dataset = open_labelled(photos, config)
        prepared = prepare(dataset, config, clock, photos)
        require_trainable(prepared)
        classifier = learn(prepared, prepared.config, place.fresh, clock)
        require_accuracy(*Metrics.from_dict(classifier.metrics).measured, min_accuracy)
    return replace(classifier, path=place.path)


def update(
    run: str | os.PathLike[str] | Classifier,
    out: str | os.PathLike[str] | None = None,
    photos: str | os.PathLike[str] | None = None,
    config: TrainConfig | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    min_accuracy: float | None = None,
    if_better: bool = False,
) -> Classifier:
    """Train a new run from an older one whose photos were added to, or whose labels were corrected.

    The new run has the backbone, the features and the options of the old one. Photos of the old run keep their side or
    fold, and new ones are placed so that all sides come near their shares again. Classes keep their order, and new
    classes come after them. The corrections in the old run and those in the table beside it are applied.

    Args:
        run: the run folder of the older run, or the classifier that was loaded from it.
        out: the new run folder; by default the next free name beside the old one: flowers-2 after flowers, 3 after 2.
        photos: the photos of the run together with the new ones; None for the source that the run records.
        config: the options that the new run has otherwise: those of the head, ``reject`` and the levels of folders.
        overwrite: whether to replace an existing run at ``out``, which may be the old run itself.
        min_accuracy: the accuracy, in 0..1, that the lower end of the 95 % interval must reach, so that the run is
            kept.
        if_better: whether to keep nothing if the new run is surely worse: if the 95 % interval of the difference is
            below 0.

    Returns:
        The new classifier. Its ``metrics`` also hold ``grown`` (what changed), and ``before`` and ``difference``: the
        old run on the same photos with the labels of the new one, and the paired difference of the accuracies; these
        two are missing where neither run can be measured on the same photo.

    Raises:
        ConfigError: an option is not valid, or would change the features or the split of the run.
        DataError: there are no readable photos, they are of one class, or none of them is a photo of the run.
        RunError: the run is damaged or does not say where its photos are, or ``out`` exists already.
        BackboneError: the backbone is not installed.
        TrainingError: the accuracy may be below ``min_accuracy``, or ``if_better`` is given and the new run is worse.
    """
    folder, clock = run_path(run), Clock()
    before = Classifier.load(folder)
    if photos is None and not before.source:
        raise RunError(f"{folder} does not say where its photos are; type {option('photos', 'FOLDER')}")
    spec, options = spec_of(photos or before.source), updated_options(before, config)
    place_of = _claimed_after(folder) if out is None else claimed(out, RUN, overwrite)
    with place_of as place:
        head_base.registry.load(options.head)
        with clock("scan"):
            start = start_from(before, spec, options)
        prepared = prepare(start.dataset, options, clock, spec, start.base)
        require_trainable(prepared)
        start.carry(place.fresh)
        classifier = learn(prepared, prepared.config, place.fresh, clock)
        classifier = compare(start, prepared, classifier, place.fresh)
        require_accuracy(*Metrics.from_dict(classifier.metrics).measured, min_accuracy)
        if if_better:
            require_no_worse(classifier.metrics)
    return replace(classifier, path=place.path)


def learn(prepared: Prepared, config: TrainConfig, fresh: Path, clock: Clock, as_trial: bool = False) -> Classifier:
    """Fit the head on prepared photos, measure it, and write the run into the empty folder ``fresh``.

    Args:
        prepared: the photos with their features and their split.
        config: the options, with the head to fit.
        fresh: an empty folder for the run.
        clock: measures the steps ``fit`` and ``evaluate``.
        as_trial: whether this is a trial of a sweep: the test photos are not measured, so that they cannot influence
            the choice among trials, and the sweep itself writes the hyperparameters to TensorBoard.
    """
    with clock("fit"):
        hyperparameters = {} if as_trial else asdict(config)
        head = fit(prepared.features, prepared.sides, config, fresh / LAYOUT.logs, hyperparameters, prepared.start)
    return conclude(prepared, config, head, fresh, clock, as_trial)


def conclude(
    prepared: Prepared, config: TrainConfig, head: Head, fresh: Path, clock: Clock, as_trial: bool = False
) -> Classifier:
    """Calibrate and measure a fitted head, and write the run into the folder ``fresh``.

    Args:
        prepared: the photos with their features and their split.
        config: the options that the run records.
        head: the fitted head.
        fresh: the folder for the run; it may already hold TensorBoard's logs.
        clock: measures the step ``evaluate``.
        as_trial: whether this is a trial of a sweep, in which the test photos are not measured.
    """
    dataset, sides = prepared.dataset, prepared.sides
    with clock("evaluate"):
        if prepared.fold is None:
            calibration, measured = _measured_on_sides(prepared, config, head, as_trial)
        else:
            calibration, measured = _measured_in_folds(prepared, config, fresh)
    metrics = {**prepared.metrics, **measured, "seconds": clock.seconds()}
    if prepared.int8 and not as_trial:
        metrics["int8_beside"] = beside_int8(prepared, config)
        console.say(_cost_of_int8(metrics))
    classifier = Classifier(
        prepared.backbone,
        head,
        dataset.classes,
        config,
        metrics,
        fresh,
        prepared.int8,
        prepared.source,
        calibration,
        prepared.precision,
    )
    classifier.save(fresh, dataset, asdict(sides))
    return classifier


def _measured_on_sides(
    prepared: Prepared, config: TrainConfig, head: Head, as_trial: bool
) -> tuple[Calibration, dict[str, Any]]:
    """Calibrate a head on val and measure it on val and test. Returns the calibration, and the metrics by side."""
    features, sides = prepared.features, prepared.sides
    calibration = calibrate(head, features, sides, prepared.backbone, config)
    chosen = {"val": sides.val, "test": () if as_trial else sides.test}
    return calibration, {
        name: evaluate_side(head, features, prepared.dataset, side, calibration).to_dict()
        for name, side in chosen.items()
    }


def _measured_in_folds(prepared: Prepared, config: TrainConfig, fresh: Path) -> tuple[Calibration, dict[str, Any]]:
    """Cross-validate, and write the out-of-fold answers. Returns the calibration and the metrics."""
    found = hold_out(prepared, config)
    found.held_out.write(fresh)
    return found.calibration, {"val": Evaluation(0).to_dict(), "test": None, "folds": found.to_dict()}


def fit(
    features: Features,
    sides: Split,
    config: TrainConfig,
    logs: Path,
    hyperparameters: Mapping[str, Any],
    start: tuple[Head, Sequence[str]] | None = None,
) -> Head:
    """Fit the configured head on the train features, and log each step to TensorBoard in the folder ``logs``.

    Args:
        features: the features of all photos.
        sides: the split.
        config: the options.
        logs: the folder for TensorBoard.
        hyperparameters: what TensorBoard shows as hyperparameters.
        start: a fitted head with its classes, from which the new head starts if it can; None to start from nothing.
    """
    head = head_base.head_of(config)
    if start and isinstance(head, head_base.WarmStarted):
        old = {label: i for i, label in enumerate(start[1])}
        head.start_from(start[0], [old.get(label, -1) for label in features.classes])
    with tensorboard_steps(logs, hyperparameters) as on_step:
        head.fit(features.select(sides.train, scratch=True), features.select(sides.val, scratch=True), on_step)
    if isinstance(head, LogisticRegression):
        console.note(f"inverse L2 penalty C = {head.strength_:g}: {head.reason_}")
        if head.left_out_:
            console.warn(
                f"many labels seem wrong: the head does not learn from {head.left_out_} of {len(sides.train)} photos "
                "whose label the others contradict; `regraft check` lists such photos"
            )
    return head


def calibrate(head: Head, features: Features, sides: Split, backbone: Backbone, config: TrainConfig) -> Calibration:
    """Fit temperature and novelty on the val features; note where val is too small for "none of these"."""
    some = sides.train[:: -(-len(sides.train) // PHOTOS) or 1]  # as many of the training photos as a calibration takes
    step = max(1, -(-len(sides.val) * len(features.classes) // MOST_LOGITS))
    train, val = features.select(some), features.select(sides.val[::step])
    if config.reject and len(val) < FEWEST:
        console.note(
            f'the answer "none of these" is never given, as there are {len(val)} val photos; it needs {FEWEST}'
        )
    return Calibration.fit(head, train, val, backbone.widths[-1], config.reject)


def beside_int8(prepared: Prepared, config: TrainConfig) -> dict[str, Any]:
    """Fit and measure the same head on features that are not quantised, for comparison with int8.

    Returns:
        ``precision`` (``f32`` or ``bf16``), and the accuracies on ``val``, on ``test`` and in ``folds``, None where no
        photo was measured.
    """
    config, sides, backbone = replace(config, precision="auto"), prepared.sides, prepared.backbone
    engine = load_engine(backbone, config)
    extraction = extract(prepared.dataset.records, engine)
    dataset, features, _ = labelled_features(prepared.dataset, extraction, backbone)
    if prepared.fold is not None:
        found = hold_out(replace(prepared, dataset=dataset, features=features), config)
        return {"precision": engine.precision, "val": None, "test": None, "folds": found.evaluation.accuracy}
    with tempfile.TemporaryDirectory() as logs:
        head = fit(features, sides, config, Path(logs), {})
    val, test = (evaluate_side(head, features, dataset, side) for side in (sides.val, sides.test))
    return {"precision": engine.precision, "val": val.accuracy, "test": test.accuracy, "folds": None}


def _cost_of_int8(metrics: Mapping[str, Any]) -> str:
    """Return a line with each measured accuracy in int8, and with the accuracy in floats in brackets."""
    beside = metrics["int8_beside"]
    names = [name for name in ("val", "test", "folds") if beside[name] is not None]
    sides = (f"{name} {metrics[name]['accuracy']:.1%} ({beside[name]:.1%})" for name in names)
    return f"accuracy in int8, and in {beside['precision']}: {', '.join(sides) or 'not measured'}"


def evaluate_side(
    head: Head,
    features: Features,
    dataset: Dataset,
    indices: Sequence[int],
    calibration: Calibration = Calibration(),  # noqa: B008 (frozen)
) -> Evaluation:
    """Measure a head on one side of the split.

    Args:
        head: the fitted head.
        features: the features ``(N, D)`` of all photos.
        dataset: the N photos.
        indices: the photos to measure on.
        calibration: the temperature and novelty that turn logits into answers.

    Returns:
        The evaluation; without photos, one with ``n`` 0 and no figures.
    """
    side = features.select(indices)
    blocks = row_blocks(len(side), rows_of(len(dataset.classes)))
    parts = ((calibration.answers(side.x[b], head.logits(side.x[b])), side.y[b]) for b in blocks)
    paths = [dataset.records[i].path for i in indices]
    return measure_parts(parts, dataset.classes, paths, calibration.temperature, calibration.threshold)


@contextmanager
def tensorboard_steps(logs: Path, hyperparameters: Mapping[str, Any]) -> Iterator[OnStep]:
    """Write learning curves to two TensorBoard runs in ``logs``, ``train`` and ``validation``.

    Yields:
        A function that writes the accuracy and cross-entropy of one step.
    """
    train, validation = EventFile(logs / "train"), EventFile(logs / "validation")
    if hyperparameters:
        train.hyperparameters(hyperparameters)

    def on_step(step: Step) -> None:
        train.scalars(step.number, {"accuracy": step.train_accuracy, "cross_entropy": step.train_loss})
        validation.scalars(step.number, {"accuracy": step.val_accuracy, "cross_entropy": step.val_loss})

    try:
        yield on_step
    finally:
        train.close()
        validation.close()


RUN = Product("a run folder", is_run)
"""A run folder, as the kind of output that `train` writes and may replace where the user asks for it."""


def claimed_run(
    photos: str | os.PathLike[str], out: str | os.PathLike[str] | None, overwrite: bool
) -> AbstractContextManager[Place]:
    """Reserve the folder of a new run until it is complete.

    Args:
        photos: the spec of the photos, after which the run is named where ``out`` is None.
        out: the run folder, or None.
        overwrite: whether a run at that place may be replaced.

    Raises:
        RunError: the place is taken, or another process is writing there.
    """
    if out is not None:
        return claimed(out, RUN, overwrite)
    base = default_run(photos)
    others = (base.with_name(f"{base.name}-{i}") for i in range(2, 10**6))
    return claimed(base, RUN, overwrite, () if overwrite else others)


def _claimed_after(run: Path) -> AbstractContextManager[Place]:
    """Reserve the folder of the run after a run: the first free name beside it."""
    names = next_names(run)
    return claimed(next(names), RUN, names=names)


def default_run(photos: str | os.PathLike[str]) -> Path:
    """Return the default run folder of a spec of photos: ``runs/`` and the base name of the spec, without suffixes."""
    name = re.sub(r"[#?].*$", "", os.fspath(photos)) if "://" in os.fspath(photos) else os.fspath(photos)
    place = os.path.abspath(name)  # noqa: PTH100  # Path.resolve() raises RuntimeError where links form a loop
    stem = portable_name(_FILE_SUFFIXES.sub("", os.path.basename(place)))  # noqa: PTH119
    return Path("runs") / (portable_name(stem.removeprefix("demo-"), _LONGEST_NAME) or "photos")
