"""A Dataset → train, val and test, by content.

In: a dataset, two fractions, a salt. Out: `Split`, three tuples of record numbers.
Why: a photo's side must survive renaming, moving and growth, or a test photo of today trains tomorrow.
Surprise: quotas are counted within each class, so an added photo moves photos of its own class alone.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from regraft import _console
from regraft._files import kind_of
from regraft.dataset import Dataset, ImageRecord
from regraft.errors import ConfigError
from regraft.quotas import Unit, assign
from regraft.sources import SIDES, Side

_NOHASH = re.compile(r"_nohash_.*$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Split:
    """Which records are on which side.

    Attributes:
        train, val, test: indices into ``dataset.records``, ordered by identity and so alike for any file names.
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
    """Choose a side for every photo, or keep the sides the data set came with.

    Photos that stand alone have an order within their class: that of a hash of their identity and the salt. The first
    ones test, the last ones validate, the others train, as many as the class's quota says. So, without groups and
    copies:

    - In every class each side is within one photo of its share. The roundings of C classes can add up to C/2 photos
      on val and on test, and typically to 0.3 times the root of C; they lean different ways, so that classes of one
      size do not all round alike. With one or two classes each side is within one photo of its share in total.
    - A photo that joins a class moves at most two others, both of that class. Moving and renaming files moves none. The
      first photo of a new class shifts the roundings of all others, which moves about one photo.
    - A class of three or more photos has at least one on each side whose share is not 0; a class of two trains and
      tests. Where a share of a class is below one photo, this comes before the share.

    Byte-equal photos, those of one group, files whose names agree up to ``_nohash_`` within a class, and what
    ``together`` joins, stay on one side. Their side follows from their own hash, unless another one brings the sides
    nearer to their shares: of all photos, which counts twice, and of each class. Photos that stand alone then fill
    what is left of the quotas. Before shares, every class trains, and no side stays empty that can be filled.

    Args:
        dataset: the photos.
        fractions: the shares of val and of test, each in [0, 1), together below 1; a fraction of 0 leaves its
            side empty.
        salt: any text; another text is another draw.
        together: groups of record numbers, such as `duplicate_groups` finds.

    Raises:
        ConfigError: the fractions leave nothing to train on.
    """
    if not isinstance(dataset, Dataset):
        raise ConfigError(f"the dataset is {kind_of(dataset)}; wanted what regraft.Dataset.open gives")
    val, test = fractions
    if min(val, test) < 0 or val + test >= 1:
        raise ConfigError(f"val {val} and test {test} must be at least 0 and leave something to train on")
    if any(record.split for record in dataset.records):
        return _given(dataset, val, salt, together)
    units = sorted(_units(dataset, salt, together), key=lambda unit: (unit.place, unit.key))
    sides: dict[Side, list[int]] = {side: [] for side in SIDES}
    shares: dict[Side, float] = {"val": val, "test": test}
    for unit, side in assign(units, dataset.classes, shares):
        sides[side].extend(unit.indices)
    _warn_of_empty(dataset, units, sides, shares)
    return _ordered(dataset, sides)


def group_counts(dataset: Dataset, sides: Split) -> dict[str, int]:
    """Return how many of the owner's groups are on each side; empty where no photo has a group."""
    found = {side: {dataset.records[i].group for i in getattr(sides, side)} - {None} for side in SIDES}
    return {side: len(groups) for side, groups in found.items()} if any(found.values()) else {}


def _warn_of_empty(
    dataset: Dataset, units: Sequence[Unit], sides: Mapping[Side, Sequence[int]], shares: Mapping[Side, float]
) -> None:
    """Where groups leave a side empty, say how many groups would fill it."""
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
        _console.warn(f"{there}: groups stay whole, and {found}: {needed} are needed{joined}")
        return
    groups = Counter(label for unit in units for label in unit.counts)
    least = min(groups, key=lambda label: groups[label])
    _console.warn(
        f"{there}: groups stay whole, and each class has to train; wanted every class in {needed} groups or more, "
        f"found {least!r} in {groups[least]}"
    )


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _ordered(dataset: Dataset, sides: dict[Side, list[int]]) -> Split:
    def key(index: int) -> tuple[str, str]:
        return dataset.records[index].identity, dataset.records[index].label

    return Split(**{side: tuple(sorted(indices, key=key)) for side, indices in sides.items()})


def _given(dataset: Dataset, val: float, salt: str, together: Sequence[Sequence[int]]) -> Split:
    """The owner's own sides. Where there is no val, it is drawn from train by the usual rule."""
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
        _console.note("the photos have no val side of their own: drawn from train")
    return _ordered(dataset, sides)


def _warn_of_leaks(dataset: Dataset, sides: dict[Side, list[int]], together: Sequence[Sequence[int]]) -> None:
    side_of = {index: side for side, indices in sides.items() for index in indices}
    leaked: dict[Side, list[int]] = {"val": [], "test": []}
    for unit in _units(dataset, "", together):
        if any(side_of[i] == "train" for i in unit.indices):
            for index in unit.indices:
                if (side := side_of[index]) != "train":
                    leaked[side].append(index)
    for side, found in leaked.items():
        if found:
            first = dataset.records[min(found)].path
            _console.warn(f"{len(found)} photos of {side} are also in train, so its numbers flatter; first: {first}")


def _units(dataset: Dataset, salt: str, together: Sequence[Sequence[int]] = ()) -> Iterator[Unit]:
    """Join photos that share bytes, a group, or a ``_nohash_`` stem. A unit's place comes from its smallest key."""
    parent: dict[str, str] = {}

    def find(key: str) -> str:
        while parent.setdefault(key, key) != key:
            parent[key] = key = parent[parent[key]]
        return key

    def join(keys: Iterable[str | None]) -> None:
        roots = sorted({find(key) for key in keys if key})
        parent.update(dict.fromkeys(roots, roots[0]) if roots else {})

    for record in dataset.records:
        join((record.identity, _nohash_key(record), _group_key(record)))
    for group in together:
        join(dataset.records[index].identity for index in group)
    members: dict[str, list[int]] = defaultdict(list)
    for index, record in enumerate(dataset.records):
        members[find(record.identity)].append(index)
    for key, indices in members.items():
        yield Unit(tuple(indices), key, _place(key, salt), Counter(dataset.records[i].label for i in indices))


def _group_key(record: ImageRecord) -> str | None:
    return None if record.group is None else _name_key(f"group\0{record.group}")


def _name_key(name: str) -> str:
    # "!" sorts before every digest, so the group's place is its name's and stays when another photo joins.
    return "!" + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


def _nohash_key(record: ImageRecord) -> str | None:
    """The name that variants of one object share, by the classic ``retrain.py`` convention."""
    stem = _NOHASH.sub("", record.path.name)
    if stem == record.path.name:
        return None
    return _name_key(f"{record.label}\0{stem}")


def _place(key: str, salt: str) -> float:
    return int.from_bytes(hashlib.sha256(f"{salt}\0{key}".encode()).digest()[:7], "big") / 2**56
