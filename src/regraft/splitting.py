"""A Dataset → train, val and test, by content.

In: a dataset, two fractions, a salt. Out: `Split`, three tuples of record numbers.
Why: a photo's side must survive renaming, moving and growth, or a test photo of today trains tomorrow.
Surprise: sides are drawn by digest, so 80/10/10 holds on average, not exactly.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from regraft import _console
from regraft._files import kind_of
from regraft.dataset import Dataset, ImageRecord
from regraft.errors import ConfigError
from regraft.sources import SIDES, Side

_NOHASH = re.compile(r"_nohash_.*$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Split:
    """Which records are on which side.

    Attributes:
        train, val, test: indices into ``dataset.records``, ordered by digest and so alike for any file names.
    """

    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...]


@dataclass(slots=True)
class _Group:
    """Photos that must stay together, the place they drew in [0, 1), and the side that place gives them."""

    indices: list[int]
    labels: set[str]
    place: float
    side: Side = "train"


def split(
    dataset: Dataset,
    fractions: tuple[float, float] = (0.1, 0.1),
    salt: str = "",
    together: Sequence[Sequence[int]] = (),
) -> Split:
    """Draw a side for every photo, or keep the sides the data set came with.

    The place of a photo in [0, 1) is a hash of its bytes and the salt: below the test fraction it tests, in the
    next stretch it validates, else it trains. Byte-equal photos, those of one group, and files whose names agree up
    to ``_nohash_`` within a class, stay on one side, and so do those that ``together`` joins.

    Then a floor: every class with three or more distinct photos gets at least one on each side; with two, on train
    and test. The photo whose place is nearest is moved, so such a photo may move back once its class has grown.

    Args:
        dataset: the photos.
        fractions: the shares of val and of test, each in [0, 1), together below 1; a fraction of 0 leaves its
            side empty.
        salt: any text; another text is another draw.
        together: groups of record numbers, such as `duplicate_groups` finds. A group's place is that of its member
            with the smallest digest, so a group that grows may move.

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
    groups = list(_groups(dataset, salt, together))
    for group in groups:
        group.side = "test" if group.place < test else "val" if group.place < test + val else "train"
    shares: tuple[tuple[Side, float], ...] = (("train", 1.0), ("test", test), ("val", val))
    _floor(groups, dataset.classes, wanted=[side for side, share in shares if share > 0])
    sides: dict[Side, list[int]] = {side: [] for side in SIDES}
    for group in groups:
        sides[group.side].extend(group.indices)
    return _ordered(dataset, sides)


def _ordered(dataset: Dataset, sides: dict[Side, list[int]]) -> Split:
    def key(index: int) -> tuple[str, str]:
        return dataset.records[index].digest, dataset.records[index].label

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
    for group in _groups(dataset, "", together):
        if any(side_of[i] == "train" for i in group.indices):
            for index in group.indices:
                if (side := side_of[index]) != "train":
                    leaked[side].append(index)
    for side, found in leaked.items():
        if found:
            first = dataset.records[min(found)].path
            _console.warn(f"{len(found)} photos of {side} are also in train, so its numbers flatter; first: {first}")


def _groups(dataset: Dataset, salt: str, together: Sequence[Sequence[int]] = ()) -> Iterator[_Group]:
    """Join photos that share bytes, a group, or a ``_nohash_`` stem. A group's place comes from its smallest key."""
    parent: dict[str, str] = {}

    def find(key: str) -> str:
        while parent.setdefault(key, key) != key:
            parent[key] = key = parent[parent[key]]
        return key

    def join(keys: Iterable[str | None]) -> None:
        roots = sorted({find(key) for key in keys if key})
        parent.update(dict.fromkeys(roots, roots[0]) if roots else {})

    for record in dataset.records:
        join((record.digest, _nohash_key(record), _group_key(record)))
    for group in together:
        join(dataset.records[index].digest for index in group)
    members: dict[str, list[int]] = defaultdict(list)
    for index, record in enumerate(dataset.records):
        members[find(record.digest)].append(index)
    for key, indices in members.items():
        yield _Group(indices, {dataset.records[i].label for i in indices}, _place(key, salt))


def _group_key(record: ImageRecord) -> str | None:
    return None if record.group is None else _name_key(f"group\0{record.group}")


def _name_key(name: str) -> str:
    # "!" sorts before every digest, so the group's place is its name's and stays when another photo joins.
    return "!" + hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()


def _nohash_key(record: ImageRecord) -> str | None:
    """The name that variants of one object share, by the classic ``retrain.py`` convention."""
    stem = _NOHASH.sub("", record.path.name)
    if stem == record.path.name:
        return None
    return _name_key(f"{record.label}\0{stem}")


def _place(key: str, salt: str) -> float:
    return int.from_bytes(hashlib.sha256(f"{salt}\0{key}".encode()).digest()[:7], "big") / 2**56


def _floor(groups: list[_Group], classes: tuple[str, ...], wanted: list[Side]) -> None:
    by_label: dict[str, list[_Group]] = defaultdict(list)
    for group in sorted(groups, key=lambda g: (g.place, g.indices[0])):
        if len(group.labels) == 1:  # moving a group that spans classes could empty a side of the other class
            by_label[next(iter(group.labels))].append(group)
    shared = [group for group in groups if len(group.labels) > 1]
    for label in classes:
        own = by_label[label]
        for side in wanted[: len(own)]:
            if any(g.side == side for g in own) or any(g.side == side and label in g.labels for g in shared):
                continue
            sizes = {s: sum(g.side == s for g in own) for s in SIDES}
            # Train lies above the other sides, so its nearest is the highest place; theirs the lowest.
            order = reversed(own) if side == "train" else iter(own)
            donor = next((g for g in order if sizes[g.side] > 1 or g.side not in wanted[: len(own)]), None)
            if donor is not None:
                donor.side = side
