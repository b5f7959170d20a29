"""The data of a report's page: what `Facts` say, sampled and made small, as JSON values.

In: `Facts`, and the points of the map. Out: a dict that ``page/page.js`` reads.
Why: a report of 100,000 photos must stay one file that a browser opens.
Surprise: photos are named by their position in the page, which holds at most `MOST_PHOTOS`. All figures are of all
photos.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import chain, pairwise
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft.backbones.side_by_side import parts_of
from regraft.classifiers.learning_curves import Curves
from regraft.classifiers.run_folder import LAYOUT
from regraft.exploring.activation_maps import Activation
from regraft.photos.sources.base import SIDES
from regraft.reporting.html_pages import base64_text
from regraft.reporting.pictures import TILE, Pictures
from regraft.reporting.report_facts import NEW, Facts
from regraft.reporting.run_comparison import RunComparison
from regraft.reporting.verdict import Sentence, Verdict

MOST_PHOTOS = 20_000
"""The largest number of photos in a page."""

_ALL_SIDES = (*SIDES, NEW)
_PANELS = {"loss": "loss", "top-1": "accuracy", "top-5": "top5"}  # how the titles of learning curves begin
_POINTS = 300  # of a learning curve
_TOP = 5  # classes that are shown beside a photo
_STEPS = 100  # of the curves of coverage and of the threshold


def chosen_photos(facts: Facts, first: Sequence[int] = (), most: int = MOST_PHOTOS) -> list[int]:
    """Return the indices of at most ``most`` photos of the page, the most important first.

    These are the photos ``first``, then mistakes, suspects, copies, and all others in the order of their digests, which
    has nothing to do with what they show.
    """
    others = sorted(range(len(facts.features)), key=lambda i: facts.features.digests[i])
    order = chain(first, facts.mistakes.tolist(), facts.suspects.tolist(), chain.from_iterable(facts.groups), others)
    return list(dict.fromkeys(order))[:most]


@dataclass(frozen=True, slots=True)
class Drawn:
    """What is drawn of the P photos of a page.

    Attributes:
        chosen: the indices of the photos among those of the facts.
        points: the points (P, 2) of the map.
        method: the name of the method that made the map.
        pictures: the pictures of the photos.
        maps: activation maps by position in the page.
        maps_kind: ``exact`` or ``occlusion``.
        near: the indices of the nearest training photos of all N photos, and their similarities, as `Facts.nearest`
            returns them.
    """

    chosen: Sequence[int]
    points: NDArray[np.float32]
    method: str
    pictures: Pictures
    maps: Mapping[int, Activation]
    maps_kind: str
    near: tuple[NDArray[np.int64], NDArray[np.float64]]

    @property
    def place(self) -> dict[int, int]:
        """The position in the page of each photo, by its index."""
        return {index: position for position, index in enumerate(self.chosen)}


def page_data(facts: Facts, verdict: Verdict, drawn: Drawn, details: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data of the page, without thumbnails.

    Args:
        facts: the facts about all photos.
        verdict: the verdict.
        drawn: what is drawn of the photos of the page.
        details: what made the run, as `run_facts` returns it.
    """
    evaluation = facts.evaluation.to_dict()
    for name in ("mistakes", "uncalibrated", "coverage"):
        del evaluation[name]
    place, sprite = drawn.place, drawn.pictures.sprite
    return {
        "name": details["name"],
        "verdict": _sentence(verdict.verdict),
        "basis": verdict.basis and _sentence(verdict.basis),
        "limits": [_sentence(s) for s in verdict.limits],
        "next": [_sentence(s) for s in verdict.following],
        "classes": list(facts.classifier.classes),
        "sides": list(_ALL_SIDES),
        "counts": _counts(facts),
        "evaluation": evaluation,
        "coverage": _coverage(facts),
        "threshold": facts.classifier.threshold,
        "threshold_curve": _threshold_curve(facts),
        "total": len(facts.features),
        "photos": _photos(facts, drawn),
        "thumbs": [],
        "sprite": sprite and {"image": base64_text(sprite), "tile": TILE, "columns": drawn.pictures.columns},
        "maps": {position: map_data(found) for position, found in drawn.maps.items()},
        "maps_kind": drawn.maps_kind,
        "map_method": drawn.method,
        "suspects": [place[i] for i in facts.suspects.tolist() if i in place],
        "copies": [_group(facts, group, place) for group in facts.groups if any(i in place for i in group)],
        "run": dict(details),
    }


def comparison_data(
    found: RunComparison, verdict: Verdict, place: Mapping[int, int], before: str, after: str
) -> dict[str, Any]:
    """Return the comparison of two runs as JSON values.

    Args:
        found: the comparison.
        verdict: the verdict on the change.
        place: the position in the page of each photo, by index.
        before: the name of the first run.
        after: the name of the second run.
    """
    here = [[i for i in indices if i in place] for indices in (found.gained, found.lost)]
    return {
        "names": [before, after],
        "accuracy": [found.before, found.after],
        "verdict": _sentence(verdict.verdict),
        "basis": verdict.basis and _sentence(verdict.basis),
        "limits": [_sentence(s) for s in verdict.limits],
        "per_class": [asdict(row) for row in found.per_class],
        "gained": [place[i] for i in here[0]],
        "lost": [place[i] for i in here[1]],
        "earlier": {place[i]: label for i, label in found.earlier.items() if i in place},
    }


def curves_data(curves: Curves | None) -> list[dict[str, Any]]:
    """Return learning curves as JSON values; ``kind`` is ``loss``, ``accuracy`` or ``top5``."""
    result = []
    for title, table in curves.panels.items() if curves else ():
        kind = next((kind for start, kind in _PANELS.items() if title.startswith(start)), "loss")
        thin = {
            side: [[x, round(y, 5)] for x, y in points[:: -(-len(points) // _POINTS) or 1]]
            for side, points in table.items()
        }
        result.append({"kind": kind, "step": curves.step if curves else "", "table": thin})
    return result


def run_facts(facts: Facts, run: str) -> dict[str, Any]:
    """Return what made the run, as JSON values.

    Args:
        facts: the facts about the run's photos.
        run: the run as the user typed it.
    """
    classifier = facts.classifier
    options = {name: value for name, value in asdict(classifier.config).items() if value not in (None, "")}
    return {
        "name": Path(run).name or "run",
        "command": f"regraft train {quote(classifier.source or 'PHOTOS')} --config {quote(run)}/{LAYOUT.config}",
        "backbone": classifier.backbone.name,
        "sizes": [part.transform.size for part in parts_of(classifier.backbone)],
        "head": classifier.config.head,
        "source": classifier.source,
        "digest": facts.dataset.digest,
        "options": {name: str(value) for name, value in options.items()},
        "made_by": {},
        "report": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def with_thumbnails(data: Mapping[str, Any], shown: Pictures) -> dict[str, Any]:
    """Return the data of a page with the thumbnails of its photos."""
    number = {position: i for i, position in enumerate(shown.thumbnails)}
    photos = {**data["photos"], "thumb": [number.get(i, -1) for i in range(len(data["photos"]["path"]))]}
    return {**data, "photos": photos, "thumbs": [base64_text(picture) for picture in shown.thumbnails.values()]}


def _photos(facts: Facts, drawn: Drawn) -> dict[str, Any]:
    """Return the columns of the photos of the page."""
    chosen, place, points = drawn.chosen, drawn.place, drawn.points
    indices = np.asarray(chosen, np.int64)
    probabilities, novelty = facts.answers.probabilities[indices], facts.answers.novelty[indices]
    measured = np.isin(indices, facts.measured)
    top = np.argsort(-probabilities, axis=1, kind="stable")[:, :_TOP]
    near = drawn.near[0][indices].tolist()
    return {
        "path": short_paths([facts.dataset.records[i].path for i in chosen]),
        "label": facts.features.y[indices].tolist(),
        "side": [_ALL_SIDES.index(facts.sides[i]) for i in chosen],
        "answer": facts.predicted[indices].tolist(),
        "p": _rounded(probabilities.max(axis=1), 3),
        "novelty": _rounded(novelty, 2),
        "measured": measured.astype(int).tolist(),
        "near": [[place[i] for i in row if i in place] for row in near],
        "top": [
            [[int(c), round(float(p[c]), 3)] for c in best if p[c] >= 0.005] if here else []
            for p, best, here in zip(probabilities, top, measured, strict=True)
        ],
        "margin": _rounded(facts.margins[indices], 2),
        "suggested": facts.suggested[indices].tolist(),
        "x": _rounded(points[:, 0], 4),
        "y": _rounded(points[:, 1], 4),
        "thumb": [-1] * len(chosen),
        "tile": [drawn.pictures.tiles.get(i, -1) for i in range(len(chosen))],
    }


def short_paths(paths: Sequence[Path]) -> list[str]:
    """Return paths without the folders that all of them share, as text in which no byte is invalid."""
    common = os.path.commonpath([path.parent for path in paths]) if len({p.is_absolute() for p in paths}) == 1 else ""
    texts = [os.path.relpath(path, common) if common else str(path) for path in paths]
    return [text.encode("utf-8", "backslashreplace").decode() for text in texts]


def _counts(facts: Facts) -> dict[str, list[int]]:
    """Return the number of photos of each class on each side."""
    y, sides = facts.features.y, np.array(facts.sides)
    classes = len(facts.classifier.classes)
    return {side: np.bincount(y[sides == side], minlength=classes).tolist() for side in SIDES}


def _coverage(facts: Facts) -> list[tuple[float, float]]:
    """Return the accuracy (second) where only a share (first) of the photos is answered, the surest ones."""
    confidence = facts.answers.probabilities[facts.measured].max(axis=1) if len(facts.measured) else np.empty(0)
    right = (facts.predicted == facts.features.y)[facts.measured][np.argsort(-confidence, kind="stable")]
    counts = sorted({round(n) for n in np.linspace(1, len(right), _STEPS).tolist()}) if len(right) else []
    return [(round(n / len(right), 4), round(float(right[:n].mean()), 4)) for n in counts]


def _threshold_curve(facts: Facts) -> dict[str, Any] | None:
    """Return how many right and wrong answers are refused at each of some thresholds; None without novelty."""
    novelty = facts.answers.novelty[facts.measured]
    if not len(novelty) or np.isnan(novelty).any():
        return None
    right = (facts.predicted == facts.features.y)[facts.measured]
    own = facts.classifier.threshold
    at = np.unique(np.quantile(novelty, np.linspace(0.5, 1.0, _STEPS)).tolist() + ([] if own is None else [own]))
    return {
        "at": [round(float(value), 4) for value in at],
        "right": [int((right & (novelty > value)).sum()) for value in at],
        "wrong": [int((~right & (novelty > value)).sum()) for value in at],
        "all_right": int(right.sum()),
    }


def _group(facts: Facts, group: Sequence[int], place: Mapping[int, int]) -> dict[str, Any]:
    """Return a group of copies: the positions of the photos, and what is wrong with them."""
    sides = [side for side in _ALL_SIDES if any(facts.sides[i] == side for i in group)]
    return {
        "photos": [place[i] for i in group if i in place],
        "labels": len({int(facts.features.y[i]) for i in group}) > 1,
        "sides": sides,
        "same": any(facts.features.digests[i] == facts.features.digests[j] for i, j in pairwise(group)),
    }


def map_data(found: Activation) -> dict[str, Any]:
    """Return the maps of a photo in bytes: 128 is 0, and the largest value of all its maps is 255 or 1."""
    largest = max(float(np.abs(found.maps).max()), 1e-9)
    levels = np.clip(np.round(found.maps / largest * 127) + 128, 1, 255).astype(np.uint8)
    return {
        "width": found.maps.shape[2],
        "height": found.maps.shape[1],
        "classes": list(found.classes),
        "values": [base64_text(level.tobytes()) for level in levels],
    }


def _sentence(sentence: Sentence) -> dict[str, Any]:
    return {"key": sentence.key, "values": dict(sentence.values)}


def _rounded(values: NDArray[np.floating[Any]], digits: int) -> list[float | None]:
    """Return values as short JSON numbers; None for NaN."""
    return [None if np.isnan(value) else round(float(value), digits) for value in values]
