"""Photos → what is wrong with them, named and explained.

In: a folder of labelled photos, or any spec a source takes. Out: an `Audit`: findings, worst first.
Why: most classifiers that disappoint were taught by their photos; this says so before anyone trusts a number.
Surprise: nothing is changed. What it finds can be left out of a manifest that `train` takes (`write_manifest`).
"""

from __future__ import annotations

import csv
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from regraft import _console
from regraft._files import as_path
from regraft._places import Product, claimed, require_writable
from regraft._values import options_of
from regraft.accelerator import load_engine
from regraft.config import FeatureConfig
from regraft.dataset import Dataset
from regraft.duplicates import duplicate_groups
from regraft.errors import ConfigError, DataError
from regraft.features import Features, extract
from regraft.heads import softmax
from regraft.heads.logistic import LogisticRegression
from regraft.selection import choose_backbone, require_backbone
from regraft.training import readable

Kind = Literal[
    "unreadable",
    "two-labels",
    "shared-by-splits",
    "mislabelled",
    "exact-duplicate",
    "near-duplicate",
    "blank",
    "tiny",
    "extreme-shape",
    "class-names",
    "small-class",
    "imbalance",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""All that is looked for, the worst first."""

DROPPED: tuple[Kind, ...] = ("unreadable", "two-labels", "shared-by-splits", "exact-duplicate", "blank")
"""What is left out of a manifest unless other kinds are asked for."""

WHY: dict[Kind, str] = {
    "unreadable": "cannot be read, and so are never seen",
    "two-labels": "the same picture stands under more than one label: at most one can be right",
    "shared-by-splits": "the same picture is in train and in val or test, which then measure memory",
    "mislabelled": "the other photos say that another label is right (out-of-fold; look at them before you believe it)",
    "exact-duplicate": "the same bytes again: counts double, and tells nothing new",
    "near-duplicate": "the same picture resized, recompressed, mirrored or cut a little; kept on one side of the split",
    "blank": "nearly one colour, nothing to be seen",
    "tiny": "far fewer pixels than the backbone sees",
    "extreme-shape": "much longer than wide: most of it lies outside the square that the backbone sees",
    "class-names": "classes whose names differ only in case, spaces, punctuation or Unicode form: one class twice?",
    "small-class": "classes with too few photos to learn from, or to measure",
    "imbalance": "the largest class has many times the photos of the smallest; consider --class-weight balanced",
}

FOLDS = 5
STRENGTH = 0.001
"""L2 strength of the out-of-fold heads. With 5 % of the flowers' labels flipped, 80 % of the flipped were among the
worst 5 %; with 0.01, which predicts better, 75 %: a weaker head bends less to wrong labels."""
_MANIFEST = Product("a manifest", None, option="--write", error=ConfigError)
DOUBT = -0.5
"""Margin below which a label is called wrong: another class is this much more probable."""
BLANK_SPREAD = 2.0
TINY = 64
EXTREME = 3.0
LEARNABLE = 20
IMBALANCE = 10.0


@dataclass(frozen=True, slots=True)
class Suspect:
    """One photo that a finding names.

    Attributes:
        path: the photo.
        label: its label; empty where it has none that could be read.
        reason: what is the matter with it.
        score: how bad, where that can be said; the lower the worse.
        others: the photos it goes with; of copies, the one to keep.
    """

    path: Path
    label: str
    reason: str
    score: float | None = None
    others: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """All of one kind.

    Attributes:
        kind: what is the matter.
        photos: the photos it concerns, the worst first.
        classes: or the classes, each with its figures.
    """

    kind: Kind
    photos: tuple[Suspect, ...] = ()
    classes: tuple[str, ...] = ()

    @property
    def why(self) -> str:
        """What it means."""
        return WHY[self.kind]


@dataclass(frozen=True)
class Audit:
    """What `check` found.

    Attributes:
        dataset: the photos that can be read.
        findings: what is wrong, the worst first; empty kinds are not there.
        margins: ``(N,)`` of each record, -1 to 1: its label's out-of-fold probability less the best other's; NaN
            where it could not be told.
        impossible: why nothing can be trained on these photos, or None.
        features: how many photos' features were computed, and how many known.
    """

    dataset: Dataset
    findings: tuple[Finding, ...]
    margins: NDArray[np.float32]
    impossible: str | None = None
    features: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "photos": len(self.dataset.records),
            "counts": self.dataset.counts(),
            "trainable": self.impossible is None,
            "impossible": self.impossible,
            "features": self.features,
            "hint": self.dataset.hint,
            "findings": [
                {
                    "kind": found.kind,
                    "why": found.why,
                    "count": len(found.photos) or len(found.classes),
                    "classes": list(found.classes),
                    "photos": [
                        {**asdict(s), "path": str(s.path), "others": [str(o) for o in s.others]} for s in found.photos
                    ],
                }
                for found in self.findings
            ],
        }

    def write_manifest(self, path: str | os.PathLike[str], kinds: Collection[str] = DROPPED) -> int:
        """Write the photos less the offenders of ``kinds`` as CSV that `train` takes; returns how many are in it.

        A photo whose name no text file can hold, as it is no Unicode, is left out with a warning.

        Raises:
            ConfigError: there is no such kind, or ``path`` is taken.
            DataError: no photo is left.
        """
        path = as_path(path, "path")
        check_manifest(path, kinds)
        gone = {s.path for f in self.findings if f.kind in kinds for s in f.photos}
        kept = [record for record in self.dataset.records if record.path not in gone]
        rows = [(_relative(r.path, path), r.label, r.split or "", r.group or "") for r in kept]
        written = [row for row in rows if _is_unicode(row[0])]
        if len(written) < len(rows):
            _console.warn(f"{len(rows) - len(written)} photos are not in {path}: their names are not Unicode")
        if not written:
            raise DataError("no photo would be left; type fewer kinds after --drop")
        with claimed(path, _MANIFEST, file=True) as place, place.fresh.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([("path", "label", "split", "group"), *written])
        return len(written)


def check_manifest(path: Path, kinds: Collection[str]) -> None:
    """Raise ConfigError where `Audit.write_manifest` would: to be told before the work, not after."""
    for kind in kinds:
        if kind not in KINDS:
            raise ConfigError(f"unknown kind {kind!r}; there is {', '.join(KINDS)}")
    require_writable(path, _MANIFEST)


def check(
    photos: str | os.PathLike[str] | Dataset,
    config: FeatureConfig | Mapping[str, Any] | str | os.PathLike[str] | None = None,
) -> Audit:
    """Look for all that is wrong with photos and labels.

    Features come from the cache and go into it, so that `train` finds them there.

    Args:
        photos: a folder of class folders, or any other spec that `Dataset.open` takes.
        config: backbone and size, as a `FeatureConfig`, a dict of values by name, or the path of a TOML file.

    Raises:
        DataError: there are no photos at all.
        BackboneError: the backbone is unknown or not installed.
    """
    config = options_of(FeatureConfig, config)
    require_backbone(config)
    dataset = Dataset.open(photos, config.label_from, config.group_from)
    backbone = choose_backbone(config, dataset.records)
    engine = load_engine(backbone, config)
    extraction = extract(dataset.records, engine)
    unreadable = (*dataset.problems, *extraction.problems)
    findings = [Finding("unreadable", tuple(Suspect(p.path, "", p.reason) for p in unreadable))]
    if len(extraction.problems) == len(dataset.records):
        return Audit(dataset, tuple(findings), np.empty(0, np.float32), "no photo can be read")
    dataset, features, looks = readable(dataset, extraction, backbone)
    groups = duplicate_groups(features.digests, features.x, looks["thumbnail"], engine.fingerprint)
    probabilities = out_of_fold(features, groups)
    margins = _margins(probabilities, features.y)
    findings += [
        *_copies(dataset, groups, looks),
        Finding("mislabelled", tuple(_mislabelled(dataset, probabilities, margins))),
        *_by_look(dataset, looks),
        *_of_classes(dataset),
    ]
    found = sorted((f for f in findings if f.photos or f.classes), key=lambda f: KINDS.index(f.kind))
    impossible = None if len(dataset.classes) > 1 else f"there is only one class, {dataset.classes[0]!r}"
    counts = {"computed": extraction.computed, "cached": extraction.cached}
    return Audit(dataset, tuple(found), margins, impossible, counts)


def out_of_fold(features: Features, groups: Sequence[Sequence[int]] = ()) -> NDArray[np.float32]:
    """(N, C) probabilities of each photo from heads that saw neither it nor its copies.

    Rows are NaN where a class is too small to tell: with fewer than `FOLDS` distinct photos, or alone.
    """
    fold = np.array([int(digest[:8], 16) % FOLDS for digest in features.digests])
    for group in groups:
        fold[list(group)] = fold[group[0]]
    distinct = defaultdict(set)
    for y, digest in zip(features.y.tolist(), features.digests, strict=True):
        distinct[y].add(digest)
    known = np.array([len(distinct[y]) >= FOLDS for y in features.y.tolist()], bool)
    result = np.full((len(features), len(features.classes)), np.nan, np.float32)
    if len(set(features.y[known].tolist())) < 2:
        return result
    for number in range(FOLDS):
        held = np.flatnonzero(known & (fold == number))
        train = features.select(np.flatnonzero(known & (fold != number)).tolist())
        if len(held) and len(set(train.y.tolist())) > 1:
            head = LogisticRegression(strengths=(STRENGTH,)).fit(train, features.select([]))
            result[held] = softmax(head.logits(features.x[held]))
    return result


def _margins(probabilities: NDArray[np.float32], y: NDArray[np.int64]) -> NDArray[np.float32]:
    """Of each label over the best other (C. Northcutt et al., Confident Learning, 2021, rank by the same)."""
    rows = np.arange(len(y))
    others = probabilities.copy()
    others[rows, y] = -1.0
    result: NDArray[np.float32] = probabilities[rows, y] - others.max(axis=1, initial=-1.0)
    return result


def _mislabelled(
    dataset: Dataset, probabilities: NDArray[np.float32], margins: NDArray[np.float32]
) -> Iterator[Suspect]:
    for i in np.argsort(margins, kind="stable").tolist():  # NaN comes last
        if not margins[i] <= DOUBT:
            return
        record, best = dataset.records[i], int(probabilities[i].argmax())
        reason = f"{record.label}? {dataset.classes[best]} is more probable ({probabilities[i, best]:.0%})"
        yield Suspect(record.path, record.label, reason, round(float(margins[i]), 4))


def _copies(dataset: Dataset, groups: Sequence[Sequence[int]], looks: NDArray[np.void]) -> list[Finding]:
    found: dict[Kind, list[Suspect]] = defaultdict(list)
    for group in groups:
        records = [dataset.records[i] for i in group]
        paths = tuple(r.path for r in records)
        labels = sorted({r.label for r in records})
        if len(labels) > 1:
            reason = f"stands under {' and '.join(labels)}"
            found["two-labels"] += [Suspect(r.path, r.label, reason, None, _without(paths, r.path)) for r in records]
        held = tuple(r.path for r in records if r.split in ("val", "test"))
        if held:
            trained = [r for r in records if r.split == "train"]
            reason = f"in train, and a copy in {'/'.join(sorted({r.split or '' for r in records} - {'train'}))}"
            found["shared-by-splits"] += [Suspect(r.path, r.label, reason, None, held) for r in trained]
        for label in labels:
            _copies_of_one_class(dataset, [i for i in group if dataset.records[i].label == label], looks, found)
    return [Finding(kind, tuple(suspects)) for kind, suspects in found.items()]


def _copies_of_one_class(
    dataset: Dataset, group: Sequence[int], looks: NDArray[np.void], found: dict[Kind, list[Suspect]]
) -> None:
    """Of byte-equal photos the first is kept, of near copies the largest."""
    firsts: dict[str, int] = {}
    for i in group:
        record = dataset.records[i]
        first = firsts.setdefault(record.digest, i)
        if first != i:
            original = dataset.records[first].path
            reason = f"the same bytes as {original.name}"
            found["exact-duplicate"].append(Suspect(record.path, record.label, reason, None, (original,)))
    pixels = looks["width"].astype(np.int64) * looks["height"]
    best = max(firsts.values(), key=lambda i: (pixels[i], -i), default=-1)
    for i in firsts.values():
        if i != best:
            record, kept = dataset.records[i], dataset.records[best].path
            size = f"{looks[i]['width']}×{looks[i]['height']}"
            reason = f"{size}, shows what {kept.name} shows ({looks[best]['width']}×{looks[best]['height']})"
            found["near-duplicate"].append(Suspect(record.path, record.label, reason, None, (kept,)))


def _without(paths: tuple[Path, ...], path: Path) -> tuple[Path, ...]:
    return tuple(other for other in paths if other != path)


def _by_look(dataset: Dataset, looks: NDArray[np.void]) -> list[Finding]:
    spread = looks["thumbnail"].reshape(len(looks), -1).std(axis=1)
    short = np.minimum(looks["width"], looks["height"])
    long = np.maximum(looks["width"], looks["height"])
    size = [f"{w}×{h} pixels" for w, h in zip(looks["width"], looks["height"], strict=True)]

    def suspects(score: NDArray[Any], bad: NDArray[np.bool_], say: Any) -> tuple[Suspect, ...]:
        order = [i for i in np.argsort(score, kind="stable").tolist() if bad[i]]
        records = dataset.records
        return tuple(Suspect(records[i].path, records[i].label, say(i), round(float(score[i]), 3)) for i in order)

    shape = long / np.maximum(short, 1)
    return [
        Finding("blank", suspects(spread, spread < BLANK_SPREAD, lambda i: f"spread of {spread[i]:.1f} grey levels")),
        Finding("tiny", suspects(short, short < TINY, lambda i: size[i])),
        Finding("extreme-shape", suspects(-shape, shape >= EXTREME, lambda i: f"{size[i]}, {shape[i]:.1f} to 1")),
    ]


def _of_classes(dataset: Dataset) -> list[Finding]:
    counts = dataset.counts()
    alike: dict[str, list[str]] = defaultdict(list)
    for label in dataset.classes:
        folded = re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", label).casefold())
        alike[folded or label].append(label)
    names = [" / ".join(repr(name) for name in group) for group in alike.values() if len(group) > 1]
    names += [f"{label!r} in two Unicode forms, taken as one" for label in _forms(dataset)]
    small = [
        f"{label}: {n} photos, " + ("not enough for every side of a split" if n < 3 else "few to learn from")
        for label, n in sorted(counts.items(), key=lambda item: item[1])
        if n < LEARNABLE
    ]
    least, most = min(counts, key=lambda c: counts[c]), max(counts, key=lambda c: counts[c])
    ratio = counts[most] / counts[least]
    uneven = [f"{most}: {counts[most]} photos, {least}: {counts[least]}"] if ratio >= IMBALANCE else []
    return [
        Finding("class-names", classes=tuple(names)),
        Finding("small-class", classes=tuple(small)),
        Finding("imbalance", classes=tuple(uneven)),
    ]


def _forms(dataset: Dataset) -> list[str]:
    """Labels whose folders are written in more than one Unicode form, which look the same."""
    forms: dict[str, set[str]] = defaultdict(set)
    for record in dataset.records:
        forms[record.label] |= {p for p in record.path.parts if unicodedata.normalize("NFC", p) == record.label}
    return sorted(label for label, names in forms.items() if len(names) > 1)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _relative(path: Path, manifest: Path) -> str:
    try:
        return os.path.relpath(path.absolute(), manifest.absolute().parent)
    except ValueError:  # another drive
        return str(path.absolute())
