"""Print how a new run compares with the run that it comes from: a fine-tuning, or a training from an older run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regraft.classifiers.paired_evaluation import points
from regraft.foundation.console import printable
from regraft.foundation.console import printed as print  # noqa: A004 (nothing here reaches a terminal unescaped)

if TYPE_CHECKING:  # `predict` prints neither, and need not wait for their modules
    from regraft.classifiers.metrics import FineTuned, Grown, TrainingReport


def beside_frozen(finetuned: FineTuned, measured: str) -> None:
    """Print the metrics before and after fine-tuning on the same photos; for an old run only the accuracy before.

    Args:
        finetuned: the figures of the fine-tuning.
        measured: the side of the split, ``test`` or ``val``, whose accuracy is printed for an old run.
    """
    if not finetuned.beside:
        before = finetuned.frozen[measured]
        print(f"before fine-tuning: {measured} accuracy {'–' if before is None else f'{before:.3f}'}")
        return
    print("fine-tuning, on the same photos:")
    for side, found in finetuned.beside.items():
        old, new, right = found.before, found.after, found.accuracy
        print(
            f"  {side} accuracy {old.accuracy:.1%} → {new.accuracy:.1%} ({points(right)}, "
            f"{right.gained} of {right.n} photos became right, {right.lost} wrong), "
            f"log loss {old.log_loss:.3f} → {new.log_loss:.3f}"
        )
        if new.rejected is not None:
            print(f"  {side} answered with none of these {old.rejected or 0:.1%} → {new.rejected:.1%}")


def beside_older(report: TrainingReport, measured: str) -> None:
    """Print what changed from the older run, and the accuracy of both runs on the same photos.

    Args:
        report: the report of a training from an older run.
        measured: what was measured: ``folds``, or the side of the split.
    """
    grown, before, difference = report.grown, report.before, report.difference
    assert grown is not None  # noqa: S101 (the caller has asked)
    print(f"from {printable(grown.run)}: {'; '.join(_changes(grown)) or 'the same photos'}")
    if before is None or difference is None:
        print("the two runs cannot be compared: one of them has learned from each photo")
        return
    print(
        f"{measured} accuracy on {difference.n} photos from which neither run has learned: {before.accuracy:.1%} → "
        f"{(before.accuracy or 0) + difference.difference:.1%} ({points(difference)}; {difference.gained} became "
        f"right, {difference.lost} wrong)"
    )
    if grown.unknown:
        print(f"left out of this comparison: {grown.unknown} photos of classes that the older run does not know")


def _changes(grown: Grown) -> list[str]:
    """Return in words what changed from the older run."""
    counts = {
        "new photos": grown.new,
        "photos gone": grown.gone,
        "corrected labels": grown.relabelled,
        "left out by corrections": grown.excluded,
        "added by corrections": grown.added,
    }
    classes = {"new classes": grown.new_classes, "classes gone": grown.gone_classes}
    return [
        *(f"{what}: {count}" for what, count in counts.items() if count),
        *(f"{what}: {', '.join(map(printable, names))}" for what, names in classes.items() if names),
    ]
