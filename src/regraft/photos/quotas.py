"""Choose a side of the split for each unit of photos, so that every side gets its share of every class.

In: units of photos that must stay together, the classes, the shares of val and test. Out: each unit with its side.
Why: if each photo were drawn at random, the shares would vary by chance. Quotas within each class keep them exact.
Surprise: larger units are placed first, and single photos fill the rest of the quotas. So a copy of a photo that is
added, and makes a unit of two, moves only few other photos.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

from regraft.photos.sources.base import SIDES, Side

_FEW = 40
"""Up to so many units of several photos, the search also moves two units at once. With more units, moving one unit at a
time comes near enough."""

_MOST_WORK = 500_000
"""The limit of the search, in updates of a class's counts. It takes about two seconds; then the best result so far is
used."""

_Shares = Mapping[Side, float]
_Cost = tuple[int, int, float]


@dataclass(frozen=True, slots=True)
class Unit:
    """Photos that must stay on one side of the split.

    Attributes:
        indices: the numbers of the photos' records in the data set.
        key: the smallest digest of the photos, or the hash of a name that they share.
        place: a hash of the key and the salt, in [0, 1). Units with low places go to test, with high places to val.
        counts: the number of photos of each class.
    """

    indices: tuple[int, ...]
    key: str
    place: float
    counts: dict[str, int]


def assign(
    units: Sequence[Unit], labels: Sequence[str], shares: _Shares, fixed: Mapping[str, Side] | None = None
) -> Iterator[tuple[Unit, Side]]:
    """Choose a side of the split for each unit, with the properties that `regraft.photos.splitting.split` describes.

    Args:
        units: the units of all photos, sorted by their places.
        labels: the classes, in order.
        shares: the shares of val and of test, each in [0, 1).
        fixed: by key, the side of each unit that has one already; the other units fill the rest of the quotas.

    Returns:
        An iterator over pairs of a unit and its side.
    """
    plan = _Plan(units, labels, shares, fixed)
    plan.settle()
    return plan.assigned()


class _Class:
    """One class while its photos are being split.

    Attributes:
        alone: the units of a single photo whose side is not fixed, sorted by place.
        photos: the number of photos of the class.
        quotas: the number of photos of the class that val and test should have.
        bound: the number of photos that each side has in all other units.
        filled: the number of single photos that val and test have. `refill` updates this and the next two.
        counts: the number of photos of the class that each side has.
        distance: the number of photos that val and test have too many or too few, plus a penalty for an empty side.
    """

    def __init__(
        self,
        units: Sequence[Unit],
        label: str,
        shares: _Shares,
        penalties: _Shares,
        phase: float,
        sides: Mapping[str, Side],
    ) -> None:
        self.alone = [unit for unit in units if unit.key not in sides]
        self.photos = sum(unit.counts[label] for unit in units)
        self.quotas = _quotas(self.photos, len(units), shares, phase)
        self.bound: dict[Side, int] = dict.fromkeys(SIDES, 0)
        for unit in units:
            if unit.key in sides:
                self.bound[sides[unit.key]] += unit.counts[label]
        self._goals = {side: share * self.photos for side, share in shares.items()}
        self._penalties = {side: penalties[side] if quota else 0.0 for side, quota in self.quotas.items()}
        self.refill()

    def refill(self) -> None:
        """Let single photos fill the rest of the quotas of val and test. At least one photo stays in train."""
        free = max(0, len(self.alone) - (0 if self.bound["train"] else 1))
        val = max(0, self.quotas["val"] - self.bound["val"])
        test = min(max(0, self.quotas["test"] - self.bound["test"]), free - min(val, free // 2))
        self.filled: dict[Side, int] = {"val": min(val, free - test), "test": test}
        val, test = self.bound["val"] + self.filled["val"], self.bound["test"] + test
        self.counts: dict[Side, int] = {"train": self.photos - val - test, "val": val, "test": test}
        self.distance = abs(val - self._goals["val"]) + abs(test - self._goals["test"])
        for side, penalty in self._penalties.items():
            self.distance += 0.0 if self.counts[side] else penalty


class _Plan:
    """A search for the sides of all units, by local search: units move to other sides as long as the cost falls."""

    def __init__(
        self,
        units: Sequence[Unit],
        labels: Sequence[str],
        shares: _Shares,
        fixed: Mapping[str, Side] | None = None,
    ) -> None:
        self._sides: dict[str, Side] = dict(fixed or {})
        self._fixed = [unit for unit in units if unit.key in self._sides]
        self._bound = [unit for unit in units if len(unit.indices) > 1 and unit.key not in self._sides]
        self._sides |= dict.fromkeys((unit.key for unit in self._bound), "train")
        self._work = 0
        self._shares = shares
        self._photos = sum(len(unit.indices) for unit in units)
        # If a side has no photo of a class, the penalty is the number of photos that an average class has on the side.
        penalties = {side: max(1.0, share * self._photos / len(labels)) for side, share in shares.items()}
        of_label = defaultdict(list)
        for unit in units:
            for label in unit.counts:
                of_label[label].append(unit)
        self._classes = {
            label: _Class(of_label[label], label, shares, penalties, (number + 0.5) / len(labels), self._sides)
            for number, label in enumerate(labels)
        }
        self._totals: dict[Side, int] = {side: sum(c.counts[side] for c in self._classes.values()) for side in SIDES}
        self._lost = sum(not c.counts["train"] for c in self._classes.values())
        self._distance = sum(c.distance for c in self._classes.values())

    def assigned(self) -> Iterator[tuple[Unit, Side]]:
        """Yield each unit with its side: of the single photos of a class, the first go to test, the last to val."""
        for unit in (*self._fixed, *self._bound):
            yield unit, self._sides[unit.key]
        for one in self._classes.values():
            val, test = len(one.alone) - one.filled["val"], one.filled["test"]
            for rank, unit in enumerate(one.alone):
                yield unit, "test" if rank < test else "train" if rank < val else "val"

    def settle(self) -> None:
        """Choose a side for each unit of several photos: the side of its place, or a side with a lower cost."""
        for unit in self._bound:
            self._put(unit, _side_of(unit.place, self._shares))
        if self._meets_quotas():
            return
        self._improve()
        mostly_bound = 2 * sum(len(unit.indices) for unit in self._bound) > self._photos
        for start in SIDES if len(self._bound) <= _FEW and mostly_bound else ():  # another start may have a better end
            best, cost = dict(self._sides), self._cost()
            for unit in self._bound:
                self._put(unit, start)
            self._improve()
            if not self._cheaper(cost):
                for unit in self._bound:
                    self._put(unit, best[unit.key])

    def _meets_quotas(self) -> bool:
        """Return whether val and test have exactly their quotas of every class."""
        return all(c.counts[side] == c.quotas[side] for c in self._classes.values() for side in c.quotas)

    def _cost(self) -> _Cost:
        """Return the cost to minimise: classes without a photo in train, empty sides, and deviations from the shares.

        An empty test counts twice. The first numbers weigh most, as Python compares tuples.
        """
        empty = sum(
            2 if side == "test" else 1 for side, share in self._shares.items() if share > 0 == self._totals[side]
        )
        gaps = sum(abs(self._totals[side] - share * self._photos) for side, share in self._shares.items())
        return self._lost, empty, 2 * gaps + self._distance

    def _cheaper(self, than: _Cost) -> bool:
        cost = self._cost()
        return (*cost[:2], cost[2] + 1e-6) < than  # a gain must be larger than rounding errors

    def _put(self, unit: Unit, side: Side) -> None:
        """Move a unit to a side, and update the counts and costs of its classes."""
        before = self._sides[unit.key]
        if before == side:
            return
        self._sides[unit.key] = side
        self._work += len(unit.counts)
        for label, count in unit.counts.items():
            one = self._classes[label]
            self._add(one, -1)
            one.bound[before] -= count
            one.bound[side] += count
            one.refill()
            self._add(one, 1)

    def _add(self, one: _Class, sign: int) -> None:
        """Add the counts and the cost of a class to the totals (``sign`` 1), or subtract them (-1)."""
        self._lost += sign * (not one.counts["train"])
        self._distance += sign * one.distance
        for side, count in one.counts.items():
            self._totals[side] += sign * count

    def _improve(self) -> None:
        """Move units, one or two at a time, as long as the cost falls."""
        while self._moved() or (len(self._bound) <= _FEW and self._moved_in_pairs()):
            pass

    def _moved(self) -> bool:
        tried = [self._try([(unit, side)]) for unit in self._bound for side in SIDES]
        return any(tried)  # a list, since `any` of a generator would stop after the first move

    def _moved_in_pairs(self) -> bool:
        return any(
            self._try([(one, first), (other, second)])
            for one, other in combinations(self._bound, 2)
            for first, second in product(SIDES, repeat=2)
        )

    def _try(self, puts: Sequence[tuple[Unit, Side]]) -> bool:
        """Move units to the given sides if that lowers the cost. Return whether they were moved."""
        cost, before = self._cost(), [(unit, self._sides[unit.key]) for unit, _ in puts]
        if puts == before or self._work > _MOST_WORK:
            return False
        for unit, side in puts:
            self._put(unit, side)
        if self._cheaper(cost):
            return True
        for unit, side in before:
            self._put(unit, side)
        return False


def _side_of(place: float, shares: _Shares) -> Side:
    """Return the side of a place in [0, 1): low places are test, high places val, the others train."""
    return "test" if place < shares["test"] else "val" if place >= 1 - shares["val"] else "train"


def _quotas(photos: int, units: int, shares: _Shares, phase: float) -> dict[Side, int]:
    """Return how many photos of a class val and test should have.

    Test gets its share of the photos, rounded up if the fraction is at least ``1 - phase``. Val is rounded with
    ``1 - phase`` in place of ``phase``, so that train is within one photo of its share too. With each single photo that
    is added, both numbers grow by at most one. Each side whose share is not 0 gets a photo once train has one, test
    before val.

    Args:
        photos: the number of photos of the class.
        units: the number of its units.
        shares: the shares of val and test.
        phase: a number in (0, 1), different for each class, so that classes of equal size are not all rounded alike.
    """
    wanted = sum(share > 0 for share in shares.values())
    test = val = 0
    if shares["test"] and units > 1:
        test = min(max(1, math.floor(shares["test"] * photos + phase)), max(1, photos - wanted))
    if shares["val"] and units >= 1 + wanted:
        val = min(max(1, math.floor(shares["val"] * photos + 1 - phase)), photos - 1 - test)
    return {"val": val, "test": test}
