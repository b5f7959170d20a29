"""The work of one node: photos to rows of features, on all cores of the node.

In: records and the recipe of an engine. Out: a part file of features where the driver wants it, or rows.
Why: a photo goes from bytes to features on one node, so that pixels never travel.
Surprise: a node that does not see the driver's cache folder sends the part file back, and the driver writes it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft.distributed.carried import Carried, landed
from regraft.distributed.recipes import EngineRecipe
from regraft.distributed.storage import Storage
from regraft.engines.base import Engine
from regraft.errors import RegraftError
from regraft.features.computing import computed_records, computed_rows
from regraft.features.elsewhere import T
from regraft.features.parts import Row, part_of, write_part
from regraft.foundation.files import limited_threads, threads
from regraft.foundation.telemetry import without_telemetry
from regraft.photos.dataset import ImageRecord
from regraft.photos.unlabelled import Found, loader

THREADS = 2
"""The number of threads in which Ray calls a `Node`."""

_ENGINES = 4  # engines that a node keeps compiled: backbones side by side are asked for in turn


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a node puts the part files of an engine.

    Attributes:
        key: the name of the engine's subfolder.
        folder: the folder of the engine's part files in the driver's cache.
        mark: the name of a file that the driver has made in ``folder``. A node that finds it shares the folder.
        storage: the address of a `Storage`, which is used in place of ``folder``; empty for none.
    """

    key: str
    folder: Path
    mark: str
    storage: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """What a node has computed of some records.

    Attributes:
        name: the name of the part file; empty if no photo has features.
        data: the bytes of the part file where the driver has to write it; None where the node has written it.
        digests: the photos in the part file.
        reasons: by digest, why a photo has no features.
    """

    name: str
    data: bytes | None
    digests: tuple[str, ...]
    reasons: dict[str, str]


@dataclass(frozen=True, slots=True)
class Rows:
    """The features of N photos.

    Attributes:
        x: the features, (N, D) float32; a row of NaN for a photo without features.
        reasons: by the index of a photo, why it has no features.
    """

    x: NDArray[np.float32]
    reasons: dict[int, str]


@dataclass(frozen=True, slots=True)
class Refusal:
    """The answer of a node that cannot make the engine, with the reason."""

    reason: str


class Node:
    """Computes features with all cores of a node. Ray runs one object of this class in a process on each node.

    Two threads may ask it: while one of them writes a part file, which waits for the disk, the other one computes.

    Args:
        cores: the number of cores that Ray has given to the process.
    """

    def __init__(self, cores: int) -> None:
        without_telemetry()
        self._limit = None if cores == threads() else cores
        self._engines: dict[str, Engine] = {}
        self._computing = Lock()

    def is_up(self) -> bool:
        """Return True: the process runs."""
        return True

    def fill(self, recipe: EngineRecipe, sent: Sequence[ImageRecord | Carried], to: Destination) -> Part | Refusal:
        """Compute the features of records and write them as one part file."""
        with self._computing, limited_threads(self._limit), landed(sent) as records:
            engine = self._engine(recipe)
            if isinstance(engine, Refusal):
                return engine
            rows: dict[str, Row] = {}
            reasons: dict[str, str] = {}
            for number, found in computed_records(records, engine):
                if isinstance(found, str):
                    reasons[records[number].digest] = found
                else:
                    rows[records[number].digest] = found
        if not rows:
            return Part("", None, (), reasons)
        name, data = _kept(recipe, rows, to)
        return Part(name, data, tuple(rows), reasons)

    def call(
        self, function: Callable[..., T], shared: Any, args: Sequence[Any], sent: Sequence[Found | Carried] | None
    ) -> T:
        """Return ``function(shared, *args)``, with the photos as the last argument if there are any."""
        with self._computing, limited_threads(self._limit), landed(sent or ()) as photos:
            return function(shared, *args) if sent is None else function(shared, *args, photos)

    def compute(self, recipe: EngineRecipe, sent: Sequence[Found | Carried]) -> Rows | Refusal:
        """Compute the features of photos, which are not kept."""
        with self._computing, limited_threads(self._limit), landed(sent) as photos:
            engine = self._engine(recipe)
            if isinstance(engine, Refusal):
                return engine
            backbone = engine.backbone
            x = np.full((len(photos), backbone.num_features), np.nan, np.float32)
            reasons: dict[int, str] = {}
            for number, row in computed_rows(engine, [loader(photo, backbone.transform) for photo in photos]):
                if isinstance(row, str):
                    reasons[number] = row
                else:
                    x[number] = row
            return Rows(x, reasons)

    def _engine(self, recipe: EngineRecipe) -> Engine | Refusal:
        """Return the engine of a recipe, which is made the first time; the newest `_ENGINES` are kept."""
        if recipe.fingerprint not in self._engines:
            try:
                self._engines[recipe.fingerprint] = recipe.make()
            except RegraftError as error:
                return Refusal(str(error))
            if len(self._engines) > _ENGINES:
                del self._engines[next(iter(self._engines))]
        return self._engines[recipe.fingerprint]


def _kept(recipe: EngineRecipe, rows: dict[str, Row], to: Destination) -> tuple[str, bytes | None]:
    """Write a part file. Return its name, and its bytes if the driver has to write it.

    Raises:
        OSError: the part file cannot be written.
        ConfigError: the storage cannot be written.
    """
    name = f"part-{uuid.uuid4().hex}.parquet"
    if not to.storage and (to.folder / to.mark).exists():
        _write(to.folder / name, recipe, rows)
        return name, None
    with TemporaryDirectory(prefix="regraft-") as place:
        _write(Path(place, name), recipe, rows)
        data = Path(place, name).read_bytes()
    if not to.storage:
        return name, data
    Storage(to.storage).write(to.key, name, data)
    return name, None


def _write(path: Path, recipe: EngineRecipe, rows: dict[str, Row]) -> None:
    """Write a part file. Raises OSError if it is not there then: `write_part` only warns, as a cache may."""
    write_part(path, recipe.fingerprint, part_of(list(rows), list(rows.values())), recipe.backbone)
    if not path.is_file():
        raise OSError(f"{path} cannot be written")
