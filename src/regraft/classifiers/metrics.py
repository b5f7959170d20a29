"""The counts and metrics of a run, which are the contents of metrics.json, as records.

In: the JSON document. Out: `Metrics`.
Why: the model card and the printed tables read typed fields, in place of keys that may be misspelt.
Surprise: nearly all fields have defaults, since the documents of an older regraft lack some of the keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from regraft.classifiers.evaluation import Evaluation
from regraft.classifiers.paired_evaluation import Compared, Paired
from regraft.errors import AccuracyError, option
from regraft.foundation.records import as_record


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file that could not be read.

    Attributes:
        path: the file.
        reason: why it could not be read.
    """

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Counts:
    """The number of photos on each side of the split."""

    train: int
    val: int
    test: int

    @property
    def total(self) -> int:
        """The number of photos on all sides of the split together."""
        return self.train + self.val + self.test

    def __str__(self) -> str:
        return f"{self.train} train, {self.val} val, {self.test} test"


@dataclass(frozen=True, slots=True)
class Extracted:
    """The number of photos whose features were computed, and of photos whose features were in the cache."""

    computed: int
    cached: int


@dataclass(frozen=True, slots=True)
class Copies:
    """The number of groups of photos that show the same picture, and the number of photos in these groups."""

    groups: int
    photos: int


@dataclass(frozen=True, slots=True)
class FineTuned:
    """The figures of a fine-tuning.

    Attributes:
        blocks: the number of blocks at the end of the backbone that were thawed; 0 for all blocks.
        epochs: the number of epochs that were trained.
        frozen: the accuracy of the run that was fine-tuned, by side of the split.
        beside: the comparison of both classifiers on the same photos, by side; empty in runs of an older regraft.
        worse: one sentence for each figure that became worse.
    """

    blocks: int
    epochs: int
    frozen: Mapping[str, float | None]
    beside: Mapping[str, Compared] = field(default_factory=dict)
    worse: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InFloats:
    """The accuracy, on val, test or in folds, of an int8 run's head on features of another ``precision``."""

    precision: str
    val: float | None
    test: float | None
    folds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Folds(Evaluation):
    """The evaluation of ``k`` folds: each photo was answered by a head that was not trained on the photo's fold."""

    k: int


@dataclass(frozen=True, slots=True)
class Grown:
    """What changed from an older run to a run that was trained from it.

    Attributes:
        run: the path of the older run.
        new, gone: the number of photos that the older run did not have, and of those that it alone has.
        relabelled, excluded, added: the number of photos whose label was corrected, that corrections left out, and that
            corrections added; also counted are those of the older run.
        new_classes, gone_classes: the classes that the older run did not have, and those that it alone has.
        unknown: the number of measured photos of new classes, which `Metrics.before` leaves out.
    """

    run: str
    new: int
    gone: int
    relabelled: int
    excluded: int
    added: int
    new_classes: tuple[str, ...]
    gone_classes: tuple[str, ...]
    unknown: int


@dataclass(frozen=True, slots=True)
class Metrics:
    """The counts and metrics of a run.

    Attributes:
        counts: the number of photos on each side of the split.
        val, test: the evaluation on the val side and on the test side; with folds, val has no photo and test is None.
        classes: the class names, in the order of the probabilities.
        problems: the files that could not be read and were left out.
        groups: the number of groups of photos on each side of the split; empty where photos have no groups.
        duplicate_groups: the counts of photos that show the same picture; None where copies were not looked for.
        features: the number of photos whose features were computed, and of those in the cache.
        seconds: the duration of each step and of all together (``total``), in seconds.
        finetuned: the figures of the fine-tuning; None in a run with a frozen backbone.
        int8_beside: the accuracy without int8; None in a run that does not compute features in int8.
        folds: the pooled evaluation of all photos in folds; None in a run with sides.
        grown: what changed from the older run; None in a run that was not trained from another.
        before: the evaluation of the older run on those measured photos from which it has not learned, with the labels
            of this run; None where there is no such photo.
        difference: the change of the accuracy from the older run to this one, on the same photos.
    """

    counts: Counts
    val: Evaluation
    test: Evaluation | None
    classes: tuple[str, ...] = ()
    problems: tuple[LeftOut, ...] = ()
    groups: Mapping[str, int] = field(default_factory=dict)
    duplicate_groups: Copies | None = None
    features: Extracted = Extracted(0, 0)
    seconds: Mapping[str, float] = field(default_factory=dict)
    finetuned: FineTuned | None = None
    int8_beside: InFloats | None = None
    folds: Folds | None = None
    grown: Grown | None = None
    before: Evaluation | None = None
    difference: Paired | None = None

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Return the record of a JSON document. Raises ValueError, which names the key, for another document."""
        return as_record(cls, document)

    @property
    def measured(self) -> tuple[str, Evaluation]:
        """The name and the evaluation to report: folds, or else test, or val where the test side has no photo."""
        if self.folds is not None:
            return "folds", self.folds
        return ("test", self.test) if self.test and self.test.n else ("val", self.val)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingReport(Metrics):
    """The document of `train`, `demo` and `finetune`: the contents of metrics.json, and the run folder.

    Attributes:
        run: the path of the run folder.
    """

    run: str


class HasAccuracy(Protocol):
    """The record of an accuracy with its 95 % interval and its number of photos; both are None without photos."""

    @property
    def n(self) -> int: ...  # noqa: D102 (of the class's docstring)

    @property
    def accuracy(self) -> float | None: ...  # noqa: D102

    @property
    def interval(self) -> tuple[float, float] | None: ...  # noqa: D102


def require_accuracy(name: str, measured: HasAccuracy, wanted: float | None) -> None:
    """Raise AccuracyError unless the accuracy is surely as high as wanted.

    Args:
        name: the name of the photos that were measured, such as ``test``.
        measured: the evaluation of a classifier or of an export.
        wanted: the smallest accuracy, in 0..1, that the lower end of the 95 % interval must reach; None for any.
    """
    if wanted is None:
        return
    if measured.interval is None:
        raise AccuracyError(f"no photo was measured, so that the accuracy may be below {wanted:.1%}; nothing is kept")
    low, high = measured.interval
    if low < wanted:
        raise AccuracyError(
            f"{name} accuracy {measured.accuracy:.1%} (95 % interval {low:.1%} to {high:.1%}, n={measured.n}): the "
            f"lower end of the interval is below {option('min_accuracy', f'{wanted:g}')}; nothing is kept"
        )
