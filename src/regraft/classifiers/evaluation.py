"""A predictor and labelled photos → Evaluation: the metrics of the predictor, and the interval of its accuracy.

In: a predictor and a data set, or probabilities and class indices. Out: `Evaluation`, a frozen record.
Why: an accuracy without its confidence interval says little when the test split has 40 photos.
Surprise: a photo that cannot be read is a problem and not a mistake; such a photo counts in no metric.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from regraft.classifiers.calibration import is_novel
from regraft.classifiers.class_metrics import ClassMetrics, confusion_matrix, per_class_metrics
from regraft.classifiers.confidence_metrics import (
    Bin,
    Coverage,
    Uncalibrated,
    calibration_error,
    coverage,
    judged,
    log_loss,
    reliability,
)
from regraft.classifiers.intervals import wilson_interval
from regraft.classifiers.predictor import Answers, Predictor
from regraft.config.levels import Levels
from regraft.drawing.figures import confusion_figure, reliability_figure
from regraft.drawing.html import displayed_by
from regraft.errors import ConfigError, DataError
from regraft.foundation import console
from regraft.foundation.documents import Fields
from regraft.foundation.files import kind_of
from regraft.foundation.large_arrays import row_blocks, rows_of
from regraft.foundation.records import as_record
from regraft.photos.dataset import Dataset
from regraft.photos.images import Problem

TOP5_FROM = 6  # the smallest number of classes with a top-5 accuracy; with five classes it would always be 1


@dataclass(frozen=True, slots=True)
class Mistake:
    """A photo whose most probable class, ``predicted``, is not its label; with the probability of that class."""

    path: Path
    label: str
    predicted: str
    probability: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The metrics of a predictor on labelled photos. Shares are in 0..1; metrics are None where there was no photo.

    Attributes:
        n: the number of photos that were measured.
        accuracy: the share of photos whose most probable class is their label, even if `predict` rejects the photo.
        right, wrong, refused: the numbers of photos that `predict` answers with their label, with another label, and
            with "none of these"; their sum is ``n``.
        interval: the 95 % Wilson score interval of the accuracy; of folds with a design effect (`DESIGN_EFFECT`).
        balanced_accuracy: the mean recall of the classes that have photos: each class counts alike.
        macro_f1: the mean F1 of the classes that have photos.
        top5: the share of photos whose label is among the five most probable classes; None below six classes.
        log_loss: the mean negative log-likelihood of the labels (cross-entropy), in nats.
        calibration_error: the expected calibration error: the mean gap between confidence and accuracy over 15
            equal-width bins, weighted by photos.
        reliability: the bins of the calibration error.
        uncalibrated: log loss, calibration error and bins without the temperature.
        coverage: the accuracy where only the surest photos are answered.
        rejected: the share of photos that are answered "none of these" although each has one of the classes; None also
            where that is never the answer.
        per_class: precision, recall and F1 of each class, with their intervals.
        confusion: the confusion matrix of counts: a row for each label, a column for each prediction, in class order;
            empty with more than 1,000 classes.
        mistakes: the photos that were wrong, the surest first.
    """

    n: int
    accuracy: float | None = None
    interval: tuple[float, float] | None = None
    top5: float | None = None
    log_loss: float | None = None
    calibration_error: float | None = None
    reliability: tuple[Bin, ...] = ()
    uncalibrated: Uncalibrated | None = None
    coverage: tuple[Coverage, ...] = ()
    rejected: float | None = None
    per_class: tuple[ClassMetrics, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    mistakes: tuple[Mistake, ...] = ()
    right: int = 0
    wrong: int = 0
    refused: int = 0
    balanced_accuracy: float | None = None
    macro_f1: float | None = None

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Return the evaluation that `to_dict` gave; a metric that an older regraft did not write has its default.

        Raises:
            ValueError: the document is not of an evaluation; the message names the key.
        """
        return as_record(cls, document)

    @property
    def tells_answers(self) -> bool:
        """Whether the evaluation counts the answers of `predict`; evaluations of an older regraft do not."""
        return self.right + self.wrong + self.refused == self.n

    @property
    def filled_bins(self) -> tuple[tuple[float, float, int], ...]:
        """Confidence, accuracy and number of photos of each bin of `reliability` that has photos."""
        return tuple(
            (found.confidence, found.accuracy, found.n)
            for found in self.reliability
            if found.confidence is not None and found.accuracy is not None
        )

    def to_frame(self) -> Any:
        """Return the metrics of the classes as a pandas ``DataFrame``.

        Returns:
            A row for each class, with the class as the index ``label``; columns ``n`` (photos), ``precision``,
            ``recall`` and ``f1`` in 0..1, NaN where undefined, and the ends of their 95 % intervals as
            ``precision_low``, ``precision_high`` and so on.

        Raises:
            ConfigError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ConfigError("to_frame() needs pandas; type pip install pandas") from error
        names = ("precision", "recall", "f1")
        ends = [f"{name}_{end}" for name in names for end in ("low", "high")]
        rows = []
        for row in self.per_class:
            intervals = [getattr(row, f"{name}_interval") or (None, None) for name in names]
            rows.append((row.label, row.n, row.precision, row.recall, row.f1, *itertools.chain(*intervals)))
        frame = pandas.DataFrame(rows, columns=["label", "n", *names, *ends]).set_index("label")
        return frame.astype(dict.fromkeys((*names, *ends), "float64"))

    def plot_confusion(self) -> Any:
        """Draw the confusion matrix: a row for each label, a column for each prediction.

        Returns:
            A ``matplotlib.figure.Figure``, which a notebook shows, and whose ``savefig(path)`` writes a file.

        Raises:
            ConfigError: matplotlib is not installed, or the evaluation has no confusion matrix.
        """
        if not self.confusion:
            raise ConfigError("the evaluation has no confusion matrix to draw; measure the photos again")
        return confusion_figure(self.confusion, [row.label for row in self.per_class], self._title)

    def plot_reliability(self) -> Any:
        """Draw the accuracy over the confidence, and how many photos have which confidence.

        Returns:
            A ``matplotlib.figure.Figure``, which a notebook shows, and whose ``savefig(path)`` writes a file.

        Raises:
            ConfigError: matplotlib is not installed, or no photo was measured.
        """
        if not self.filled_bins:
            raise ConfigError("the evaluation has no photos, so there is no reliability to draw")
        return reliability_figure(self.filled_bins, self._title)

    @property
    def _title(self) -> str:
        """The title of the figures: the accuracy and the number of photos."""
        return "" if self.accuracy is None else f"accuracy {self.accuracy:.1%} on {self.n:,} photos"

    _repr_html_ = displayed_by("regraft.reporting.displays:evaluation_html")

    def to_dict(self) -> dict[str, Any]:
        """Return the evaluation as JSON values."""
        values = asdict(self)
        values["mistakes"] = [{**asdict(m), "path": str(m.path)} for m in self.mistakes]
        return values


def require_evaluation(fields: Fields) -> None:
    """Check the keys of an `Evaluation.to_dict` that are read; further keys are allowed. Raises DamagedError."""
    for row in fields.each("per_class"):
        row.text("label")
        row.whole("n")
        for name in ("precision", "recall", "f1"):
            row.number_or_none(name, 0, 1)
    fields.number_or_none("rejected", 0, 1)
    if fields.whole("n"):
        fields.number("accuracy", 0, 1)
        fields.numbers("interval", 2, 0, 1)
        fields.number("log_loss", 0)
        fields.number("calibration_error", 0, 1)


def evaluate(predictor: Predictor, dataset: Dataset) -> tuple[Evaluation, tuple[Problem, ...]]:
    """Measure a predictor on a data set.

    Args:
        predictor: a classifier or a loaded export.
        dataset: the photos. Each label must be a class of the predictor; a class may have no photo.

    Returns:
        The evaluation, and the photos that could not be read.

    Raises:
        DataError: the photos have a class that the predictor does not know.
    """
    strangers = [c for c in dataset.classes if c not in predictor.classes]
    if strangers:
        raise DataError(
            f"the photos have classes the classifier does not know: {', '.join(strangers)}; "
            f"it knows {', '.join(predictor.classes)}"
        )
    problems: list[Problem] = []
    found = predictor.answers(dataset.records, on_problem=problems.append)
    kept = [i for i in range(len(dataset.records)) if not np.isnan(found.probabilities[i, 0])]
    index = {label: i for i, label in enumerate(predictor.classes)}
    y = np.array([index[dataset.records[i].label] for i in kept], np.int64)
    paths = [dataset.records[i].path for i in kept]
    answers = Answers(found.probabilities[kept], found.novelty[kept])
    result = measure(answers, y, predictor.classes, paths, predictor.temperature, predictor.threshold)
    return result, tuple(problems)


def evaluate_photos(
    predictor: Predictor,
    photos: str | os.PathLike[str],
    trained: frozenset[str] = frozenset(),
    levels: Levels = Levels(),  # noqa: B008 (frozen)
) -> tuple[Evaluation, tuple[Problem, ...]]:
    """Measure a predictor on the photos that `open_side` opens, and warn of each photo that cannot be read.

    The arguments are those of `open_side`; results and errors are those of `evaluate`.
    """
    dataset = open_side(photos, trained, levels)
    evaluation, problems = evaluate(predictor, dataset)
    problems = (*dataset.problems, *problems)
    for problem in problems:
        console.warn(f"left out {problem.path}: {problem.reason}")
    return evaluation, problems


def open_side(
    photos: str | os.PathLike[str],
    trained: frozenset[str] = frozenset(),
    levels: Levels = Levels(),  # noqa: B008 (frozen)
) -> Dataset:
    """Open the photos on which a predictor is measured: the test side if the photos have a split, else val, else all.

    Args:
        photos: whatever `Dataset.open` takes.
        trained: the digests of the photos that the predictor was trained on; a warning counts those met again.
        levels: the folders that name the classes and the groups.

    Raises:
        DataError: no photo can be opened.
    """
    dataset = Dataset.open(photos, levels.label_from, levels.group_from)
    for side in ("test", "val"):
        chosen = tuple(r for r in dataset.records if r.split == side)
        if chosen:
            console.note(f"measured on the {side}/ side of {photos}")
            dataset = replace(dataset, records=chosen)
            break
    warn_of_trained(dataset, trained)
    return dataset


def warn_of_trained(dataset: Dataset, trained: frozenset[str]) -> None:
    """Warn where photos that are measured were trained on.

    Args:
        dataset: the photos.
        trained: the digests of the photos that the predictor was trained on.
    """
    known = sum(record.identity in trained or record.digest in trained for record in dataset.records)
    if known:
        console.warn(f"{known} of the {len(dataset.records)} photos were trained on, so the figures are too good")


def measure(
    answers: Answers,
    y: NDArray[np.int64],
    classes: tuple[str, ...],
    paths: Sequence[Path],
    temperature: float = 1.0,
    threshold: float | None = None,
    design: float = 1.0,
) -> Evaluation:
    """Measure the answers to N photos against their labels.

    Args:
        answers: probabilities (N, C) and novelty (N,), without NaN in the probabilities.
        y: the class index (N,) of each photo's label, from 0 to C - 1.
        classes: the C labels.
        paths: the path of each photo, which mistakes are reported by.
        temperature: the temperature by which the predictor divided its logits.
        threshold: the novelty above which the predictor answers "none of these"; None for never.
        design: the design effect of the interval of the accuracy; 1 where the answers to photos are independent.

    Raises:
        ConfigError: the shapes do not go together, or a class index is out of range.
    """
    answers, y = _going_together(answers, y, len(classes), len(paths))
    blocks = row_blocks(len(y), rows_of(len(classes)))
    parts = ((Answers(answers.probabilities[block], answers.novelty[block]), y[block]) for block in blocks)
    return measure_parts(parts, classes, paths, temperature, threshold, design)


def measure_parts(
    parts: Iterable[tuple[Answers, NDArray[np.int64]]],
    classes: tuple[str, ...],
    paths: Sequence[Path],
    temperature: float = 1.0,
    threshold: float | None = None,
    design: float = 1.0,
) -> Evaluation:
    """Measure answers that come in parts, so that the probabilities of many photos and classes are never all in memory.

    Args:
        parts: the answers to some photos with their class indices, as `measure` takes those of all photos; together
            they are in the order of ``paths``.
        classes: the C labels.
        paths: the path of each photo, which mistakes are reported by.
        temperature: the temperature by which the predictor divided its logits.
        threshold: the novelty above which the predictor answers "none of these"; None for never.
        design: the design effect of the interval of the accuracy.
    """
    found = judged(parts, temperature)
    y, predicted = found.y, found.predicted
    counts, per_class = confusion_matrix(y, predicted, len(classes)), per_class_metrics(y, predicted, classes, design)
    if not len(y):
        return Evaluation(0, per_class=per_class, confusion=counts)
    right, novel = predicted == y, is_novel(found.novelty, threshold)
    wrong = sorted(np.flatnonzero(~right).tolist(), key=lambda i: -found.confidence[i])
    bins = reliability(found.confidence, right)
    return Evaluation(
        n=len(y),
        accuracy=float(right.mean()),
        interval=wilson_interval(int(right.sum()), len(y), design),
        top5=float(found.in_top5.mean()) if len(classes) >= TOP5_FROM else None,
        log_loss=log_loss(found.truth),
        calibration_error=calibration_error(bins),
        reliability=bins,
        uncalibrated=found.uncalibrated(),
        coverage=coverage(found.confidence, right),
        rejected=None if threshold is None else float(novel.mean()),
        per_class=per_class,
        confusion=counts,
        mistakes=tuple(
            Mistake(paths[i], classes[y[i]], classes[predicted[i]], float(found.confidence[i])) for i in wrong
        ),
        right=int((right & ~novel).sum()),
        wrong=int((~right & ~novel).sum()),
        refused=int(novel.sum()),
        balanced_accuracy=_mean(row.recall for row in per_class),
        macro_f1=_mean(row.f1 for row in per_class),
    )


def _mean(values: Iterable[float | None]) -> float:
    """Return the mean of the values that are not None."""
    return float(np.mean([value for value in values if value is not None]))


def _going_together(answers: Any, y: Any, classes: int, paths: int) -> tuple[Answers, NDArray[np.int64]]:
    """Check the shapes of answers and class indices, and return both. Raises ConfigError where they do not match."""
    if not isinstance(answers, Answers):
        raise ConfigError(f"answers are {kind_of(answers)}; wanted what a predictor's answers() gives")
    indices = np.asarray(y)
    shape = answers.probabilities.shape
    if indices.shape != (paths,) or shape != (paths, classes) or answers.novelty.shape != (paths,):
        raise ConfigError(
            f"probabilities {shape}, novelty {answers.novelty.shape}, class indices {indices.shape}, {paths} paths and "
            f"{classes} classes do not go together; wanted (N, C), (N,), (N,), N and C"
        )
    if len(indices) and (indices.dtype.kind not in "iu" or indices.min() < 0 or indices.max() >= classes):
        found = f"{indices.dtype} from {indices.min()} to {indices.max()}"
        raise ConfigError(f"class indices are {found}; wanted whole numbers from 0 to {classes - 1}")
    return answers, indices.astype(np.int64)
