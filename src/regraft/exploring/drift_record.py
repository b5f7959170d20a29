"""Whether new photos differ from those of a run, as records: a verdict, and the figures of classes and of photos."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

from regraft.classifiers.intervals import difference_interval, difference_test
from regraft.exploring.domain_classifier import Auc
from regraft.photos.images import Problem

Verdict = Literal["no difference seen", "differ a little", "differ clearly", "too few photos to tell"]


_SURE = 0.025
"""A share changed surely if chance alone changes any of the shares so much with at most this probability. So many sets
of photos that are alike seem to differ by their shares, and as many by their AUC, whose interval has 95 %."""


@dataclass(frozen=True, slots=True)
class ShareChange:
    """The share of photos that count, among those of the run and among the new ones.

    Attributes:
        run, new: the shares, 0 to 1.
        run_photos, new_photos: the numbers of photos of which these are shares.
        change: the share among the new photos minus that among the photos of the run.
        interval: the 95 % interval of the change (Newcombe), in which photos that belong together count as one.
        changed: whether the share changed surely, though it is one of several (Yates, Bonferroni).
    """

    run: float
    new: float
    run_photos: int
    new_photos: int
    change: float
    interval: tuple[float, float]
    changed: bool

    @classmethod
    def of(cls, run: tuple[int, int], new: tuple[int, int], designs: tuple[float, float], shares: int) -> Self:
        """Return the change between two shares, each as the number of photos that count and that of all.

        Args:
            run: the photos of the run.
            new: the new photos.
            designs: the design effects of both (`wilson_interval`).
            shares: the number of shares that are compared together.
        """
        before, after = run[0] / run[1], new[0] / new[1]
        interval = difference_interval(run, new, designs)
        changed = shares * difference_test(run, new, designs) <= _SURE
        return cls(before, after, run[1], new[1], after - before, interval, changed)


@dataclass(frozen=True, slots=True)
class ClassDrift:
    """How the new photos of a class differ from those of the run.

    Attributes:
        label: the class.
        share: the share of the class among all photos.
        auc: the AUC of the domain classifier among the photos of this class; None where there are too few.
    """

    label: str
    share: ShareChange
    auc: Auc | None


@dataclass(frozen=True, slots=True)
class NewPhoto:
    """A new photo, and how unlike the photos of the run it is.

    Attributes:
        path: the path of the photo.
        label: the label of the photo; None where it has none.
        predicted: the most probable class.
        score: the probability of the domain classifier that the photo is new, where both sets count alike; None where
            there are too few photos.
        novelty: how unlike the training photos the photo is, on the scale of the run's threshold; None where novelty
            was not fitted.
        none_of_these: whether the run answers "none of these".
    """

    path: Path
    label: str | None
    predicted: str
    score: float | None
    novelty: float | None
    none_of_these: bool


@dataclass(frozen=True, slots=True)
class Drift:
    """Whether new photos differ from the photos of a run.

    Attributes:
        verdict: ``differ clearly``: the whole interval of the AUC is above 0.7; ``differ a little``: it is above 0.5,
            or a share changed surely; ``too few photos to tell``: there is no AUC; else ``no difference seen``.
        auc: the AUC of the domain classifier; None where there are too few photos.
        run: the run folder.
        run_photos: the number of photos of the run that are compared.
        run_total: the number of photos of the run of which these are a sample, or all.
        new_photos: the number of new photos that are compared.
        new_total: the number of new photos of which these are a sample, or all; copies of photos of the run and
            files that cannot be read do not count.
        known: the number of photos that were left out because they are photos of the run, byte for byte.
        by: how the class of a new photo is known: ``label``, or ``prediction`` where no label is a class of the run.
        classes: the classes, the one whose share changed most first; empty where the run measured no predictions.
        none_of_these: the share of photos that the run answers with "none of these"; None where it never does.
        photos: the new photos that are compared, the most different first.
        problems: the files that cannot be read.
    """

    verdict: Verdict
    auc: Auc | None
    run: Path
    run_photos: int
    run_total: int
    new_photos: int
    new_total: int
    known: int
    by: Literal["label", "prediction"]
    classes: tuple[ClassDrift, ...]
    none_of_these: ShareChange | None
    photos: tuple[NewPhoto, ...]
    problems: tuple[Problem, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        document = {**asdict(self), "run": str(self.run)}
        for name in ("photos", "problems"):
            document[name] = [{**one, "path": str(one["path"])} for one in document[name]]
        return document
