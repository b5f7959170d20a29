"""Two runs on the same photos: which photos changed sides, and whether the difference is more than chance.

In: the `Facts` of two runs about the same photos. Out: `RunComparison`.
Why: whether a change helped is not to be seen in two accuracies, but in the photos whose answers changed.
Surprise: only photos that both runs measured are compared. A photo that one of them was trained on proves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regraft.classifiers.paired_evaluation import Paired, pair
from regraft.errors import DataError
from regraft.reporting.report_facts import Facts


@dataclass(frozen=True, slots=True)
class ClassChange:
    """How many of the ``n`` compared photos of a class are right ``before`` and ``after``; gained and lost."""

    label: str
    n: int
    before: int
    after: int
    gained: int
    lost: int


@dataclass(frozen=True, slots=True)
class RunComparison:
    """The comparison of a run with one before it.

    Attributes:
        paired: the change of the accuracy, with its interval and McNemar's p value.
        before, after: the accuracy of both runs on the compared photos, in 0..1.
        per_class: the change in each class, in the order of the classes.
        gained, lost: the indices, in the facts of the second run, of the photos that became right, and wrong; the
            surest answers first.
        earlier: the answer of the first run to each photo of ``gained`` and ``lost``, by index.
    """

    paired: Paired
    before: float
    after: float
    per_class: tuple[ClassChange, ...]
    gained: tuple[int, ...]
    lost: tuple[int, ...]
    earlier: dict[int, str]


def compare_runs(before: Facts, after: Facts) -> RunComparison:
    """Compare two runs on the photos that both measured, without those of classes that the first does not know.

    Raises:
        DataError: there is no such photo.
    """
    names = before.classifier.classes
    first = {before.dataset.records[i].identity: i for i in before.measured.tolist()}
    found = [
        (first[after.dataset.records[i].identity], i)
        for i in after.measured.tolist()
        if after.dataset.records[i].identity in first and after.dataset.records[i].label in names
    ]
    if not found:
        raise DataError("no photo was measured in both runs; compare runs of the same photos, with folds or one split")
    old, new = (np.array(side, np.int64) for side in zip(*found, strict=True))
    labels = [after.dataset.records[i].label for i in new.tolist()]
    # Labels may have been corrected between the runs: both answers are held against the labels of the second.
    right_before = np.array([names[i] for i in before.predicted[old].tolist()]) == np.array(labels)
    right_after = after.predicted[new] == after.features.y[new]
    sure = np.argsort(-after.answers.probabilities[new].max(axis=1), kind="stable")
    gained = [i for i in sure.tolist() if right_after[i] and not right_before[i]]
    lost = [i for i in sure.tolist() if right_before[i] and not right_after[i]]
    per_class = []
    for label in after.classifier.classes:
        mine = np.array([name == label for name in labels], np.bool_)
        b, a = right_before[mine], right_after[mine]
        counts = (len(b), int(b.sum()), int(a.sum()), int((a & ~b).sum()), int((b & ~a).sum()))
        per_class.append(ClassChange(label, *counts))
    return RunComparison(
        pair(right_before, right_after),
        float(right_before.mean()),
        float(right_after.mean()),
        tuple(per_class),
        tuple(int(new[i]) for i in gained),
        tuple(int(new[i]) for i in lost),
        {int(new[i]): names[int(before.predicted[old[i]])] for i in (*gained, *lost)},
    )
