"""The unlabelled photos that are worth the most to label next: the function `regraft.next_photos`.

In: unlabelled photos, and a run if there is one. Out: the photos to label, each with the label that the run suggests.
Why: labels are what a classifier costs; the same accuracy needs fewer of them if the photos are chosen well.
Surprise: photos are sorted by their digests before the choice, so that it does not depend on their names.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from regraft.backbones.base import Backbone
from regraft.backbones.side_by_side import stage_widths
from regraft.classifiers.calibration import is_novel
from regraft.classifiers.classifier import Classifier, engines_of
from regraft.classifiers.run_folder import read_split
from regraft.config.features import FeatureConfig
from regraft.engines.base import Engine, key_of, load_engines
from regraft.errors import ConfigError, DataError, option
from regraft.exploring.active_learning import most_typical, most_uncertain
from regraft.exploring.records import recorded
from regraft.features.backbone_choice import choose_backbone, require_backbone
from regraft.features.duplicates import duplicate_groups
from regraft.features.features import extract_all
from regraft.features.neighbours import last_stage
from regraft.foundation.places import Product, claimed, require_writable
from regraft.label_tools.correction_table import corrections_of
from regraft.photos.dataset import ImageRecord
from regraft.photos.images import Problem
from regraft.photos.unlabelled import Found, photos_in

Why = Literal["uncertain", "novel", "typical"]

_LIST = Product("a list of photos to label", None, error=ConfigError)


@dataclass(frozen=True, slots=True)
class NextPhoto:
    """A photo that is worth a label.

    Attributes:
        path: the path of the photo.
        why: ``uncertain``: the run hesitates between two classes; ``novel``: it hesitates, and the photo is unlike all
            training photos, so that it answers "none of these"; ``typical``: there is no run, and the photo stands for
            a group of similar photos.
        suggested: the most probable label; None without a run.
        probability: the probability of that label, 0 to 1; None without a run.
        novelty: how unlike the training photos the photo is, on the scale of the run's threshold; None where novelty
            was not fitted.
        digest: the SHA-256 of the photo's bytes, in 64 hexadecimal digits.
    """

    path: Path
    why: Why
    suggested: str | None
    probability: float | None
    novelty: float | None
    digest: str


@dataclass(frozen=True, slots=True)
class NextPhotos:
    """The photos to label next.

    Attributes:
        photos: the photos to label, the most valuable first.
        candidates: the number of photos of which they were chosen.
        known: the number of photos that were left out because they have a label already.
        copies: the number of photos that were left out because they show the same picture as another one.
        problems: the files that cannot be read.
    """

    photos: tuple[NextPhoto, ...]
    candidates: int
    known: int
    copies: int
    problems: tuple[Problem, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        names = ("why", "suggested", "probability", "novelty", "digest")
        return {
            "photos": [{"path": str(one.path), **{n: getattr(one, n) for n in names}} for one in self.photos],
            **{name: getattr(self, name) for name in ("candidates", "known", "copies")},
            "problems": [{"path": str(one.path), "reason": one.reason} for one in self.problems],
        }

    def write_csv(self, path: str | os.PathLike[str]) -> None:
        """Write a table with the columns path, label, probability, novelty and why, which `train` takes once corrected.

        Paths are absolute. The label is the suggested one, or empty.

        Args:
            path: the file, which must not exist, and whose name must end in .csv.

        Raises:
            ConfigError: ``path`` exists or has another suffix.
        """
        place, text = require_table(path), io.StringIO()
        rows = [(str(p.path.absolute()), p.suggested, p.probability, p.novelty, p.why) for p in self.photos]
        header = ("path", "label", "probability", "novelty", "why")
        csv.writer(text, lineterminator="\n").writerows([header, *rows])
        with claimed(place, _LIST, file=True) as site:
            site.fresh.write_text(text.getvalue(), encoding="utf-8", errors="backslashreplace", newline="")


def require_table(path: str | os.PathLike[str]) -> Path:
    """Return the path of a table that can be written. Raises ConfigError if it exists or does not end in .csv."""
    place = Path(path)
    if place.suffix.lower() != ".csv":
        raise ConfigError(f"{option('out')} {place} is to be a table; wanted a name that ends in .csv")
    require_writable(place, _LIST)
    return place


def next_photos(
    photos: Any,
    run: Classifier | str | os.PathLike[str] | None = None,
    count: int = 50,
) -> NextPhotos:
    """Return the unlabelled photos that are worth the most to label next.

    With a run, these are photos of which the run is uncertain and which differ from each other. Without a run they are
    typical of groups of similar photos. The answer is the same for the same photos, whatever their names. Features come
    from the cache or go to it. Labels that the source gives are not looked at.

    Args:
        photos: one or several files, folders or other sources of photos, or a `Dataset`, as `predict` takes them.
        run: a classifier or the path of a run; None if there is none yet. Photos of its split are left out, and
            so are those that got a label or were left out by corrections since.
        count: the number of photos that are wanted, at least 1. There are fewer if there are fewer candidates.

    Returns:
        The photos, and what was left out: copies (also resized or mirrored ones) are suggested once.

    Raises:
        ConfigError: ``count`` is not a whole number of at least 1.
        DataError: ``photos`` are no photos or no files, or none of them can be read.
        RunError, BackboneError: the run cannot be read, or its backbone is not installed.
    """
    if type(count) is not int or count < 1:
        raise ConfigError(f"{option('count')} is {count}; wanted at least 1")
    classifier = Classifier.load(run) if isinstance(run, str | os.PathLike) else run
    require_backbone(FeatureConfig())
    records, problems = _files([recorded(photo) for photo in photos_in(photos)])
    known = _known(classifier)
    fresh = [record for record in records if not known & {record.identity, record.digest}]
    candidates = _candidates(fresh, classifier)
    if not candidates.records and not len(records) - len(fresh):
        raise _nothing_to_read((*problems, *candidates.problems))
    chosen = _chosen(candidates, classifier, count)
    left = (len(candidates.records), len(records) - len(fresh), candidates.copies)
    return NextPhotos(chosen, *left, (*problems, *candidates.problems))


def _nothing_to_read(problems: Sequence[Problem]) -> DataError:
    """Return the error that there is no photo to choose from."""
    first = f": {problems[0].path}: {problems[0].reason}" if problems else ""
    return DataError(f"there is no photo that can be read{first}; wanted unlabelled photos")


def _files(found: Sequence[Found]) -> tuple[list[ImageRecord], list[Problem]]:
    """Return the photos, sorted by digest, and the files that cannot be read. Raises DataError for other photos."""
    records = [photo for photo in found if isinstance(photo, ImageRecord)]
    problems = [photo for photo in found if isinstance(photo, Problem)]
    if len(records) + len(problems) < len(found):
        raise DataError("there are photos in memory among the photos; wanted files, as a label needs a path")
    return sorted(records, key=lambda record: (record.digest, str(record.path))), problems


def _known(classifier: Classifier | None) -> set[str]:
    """Return the digests of the photos of a run's split, and of those that corrections since are about.

    Raises:
        RunError: the split of the run is damaged.
        DataError: the corrections cannot be read.
    """
    if classifier is None or classifier.path is None:
        return set()
    split, later = read_split(classifier.path), corrections_of(classifier.path, classifier.source)
    return {*split.train, *split.val, *split.test, *(digest for digest, _ in later.in_force)}


@dataclass(frozen=True, slots=True)
class _Candidates:
    """The photos to choose from.

    Attributes:
        records: the N photos, of which no two show the same picture.
        x: their features, ``(N, D)``.
        stages: the number of features of each stage, for each backbone.
        copies: the number of photos that were left out as copies.
        problems: the photos that cannot be read.
    """

    records: Sequence[ImageRecord]
    x: NDArray[np.float32]
    stages: Sequence[Sequence[int]]
    copies: int
    problems: Sequence[Problem]


def _candidates(records: Sequence[ImageRecord], classifier: Classifier | None) -> _Candidates:
    """Compute the features of photos, and leave copies out."""
    if not records:
        return _Candidates((), np.empty((0, 0), np.float32), (), 0, ())
    backbone, engines = _network(records, classifier)
    found = extract_all(records, engines)
    x, looks = found.x, found.looks
    if found.problems:
        kept = ~np.isnan(x[:, 0])
        records, x, looks = [records[i] for i in np.flatnonzero(kept).tolist()], x[kept], looks[kept]
    digests = [record.digest for record in records]
    groups = duplicate_groups(digests, x, looks["thumbnail"], key_of(engines)) if records else []
    copies = {row for group in groups for row in group[1:]}
    if copies:
        rows = [row for row in range(len(records)) if row not in copies]
        records, x = [records[row] for row in rows], x[rows]
    return _Candidates(records, x, stage_widths(backbone), len(copies), found.problems)


def _network(records: Sequence[ImageRecord], classifier: Classifier | None) -> tuple[Backbone, Sequence[Engine]]:
    """Return the backbone of a run, or else the default one, with its engines."""
    if classifier is not None:
        return classifier.backbone, engines_of(classifier)
    config = FeatureConfig()
    backbone = choose_backbone(config, records)
    return backbone, load_engines(backbone, config)


def _chosen(candidates: _Candidates, classifier: Classifier | None, n: int) -> tuple[NextPhoto, ...]:
    """Return the n candidates that are worth the most, or all."""
    records, x = candidates.records, candidates.x
    if not records:
        return ()
    if classifier is None:
        typical = most_typical(last_stage(x, candidates.stages), n).tolist()
        return tuple(NextPhoto(records[i].path, "typical", None, None, None, records[i].digest) for i in typical)
    answers = classifier.answers_to(x)
    rows = most_uncertain(answers.probabilities, lambda some: last_stage(x[some], candidates.stages), n).tolist()
    novel = is_novel(answers.novelty, classifier.threshold)
    return tuple(
        NextPhoto(
            records[i].path,
            "novel" if novel[i] else "uncertain",
            classifier.classes[int(answers.probabilities[i].argmax())],
            float(answers.probabilities[i].max()),
            None if np.isnan(answers.novelty[i]) else float(answers.novelty[i]),
            records[i].digest,
        )
        for i in rows
    )
