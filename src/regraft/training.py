"""Photos → Classifier: the main job.

In: a folder of labelled photos (or any spec a source takes) and a `TrainConfig`. Out: a `Classifier` and its run.
Why: this is what regraft is for.
Surprise: features come before the split, since only decoding tells which photos there are to split.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft import _console, heads
from regraft._files import as_path
from regraft._places import Place, Product, claimed
from regraft._tensorboard import EventFile
from regraft._values import options_of
from regraft.accelerator import load_engine
from regraft.backbones import Backbone
from regraft.calibration import FEWEST, Answers, Calibration
from regraft.classifier import Classifier
from regraft.config import TrainConfig
from regraft.dataset import Dataset
from regraft.duplicates import duplicate_groups
from regraft.errors import DataError
from regraft.evaluation import Evaluation, measure
from regraft.features import Extraction, Features, extract
from regraft.heads import Head, OnStep, Step
from regraft.heads.logistic import LogisticRegression
from regraft.images import Problem
from regraft.quantisation import quantised_graph
from regraft.run_folder import LAYOUT, is_run
from regraft.selection import AUTO, choose_backbone, require_backbone
from regraft.sources import spec_of
from regraft.splitting import Split, group_counts, split

_LONGEST_NAME = 100  # of a run that is named after its photos
_NOT_NAMES = re.compile(r"(\.(csv|tsv|jsonl|ndjson|parquet|zip|tgz|tar|tfrecord))?(\.(gz|bz2|xz))?$", re.IGNORECASE)


def train(
    photos: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    config: TrainConfig | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> Classifier:
    """Train a classifier and write its run folder.

    Args:
        photos: a folder of class folders, or any other spec that `Dataset.open` takes.
        out: the run folder; by default the first free name under ``runs/`` after the photos.
        config: the options, as a `TrainConfig`, a dict of values by name, or the path of a TOML file.
        overwrite: replace an existing run at ``out``.

    Returns:
        The classifier. Its ``metrics`` say what was counted, measured and how long it took; ``path`` is the run.

    Raises:
        ConfigError: there is no such head, or what is given for an option or a path cannot be one.
        DataError: the photos cannot make a classifier.
        BackboneError: the backbone is unknown or not installed.
        RunError: something is at ``out`` already, or another process is writing there.
    """
    photos, config, clock = spec_of(photos), options_of(TrainConfig, config), Clock()
    with claimed_run(photos, out, overwrite) as place:
        heads.registry.load(config.head)  # an unknown name is told now, not after minutes of extraction
        require_backbone(config)
        with clock("scan"):
            dataset = Dataset.open(photos, config.label_from, config.group_from)
            give_hint(dataset)
            require_two_classes(dataset)  # told now, not after minutes of extraction
        prepared = prepare(dataset, config, clock, whole_spec(photos))
        report_problems(prepared.dataset.problems)
        check_trainable(prepared.dataset, prepared.sides)
        classifier = learn(prepared, prepared.config, place.fresh, clock)
    return replace(classifier, path=place.path)


@dataclass(frozen=True, slots=True)
class Prepared:
    """Photos with features, on their sides: all that the heads on one backbone have in common.

    Attributes:
        config: the options, with the backbone chosen.
        metrics: what is known before anything is learned.
        source: what names the photos.
    """

    config: TrainConfig
    dataset: Dataset
    backbone: Backbone
    int8: Path | None
    features: Features
    sides: Split
    metrics: Mapping[str, Any]
    source: str


def prepare(dataset: Dataset, config: TrainConfig, clock: Clock, source: str) -> Prepared:
    """Choose the backbone, compute the features, find the copies, split."""
    with clock("extract"):
        backbone = choose_backbone(config, dataset.records)
        config = replace(config, backbone=backbone.name) if config.backbone == AUTO else config
        int8 = quantised_graph(backbone, dataset.records) if config.precision == "int8" else None
        engine = load_engine(backbone, config, int8=int8)
        extraction = extract(dataset.records, engine)
        dataset, features, looks = readable(dataset, extraction, backbone)
    with clock("duplicates"):
        together = duplicate_groups(features.digests, features.x, looks["thumbnail"], engine.fingerprint)
    sides = split(dataset, (config.val, config.test), config.salt, together)
    metrics = {
        "classes": list(dataset.classes),
        "counts": {"train": len(sides.train), "val": len(sides.val), "test": len(sides.test)},
        "groups": group_counts(dataset, sides),
        "problems": [{"path": str(p.path), "reason": p.reason} for p in dataset.problems],
        "duplicate_groups": {"groups": len(together), "photos": sum(map(len, together))},
        "features": {"computed": extraction.computed, "cached": extraction.cached},
    }
    return Prepared(config, dataset, backbone, int8, features, sides, metrics, source)


def learn(prepared: Prepared, config: TrainConfig, fresh: Path, clock: Clock, as_trial: bool = False) -> Classifier:
    """Fit the head, measure it, write the run into the empty folder ``fresh``.

    A trial of a sweep leaves test alone, and its hyperparameters are told by the sweep.
    """
    with clock("fit"):
        hyperparameters = {} if as_trial else asdict(config)
        head = fit(prepared.features, prepared.sides, config, fresh / LAYOUT.logs, hyperparameters)
    return conclude(prepared, config, head, fresh, clock, as_trial)


def conclude(
    prepared: Prepared, config: TrainConfig, head: Head, fresh: Path, clock: Clock, as_trial: bool = False
) -> Classifier:
    """Calibrate and measure what a head learned, and write the run into the folder ``fresh``."""
    dataset, features, sides = prepared.dataset, prepared.features, prepared.sides
    with clock("evaluate"):
        calibration = calibrate(head, features, sides, prepared.backbone, config)
        measured = (sides.val, () if as_trial else sides.test)
        val, test = (evaluate_side(head, features, dataset, side, calibration).to_dict() for side in measured)
    metrics = {**prepared.metrics, "val": val, "test": test, "seconds": clock.seconds()}
    if prepared.int8 and not as_trial:
        metrics["int8_beside"] = beside_int8(dataset, prepared.backbone, sides, config)
        _console.say(_cost_of_int8(metrics))
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
    )
    classifier.save(fresh, dataset, asdict(sides))
    return classifier


def readable(
    dataset: Dataset, extraction: Extraction, backbone: Backbone
) -> tuple[Dataset, Features, NDArray[np.void]]:
    """The photos that were decoded, their features and their looks, row for record."""
    x, looks = extraction.x, extraction.looks
    kept = ~np.isnan(x[:, 0])
    if not kept.all():
        dataset, x, looks = dataset.without(extraction.problems), x[kept], looks[kept]
    index = {label: i for i, label in enumerate(dataset.classes)}
    y = np.array([index[r.label] for r in dataset.records], np.int64)
    return dataset, Features(x, y, dataset.classes, tuple(r.digest for r in dataset.records), backbone.name), looks


def fit(features: Features, sides: Split, config: TrainConfig, logs: Path, hyperparameters: Mapping[str, Any]) -> Head:
    """Fit the configured head, each step to TensorBoard."""
    make = heads.registry.load(config.head)
    head = make(**{name: getattr(config, name) for name in make.options})
    with tensorboard_steps(logs, hyperparameters) as on_step:
        head.fit(features.select(sides.train), features.select(sides.val), on_step)
    if isinstance(head, LogisticRegression):
        why = "lowest cross-entropy on val" if sides.val else "the default, as there is no val to choose on"
        _console.note(f"L2 strength {head.strength_:g}: {why}")
    return head


def calibrate(head: Head, features: Features, sides: Split, backbone: Backbone, config: TrainConfig) -> Calibration:
    """What stands between the head's logits and answers, fitted on val; a note tells where val is too small."""
    train, val = features.select(sides.train), features.select(sides.val)
    if config.reject and len(val) < FEWEST:
        _console.note(f"with {len(val)} val photos, none of these is never answered; {FEWEST} would do")
    return Calibration.fit(head, train, val, backbone.widths[-1], config.reject)


def beside_int8(dataset: Dataset, backbone: Backbone, sides: Split, config: TrainConfig) -> dict[str, Any]:
    """What the same photos, split and head give where nothing is quantised: precision, and accuracy on val and test."""
    config = replace(config, precision="auto")
    engine = load_engine(backbone, config)
    dataset, features, _ = readable(dataset, extract(dataset.records, engine), backbone)
    with tempfile.TemporaryDirectory() as logs:
        head = fit(features, sides, config, Path(logs), {})
    val, test = (evaluate_side(head, features, dataset, side) for side in (sides.val, sides.test))
    return {"precision": engine.precision, "val": val.accuracy, "test": test.accuracy}


def whole_spec(photos: str | os.PathLike[str]) -> str:
    """What names the same photos from any folder: a whole path where it is one."""
    path = as_path(photos, "photos")
    return str(path.resolve()) if path.exists() else os.fspath(photos)


def _cost_of_int8(metrics: Mapping[str, Any]) -> str:
    beside = metrics["int8_beside"]
    sides = (f"{side} {_percent(metrics[side]['accuracy'])} ({_percent(beside[side])})" for side in ("val", "test"))
    return f"accuracy in int8, and in {beside['precision']}: {', '.join(sides)}"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def evaluate_side(
    head: Head,
    features: Features,
    dataset: Dataset,
    indices: Sequence[int],
    calibration: Calibration = Calibration(),  # noqa: B008 (frozen)
) -> Evaluation:
    """Measure a head on the records at ``indices``."""
    side = features.select(indices)
    answers = Answers(np.empty((0, len(dataset.classes)), np.float32), np.empty(0, np.float32))
    if len(side):
        answers = calibration.answers(side.x, head.logits(side.x))
    paths = [dataset.records[i].path for i in indices]
    return measure(answers, side.y, dataset.classes, paths, calibration.temperature, calibration.threshold)


@contextmanager
def tensorboard_steps(logs: Path, hyperparameters: Mapping[str, Any]) -> Iterator[OnStep]:
    """Curves in two TensorBoard runs, ``train`` and ``validation``; yields where to send the steps."""
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


def require_two_classes(dataset: Dataset) -> None:
    """Raise DataError for fewer."""
    if len(dataset.classes) < 2:
        raise DataError(f"there is only one class, {dataset.classes[0]!r}; wanted photos of at least two classes")


def give_hint(dataset: Dataset) -> None:
    """Say what the owner of the photos may have meant otherwise."""
    if dataset.hint:
        _console.warn(dataset.hint)


def check_trainable(dataset: Dataset, sides: Split) -> None:
    """Raise DataError where the unreadable photos left fewer than two classes; warn of what cannot be measured."""
    require_two_classes(dataset)
    single = [label for label, count in dataset.counts().items() if count == 1]
    if single:
        _console.warn(f"classes of one photo are trained on and cannot be measured: {', '.join(single)}")
    if not sides.test and not sides.val:
        _console.warn("there is neither a val nor a test photo: nothing tells how good the classifier is")
        return
    if not sides.test:
        _console.warn("there is no test photo: the val figures also chose the head, and so flatter a little")
    measured = {dataset.records[i].label for i in (*sides.val, *sides.test)}
    whole = [label for label in dataset.classes if label not in measured and label not in single]
    if whole:
        _console.warn(f"classes that stay together in train and cannot be measured: {', '.join(whole)}")


def report_problems(problems: Sequence[Problem], shown: int = 10) -> None:
    """Name the files that are left out; beyond ``shown`` only count them (the run's metrics have them all)."""
    for problem in problems[:shown]:
        _console.warn(f"left out {problem.path}: {problem.reason}")
    if len(problems) > shown:
        _console.warn(f"left out {len(problems) - shown} more files")


RUN = Product("a run folder", is_run)
"""What `train` writes, and may replace where the user asks for it."""


def claimed_run(
    photos: str | os.PathLike[str], out: str | os.PathLike[str] | None, overwrite: bool
) -> AbstractContextManager[Place]:
    """Claim the place of a run. Raises RunError where something else is there, or is being written."""
    if out is not None:
        return claimed(out, RUN, overwrite)
    base = default_run(photos)
    others = (base.with_name(f"{base.name}-{i}") for i in range(2, 10**6))
    return claimed(base, RUN, overwrite, () if overwrite else others)


def default_run(photos: str | os.PathLike[str]) -> Path:
    """Return the folder under ``runs/`` that is named after a spec of photos."""
    name = re.sub(r"[#?].*$", "", os.fspath(photos)) if "://" in os.fspath(photos) else os.fspath(photos)
    place = os.path.abspath(name)  # noqa: PTH100  # Path.resolve() raises RuntimeError where links form a loop
    stem = re.sub(r'[\\/:*?"<>|\s]+', "-", _NOT_NAMES.sub("", os.path.basename(place))) or "photos"  # noqa: PTH119
    return Path("runs") / stem.removeprefix("demo-")[:_LONGEST_NAME]


class Clock:
    """Seconds by name: ``with clock("scan"): …``."""

    def __init__(self) -> None:
        self._start = perf_counter()
        self._seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Take the time of what is inside."""
        start = perf_counter()
        try:
            yield
        finally:
            self._seconds[name] = round(perf_counter() - start, 3)

    def seconds(self) -> dict[str, float]:
        """All so far, and the total since the clock was made."""
        return {**self._seconds, "total": round(perf_counter() - self._start, 3)}
