"""A Predictor × labelled photos → Evaluation: how good it is, and how sure of that one may be.

In: a predictor and a dataset, or probabilities and class indices. Out: `Evaluation`, frozen.
Why: an accuracy without its interval is a rumour when the test side has 40 photos.
Surprise: a photo that cannot be read is a problem, not a mistake; it counts in no figure.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from regraft import _console
from regraft._documents import Fields
from regraft._files import kind_of
from regraft._levels import Levels
from regraft.calibration import Answers, is_novel
from regraft.dataset import Dataset
from regraft.errors import ConfigError, DataError
from regraft.images import Problem

BINS = 15
COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.5)
Z = 1.959963984540054  # the 97.5th percentile of the standard normal distribution
TOP5_FROM = 6  # classes; with five, the top five are always right


class Predictor(Protocol):
    """Anything that gives photos class probabilities: a classifier, an exported file."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels, in the order of the columns."""
        ...

    @property
    def temperature(self) -> float:
        """What logits are divided by."""
        ...

    @property
    def threshold(self) -> float | None:
        """The novelty above which the answer is none of these; None for never."""
        ...

    def predict_proba(
        self, images: Sequence[Any], on_problem: Callable[[Problem], None] | None = None
    ) -> NDArray[np.float32]:
        """Probabilities (N, C). With ``on_problem``, an unreadable photo is told to it and gets a row of NaN."""
        ...

    def answers(self, images: Sequence[Any], on_problem: Callable[[Problem], None] | None = None) -> Answers:
        """`predict_proba`, and the novelty of each photo."""
        ...


@dataclass(frozen=True, slots=True)
class ClassMetrics:
    """One class's figures. None where there is nothing to divide by."""

    label: str
    n: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True, slots=True)
class Mistake:
    """A photo whose most probable class is not its label."""

    path: Path
    label: str
    predicted: str
    probability: float


@dataclass(frozen=True, slots=True)
class Bin:
    """Photos of like confidence, the probability of the most probable class.

    Attributes:
        low, high: the bin's ends.
        n: how many photos are in it.
        confidence: their mean confidence; None for none.
        accuracy: the share of them that are right.
    """

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class Uncalibrated:
    """What the figures would be had logits not been divided by a temperature."""

    log_loss: float
    calibration_error: float
    reliability: tuple[Bin, ...]


@dataclass(frozen=True, slots=True)
class Coverage:
    """The surest ``share`` of the photos: how many of them are right, and the probability from which they begin."""

    share: float
    accuracy: float
    probability: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured. Shares are in 0..1; None where there were no photos to measure.

    Attributes:
        n: photos measured.
        accuracy: share whose most probable class is their label, whether or not that would be the answer.
        right, wrong, refused: how many photos `predict` answers with their label, with another one, and with none of
            these; together they are ``n``.
        interval: 95 % Wilson score interval of the accuracy.
        top5: share whose label is among the five most probable; None below six classes.
        log_loss: mean negative log-likelihood of the labels, in nats.
        calibration_error: mean gap between confidence and accuracy over 15 equal-width bins, weighted by photos.
        reliability: those bins.
        uncalibrated: the same without the temperature.
        coverage: accuracy where only the surest photos are answered.
        rejected: share that would be answered with none of these, though all are of some class.
        per_class: precision, recall and F1 of each class.
        confusion: counts, a row for each label, a column for each prediction, in class order.
        mistakes: the photos that were wrong, the surest first.
    """

    n: int
    accuracy: float | None
    interval: tuple[float, float] | None
    top5: float | None
    log_loss: float | None
    calibration_error: float | None
    reliability: tuple[Bin, ...]
    uncalibrated: Uncalibrated | None
    coverage: tuple[Coverage, ...]
    rejected: float | None
    per_class: tuple[ClassMetrics, ...]
    confusion: tuple[tuple[int, ...], ...]
    mistakes: tuple[Mistake, ...]
    right: int = 0
    wrong: int = 0
    refused: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        values = asdict(self)
        values["mistakes"] = [{**asdict(m), "path": str(m.path)} for m in self.mistakes]
        return values


def require_evaluation(fields: Fields) -> None:
    """Raise DamagedError unless a document has what is read of an `Evaluation.to_dict`; more may stand beside it."""
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
    """Measure a predictor.

    Args:
        predictor: a classifier or a loaded artifact.
        dataset: photos whose labels are all among its classes; some classes may have no photo.

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
    """`evaluate` on what a spec names. Where the photos have sides of their own, on test, or else val.

    ``trained`` and ``levels`` are as in `open_side`.
    """
    dataset = open_side(photos, trained, levels)
    evaluation, problems = evaluate(predictor, dataset)
    problems = (*dataset.problems, *problems)
    for problem in problems:
        _console.warn(f"left out {problem.path}: {problem.reason}")
    return evaluation, problems


def open_side(
    photos: str | os.PathLike[str],
    trained: frozenset[str] = frozenset(),
    levels: Levels = Levels(),  # noqa: B008 (frozen)
) -> Dataset:
    """What a spec names: test, where the photos have sides of their own, or else val; said aloud.

    ``trained`` holds the digests of photos that were trained on; a warning tells how many are met again.
    ``levels`` say which folders name the classes.
    """
    dataset = Dataset.open(photos, levels.label_from, levels.group_from)
    for side in ("test", "val"):
        chosen = tuple(r for r in dataset.records if r.split == side)
        if chosen:
            _console.note(f"measured on the {side}/ side of {photos}")
            dataset = replace(dataset, records=chosen)
            break
    known = sum(record.identity in trained or record.digest in trained for record in dataset.records)
    if known:
        _console.warn(f"{known} of the {len(dataset.records)} photos were trained on, so the figures flatter")
    return dataset


def measure(
    answers: Answers,
    y: NDArray[np.int64],
    classes: tuple[str, ...],
    paths: Sequence[Path],
    temperature: float = 1.0,
    threshold: float | None = None,
) -> Evaluation:
    """Measure answers to N photos against class indices (N,). ``temperature`` and ``threshold`` are the predictor's.

    Raises:
        ConfigError: the shapes do not go together, or a class index is none.
    """
    count = len(classes)
    answers, y = _going_together(answers, y, count, len(paths))
    confusion = np.zeros((count, count), np.int64)
    if not len(y):
        empty = _per_class(confusion, classes), _rows(confusion), ()
        return Evaluation(0, None, None, None, None, None, (), None, (), None, *empty)
    p = answers.probabilities.astype(np.float64)
    predicted = p.argmax(axis=1)
    np.add.at(confusion, (y, predicted), 1)
    right = predicted == y
    top5 = (np.argsort(-p, axis=1, kind="stable")[:, :5] == y[:, np.newaxis]).any(axis=1).mean()
    wrong = sorted(np.flatnonzero(~right).tolist(), key=lambda i: -p[i, predicted[i]])
    bins = _reliability(p, right)
    novel = is_novel(answers.novelty, threshold)
    return Evaluation(
        n=len(y),
        accuracy=float(right.mean()),
        interval=wilson_interval(int(right.sum()), len(y)),
        top5=float(top5) if count >= TOP5_FROM else None,
        log_loss=_log_loss(p, y),
        calibration_error=_calibration_error(bins),
        reliability=bins,
        uncalibrated=_uncalibrated(p, y, temperature),
        coverage=_coverage(p.max(axis=1), right),
        rejected=None if threshold is None else float(novel.mean()),
        per_class=_per_class(confusion, classes),
        confusion=_rows(confusion),
        mistakes=tuple(
            Mistake(paths[i], classes[y[i]], classes[predicted[i]], float(p[i, predicted[i]])) for i in wrong
        ),
        right=int((right & ~novel).sum()),
        wrong=int((~right & ~novel).sum()),
        refused=int(novel.sum()),
    )


def _going_together(answers: Any, y: Any, classes: int, paths: int) -> tuple[Answers, NDArray[np.int64]]:
    """Return answers and class indices as arrays that belong together. Raises ConfigError where they do not."""
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
        raise ConfigError(f"class indices are {indices.dtype}, wanted whole numbers from 0 to {classes - 1}")
    return answers, indices.astype(np.int64)


def wilson_interval(right: int, n: int) -> tuple[float, float]:
    """95 % interval for a share, right also near 0 and 1 (E. B. Wilson, 1927). ``n`` is at least 1."""
    share, correction = right / n, Z * Z / n
    centre = (share + correction / 2) / (1 + correction)
    half = Z * math.sqrt(share * (1 - share) / n + correction / (4 * n)) / (1 + correction)
    return max(0.0, centre - half), min(1.0, centre + half)


def _log_loss(p: NDArray[np.float64], y: NDArray[np.int64]) -> float:
    return float(-np.log(np.maximum(p[np.arange(len(y)), y], 1e-15)).mean())


def _uncalibrated(p: NDArray[np.float64], y: NDArray[np.int64], temperature: float) -> Uncalibrated:
    """Softmax forgets only a constant of the logits, so that powers of probabilities undo the temperature."""
    raw = np.maximum(p, 1e-30) ** temperature
    raw /= raw.sum(axis=1, keepdims=True)
    bins = _reliability(raw, raw.argmax(axis=1) == y)
    return Uncalibrated(_log_loss(raw, y), _calibration_error(bins), bins)


def _reliability(p: NDArray[np.float64], right: NDArray[np.bool_]) -> tuple[Bin, ...]:
    confidence = p.max(axis=1)
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    result = []
    for i in range(BINS):
        inside = place == i
        means = (float(confidence[inside].mean()), float(right[inside].mean())) if inside.any() else (None, None)
        result.append(Bin(i / BINS, (i + 1) / BINS, int(inside.sum()), *means))
    return tuple(result)


def _calibration_error(bins: tuple[Bin, ...]) -> float:
    """Expected calibration error (M. Pakdaman Naeini et al., 2015)."""
    total = sum(b.n for b in bins)
    return sum(b.n * abs((b.confidence or 0.0) - (b.accuracy or 0.0)) for b in bins) / total


def _coverage(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> tuple[Coverage, ...]:
    order = np.argsort(-confidence, kind="stable")
    counts = [math.ceil(share * len(order)) for share in COVERAGES]
    return tuple(
        Coverage(share, float(right[order[:n]].mean()), float(confidence[order[n - 1]]))
        for share, n in zip(COVERAGES, counts, strict=True)
    )


def _per_class(confusion: NDArray[np.int64], classes: tuple[str, ...]) -> tuple[ClassMetrics, ...]:
    def one(i: int) -> ClassMetrics:
        hits, labelled, predicted = int(confusion[i, i]), int(confusion[i].sum()), int(confusion[:, i].sum())
        precision = hits / predicted if predicted else None
        recall = hits / labelled if labelled else None
        f1 = 2 * hits / (predicted + labelled) if labelled else None
        return ClassMetrics(classes[i], labelled, precision, recall, f1)

    return tuple(one(i) for i in range(len(classes)))


def _rows(confusion: NDArray[np.int64]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(int(v) for v in row) for row in confusion)
