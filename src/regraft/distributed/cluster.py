"""Features on a Ray cluster: what `--ray` does.

In: the address of a cluster, or ``local``. Out: a context in which the nodes compute all features.
Why: ten million photos take a day on one machine, and the work is the same for each of them.
Surprise: the content digest is the checkpoint. Each part file is in the cache as soon as its shard is done, so a driver
that was killed and is started again computes only what was under way.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft.distributed.carried import carried
from regraft.distributed.crew import Crew, told
from regraft.distributed.node import Destination, Part
from regraft.distributed.recipes import EngineRecipe
from regraft.distributed.sessions import Session
from regraft.distributed.shards import Distribution, Failure
from regraft.distributed.storage import Storage
from regraft.engines.base import Engine
from regraft.errors import BackboneError, ConfigError, DataError, ImageError, option
from regraft.features.computing import NOT_FINITE
from regraft.features.elsewhere import Filled, T, computed_on
from regraft.features.feature_cache import FeatureCache
from regraft.foundation import console
from regraft.foundation.cache_files import saving
from regraft.foundation.files import atomic_file
from regraft.photos.dataset import ImageRecord
from regraft.photos.sources.base import Entry
from regraft.photos.unlabelled import Found, loader, path_of

PHOTOS_AT_ONCE = 4096
"""The number of photos that `predict` answers at a time with a cluster. Its features take 28 MB at 1,704 each."""


@contextmanager
def on_ray(address: str, storage: str = "") -> Iterator[None]:
    """Let a Ray cluster compute all features inside the ``with`` block.

    Args:
        address: ``local`` for a Ray of its own on all cores of this machine, ``auto`` for the cluster that this machine
            belongs to, or the address of a cluster.
        storage: a folder or a bucket in which the features are kept too; see `Storage`. Empty for none.

    Raises:
        ConfigError: Ray is not installed, there is no cluster at the address, or the storage cannot be used.
    """
    if find_spec("ray") is None:
        raise ConfigError(f"{option('ray')} needs Ray; type pip install 'regraft[ray]'")
    with RayCluster(address, storage) as cluster, computed_on(cluster):
        yield


class RayCluster:
    """The `Cluster` of features on Ray.

    Args:
        address: as in `on_ray`. A cluster of others is connected to at once, a Ray of its own is started when the first
            photo has to be computed.
        storage: as in `on_ray`.
    """

    photos_at_once: int = PHOTOS_AT_ONCE

    def __init__(self, address: str, storage: str = "") -> None:
        self._session = Session(address)
        self._storage = Storage(storage) if storage else None
        self._members: Crew | None = None
        self._sent: dict[int, tuple[Any, Any]] = {}  # by its identity, what was sent to all nodes, with Ray's reference

    def __enter__(self) -> RayCluster:
        if not self._session.is_own:
            self._session.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._members:
            self._members.dismiss_all()
        self._session.end()

    def fill(self, records: Sequence[ImageRecord], engine: Engine, folder: Path) -> Filled:
        """Compute the features of records and add them to the cache; see `Cluster.fill`."""
        known = self._fetched(records, engine, folder)
        todo = [record for record in records if record.digest not in known]
        added, reasons = self._shared_out(todo, engine, folder) if todo else (set[str](), {})
        missing = [record for record in todo if record.digest not in added and record.digest not in reasons]
        if missing:  # cannot happen: every photo is in a shard, and every shard is answered or has failed
            raise BackboneError(f"{len(missing)} of {len(records)} photos got lost, among them {missing[0].path}")
        return Filled(frozenset(known | added), len(added), reasons)

    def _shared_out(
        self, records: Sequence[ImageRecord], engine: Engine, folder: Path
    ) -> tuple[set[str], dict[str, str]]:
        """Let the nodes compute records; return the digests that are in the cache then, and why others are not."""
        recipe, crew, placed = EngineRecipe.of(engine), self._crew, [_absolute(record) for record in records]
        added, reasons = set[str](), dict[str, str]()
        with _marked(folder) as mark, console.progress("extracting features", len(records)) as advance:
            to = Destination(folder.name, folder.absolute(), mark, self._storage.address if self._storage else "")
            asked = Distribution(
                crew,
                placed,
                recipe.fingerprint,
                lambda member, some: member.actor.fill.remote(recipe, carried(some), to),
            )
            for shard, node, answer in asked.answers():
                if isinstance(answer, Failure):
                    reasons[records[shard.numbers[0]].digest] = answer.reason
                else:
                    self._keep(answer, engine, folder)
                    failed = [records[i] for i in shard.numbers if records[i].digest in answer.reasons]
                    _confirm([(record, answer.reasons[record.digest]) for record in failed], engine, node)
                    added.update(answer.digests)
                    reasons |= answer.reasons
                advance(len(shard.numbers))
        return added, reasons

    def compute(self, photos: Sequence[Found], engine: Engine) -> Iterator[tuple[int, NDArray[np.float32] | str]]:
        """Yield the features of photos, which are not kept; see `Cluster.compute`."""
        recipe = EngineRecipe.of(engine)
        placed = [_absolute(photo) for photo in photos]
        asked = Distribution(
            self._crew,
            placed,
            recipe.fingerprint,
            lambda member, some: member.actor.compute.remote(recipe, carried(some)),
        )
        for shard, node, answer in asked.answers():
            if isinstance(answer, Failure):
                yield shard.numbers[0], answer.reason
                continue
            _confirm([(photos[shard.numbers[i]], reason) for i, reason in answer.reasons.items()], engine, node)
            yield from ((number, answer.reasons.get(i, answer.x[i])) for i, number in enumerate(shard.numbers))

    @property
    def machines(self) -> int:
        """The number of nodes that compute now, at least 1."""
        self._crew.wait_for_one()
        return len(self._crew.members)

    def start(
        self, function: Callable[..., T], shared: Any, *args: Any, photos: Sequence[Found] | None = None
    ) -> Callable[[], T | None]:
        """Let the node that has the least to do call a function; see `Cluster.start`."""
        import ray

        crew = self._crew
        member = crew.wait_for_one()
        if id(shared) not in self._sent:
            self._sent[id(shared)] = shared, ray.put(shared)
        sent = None if photos is None else carried([_absolute(photo) for photo in photos])
        reference = member.actor.call.remote(function, self._sent[id(shared)][1], args, sent)
        member.load += 1

        def wait() -> T | None:
            try:
                result: T = ray.get(reference)
            except ray.exceptions.RayError as error:
                if isinstance(error, ray.exceptions.RayTaskError):
                    console.note(f"node {member.address}: {told(error)}")
                else:  # the process or the node has ended
                    crew.dismiss(member)
                return None
            finally:
                member.load -= 1
            return result

        return wait

    @property
    def _crew(self) -> Crew:
        """The nodes. Ray is started the first time."""
        if self._members is None:
            self._session.start()
            self._members = Crew()
        return self._members

    def _fetched(self, records: Sequence[ImageRecord], engine: Engine, folder: Path) -> set[str]:
        """Copy the part files of the storage that have any of the records, and return which records they have.

        Raises:
            ConfigError: the storage cannot be used.
        """
        missing = {record.digest for record in records}
        if self._storage is None or not missing:
            return set()
        for name in self._storage.names(folder.name):
            if not missing.isdisjoint(self._storage.digests(folder.name, name)):
                _write(folder / name, self._storage.read(folder.name, name))
        return _cache_of(engine).known(missing)

    def _keep(self, part: Part, engine: Engine, folder: Path) -> None:
        """Let the cache of this machine have a part file. Raises BackboneError or ConfigError."""
        if not part.name:
            return
        if part.data is not None:
            _write(folder / part.name, part.data)
        elif self._storage:
            _write(folder / part.name, self._storage.read(folder.name, part.name))
        elif not (folder / part.name).is_file() and len(_cache_of(engine).known(part.digests)) < len(part.digests):
            raise BackboneError(f"a node has written {folder / part.name}, which this machine does not see")


def _cache_of(engine: Engine) -> FeatureCache:
    return FeatureCache(engine.fingerprint, engine.backbone.num_features)


def _absolute(photo: Found) -> Found:
    """Return a photo whose path is valid in another working folder than that of this process."""
    if not isinstance(photo, ImageRecord | Entry):
        return photo
    part = photo.part and replace(photo.part, file=photo.part.file.absolute())
    return replace(photo, path=photo.path.absolute(), part=part)


def _write(path: Path, data: bytes) -> None:
    """Write a part file into the cache; warn if it cannot be written."""
    with saving(), atomic_file(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def _marked(folder: Path) -> Iterator[str]:
    """Make a file with a new name in a folder, by which nodes know that they share it; yield its name.

    To remove it changes the folder, so that a network drive lists anew what the nodes have written there.
    """
    mark = f".ray-{uuid.uuid4().hex}"
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / mark).touch()
    try:
        yield mark
    finally:
        with suppress(OSError):
            (folder / mark).unlink(missing_ok=True)


def _confirm(failed: Sequence[tuple[Found, str]], engine: Engine, node: str) -> None:
    """Check that this machine, too, cannot read the photos that a node could not read.

    Otherwise a node that does not see the folder of the photos would call all of them unreadable.

    Args:
        failed: the photos, each with the reason that the node has given.
        engine: the engine, whose transform the photos are read for.
        node: the address of the node.

    Raises:
        DataError: this machine can read a photo.
    """
    transform = engine.backbone.transform
    for photo, reason in failed:
        if reason == NOT_FINITE:
            continue
        with suppress(ImageError):
            if isinstance(photo, ImageRecord):
                photo.look(transform)  # also checks that the photo has not changed since it was listed
            else:
                loader(photo, transform)()
            raise DataError(
                f"node {node} cannot read {path_of(photo, 0)} ({reason}), and this machine can; every node must find "
                "the photos under the same path, and have the same regraft"
            )
