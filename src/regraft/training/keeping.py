"""Photos of a run that keep their side or fold, and new photos beside them → a split, or folds.

In: a data set, and the side or the fold of each photo that an older run knows. Out: the split or folds of all photos.
Why: a new run is compared with the older one on photos from which neither has learned; so no photo may change sides.
Surprise: a few photos do change. A class must have a photo to train on, and with folds it must have photos in two.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from regraft.photos.dataset import Dataset
from regraft.photos.quotas import Unit, assign
from regraft.photos.sources.base import SIDES, Side
from regraft.photos.splitting import Split, split, units_of
from regraft.training.folding import NEVER, fold_photos


@dataclass(frozen=True, slots=True)
class Places:
    """Where the photos of a run are.

    Attributes:
        sides: the side of the split of each photo, by the photo's identity.
        folds: the number of the fold of each photo that is in one, by the photo's identity; empty without folds.
    """

    sides: Mapping[str, Side] = field(default_factory=dict)
    folds: Mapping[str, int] = field(default_factory=dict)


def extend_split(
    dataset: Dataset,
    fractions: tuple[float, float],
    salt: str = "",
    together: Sequence[Sequence[int]] = (),
    known: Mapping[str, Side] | None = None,
) -> Split:
    """Choose a side for every new photo, so that all sides come near their shares again; known photos keep their side.

    A new photo that must stay together with known ones goes to their side, to train if they are on several. If a class
    would have no photo in train, one unit of it goes there from val, or else from test. A data set with sides of its
    own keeps these, as in `regraft.photos.splitting.split`.

    Args:
        dataset: the photos.
        fractions: the shares of val and of test, each in [0, 1), together below 1.
        salt: any text, the seed of the split.
        together: groups of record numbers, such as those that `duplicate_groups` finds.
        known: the side of each photo that has one already, by the photo's identity; with none, this is `split`.

    Returns:
        The record numbers of each side.
    """
    if not known or any(record.split for record in dataset.records):
        return split(dataset, fractions, salt, together)
    units: list[Unit] = []
    fixed: dict[str, Side] = {}
    for unit in units_of(dataset, salt, together):
        for side, part in _parts(dataset, unit, known):
            units.append(part)
            if side is not None:
                fixed[part.key] = side
    _leave_some_to_train(units, fixed)
    units.sort(key=lambda unit: (unit.place, unit.key))
    sides: dict[Side, list[int]] = {side: [] for side in SIDES}
    for unit, side in assign(units, dataset.classes, {"val": fractions[0], "test": fractions[1]}, fixed):
        sides[side].extend(unit.indices)
    records = dataset.records
    return Split(
        **{
            side: tuple(sorted(indices, key=lambda i: (records[i].identity, records[i].label)))
            for side, indices in sides.items()
        }
    )


def _parts(dataset: Dataset, unit: Unit, known: Mapping[str, Side]) -> list[tuple[Side | None, Unit]]:
    """Return a unit with the side of its known photos, in parts if these are on several; None for a new unit."""
    found = {i: known[dataset.records[i].identity] for i in unit.indices if dataset.records[i].identity in known}
    if not found:
        return [(None, unit)]
    home = next(side for side in SIDES if side in found.values())  # train first: the copies are in train already
    parts: dict[Side, list[int]] = defaultdict(list)
    for i in unit.indices:
        parts[found.get(i, home)].append(i)
    return [
        (
            side,
            Unit(tuple(indices), f"{unit.key}/{side}", unit.place, Counter(dataset.records[i].label for i in indices)),
        )
        for side, indices in parts.items()
    ]


def _leave_some_to_train(units: Sequence[Unit], fixed: dict[str, Side]) -> None:
    """Change the side of one unit of each class all of whose photos are fixed to val and test."""
    of_label: dict[str, list[Unit]] = defaultdict(list)
    for unit in units:
        for label in unit.counts:
            of_label[label].append(unit)
    for mine in of_label.values():
        if all(fixed.get(unit.key, "train") != "train" for unit in mine):
            first = min(mine, key=lambda unit: (fixed[unit.key] == "test", len(unit.indices), unit.place))
            fixed[first.key] = "train"


def extend_folds(
    dataset: Dataset,
    folds: int,
    salt: str = "",
    together: Sequence[Sequence[int]] = (),
    known: Mapping[str, int] | None = None,
) -> NDArray[np.int64]:
    """Return the number of each photo's fold, (N,), as `fold_photos` does; known photos keep their fold.

    A new photo that must stay together with known ones goes to the fold of most of them. If all photos of a class are
    in one fold, whose head would not know the class, one unit of it goes to another fold.

    Args:
        dataset: the N photos.
        folds: K, the number of folds, at least 2.
        salt: any text, the seed of the folds.
        together: groups of record numbers, such as those that `duplicate_groups` finds.
        known: the fold of each photo that is in one already, by the photo's identity.

    Returns:
        The numbers; `NEVER` for a photo whose class is in no other unit.
    """
    known = known or {}
    identities = [record.identity for record in dataset.records]
    at = {i: known[name] for i, name in enumerate(identities) if 0 <= known.get(name, NEVER) < folds}
    result = fold_photos(dataset, folds, salt, together, at)
    if at:
        _spread_classes(dataset, result, folds, list(units_of(dataset, salt, together)))
    return result


def _spread_classes(dataset: Dataset, fold: NDArray[np.int64], folds: int, units: Sequence[Unit]) -> None:
    """Move one unit of each class that is in a single fold to the fold with the fewest photos of the class's others."""
    of_label: dict[str, list[Unit]] = defaultdict(list)
    for unit in units:
        for label in unit.counts:
            of_label[label].append(unit)
    for label in dataset.classes:
        mine = [unit for unit in of_label[label] if fold[unit.indices[0]] != NEVER]
        used = {int(fold[i]) for unit in mine for i in unit.indices if dataset.records[i].label == label}
        if len(mine) > 1 and len(used) == 1:
            moved = min(mine, key=lambda unit: (len(unit.indices), unit.place))
            sizes = np.bincount(fold[fold != NEVER], minlength=folds)
            others = [number for number in range(folds) if number not in used]
            fold[list(moved.indices)] = min(others, key=lambda number: (sizes[number], number))
