"""The place at which a cluster takes over: `extract` hands it the photos whose features are not in the cache.

In: records, and the engine that would compute them here. Out: features in the cache, or the reasons why there are none.
Why: every command computes features deep inside, and none of them should know where that happens.
Surprise: the cluster is a context of the process, as the command line sets it, and no argument of twenty functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from regraft.engines.base import Engine
from regraft.photos.dataset import ImageRecord
from regraft.photos.unlabelled import Found

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Filled:
    """What a cluster did with photos.

    Attributes:
        added: the digests of the photos whose features are in the cache now.
        computed: the number of these photos that were computed; all others were known to the cluster.
        reasons: by the digest of each photo that has no features, the reason.
    """

    added: frozenset[str] = frozenset()
    computed: int = 0
    reasons: Mapping[str, str] = field(default_factory=dict)


class Cluster(Protocol):
    """The protocol of a cluster: other machines, which compute the same features as this one."""

    @property
    def photos_at_once(self) -> int:
        """The number of photos that keep all machines busy."""
        ...

    def fill(self, records: Sequence[ImageRecord], engine: Engine, folder: Path) -> Filled:
        """Compute the features of records and add them to the cache.

        Args:
            records: photos with distinct digests, none of which is in the cache.
            engine: the engine that would compute the features on this machine.
            folder: the folder of the engine's part files in the cache of this machine.

        Raises:
            RegraftError: the cluster cannot compute the features. A photo that cannot be read raises no error.
        """
        ...

    @property
    def machines(self) -> int:
        """The number of other machines that compute now, at least 1."""
        ...

    def start(
        self, function: Callable[..., T], shared: Any, *args: Any, photos: Sequence[Found] | None = None
    ) -> Callable[[], T | None]:
        """Let another machine call ``function(shared, *args)``, and return at once.

        Args:
            function: a function of a module, which the other machines have too.
            shared: a large argument, which is sent once for all calls.
            args: further arguments, which are small.
            photos: photos that the other machine can read, as one more argument of the function; None for none.

        Returns:
            A function that waits for the result and returns it; None where the call failed or the machine was lost.
        """
        ...

    def compute(self, photos: Sequence[Found], engine: Engine) -> Iterator[tuple[int, NDArray[np.float32] | str]]:
        """Yield the index of each photo with its features (D,), or with the reason why it has none, in any order."""
        ...


_cluster: ContextVar[Cluster | None] = ContextVar("cluster", default=None)


@contextmanager
def computed_on(cluster: Cluster | None) -> Iterator[None]:
    """Let a cluster compute the features inside the ``with`` block; None for this machine."""
    token = _cluster.set(cluster)
    try:
        yield
    finally:
        _cluster.reset(token)


def cluster_in_use() -> Cluster | None:
    """Return the cluster that computes the features; None where this machine does."""
    return _cluster.get()


def filled(records: Sequence[ImageRecord], engine: Engine, folder: Path) -> Filled:
    """Let the cluster that is in use add features to the cache; without a cluster, nothing happens."""
    cluster = cluster_in_use()
    return cluster.fill(records, engine, folder) if cluster and records else Filled()


def photos_at_once(here: int) -> int:
    """Return how many photos should be computed at a time: ``here``, or more if a cluster is in use."""
    cluster = cluster_in_use()
    return max(here, cluster.photos_at_once) if cluster else here
