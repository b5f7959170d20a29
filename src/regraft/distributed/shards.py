"""Many photos, shared out among the nodes of a cluster in shards, until each shard is answered or has failed by name.

In: photos, and a function that asks a member about some of them. Out: an answer for each shard, in any order.
Why: nodes come, get lost and run out of memory, and no photo may get lost with them.
Surprise: a shard that has failed is computed by a node that has nothing else to do, and is halved when it fails again.
So a single photo that ends every process is found, and all others are computed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

from regraft.distributed.crew import Crew, Member, told
from regraft.distributed.node import Refusal
from regraft.errors import BackboneError
from regraft.foundation import console

MOST_PHOTOS, FEWEST_PHOTOS = 256, 16
"""The sizes of shards: large enough that a node is busy for seconds, small enough that all nodes end together."""

_AHEAD = 2  # shards that a node has been given: so the next one is there when one is done
_ATTEMPTS = 3  # how often a shard is tried
_TICK = 0.2  # seconds after which the nodes are looked at again; Ctrl-C is noticed as soon
_MOST_LOSSES = 10  # shards that may be lost with their processes, and `_LOSSES_PAID` more for each one that is answered
_LOSSES_PAID = 3


@dataclass(frozen=True, slots=True)
class Shard:
    """Some of the photos.

    Attributes:
        numbers: the indices of the photos.
        attempts: how often the shard has failed.
    """

    numbers: Sequence[int]
    attempts: int = 0

    @property
    def weight(self) -> int:
        """The part of a member that the shard takes: all of it after a failure, so that no other shard is the cause."""
        return _AHEAD if self.attempts else 1


@dataclass(frozen=True, slots=True)
class Failure:
    """The answer to a photo that has no features because the processes that computed it ended, with the reason."""

    reason: str


def shards_of(photos: int, members: int) -> deque[Shard]:
    """Return the numbers of photos in shards of one size: four for each member, within the limits of a shard."""
    size = min(MOST_PHOTOS, max(FEWEST_PHOTOS, photos // (4 * max(1, members))))
    return deque(Shard(range(i, min(i + size, photos))) for i in range(0, photos, size))


class Distribution:
    """Shares photos out among the members of a crew.

    Args:
        crew: the members.
        photos: the photos.
        fingerprint: the fingerprint of the engine that computes them.
        ask: asks a member about some photos, and returns Ray's reference of the answer.
    """

    def __init__(
        self, crew: Crew, photos: Sequence[Any], fingerprint: str, ask: Callable[[Member, list[Any]], Any]
    ) -> None:
        self._ray = import_module("ray")
        self._crew, self._photos, self._fingerprint, self._ask = crew, photos, fingerprint, ask
        self._waiting: deque[Shard] = deque()
        self._failed: deque[Shard] = deque()  # these are tried again
        self._running: dict[Any, tuple[Shard, Member]] = {}
        self._answered = self._losses = 0

    def answers(self) -> Generator[tuple[Shard, str, Any], None, None]:
        """Yield each shard with the address of the node that has answered it, and the answer; or with a `Failure`.

        Raises:
            BackboneError: no node can compute the features.
        """
        self._crew.wait_for_one(self._fingerprint)
        self._waiting = shards_of(len(self._photos), len(self._crew.hired))
        try:
            while self._waiting or self._failed or self._running:
                self._crew.refresh()
                self._hand_out()
                if not self._running:
                    self._crew.wait_for_one(self._fingerprint)
                    continue
                done, _ = self._ray.wait(list(self._running), num_returns=1, timeout=_TICK)
                for reference in done:
                    yield from self._taken(reference)
        finally:  # also if the caller wants no more answers
            for shard, member in self._running.values():
                member.load -= shard.weight

    def _hand_out(self) -> None:
        """Give shards to the members that have room for them, first those that have failed."""
        while (member := self._crew.able(self._fingerprint)) and member.load < _AHEAD:
            if self._failed and member.load == 0:
                shard = self._failed.popleft()
            elif self._waiting:
                shard = self._waiting.popleft()
            else:
                return
            member.load += shard.weight
            self._running[self._ask(member, [self._photos[i] for i in shard.numbers])] = shard, member

    def _taken(self, reference: Any) -> Iterator[tuple[Shard, str, Any]]:
        """Yield the answer to a shard, if there is one. Otherwise the shard waits again. Raises BackboneError."""
        shard, member = self._running.pop(reference)
        member.load -= shard.weight
        errors = self._ray.exceptions
        try:
            answer = self._ray.get(reference)
        except errors.RayTaskError as error:  # our own code on the node has raised an error
            if shard.attempts + 1 >= _ATTEMPTS:
                raise BackboneError(f"node {member.address}: {told(error)}") from error
            self._failed.append(replace(shard, attempts=shard.attempts + 1))
        except errors.RayError as error:  # the process or the node has ended
            self._crew.dismiss(member)
            yield from self._lost(shard, member, error)
        else:
            if isinstance(answer, Refusal):
                self._refused(shard, member, answer.reason)
            else:
                self._answered += 1
                yield shard, member.address, answer

    def _refused(self, shard: Shard, member: Member, reason: str) -> None:
        """Let a shard wait for another member than the one that cannot make the engine."""
        (self._failed if shard.attempts else self._waiting).append(shard)
        if self._fingerprint not in member.refusals:
            member.refusals[self._fingerprint] = reason
            console.warn(f"node {member.address} is left out: {reason}")

    def _lost(self, shard: Shard, member: Member, error: BaseException) -> Iterator[tuple[Shard, str, Any]]:
        """Let the photos of a process that has ended wait again, or give one of them up. Raises BackboneError."""
        self._losses += 1
        if self._losses > _MOST_LOSSES + _AHEAD * len(self._crew.hired) + _LOSSES_PAID * self._answered:
            raise BackboneError(f"processes on the nodes end again and again; node {member.address}: {told(error)}")
        attempts = shard.attempts + 1
        if attempts < _ATTEMPTS:
            self._failed.append(replace(shard, attempts=attempts))
        elif len(shard.numbers) > 1:
            middle = len(shard.numbers) // 2
            self._failed += [Shard(half, 1) for half in (shard.numbers[:middle], shard.numbers[middle:])]
        else:
            yield shard, member.address, Failure(f"{attempts} processes that computed it ended: {told(error)}")
