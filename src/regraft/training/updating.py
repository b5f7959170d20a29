"""A run and the photos as they are now → what a training takes over from the run, and how the new run compares with it.

In: the classifier of a run, and its photos with those that were added and with corrected labels. Out: `Start`.
Why: photos keep coming and labels get corrected; a new run must be told apart from the old one on the same test photos.
Surprise: the old run is measured with the labels of the new one, and only on photos that neither run has learned from.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft.backbones.side_by_side import PLUS, parts_of
from regraft.classifiers.classifier import Classifier
from regraft.classifiers.evaluation import Evaluation, measure
from regraft.classifiers.held_out import HeldOut
from regraft.classifiers.metrics import Grown, Metrics
from regraft.classifiers.paired_evaluation import Paired, pair, points
from regraft.classifiers.predictor import Answers
from regraft.classifiers.run_folder import (
    LAYOUT,
    Sides,
    is_run,
    read_manifest,
    read_metrics,
    read_split,
    write_measured,
)
from regraft.config.levels import Levels
from regraft.config.training import OF_ONE_HEAD, TrainConfig
from regraft.config.values import from_dict, options_of, read_toml
from regraft.errors import AccuracyError, ConfigError, DataError, option
from regraft.foundation import console
from regraft.foundation.files import as_path
from regraft.label_tools.correction_table import corrections_of
from regraft.label_tools.corrections import Corrections
from regraft.photos.dataset import Dataset, takes_levels
from regraft.photos.sources.base import SIDES
from regraft.photos.splitting import units_of
from regraft.training.cross_validation import DESIGN_EFFECT
from regraft.training.folding import NEVER
from regraft.training.keeping import Places
from regraft.training.own_answers import own_answers
from regraft.training.preparation import Base, Prepared, require_two_classes

_FREE = ("head", "class_weight", *OF_ONE_HEAD, "reject", "label_from", "group_from", "budget")
"""The options that a new run may have otherwise than the run that it is trained from."""

_NUMBERED = re.compile(r"(?P<stem>.*-)?(?P<number>[1-9]\d{0,2})")


@dataclass(frozen=True, slots=True)
class Start:
    """A run from which a new one is trained, and its photos as they are now.

    Attributes:
        before: the classifier of the run.
        split: the split of the run.
        dataset: the photos with the corrected labels; the classes are in the order of the run's classes.
        corrections: the corrections that were about these photos.
    """

    before: Classifier
    split: Sides
    dataset: Dataset
    corrections: Corrections

    @property
    def base(self) -> Base:
        """What the training takes over: the backbone, and where the photos of the run are."""
        before, run = self.before, self.before.path or Path()
        sides = {digest: side for side in SIDES for digest in getattr(self.split, side)}
        folds: dict[str, int] = {}
        if folds_of(before):
            held = HeldOut.read(run, len(before.classes))
            folds = dict(zip((*self.split.train, *self.split.val), held.fold.tolist(), strict=False))
        places = Places(sides, folds)
        return Base(before.backbone, before.int8, before.precision, places, (before.head, before.classes))

    def carry(self, fresh: Path) -> None:
        """Copy what the new run has in common with the old one into its folder: corrections, and tuned weights."""
        if self.corrections:
            self.corrections.write(fresh / LAYOUT.corrections)
        if self.before.backbone.options.tuned:
            shutil.copyfile(self.before.backbone.options.tuned, fresh / LAYOUT.backbone)


def folds_of(before: Classifier) -> int:
    """Return the number of folds that a new run has from the run before; 0 for sides.

    The folds of a fine-tuned run cannot be used again, as its backbone has learned from the photos of all of them.
    """
    measured = "folds" in before.metrics and not before.backbone.options.tuned
    return (before.config.folds or 0) if measured else 0


def updated_options(before: Classifier, config: Any) -> TrainConfig:
    """Return the options of the run, with those of ``config`` that a new run may have otherwise.

    Args:
        before: the classifier of the run.
        config: options as `train` takes them; of a `TrainConfig`, those that are not the default count as given.

    Raises:
        ConfigError: an option is not valid, or would change the features or the split of the run.
    """
    own = replace(before.config, folds=folds_of(before))
    given = _given(config)
    wanted = from_dict(TrainConfig, {**_without_others(given, own), **given}) if given else own
    for name in given:
        if name not in _FREE and getattr(wanted, name) not in _same(before, own, name):
            shown = option(name, str(getattr(wanted, name)))
            raise ConfigError(
                f"{shown} does not go with {option('from_run', str(before.path))}, which has "
                f"{getattr(own, name) or 'none'} and keeps its features and its split; leave one of them out"
            )
    return replace(own, **{name: getattr(wanted, name) for name in (*given, *_others(wanted)) if name in _FREE})


def _given(config: Any) -> dict[str, Any]:
    """Return the options that the user gave. Raises ConfigError."""
    if isinstance(config, str | os.PathLike):
        config = read_toml(as_path(config, "config"))
    if isinstance(config, Mapping):
        return dict(config)
    values = options_of(TrainConfig, config)
    return {f.name: getattr(values, f.name) for f in fields(values) if getattr(values, f.name) != f.default}


def _others(wanted: TrainConfig) -> list[str]:
    """Return the names of the options that belong to another head than the wanted one."""
    return [name for name, head in OF_ONE_HEAD.items() if head != wanted.head]


def _without_others(given: Mapping[str, Any], own: TrainConfig) -> dict[str, Any]:
    """Return the head of the run and its options, as far as the given head has them."""
    head = given.get("head", own.head)
    return {"head": head, **{name: getattr(own, name) for name, of in OF_ONE_HEAD.items() if of == head}}


def _same(before: Classifier, own: TrainConfig, name: str) -> tuple[Any, ...]:
    """Return the values of an option that mean what the run has."""
    sizes = PLUS.join(str(part.transform.size) for part in parts_of(before.backbone))
    more = {"backbone": (before.backbone.name,), "resolution": (sizes, int(sizes) if sizes.isdecimal() else sizes)}
    return (getattr(own, name), *more.get(name, ()))


def start_from(before: Classifier, photos: str, config: TrainConfig) -> Start:
    """Open the photos for a training that starts from a run, with the corrections of the run and those beside it.

    Raises:
        DataError: the photos cannot be opened, are of one class, or none of them is a photo of the run.
        RunError: the split of the run is damaged.
    """
    run = before.path or Path()
    rows = _corrections(before, run)
    levels = Levels(label_from=config.label_from, group_from=config.group_from)
    named = (levels.label_from, levels.group_from) if takes_levels(photos) else ()
    dataset, used = rows.applied(Dataset.open(photos, *named))
    dataset = dataset.in_order(before.classes)
    if dataset.hint:
        console.warn(dataset.hint)
    split = read_split(run)
    _warn_of_missing(before, split, dataset, used, photos)
    require_two_classes(dataset)
    return Start(before, split, dataset, used)


def _corrections(before: Classifier, run: Path) -> Corrections:
    """Return the rows in a run, and then those beside it. Warn of damaged rows."""
    rows = corrections_of(run, before.source)
    for problem in rows.problems[:10]:
        console.warn(f"left out of {problem.path.name}: {problem.reason}")
    return rows


def _warn_of_missing(before: Classifier, split: Sides, dataset: Dataset, used: Corrections, photos: str) -> None:
    """Warn of photos and classes of the run that are not there any more. Raises DataError if no photo is there."""
    known = {digest for side in SIDES for digest in getattr(split, side)}
    left = {row.digest for row in used.rows if row.action == "exclude"}
    there = known & {digest for record in dataset.records for digest in (record.identity, record.digest)}
    if not there:
        raise DataError(
            f"none of the {len(known)} photos of {before.path} is in {photos}; wanted the photos of the run together "
            "with new ones"
        )
    if gone := len(known - there - left):
        console.warn(f"{gone} of the {len(known)} photos of {before.path} are not in {photos}, and are not trained on")
    if classes := [label for label in before.classes if label not in dataset.classes]:
        console.warn(f"classes of {before.path} that have no photo any more are left out: {', '.join(classes)}")


def compare(start: Start, prepared: Prepared, after: Classifier, fresh: Path) -> Classifier:
    """Compare a new run with the one that it was trained from, and write the comparison into its metrics.

    Args:
        start: the old run, and what it was started with.
        prepared: the photos with their features and their split.
        after: the new classifier, whose run is in ``fresh``.
        fresh: the folder of the new run.

    Returns:
        The new classifier with the metrics ``grown``, ``before`` and ``difference``.
    """
    rows, records = _measured(prepared, after), prepared.dataset.records
    dataset = replace(prepared.dataset, records=tuple(records[i] for i in rows))
    features = prepared.features.select(rows)
    _, answers = own_answers(after, dataset, features, read_split(after.path or Path()))
    fold, old = own_answers(start.before, dataset, features, start.split)
    usable = (fold >= 0) | ~_learned(start, prepared)[rows]
    index = {label: i for i, label in enumerate(start.before.classes)}
    y = np.array([index.get(record.label, -1) for record in dataset.records], np.int64)
    paired = np.flatnonzero(usable & (y >= 0))
    before, difference = None, None
    if len(paired):
        taken = Answers(old.probabilities[paired], old.novelty[paired])
        paths = [dataset.records[i].path for i in paired]
        before = _evaluation(start.before, taken, y[paired], paths, bool((fold[paired] >= 0).any()))
        right = answers.probabilities[paired].argmax(axis=1) == features.y[paired]
        difference = pair(taken.probabilities.argmax(axis=1) == y[paired], right)
    grown = _grown(start, prepared.dataset, int((y < 0).sum()))
    more = {
        "grown": {**asdict(grown), "new_classes": list(grown.new_classes), "gone_classes": list(grown.gone_classes)},
        "before": before.to_dict() if before else None,
        "difference": asdict(difference) if difference else None,
    }
    metrics = {**after.metrics, **{name: value for name, value in more.items() if value is not None}}
    write_measured(fresh, read_manifest(fresh), metrics)
    return replace(after, metrics=metrics)


def _measured(prepared: Prepared, after: Classifier) -> list[int]:
    """Return the indices of the photos that measure the new run."""
    if prepared.fold is not None:
        return np.flatnonzero(prepared.fold != NEVER).tolist()
    return list(getattr(prepared.sides, Metrics.from_dict(after.metrics).measured[0]))


def _learned(start: Start, prepared: Prepared) -> NDArray[np.bool_]:
    """Return for each photo (N,) whether the old run has learned from it or from a copy."""
    dataset, split = prepared.dataset, start.split
    # Where only val measures both runs, both heads were chosen on it, so that it is fair to either.
    known = {*split.train, *(split.val if prepared.sides.test or prepared.fold is not None else ())}
    learned = np.zeros(len(dataset.records), np.bool_)
    for unit in units_of(dataset, prepared.config.salt, prepared.together):
        learned[list(unit.indices)] = any(
            dataset.records[i].identity in known or dataset.records[i].digest in known for i in unit.indices
        )
    return learned


def _evaluation(
    before: Classifier, answers: Answers, y: NDArray[np.int64], paths: list[Path], in_folds: bool
) -> Evaluation:
    """Return the evaluation of the old run's answers to photos, whose old class indices are ``y``."""
    design = DESIGN_EFFECT if in_folds else 1.0
    return measure(answers, y, before.classes, paths, before.temperature, before.threshold, design)


def _grown(start: Start, dataset: Dataset, unknown: int) -> Grown:
    """Return what changed from the old run to the photos of the new one."""
    known = {digest for side in SIDES for digest in getattr(start.split, side)}
    there = known & {digest for record in dataset.records for digest in (record.identity, record.digest)}
    new = sum(record.identity not in known and record.digest not in known for record in dataset.records)
    rows, before = start.corrections.rows, start.before
    return Grown(
        run=str(before.path),
        new=new,
        gone=len(known - there),
        relabelled=sum(bool(row.was) and row.action != "exclude" and row.label not in ("", row.was) for row in rows),
        excluded=sum(row.action == "exclude" for row in rows),
        added=sum(not row.was for row in rows),
        new_classes=tuple(label for label in dataset.classes if label not in before.classes),
        gone_classes=tuple(label for label in before.classes if label not in dataset.classes),
        unknown=unknown,
    )


def require_no_worse(metrics: Mapping[str, Any]) -> None:
    """Raise AccuracyError if a new run is surely worse than the one before: the interval is below 0."""
    found = Metrics.from_dict(metrics)
    difference: Paired | None = found.difference
    if difference and found.grown and difference.interval[1] < 0:
        raise AccuracyError(
            f"the new run is surely worse than {found.grown.run} on the same {difference.n} photos "
            f"({points(difference)}); nothing is kept, as {option('if_better', True)} wants"
        )


def next_names(run: Path) -> Iterator[Path]:
    """Yield the names of the runs after a run, beside it: flowers-2, flowers-3 … after flowers, and 3, 4 … after 2."""
    if run.name in ("", ".."):
        run = Path(os.path.abspath(run))  # noqa: PTH100 (resolve() would follow a link to the run)
    found = _NUMBERED.fullmatch(run.name)
    stem, first = (found["stem"] or "", int(found["number"]) + 1) if found else (f"{run.name}-", 2)
    return (run.with_name(f"{stem}{number}") for number in range(first, 10**6))


def newest_after(run: Path) -> Path | None:
    """Return the newest of the runs that were trained from a run, or from a successor of it, beside it; None without.

    Raises:
        RunError: the metrics of a run are damaged.
    """
    family = [run]
    for later in takewhile(is_run, next_names(run)):
        grown = Metrics.from_dict(read_metrics(later, read_manifest(later))).grown
        if grown and Path(grown.run).name in {one.name for one in family}:
            family.append(later)
    return family[-1] if len(family) > 1 else None
