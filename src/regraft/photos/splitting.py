"""Split a `Dataset` into train, val and test, by the content of the photos.

In: a dataset, two fractions, a salt. Out: a `Split`, three tuples of record numbers.
Why: renaming files, moving files and adding photos must not move a photo from test to train.
Surprise: the quotas are counted within each class, so that an added photo moves only photos of its own class.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from regraft.errors import ConfigError
from regraft.foundation import console
from regraft.foundation.files import kind_of
from regraft.photos.dataset import Dataset, ImageRecord
from regraft.photos.quotas import Unit, assign
from regraft.photos.sources.base import SIDES, Side

"""The part of a file name that TensorFlow's ``retrain.py`` ignored, so that variants of one object stayed together."""


@dataclass(frozen=True, slots=True)
class Split:
    """The record numbers on each side of a split.

    Attributes:
        train, val, test: indices into ``dataset.records``, sorted by the photos' identities, so that the order does not
            depend on file names.
    """

    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...]


def split(
    dataset: Dataset,
    fractions: tuple[float, float] = (0.1, 0.1),
    salt: str = "",
    together: Sequence[Sequence[int]] = (),
) -> Split:
    """Choose a side for every photo, or keep the split that the data set defines itself.

    Single photos are sorted within their class by a hash of their identity and the salt. The first photos go to test,
    the last photos to val, and the others to train. The number of photos on each side is the quota of the class. So,
    if there are no groups and no copies of photos:

    - In every class, each side is within one photo of its share. Over C classes, the rounding errors of val and of test
      can add up to C/2 photos, and typically add up to 0.3 times the square root of C. Classes of equal size are not
      all rounded in the same direction. With one or two classes, each side is within one photo of its share in total.
    - A photo that is added to a class moves at most two other photos, both of that class. Moving and renaming files
      moves no photo. The first photo of a new class changes the rounding of all other classes, which moves about one
      photo.
    - A class of three or more photos has at least one photo on each side whose share is not 0. A class of two photos
      has one in train and one in test. This rule comes before the share, if the share of a class is below one photo.

    Some photos form a unit that stays on one side: byte-equal photos, photos of one group, files of one class whose
    names are equal up to ``_nohash_``, and photos joined by ``together``. The side of a unit follows from its own hash,
    unless another side brings the sides nearer to their shares of all photos (which counts twice) and of each class.
    Single photos then fill the rest of the quotas. Two rules come before the shares: every class has photos in train,
    and no side is empty if it can be filled.

    Args:
        dataset: the photos.
        fractions: the shares of val and of test, each in [0, 1), together below 1. A share of 0 leaves its side empty.
        salt: any text, the seed of the split. Another text gives another split.
        together: groups of record numbers, such as those that `duplicate_groups` finds.

    Returns:
        The record numbers of each side.

    Raises:
        ConfigError: a share is negative, the shares leave nothing for train, or ``dataset`` is not a `Dataset`.
    """
    if not isinstance(dataset, Dataset):
        raise ConfigError(f"the dataset is {kind_of(dataset)}; wanted what regraft.Dataset.open gives")
    val, test = fractions
    if min(val, test) < 0 or val + test >= 1:
        raise ConfigError(f"val {val} and test {test} must be at least 0 and leave something to train on")
    if any(record.split for record in dataset.records):
        return _given(dataset, val, salt, together)
    units = sorted(units_of(dataset, salt, together), key=lambda unit: (unit.place, unit.key))
    sides: dict[Side, list[int]] = {side: [] for side in SIDES}
    shares: dict[Side, float] = {"val": val, "test": test}
    for unit, side in assign(units, dataset.classes, shares):
        sides[side].extend(unit.indices)
    _warn_of_empty(dataset, units, sides, shares)
    return _ordered(dataset, sides)


def group_counts(dataset: Dataset, sides: Split) -> dict[str, int]:
    """Return the number of groups on each side of a split; empty if no photo has a group.

    Args:
        dataset: the photos.
        sides: the split.
    """
    found = {side: {dataset.records[i].group for i in getattr(sides, side)} - {None} for side in SIDES}
    return {side: len(groups) for side, groups in found.items()} if any(found.values()) else {}


def _warn_of_empty(
    dataset: Dataset, units: Sequence[Unit], sides: Mapping[Side, Sequence[int]], shares: Mapping[Side, float]
) -> None:
    """If groups leave a side empty, warn the user, and say how many groups would fill the side."""
    wanted = [side for side, share in shares.items() if share]
    empty = [side for side in wanted if not sides[side]]
    if not empty or not any(record.group for record in dataset.records):
        return
    there = f"{_and(empty)} {'are' if len(empty) > 1 else 'is'} empty"
    needed = 1 + len(wanted)
    if len(units) < needed:
        found = f"{len(units)} group{'s are' if len(units) > 1 else ' is'} too few for {_and(['train', *wanted])}"
        given = len({record.group for record in dataset.records})
        joined = f" (photos that look alike join the {given} that were given)" if given > len(units) else ""
        console.warn(f"{there}: groups stay whole, and {found}: {needed} are needed{joined}")
        return
    groups = Counter(label for unit in units for label in unit.counts)
    least = min(groups, key=lambda label: groups[label])
    console.warn(
        f"{there}: groups stay whole, and each class has to train; wanted every class in {needed} groups or more, "
        f"found {least!r} in {groups[least]}"
    )


def _and(names: Sequence[str]) -> str:
    """Return names as a list in words: ``train, val and test``."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _ordered(dataset: Dataset, sides: dict[Side, list[int]]) -> Split:
    """Return a split whose record numbers are sorted by the photos' identities."""

    def key(index: int) -> tuple[str, str]:
        return dataset.records[index].identity, dataset.records[index].label

    return Split(**{side: tuple(sorted(indices, key=key)) for side, indices in sides.items()})


def _given(dataset: Dataset, val: float, salt: str, together: Sequence[Sequence[int]]) -> Split:
    """Return the split that the data set defines itself. If it has no val, draw val from train by the usual rule."""
    sides: dict[Side, list[int]] = {side: [] for side in SIDES}
    for index, record in enumerate(dataset.records):
        sides[record.split or "train"].append(index)
    _warn_of_leaks(dataset, sides, together)
    if not sides["val"] and val > 0:
        outer = sides["train"]
        place = {index: number for number, index in enumerate(outer)}
        chosen = tuple(replace(dataset.records[i], split=None) for i in outer)
        inner_groups = [[place[i] for i in group if i in place] for group in together]
        inner = split(Dataset(chosen, dataset.classes), (val, 0), salt, inner_groups)
        sides["train"], sides["val"] = [outer[i] for i in inner.train], [outer[i] for i in inner.val]
        console.note("the photos have no val side of their own: drawn from train")
    return _ordered(dataset, sides)


def _warn_of_leaks(dataset: Dataset, sides: dict[Side, list[int]], together: Sequence[Sequence[int]]) -> None:
    """Warn the user if photos of val or test, or copies of them, are also in train."""
    side_of = {index: side for side, indices in sides.items() for index in indices}
    leaked: dict[Side, list[int]] = {"val": [], "test": []}
    for unit in units_of(dataset, "", together):
        if any(side_of[i] == "train" for i in unit.indices):
            for index in unit.indices:
                if (side := side_of[index]) != "train":
                    leaked[side].append(index)
    for side, found in leaked.items():
        if found:
            first = dataset.records[min(found)].path
            console.warn(
                f"{len(found)} photos of {side} are also in train or of a group in train, so its accuracy is too high; "
                f"first: {first}"
            )


def units_of(dataset: Dataset, salt: str, together: Sequence[Sequence[int]] = ()) -> Iterator[Unit]:
    """Join photos that must stay on one side or in one fold, by union-find, and yield the units.

    Photos are joined if they share an identity, a group, or a name before ``_nohash_``, or if ``together`` joins them.
    The key of a unit is the smallest key of its photos, and gives the unit's place.
    """
    parent: dict[str, str] = {}

    def find(key: str) -> str:
        while parent.setdefault(key, key) != key:
            parent[key] = key = parent[parent[key]]
        return key

    def join(keys: Iterable[str]) -> None:
        roots = sorted({find(key) for key in keys})
        parent.update(dict.fromkeys(roots, roots[0]) if roots else {})

    for record in dataset.records:
        if shared := [key for key in (_nohash_key(record), _group_key(record)) if key]:
            join((record.identity, *shared))
    for group in together:
        join(dataset.records[index].identity for index in group)
    members: dict[str, list[int]] = defaultdict(list)
    for index, record in enumerate(dataset.records):
        members[find(record.identity)].append(index)
    for key, indices in members.items():
        labels = [dataset.records[i].label for i in indices]
        counts = Counter(labels) if len(labels) > 1 else {labels[0]: 1}
        yield Unit(tuple(indices), key, _place(key, salt), counts)


def _group_key(record: ImageRecord) -> str | None:
    return None if record.group is None else _name_key(f"group\0{record.group}")


def _name_key(name: str) -> str:
    # "!" sorts before every digest. So the key of a group is that of its name, and does not change when a photo joins.
    return "!" + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


def _nohash_key(record: ImageRecord) -> str | None:
    """Return the key that variants of one object share, by the ``_nohash_`` rule of ``retrain.py``; else None."""
    stem, mark, _ = record.path.name.partition("_nohash_")
    return _name_key(f"{record.label}\0{stem}") if mark else None


def _place(key: str, salt: str) -> float:
    """Return a hash of the key and the salt as a number in [0, 1)."""
    return int.from_bytes(hashlib.sha256(f"{salt}\0{key}".encode()).digest()[:7], "big") / 2**56
