"""The verdict of a report: how often the classifier is right, what limits it, and what to do next.

In: `Facts`. Out: `Verdict`, as keys of sentences with the values in them.
Why: a person wants one sentence that holds, and then to know what would help most.
Surprise: sentences are named by keys, since a report speaks several languages; ``words.json`` has them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from shlex import quote
from typing import Any

import numpy as np

from regraft.backbones.side_by_side import parts_of
from regraft.exploring.auditing import LEARNABLE
from regraft.reporting.report_facts import Facts
from regraft.reporting.run_comparison import RunComparison

WORDS = files("regraft.reporting") / "page" / "words.json"
"""The sentences of a report by language and key. Both languages have the same keys."""

_NAMED = 6
"""The largest number of classes that a sentence names."""

_WIDE = 0.05
"""Half the width of an interval from which on the number of measured photos is said to limit the verdict."""

_WEAK = 0.1
"""How far the recall of a class must be below the accuracy to be named."""

_PAIR = 0.25
"""The share of the mistakes that two classes must have between them to be named."""

_SMALL_P = 0.001  # p values below it are not written out
_MISCALIBRATED = 0.05
_ENOUGH = 100  # measured photos from which on a calibration error says something


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a report.

    Attributes:
        key: its key in ``words.json``.
        values: the values in it by name: numbers, texts, lists of texts, or a command as ``{"code": …}``.
    """

    key: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def text(self, language: str = "en") -> str:
        """Return the sentence in a language: ``en`` or ``ko``."""
        return _words()[language][self.key].format_map({name: _plain(value) for name, value in self.values.items()})


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict of a report.

    Attributes:
        verdict: how many of 100 new photos will be right.
        basis: what that was measured on; None where no photo was measured.
        limits: what limits the classifier or the measurement, the most important first.
        following: what to do next, in the order of the limits.
    """

    verdict: Sentence
    basis: Sentence | None
    limits: tuple[Sentence, ...]
    following: tuple[Sentence, ...]


def judge(facts: Facts, run: str) -> Verdict:
    """Return the verdict on a classifier.

    Args:
        facts: the facts about its photos.
        run: the run as the user would type it.
    """
    found = facts.evaluation
    limits, following = _limits(facts)
    backbone, run = facts.classifier.backbone, quote(run)
    is_changed = bool(backbone.options.tuned or backbone.options.symmetry)
    can_be_tuned = len(parts_of(backbone)) == 1 and backbone.has_keras_model and not is_changed
    if can_be_tuned and "next_small" not in (s.key for s in following):
        following.append(Sentence("next_finetune", {"command": {"code": f"regraft finetune {run}"}}))
    following.append(Sentence("next_use", {"command": {"code": f"regraft predict {run} PHOTOS"}}))
    if found.accuracy is None or found.interval is None:
        return Verdict(Sentence("verdict_none"), None, tuple(limits), tuple(following))
    return Verdict(*_measured(facts), tuple(limits), tuple(following))


def judge_change(found: RunComparison, before: str, after: str) -> Verdict:
    """Return the verdict on the change from one run to another.

    Args:
        found: the comparison of both runs.
        before: the name of the first run.
        after: the name of the second run.
    """
    change = found.paired
    low, high = (round(100 * end, 1) for end in change.interval)
    key = "change_better" if low > 0 else "change_worse" if high < 0 else "change_unsure"
    names = {"before": before, "after": after}
    points = {"points": round(100 * change.difference, 1), "low": low, "high": high}
    if key == "change_worse":  # which says how many points fewer
        points = {"points": -points["points"], "low": -high, "high": -low}
    changed = Sentence("change_counts", {"gained": change.gained, "lost": change.lost, "n": change.n})
    test = Sentence("change_p", {"p": f"= {change.p:.3f}" if change.p >= _SMALL_P else f"< {_SMALL_P}"})
    return Verdict(Sentence(key, {**names, **points}), changed, (test,), ())


def _measured(facts: Facts) -> tuple[Sentence, Sentence]:
    """Return how many of 100 new photos will be right, and what that was measured on."""
    found = facts.evaluation
    low, high = found.interval or (0.0, 1.0)
    shares = {"right": round(100 * (found.accuracy or 0.0)), "low": int(100 * low), "high": int(np.ceil(100 * high))}
    return Sentence("verdict", shares), Sentence(f"measured_{facts.measured_on}", {"n": found.n})


def _limits(facts: Facts) -> tuple[list[Sentence], list[Sentence]]:
    """Return what limits the classifier, and what to do about it."""
    found = [*_of_labels(facts), *_of_classes(facts), *_of_the_measurement(facts)]
    return [limit for limit, _ in found], list({step.key: step for _, step in found if step}.values())


_Found = Iterator[tuple[Sentence, Sentence | None]]
"""Sentences that say what limits a classifier, each with one that says what to do about it."""


def _of_labels(facts: Facts) -> _Found:
    """Yield what is wrong with the photos and labels."""
    if across := _copies_across(facts):
        yield Sentence("limit_copies", {"count": across}), Sentence("next_copies")
    if suspects := set(facts.suspects.tolist()):
        mistakes = facts.mistakes.tolist()
        values = {"count": len(suspects), "mistakes": len(suspects & set(mistakes)), "wrong": len(mistakes)}
        yield Sentence("limit_suspects", values), Sentence("next_labels")
    if facts.missing:
        yield Sentence("limit_missing", {"count": facts.missing}), None


def _of_classes(facts: Facts) -> _Found:
    """Yield which classes are confused, recognised least often, or small."""
    if pair := _confused(facts):
        names = {"a": pair[0], "b": pair[1]}
        yield (
            Sentence("limit_confused", {"count": pair[2], "wrong": len(facts.mistakes), **names}),
            Sentence("next_pair", names),
        )
    lowest = (facts.evaluation.accuracy or 0.0) - _WEAK
    weak = [row for row in facts.evaluation.per_class if row.n >= 5 and (row.recall or 0.0) < lowest]
    if weak:
        row = min(weak, key=lambda row: row.recall or 0.0)
        right = round((row.recall or 0.0) * row.n)
        yield (
            Sentence("limit_weak", {"label": row.label, "n": row.n, "right": right}),
            Sentence("next_class", {"label": row.label}),
        )
    counts = Counter(record.label for record in facts.dataset.records)
    small = [label for label in facts.classifier.classes if 0 < counts[label] < LEARNABLE]
    if small and facts.measured_on != "photos" and not facts.missing:  # else the classes of the run may be larger
        named = small if len(small) <= _NAMED else [*small[:_NAMED], "…"]
        values = {"labels": named, "count": len(small), "least": LEARNABLE}
        yield Sentence("limit_small", values), Sentence("next_small", values)


def _of_the_measurement(facts: Facts) -> _Found:
    """Yield how little the measured photos say, and how far probabilities are off."""
    found = facts.evaluation
    if found.interval and (half := (found.interval[1] - found.interval[0]) / 2) > _WIDE:
        yield Sentence("limit_few", {"n": found.n, "points": round(100 * half)}), Sentence("next_more")
    if found.n >= _ENOUGH and (found.calibration_error or 0.0) > _MISCALIBRATED:
        yield Sentence("limit_sure", {"points": round(100 * (found.calibration_error or 0.0))}), None


def _copies_across(facts: Facts) -> int:
    """Return the number of measured photos that have a copy on the train side."""
    measured = set(facts.measured.tolist()) if facts.measured_on in ("test", "val") else set()
    return sum(
        sum(i in measured for i in group) for group in facts.groups if any(facts.sides[i] == "train" for i in group)
    )


def _confused(facts: Facts) -> tuple[str, str, int] | None:
    """Return the two classes between which most mistakes are, and the number of these; None if they are not many."""
    confusion = np.array(facts.evaluation.confusion)
    if len(confusion) < 3:  # between two classes lie all mistakes
        return None
    both = np.triu(confusion + confusion.T, 1)
    a, b = divmod(int(both.argmax()), len(both))
    count = int(both[a, b])
    classes = facts.classifier.classes
    return (classes[a], classes[b], count) if count >= max(3, _PAIR * both.sum()) else None


@cache
def _words() -> dict[str, dict[str, str]]:
    words: dict[str, dict[str, str]] = json.loads(WORDS.read_text(encoding="utf-8"))
    return words


def _plain(value: Any) -> str:
    """Return a value of a sentence as text."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value["code"]) if isinstance(value, dict) else str(value)
