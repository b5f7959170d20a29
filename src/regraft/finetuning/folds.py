"""Fine-tuning in folds: as many fine-tunings, each without a fold of the photos, and all photos as a test of them.

In: the classifier of a run and its photos. Out: `TunedFolds`, with pooled answers of frozen and fine-tuned classifiers.
Why: a tenth of 200 photos cannot tell whether fine-tuning gained a point; all of them, in turns, come nearer.
Surprise: each fold is an ordinary run with sides, and an ordinary fine-tuning of it, in a folder beside the output. So
what was done before a kill is there afterwards, and the runs are deleted when all of them are pooled.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from regraft.classifiers.calibration import is_novel
from regraft.classifiers.classifier import Classifier, sides_of
from regraft.classifiers.evaluation import Evaluation, measure
from regraft.classifiers.held_out import HeldOut
from regraft.classifiers.paired_evaluation import Compared, Figures, pair
from regraft.classifiers.predictor import Answers
from regraft.classifiers.run_folder import is_run, is_unfinished
from regraft.config.finetuning import FinetuneConfig
from regraft.errors import RunError
from regraft.features.features import Features
from regraft.finetuning.begun import existing_option
from regraft.finetuning.starting_point import VAL, Opened, on_sides
from regraft.foundation import console
from regraft.foundation.documents import MEBIBYTE, Fields, mended, read_json
from regraft.foundation.files import digest_json, write_json
from regraft.label_tools.corrections import carry_corrections
from regraft.photos.dataset import Dataset
from regraft.photos.splitting import Split, split
from regraft.training.cross_validation import DESIGN_EFFECT
from regraft.training.folding import NEVER, fold_photos

_RECORD = "folds.json"


class _Pooled(NamedTuple):
    """Answers to N photos, whose numbers are NaN outside of folds, and one threshold of novelty for all."""

    answers: Answers
    threshold: float | None


@dataclass(frozen=True, slots=True)
class TunedFolds:
    """The pooled answers of K fine-tunings to N photos.

    Attributes:
        k: the number of folds.
        evaluation: the metrics of the fine-tuned classifiers over all photos that are in a fold.
        compared: the frozen and the fine-tuned classifiers on the same photos.
        dataset: the N photos.
        held_out: the number of each photo's fold, and the answers of the fine-tuned classifiers.
    """

    k: int
    evaluation: Evaluation
    compared: Compared
    dataset: Dataset
    held_out: HeldOut

    def to_dict(self) -> dict[str, Any]:
        """Return the number of folds and the metrics as JSON values."""
        return {"k": self.k, **self.evaluation.to_dict()}

    def in_order_of(self, dataset: Dataset, sides: Split) -> HeldOut:
        """Return the held-out answers to the photos of a split, those of train before those of val."""
        rows = {record.identity: row for row, record in enumerate(self.dataset.records)}
        order = [rows[dataset.records[i].identity] for i in (*sides.train, *sides.val)]
        answers = Answers(*(numbers[order] for numbers in self.held_out.answers))
        return HeldOut(self.held_out.fold[order], answers)


def tune_folds(
    opened: Opened, config: FinetuneConfig, work: Path, existing: str, finetune: Callable[..., Classifier]
) -> TunedFolds | None:
    """Fine-tune once for each fold, and pool the answers to the photos that were held out.

    Args:
        opened: the classifier of the run, and its photos with their features.
        config: the options, with the number of folds.
        work: the folder for the runs of the folds. They stay there until `discard` is called.
        existing: ``resume`` to go on with the runs in ``work``, or ``overwrite`` to begin anew.
        finetune: the function `regraft.finetune`.

    Returns:
        The pooled answers; None, with a warning, where no photo can be held out.

    Raises:
        RunError: ``work`` is there, and ``existing`` does not say what to do with it.
    """
    dataset, features, folds = opened.dataset, opened.features, config.folds
    fold = fold_photos(dataset, folds, opened.before.config.salt, opened.together)
    numbers = np.unique(fold[fold != NEVER]).tolist()
    if not numbers:
        console.warn("no class has two photos that differ: folds cannot measure the result")
        return None
    console.note(
        f"{len(numbers)} folds: {len(numbers) + 1} fine-tunings in all, each about as long as one without folds"
    )
    _begin(work, _wanted(opened, config, fold), existing)
    pairs, start = [], perf_counter()
    for done, number in enumerate(numbers):
        frozen, tuned = work / f"{number}", work / f"{number}-ft"
        if not is_run(tuned):
            sides = _sides(opened, fold, number)
            if not is_run(frozen):
                _save(on_sides(opened.before, dataset, sides, features), dataset, sides, frozen)
            how = "resume" if is_unfinished(tuned) else ""
            finetune(frozen, tuned, replace(config, folds=0), opened.photos, how, as_trial=True)
        pairs.append((Classifier.load(frozen), Classifier.load(tuned)))
        passed = perf_counter() - start
        console.note(
            f"fold {done + 1} of {len(numbers)} is done; about {passed / (done + 1) * (len(numbers) - done):.0f} s left"
        )
    return _pool(pairs, dataset, features, fold)


def discard(work: Path) -> None:
    """Delete the runs of the folds."""
    shutil.rmtree(work, ignore_errors=True)


def is_to_overwrite(work: Path) -> bool:
    """Return whether folds that are not finished were begun to replace a run."""
    if not (work / _RECORD).is_file():
        return False
    with mended(RunError, f"type {existing_option('overwrite')} to begin anew"):
        fields = Fields(read_json(work / _RECORD, MEBIBYTE), f"{work / _RECORD} is damaged")
        return fields.values.get("overwrite") is True


def _wanted(opened: Opened, config: FinetuneConfig, fold: NDArray[np.int64]) -> dict[str, str]:
    """Return digests of the options, the run, and the folds of the photos: what resuming requires to be the same."""
    before = opened.before
    photos = zip((record.identity for record in opened.dataset.records), fold.tolist(), strict=True)
    return {
        "config": digest_json(asdict(config)),
        "from": digest_json([before.backbone.fingerprint, before.metrics]),
        "photos": digest_json(sorted(photos)),
    }


def _begin(work: Path, wanted: Mapping[str, str], existing: str) -> None:
    """Make the folder for the runs of the folds, or check that what is there was begun alike."""
    if work.is_symlink() or (work.exists() and not (work / _RECORD).is_file()):
        raise RunError(f"{work} is in the way: the folds are fine-tuned there; move it")
    if work.exists() and existing == "overwrite":
        discard(work)
    if work.exists():
        begin_anew = f"type {existing_option('overwrite')} to begin anew"
        if existing != "resume":
            raise RunError(f"{work} has folds that are not finished; type {existing_option('resume')}, or {begin_anew}")
        with mended(RunError, begin_anew):
            fields = Fields(read_json(work / _RECORD, MEBIBYTE), f"{work / _RECORD} is damaged")
            if {name: fields.text(name) for name in wanted} != wanted:
                raise RunError(f"{work} was begun with other options, photos or from another run; {begin_anew}")
        return
    work.mkdir(parents=True)
    write_json(work / _RECORD, {**wanted, "overwrite": existing == "overwrite"})


def _sides(opened: Opened, fold: NDArray[np.int64], number: int) -> Split:
    """Return the split of a fold: the fold is test, and val is drawn from all other photos."""
    rest = np.flatnonzero(fold != number).tolist()
    place = {index: row for row, index in enumerate(rest)}
    groups = [[place[i] for i in group if i in place] for group in opened.together]
    others = replace(opened.dataset, records=tuple(opened.dataset.records[i] for i in rest))
    config = opened.before.config
    drawn = split(others, (config.val or VAL, 0.0), config.salt, [group for group in groups if len(group) > 1])
    train, val = (tuple(rest[i] for i in side) for side in (drawn.train, drawn.val))
    return Split(train=train, val=val, test=tuple(np.flatnonzero(fold == number).tolist()))


def _save(classifier: Classifier, dataset: Dataset, sides: Split, folder: Path) -> None:
    """Write the run of a fold, whose manifest comes last."""
    shutil.rmtree(folder, ignore_errors=True)  # what a kill left
    folder.mkdir()
    carry_corrections(classifier.path or Path(), folder)
    classifier.save(folder, dataset, asdict(sides))


def _pool(
    pairs: list[tuple[Classifier, Classifier]], dataset: Dataset, features: Features, fold: NDArray[np.int64]
) -> TunedFolds:
    """Ask the classifiers of each fold about the photos of the fold, and measure all answers together."""
    frozen, tuned = ([pair[which] for pair in pairs] for which in (0, 1))
    known = np.flatnonzero(fold != NEVER)
    y, paths = features.y[known], [dataset.records[i].path for i in known.tolist()]
    both = [_answers(classifiers, dataset) for classifiers in (frozen, tuned)]
    inside = [Answers(*(numbers[known] for numbers in pooled.answers)) for pooled in both]
    right = [answers.probabilities.argmax(axis=1) == y for answers in inside]
    novel = [is_novel(answers.novelty, pooled.threshold) for answers, pooled in zip(inside, both, strict=True)]
    temperature = float(np.exp(np.mean([np.log(one.temperature) for one in tuned])))
    measured = [
        measure(answers, y, dataset.classes, paths, temperature, pooled.threshold, DESIGN_EFFECT)
        for answers, pooled in zip(inside, both, strict=True)
    ]
    figures = [Figures(one.accuracy or 0.0, one.log_loss or 0.0, one.rejected) for one in measured]
    compared = Compared(len(known), figures[0], figures[1], pair(*right), pair(*novel))
    return TunedFolds(len(pairs), measured[1], compared, dataset, HeldOut(fold, both[1].answers))


def _answers(classifiers: list[Classifier], dataset: Dataset) -> _Pooled:
    """Return the answers of the classifiers of all folds, each to the test side of its split.

    Each fold has its own threshold of novelty. It is subtracted from the novelty, so that one threshold, 0, holds for
    all.
    """
    count = len(dataset.records)
    probabilities = np.full((count, len(dataset.classes)), np.nan, np.float32)
    novelty = np.full(count, np.nan, np.float32)
    thresholds = [classifier.threshold for classifier in classifiers]
    never = any(threshold is None for threshold in thresholds)
    for classifier, threshold in zip(classifiers, thresholds, strict=True):
        rows = list(sides_of(classifier, dataset).test)
        found = classifier.answers([dataset.records[i] for i in rows])
        probabilities[rows] = found.probabilities
        novelty[rows] = np.nan if never else found.novelty - np.float32(threshold or 0.0)
    return _Pooled(Answers(probabilities, novelty), None if never else 0.0)
