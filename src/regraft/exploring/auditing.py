"""Find problems in labelled photos: wrong labels, duplicates, unreadable and blank files, small classes.

In: a folder of labelled photos, or any other spec of photos. Out: an `Audit`: a list of findings, the worst first.
Why: most poor classifiers are due to their photos; an audit shows that before anyone trusts a measured accuracy.
Surprise: no photo is changed. `Audit.write` writes a list of photos, for `train` or for a label tool.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from regraft.config.features import FeatureConfig
from regraft.config.values import options_of
from regraft.drawing.html import displayed_by
from regraft.engines.base import key_of, load_engines
from regraft.errors import ConfigError, option
from regraft.features.backbone_choice import choose_backbone, require_backbone
from regraft.features.duplicates import duplicate_groups
from regraft.features.features import extract_all, labelled_features
from regraft.foundation.files import as_path
from regraft.foundation.names import resolve
from regraft.heads.doubtful_labels import DOUBT, label_margins, out_of_fold
from regraft.label_tools.writing import Format, Reviewed, require_format, write_photos
from regraft.photos.dataset import Dataset, ImageRecord

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
KINDS: tuple[Kind, ...] = get_args(Kind)  # of findings, the worst first

DROPPED: tuple[Kind, ...] = ("unreadable", "two-labels", "shared-by-splits", "exact-duplicate", "blank")
"""The kinds whose photos are by default left out of a manifest."""
WHY: dict[Kind, str] = {
    "unreadable": "cannot be read, and are left out of training",
    "two-labels": "the same image has more than one label: at most one label can be right",
    "shared-by-splits": "the same image is in train and in val or test, so the measured accuracy is too high",
    "mislabelled": "a classifier trained on the other photos predicts another label (look before you relabel)",
    "exact-duplicate": "a file with the same bytes: the photo counts twice, and adds no information",
    "near-duplicate": "the same image resized, recompressed, mirrored or slightly cropped; kept on one side of a split",
    "blank": "nearly a single colour",
    "tiny": "far fewer pixels than the backbone's input",
    "extreme-shape": "much longer than wide: most of the photo lies outside the square that the backbone sees",
    "class-names": "classes whose names differ only in case, spaces, punctuation or Unicode form: one class twice?",
    "small-class": "classes with too few photos to learn from, or to measure",
    "imbalance": "the largest class has many times the photos of the smallest; consider {balanced}",
}

BLANK_SPREAD = 2.0  # grey levels: a photo with a smaller standard deviation is blank
TINY = 64  # pixels of the shorter side
EXTREME = 3.0  # the longer side divided by the shorter
LEARNABLE = 20  # photos a class
IMBALANCE = 10.0  # photos of the largest class divided by those of the smallest


@dataclass(frozen=True, slots=True)
class Suspect:
    """One photo that a finding names.

    Attributes:
        path: the path of the photo.
        label: the label of the photo; empty for a photo that cannot be read.
        reason: what is wrong with the photo.
        score: how bad the photo is, the lower the worse; None for kinds without an order.
        others: the other photos of the group; for a duplicate, the photo to keep.
        suggested: for a doubtful label, the label that is more probable; empty otherwise.
        probability: the probability of the suggested label, 0 to 1; None otherwise.
    """

    path: Path
    label: str
    reason: str
    score: float | None = None
    others: tuple[Path, ...] = ()
    suggested: str = ""
    probability: float | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """All problems of one kind.

    Attributes:
        kind: the kind of problem.
        photos: the photos with this problem, the worst first; empty for a problem of classes.
        classes: the classes with this problem, each with its figures; empty for a problem of photos.
    """

    kind: Kind
    photos: tuple[Suspect, ...] = ()
    classes: tuple[str, ...] = ()

    @property
    def why(self) -> str:
        """An explanation of this kind of problem, in one line."""
        return WHY[self.kind].format(balanced=option("class_weight", "balanced"))


@dataclass(frozen=True)
class Audit:
    """The result of `check`.

    Attributes:
        dataset: the N photos that can be read.
        findings: the problems, the worst kind first; kinds without any problem are left out.
        margins: ``(N,)``, -1 to 1: for each photo the out-of-fold probability of its label minus that of the most
            probable other class; NaN where the class is too small.
        impossible: why no classifier can be trained on these photos; None where one can.
        features: how many photos' features were ``computed``, and how many were ``cached``.
        sizes: ``(N, 2)``, the width and height of each photo in pixels.
    """

    dataset: Dataset
    findings: tuple[Finding, ...]
    margins: NDArray[np.float32]
    impossible: str | None = None
    features: dict[str, int] = field(default_factory=dict)
    sizes: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 2), np.int64))
    _repr_html_ = displayed_by("regraft.reporting.displays:audit_html")

    def to_dict(self) -> dict[str, Any]:
        """Return the audit as JSON values."""
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

    def write_html(self, path: str | os.PathLike[str]) -> Path:
        """Write a page that shows the findings with the photos side by side, and return the path of the file.

        The page is one HTML file of at most 12 MB that needs no network. An older one at the same place is replaced.

        Raises:
            ConfigError: ``path`` is taken by another file, or cannot be written.
        """
        written: Path = resolve("regraft.reporting.check_page:write_check_page")(self, path)
        return written

    def write_manifest(self, path: str | os.PathLike[str], kinds: Collection[str] = DROPPED) -> int:
        """Write the photos without those of ``kinds`` as a CSV manifest, which `train` takes, as `write` does."""
        return self.write(path, "manifest", kinds)

    def write(self, path: str | os.PathLike[str], format: Format, kinds: Collection[str] | None = None) -> int:  # noqa: A002
        """Write the photos and what was found in them, and return the number of photos that were written.

        A photo that the file cannot name is left out with a warning, such as one whose name is not valid Unicode.

        Args:
            path: the file, which must not exist.
            format: ``manifest``, a CSV table for `train`; ``label-studio``, tasks in which a label that is more
                probable is a prediction; or ``fiftyone``, labels that FiftyOne imports.
            kinds: the kinds of findings whose photos are left out; by default `DROPPED` for a manifest, else none.

        Raises:
            ConfigError: the format or a kind is unknown, or ``path`` exists already.
            DataError: no photo is left.
        """
        path = as_path(path, "path")
        left_out = kinds_left_out(path, format, kinds)
        found = defaultdict[Path, list[tuple[Kind, Suspect]]](list)
        for kind, suspect in ((finding.kind, suspect) for finding in self.findings for suspect in finding.photos):
            found[suspect.path].append((kind, suspect))
        kept = [r for r in self.dataset.records if not any(kind in left_out for kind, _ in found[r.path])]
        return write_photos(path, [_reviewed(record, found[record.path]) for record in kept], format)


def _reviewed(record: ImageRecord, found: Sequence[tuple[Kind, Suspect]]) -> Reviewed:
    """Return a photo together with what was found in it."""
    kinds, reasons = dict.fromkeys(kind for kind, _ in found), "; ".join(suspect.reason for _, suspect in found)
    doubtful = next((suspect for _, suspect in found if suspect.suggested), Suspect(record.path, record.label, ""))
    return Reviewed(record, tuple(kinds), reasons, doubtful.suggested, doubtful.probability)


def kinds_left_out(path: Path, format: str, kinds: Collection[str] | None) -> Collection[str]:  # noqa: A002
    """Return the kinds whose photos `Audit.write` leaves out: ``kinds``, or those of the format if it is None.

    Raises:
        ConfigError: where `Audit.write` would raise it, so that mistakes show before the work of an audit.
    """
    for kind in kinds or ():
        if kind not in KINDS:
            raise ConfigError(f"unknown kind {kind!r}; choose from {', '.join(KINDS)}")
    require_format(path, format)
    return (DROPPED if format == "manifest" else ()) if kinds is None else kinds


def check(
    photos: str | os.PathLike[str] | Dataset,
    config: FeatureConfig | Mapping[str, Any] | str | os.PathLike[str] | None = None,
) -> Audit:
    """Look for problems in photos and their labels.

    The features are cached, so that a following `train` does not compute them again.

    Args:
        photos: a folder of class folders, or any other spec that `Dataset.open` takes.
        config: the backbone and resolution, as a `FeatureConfig`, a dict of values by name, or the path of a TOML file.

    Raises:
        DataError: there are no photos.
        BackboneError: the backbone is unknown or not installed.
    """
    config = options_of(FeatureConfig, config)
    require_backbone(config)
    dataset = Dataset.open(photos, config.label_from, config.group_from)
    backbone = choose_backbone(config, dataset.records)
    engines = load_engines(backbone, config)
    extraction = extract_all(dataset.records, engines)
    unreadable = (*dataset.problems, *extraction.problems)
    findings = [Finding("unreadable", tuple(Suspect(p.path, "", p.reason) for p in unreadable))]
    if len(extraction.problems) == len(dataset.records):
        return Audit(replace(dataset, records=()), tuple(findings), np.empty(0, np.float32), "no photo can be read")
    dataset, features, looks = labelled_features(dataset, extraction, backbone)
    groups = duplicate_groups(features.digests, features.x, looks["thumbnail"], key_of(engines))
    probabilities = out_of_fold(features, groups)
    margins = label_margins(probabilities, features.y)
    findings += [
        *_copies(dataset, groups, looks),
        Finding("mislabelled", tuple(_mislabelled(dataset, probabilities, margins))),
        *_by_look(dataset, looks),
        *_of_classes(dataset),
    ]
    found = sorted((f for f in findings if f.photos or f.classes), key=lambda f: KINDS.index(f.kind))
    impossible = None if len(dataset.classes) > 1 else f"there is only one class, {dataset.classes[0]!r}"
    counts = {"computed": extraction.computed, "cached": extraction.cached}
    sizes = np.stack([looks["width"], looks["height"]], axis=1).astype(np.int64)
    return Audit(dataset, tuple(found), margins, impossible, counts, sizes)


def _mislabelled(
    dataset: Dataset, probabilities: NDArray[np.float32], margins: NDArray[np.float32]
) -> Iterator[Suspect]:
    """Yield the photos whose margin is at most `DOUBT`, the lowest margin first."""
    for i in np.argsort(margins, kind="stable").tolist():  # NaN comes last
        if not margins[i] <= DOUBT:
            return
        record, best = dataset.records[i], int(probabilities[i].argmax())
        label, probability = dataset.classes[best], float(probabilities[i, best])
        reason = f"{record.label}? {label} is more probable ({probability:.0%})"
        yield Suspect(record.path, record.label, reason, round(float(margins[i]), 4), (), label, round(probability, 4))


def _copies(dataset: Dataset, groups: Sequence[Sequence[int]], looks: NDArray[np.void]) -> list[Finding]:
    """Return the findings of duplicate photos; ``groups`` holds the indices of photos that show the same image."""
    found: dict[Kind, list[Suspect]] = defaultdict(list)
    for group in groups:
        records = [dataset.records[i] for i in group]
        paths = tuple(r.path for r in records)
        labels = sorted({r.label for r in records})
        if len(labels) > 1:
            reason = f"has the labels {' and '.join(labels)}"
            for path, label in ((r.path, r.label) for r in records):
                others = tuple(other for other in paths if other != path)
                found["two-labels"].append(Suspect(path, label, reason, None, others))
        held = tuple(r.path for r in records if r.split in ("val", "test"))
        if held:
            trained = [r for r in records if r.split == "train"]
            reason = f"in train, with a copy in {'/'.join(sorted({r.split or '' for r in records} - {'train'}))}"
            found["shared-by-splits"] += [Suspect(r.path, r.label, reason, None, held) for r in trained]
        for label in labels:
            _copies_of_one_class(dataset, [i for i in group if dataset.records[i].label == label], looks, found)
    return [Finding(kind, tuple(suspects)) for kind, suspects in found.items()]


def _copies_of_one_class(
    dataset: Dataset, group: Sequence[int], looks: NDArray[np.void], found: dict[Kind, list[Suspect]]
) -> None:
    """Add duplicates of one class; the shortest name of equal files is kept, and the largest of similar images."""
    firsts: dict[str, int] = {}
    # A copy is often named after its original, such as "rose (copy).jpg".
    for i in sorted(group, key=lambda i: (len(dataset.records[i].path.name), dataset.records[i].path)):
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
            reason = f"{size}, the same image as {kept.name} ({looks[best]['width']}×{looks[best]['height']})"
            found["near-duplicate"].append(Suspect(record.path, record.label, reason, None, (kept,)))


def _by_look(dataset: Dataset, looks: NDArray[np.void]) -> list[Finding]:
    """Return the findings of blank, tiny and extremely long photos."""
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
        Finding(
            "blank", suspects(spread, spread < BLANK_SPREAD, lambda i: f"deviation of {spread[i]:.1f} grey levels")
        ),
        Finding("tiny", suspects(short, short < TINY, lambda i: size[i])),
        Finding("extreme-shape", suspects(-shape, shape >= EXTREME, lambda i: f"{size[i]}, {shape[i]:.1f} to 1")),
    ]


def _of_classes(dataset: Dataset) -> list[Finding]:
    """Return the findings of class names that are alike, of small classes, and of class imbalance."""
    counts = dataset.counts()
    alike: dict[str, list[str]] = defaultdict(list)
    for label in dataset.classes:
        folded = re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", label).casefold())
        alike[folded or label].append(label)
    names = [" / ".join(repr(name) for name in group) for group in alike.values() if len(group) > 1]
    names += [f"{label!r} in two Unicode forms, read as one class" for label in _forms(dataset)]
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
    """Return the labels whose folder names have several Unicode forms, which look the same on the screen."""
    forms: dict[str, set[str]] = defaultdict(set)
    for record in dataset.records:
        forms[record.label] |= {p for p in record.path.parts if unicodedata.normalize("NFC", p) == record.label}
    return sorted(label for label, names in forms.items() if len(names) > 1)
