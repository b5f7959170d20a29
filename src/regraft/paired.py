"""Two predictors on the same photos → what each gets right that the other does not, and how sure the difference is.

In: two predictors and labelled photos. Out: both sets of figures, and differences with their intervals, as JSON values.
Why: two intervals of two accuracies say little of their difference; the photos on which they differ say it.
Surprise: where hardly a photo changed, the interval is still as wide as the number of photos demands.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft.calibration import Answers, is_novel
from regraft.dataset import ImageRecord
from regraft.evaluation import Predictor, Z, measure

_MANY_MORE = 0.05
"""Share of photos that must newly be answered with none of these for that to be worse."""


@dataclass(frozen=True, slots=True)
class Paired:
    """A share before and after a change, on the same photos.

    Attributes:
        n: the photos.
        gained, lost: how many count only after the change, and how many only before it.
        difference: the share after it less the share before.
        interval: 95 % interval of the difference (`paired_interval`).
    """

    n: int
    gained: int
    lost: int
    difference: float
    interval: tuple[float, float]


def pair(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> Paired:
    """Compare what is so of each of N photos, at least one, before and after a change."""
    gained, lost, n = int((after & ~before).sum()), int((before & ~after).sum()), len(before)
    return Paired(n, gained, lost, (gained - lost) / n, paired_interval(gained, lost, n))


def paired_interval(gained: int, lost: int, n: int) -> tuple[float, float]:
    """95 % score interval for the difference of two shares of the same ``n`` things, at least one.

    T. Tango, Equivalence test and confidence interval for the difference in proportions for the paired-sample design
    (1998). It holds also where hardly anything changed, where the usual interval is nothing wide.
    """

    def score(difference: float) -> float:
        """How many standard errors the counts lie above what ``difference`` would give; it falls as that rises."""
        b = -gained - lost + (2 * n - gained + lost) * difference
        c = -lost * difference * (1 - difference)
        likeliest_lost = (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
        variance = n * (2 * likeliest_lost + difference * (1 - difference))
        above = gained - lost - n * difference
        return above / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, above) if above else 0.0

    def where(wanted: float) -> float:
        low, high = -1.0, 1.0
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if score(middle) > wanted else (low, middle)
        return (low + high) / 2

    return where(Z), where(-Z)


def compare_predictors(before: Predictor, after: Predictor, records: Sequence[ImageRecord]) -> dict[str, Any]:
    """Ask two predictors of the same classes about the same photos, whose labels are all among those.

    Returns:
        ``n`` photos that both could read; accuracy, log loss and share answered with none of these, ``before`` and
        ``after``; `Paired` of ``accuracy`` and of ``rejected``. Empty where there is no such photo.
    """
    if not records:
        return {}
    both = (before, after)
    found = [one.answers(records, on_problem=lambda _: None) for one in both]
    good = np.flatnonzero(~np.isnan(found[0].probabilities[:, 0] + found[1].probabilities[:, 0]))
    if not len(good):
        return {}
    y = np.array([before.classes.index(records[i].label) for i in good.tolist()], np.int64)
    answers = [Answers(one.probabilities[good], one.novelty[good]) for one in found]
    right = [one.probabilities.argmax(axis=1) == y for one in answers]
    rejected = [is_novel(one.novelty, predictor.threshold) for one, predictor in zip(answers, both, strict=True)]
    paths = [records[i].path for i in good.tolist()]
    old, new = (_figures(one, y, predictor, paths) for one, predictor in zip(answers, both, strict=True))
    changes = {"accuracy": asdict(pair(*right)), "rejected": asdict(pair(*rejected))}
    return {"n": len(good), "before": old, "after": new, **changes}


def _figures(answers: Answers, y: NDArray[np.int64], predictor: Predictor, paths: list[Path]) -> dict[str, Any]:
    measured = measure(answers, y, predictor.classes, paths, predictor.temperature, predictor.threshold)
    return {key: getattr(measured, key) for key in ("accuracy", "log_loss", "rejected")}


def what_is_worse(side: str, compared: Mapping[str, Any]) -> list[str]:
    """Say in words what of `compare_predictors` is worse after than before, on the photos that ``side`` names."""
    told, before, after = [], compared["before"], compared["after"]
    right, rejected = compared["accuracy"], compared["rejected"]
    if right["difference"] < 0:
        chance = "" if right["interval"][1] < 0 else ", which may be chance"
        told.append(
            f"{side} accuracy fell from {before['accuracy']:.1%} to {after['accuracy']:.1%} ({points(right)}; "
            f"{right['lost']} of {right['n']} photos became wrong and {right['gained']} right{chance})"
        )
    if rejected["difference"] >= _MANY_MORE and rejected["interval"][0] > 0:
        told.append(
            f"{after['rejected']:.1%} of {rejected['n']} {side} photos are answered with none of these, "
            f"in place of {before['rejected'] or 0:.1%} ({points(rejected)})"
        )
    return told


def points(change: Mapping[str, Any]) -> str:
    """The difference of a `Paired`, as a mapping, in percentage points, with its interval."""
    low, high = change["interval"]
    return f"{change['difference'] * 100:+.1f} points, 95 % interval {low * 100:+.1f} to {high * 100:+.1f}"
