"""Photos that stay together, and the shares of the sides → a side for each.

In: units of photos, the classes, the shares of val and test. Out: each unit with its side.
Why: a share that is drawn photo by photo wanders; one that is counted within each class does not.
Surprise: photos that stand alone fill what larger units leave of the quotas, so that one copy of a photo moves little.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

from regraft.sources import SIDES, Side

_FEW = 40
"""Up to so many units of several photos, two are also moved at once. With more, single moves come near enough."""

_MOST_WORK = 500_000
"""So many classes of units are counted anew before what was found is taken, which takes about two seconds."""

_Shares = Mapping[Side, float]
_Cost = tuple[int, int, float]


@dataclass(frozen=True, slots=True)
class Unit:
    """Photos that must stay together.

    Attributes:
        indices: numbers of the photos' records.
        key: the smallest digest, or a name that the photos share.
        place: a hash of the key and the salt, in [0, 1): low places test, high ones validate.
        counts: photos of each class.
    """

    indices: tuple[int, ...]
    key: str
    place: float
    counts: dict[str, int]


def assign(units: Sequence[Unit], labels: Sequence[str], shares: _Shares) -> Iterator[tuple[Unit, Side]]:
    """Choose a side for each unit. What is promised of it, `regraft.splitting.split` says.

    Args:
        units: all photos, in the order of their places.
        labels: the classes, in order.
        shares: of val and of test, each in [0, 1).
    """
    plan = _Plan(units, labels, shares)
    plan.settle()
    return plan.assigned()


class _Class:
    """One class while its photos are being split.

    Attributes:
        alone: its units of one photo, by place.
        photos: how many photos it has in all.
        quotas: how many photos val and test should have of it.
        bound: how many photos they have in units of several photos.
        counts: how many photos each side has. `refill` brings this and the next up to date.
        distance: photos that val and test have too many or too few, and a penalty where one has none.
    """

    def __init__(self, units: Sequence[Unit], label: str, shares: _Shares, penalties: _Shares, phase: float) -> None:
        self.alone = [unit for unit in units if len(unit.indices) == 1]
        self.photos = sum(unit.counts[label] for unit in units)
        self.quotas = _quotas(self.photos, len(units), shares, phase)
        self.bound: dict[Side, int] = {"train": self.photos - len(self.alone), "val": 0, "test": 0}
        self._goals = {side: share * self.photos for side, share in shares.items()}
        self._penalties = {side: penalties[side] if quota else 0.0 for side, quota in self.quotas.items()}
        self.refill()

    def refill(self) -> None:
        """Let photos that stand alone fill what units of several photos leave of the quotas; one stays to train."""
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
    """The sides of all units while they are being chosen."""

    def __init__(self, units: Sequence[Unit], labels: Sequence[str], shares: _Shares) -> None:
        self._bound = [unit for unit in units if len(unit.indices) > 1]
        self._sides: dict[str, Side] = {unit.key: "train" for unit in self._bound}
        self._work = 0
        self._shares = shares
        self._photos = sum(len(unit.indices) for unit in units)
        # A class that a side lacks costs as much as an average class has there, so that it is worth a few photos.
        penalties = {side: max(1.0, share * self._photos / len(labels)) for side, share in shares.items()}
        of_label = defaultdict(list)
        for unit in units:
            for label in unit.counts:
                of_label[label].append(unit)
        self._classes = {
            label: _Class(of_label[label], label, shares, penalties, (number + 0.5) / len(labels))
            for number, label in enumerate(labels)
        }
        self._totals: dict[Side, int] = {side: sum(c.counts[side] for c in self._classes.values()) for side in SIDES}
        self._lost = sum(not c.counts["train"] for c in self._classes.values())
        self._distance = sum(c.distance for c in self._classes.values())

    def assigned(self) -> Iterator[tuple[Unit, Side]]:
        """Yield each unit with its side."""
        for unit in self._bound:
            yield unit, self._sides[unit.key]
        for one in self._classes.values():
            val, test = len(one.alone) - one.filled["val"], one.filled["test"]
            for rank, unit in enumerate(one.alone):
                yield unit, "test" if rank < test else "train" if rank < val else "val"

    def settle(self) -> None:
        """Choose a side for each unit of several photos: the side of its place, or one that costs less."""
        for unit in self._bound:
            self._put(unit, _side_of(unit.place, self._shares))
        if self._meets_quotas():
            return
        self._improve()
        mostly_bound = 2 * sum(len(unit.indices) for unit in self._bound) > self._photos
        for start in SIDES if len(self._bound) <= _FEW and mostly_bound else ():  # another start may end better
            best, cost = dict(self._sides), self._cost()
            for unit in self._bound:
                self._put(unit, start)
            self._improve()
            if not self._cheaper(cost):
                for unit in self._bound:
                    self._put(unit, best[unit.key])

    def _meets_quotas(self) -> bool:
        return all(c.counts[side] == c.quotas[side] for c in self._classes.values() for side in c.quotas)

    def _cost(self) -> _Cost:
        """Return what is to be small: classes that do not train, sides that are empty, photos in the wrong place."""
        empty = sum(
            2 if side == "test" else 1 for side, share in self._shares.items() if share > 0 == self._totals[side]
        )
        gaps = sum(abs(self._totals[side] - share * self._photos) for side, share in self._shares.items())
        return self._lost, empty, 2 * gaps + self._distance

    def _cheaper(self, than: _Cost) -> bool:
        cost = self._cost()
        return (*cost[:2], cost[2] + 1e-6) < than  # less than rounding errors is no gain

    def _put(self, unit: Unit, side: Side) -> None:
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
        self._lost += sign * (not one.counts["train"])
        self._distance += sign * one.distance
        for side, count in one.counts.items():
            self._totals[side] += sign * count

    def _improve(self) -> None:
        """Move units, one or two at a time, as long as that costs less."""
        while self._moved() or (len(self._bound) <= _FEW and self._moved_in_pairs()):
            pass

    def _moved(self) -> bool:
        tried = [self._try([(unit, side)]) for unit in self._bound for side in SIDES]  # a whole round, then again
        return any(tried)

    def _moved_in_pairs(self) -> bool:
        return any(
            self._try([(one, first), (other, second)])
            for one, other in combinations(self._bound, 2)
            for first, second in product(SIDES, repeat=2)
        )

    def _try(self, puts: Sequence[tuple[Unit, Side]]) -> bool:
        """Put units on sides if that costs less, else leave them."""
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
    return "test" if place < shares["test"] else "val" if place >= 1 - shares["val"] else "train"


def _quotas(photos: int, units: int, shares: _Shares, phase: float) -> dict[Side, int]:
    """Return how many of a class's photos validate and test: its shares, rounded up from ``1 - phase`` on.

    Both grow by at most one with each photo that stands alone. Val leans the other way, so that train is within one
    photo of its share too. Each wanted side gets a photo, test before val, once train has one.
    """
    wanted = sum(share > 0 for share in shares.values())
    test = val = 0
    if shares["test"] and units > 1:
        test = min(max(1, math.floor(shares["test"] * photos + phase)), max(1, photos - wanted))
    if shares["val"] and units >= 1 + wanted:
        val = min(max(1, math.floor(shares["val"] * photos + 1 - phase)), photos - 1 - test)
    return {"val": val, "test": test}
