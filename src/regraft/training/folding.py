"""A data set → folds: each photo is held out in one of K folds, so that all photos measure the classifier.

In: a dataset, K, a salt, and groups of photos that stay together. Out: the number of each photo's fold.
Why: a tenth of 200 photos measures nothing; in turns, all 200 can.
Surprise: a photo whose class has no other photo, or only copies of it, is in no fold. It can only be trained on.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from regraft.errors import ConfigError
from regraft.photos.dataset import Dataset
from regraft.photos.quotas import Unit
from regraft.photos.splitting import units_of

NEVER = -1
"""The number in place of a fold for a photo that is in no fold."""


def fold_photos(
    dataset: Dataset,
    folds: int,
    salt: str = "",
    together: Sequence[Sequence[int]] = (),
    known: Mapping[int, int] | None = None,
) -> NDArray[np.int64]:
    """Return the number of the fold in which each of N photos is held out, (N,), from 0 to K - 1.

    Photos that must stay together, as `regraft.photos.splitting.split` describes them, are in one fold. Within each
    class the folds hold as equal numbers of photos as that allows. The first folds hold the photos that are left over,
    and the last folds are empty if no class has as many photos as there are folds.

    Args:
        dataset: the N photos.
        folds: K, the number of folds, at least 2.
        salt: any text, the seed of the folds. Another text gives other folds.
        together: groups of record numbers, such as those that `duplicate_groups` finds.
        known: the fold of each photo that has one already, by its record number. These photos keep it, and new photos
            that must stay together with them join the fold of most of them.

    Returns:
        The numbers; `NEVER` for a photo whose class is in no other unit, so that no head could know the class.

    Raises:
        ConfigError: ``folds`` is below 2.
    """
    if folds < 2:
        raise ConfigError(f"folds {folds} is below 2")
    known = known or {}
    units = sorted(units_of(dataset, salt, together), key=lambda unit: (-len(unit.indices), unit.place, unit.key))
    homes = [_homes(unit, known) for unit in units]
    places = Counter(label for unit in units for label in unit.counts)
    counts: dict[str, list[int]] = defaultdict(lambda: [0] * folds)
    result = np.full(len(dataset.records), NEVER, np.int64)
    for has_home in (True, False):
        for unit, at in zip(units, homes, strict=True):
            if bool(at) != has_home or not all(places[label] > 1 for label in unit.counts):
                continue
            # Of folds with as few photos of the class, the first is taken and not the smallest: where classes have
            # fewer photos than there are folds, a fold then holds one photo of each class. Else a class would be the
            # rarest in training just when its photos are answered.
            fold = -1 if at else min(range(folds), key=lambda i: (_crowd(counts, unit, i), i))
            for index in unit.indices:
                result[index] = at.get(index, fold)
                counts[dataset.records[index].label][int(result[index])] += 1
    return result


def _homes(unit: Unit, known: Mapping[int, int]) -> dict[int, int]:
    """Return the fold of each photo of a unit of which some photos have one already; empty if none has."""
    mine = [known[i] for i in unit.indices if i in known]
    if not mine:
        return {}
    most = min(Counter(mine).items(), key=lambda found: (-found[1], found[0]))[0]
    return {i: known.get(i, most) for i in unit.indices}


def _crowd(counts: dict[str, list[int]], unit: Unit, fold: int) -> int:
    """Return the number of photos of a unit's classes that a fold already holds."""
    return sum(counts[label][fold] for label in unit.counts)
