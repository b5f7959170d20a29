"""Photos → the inputs of fine-tuning: activations of the frozen blocks, or decoded pixels, cached on disk.

In: photo records, and the engine of the frozen blocks or a transform. Out: `Activations` (float16) or pixels (uint8).
Why: frozen blocks give the same activations in every epoch; computing them once saves most of the training time.
Surprise: activations are large (70 kB a photo), so they are memory-mapped from disk, and their size is limited.
"""

from __future__ import annotations

import mmap
import shutil
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft.engines.base import Engine, Loader
from regraft.errors import ConfigError, ImageError, TrainingError, option
from regraft.features.cache_limit import mark_as_used
from regraft.foundation import console
from regraft.foundation.cache_files import crc32, read_value, require_regular, set_aside, tell_unwritable, write_value
from regraft.foundation.files import atomic_file, cache_folder, digest_json, folder_size, scratch_folder, thread_limit
from regraft.photos.dataset import ImageRecord
from regraft.photos.images import DECODING_VERSION, Transform

_PART_BYTES = 64 * 2**20
_LAYOUT = 2  # goes into the folder's name: earlier versions wrote part files without checksums
_DECODED_AT_ONCE = 128  # photos: limits the pixels that are in memory
Results = Iterator[tuple[int, "NDArray[Any] | str"]]
"""For each photo its index, and its activations or the reason why it cannot be read."""


class Activations:
    """A cache of activations ``(h, w, C)`` by the digest of the photo, memory-mapped from part files in a folder.

    Each part file is checked against its checksum when it is opened; a damaged one is set aside with a warning.

    Args:
        folder: the folder of the part files.
        wanted: digests of the photos that will be asked for; part files with none of them are not opened. None opens
            all part files.
    """

    def __init__(self, folder: Path, wanted: Collection[str] | None = None) -> None:
        self.folder = folder
        self._parts: list[NDArray[Any]] = []
        self._place: dict[str, tuple[int, int]] = {}
        for index in sorted(folder.glob("part-*.json")):
            facts = read_value(index)
            if facts and (wanted is None or any(digest in wanted for digest in facts["digests"])):
                self._open(index.with_suffix(".npy"), facts)

    def _open(self, path: Path, facts: dict[str, Any]) -> None:
        """Open the part file at ``path``; set it aside where it does not match its ``facts``."""
        try:
            require_regular(path)
            if _checksum(path) != facts["maps"]:
                raise ValueError("its checksum is not the one it was written with")
            part = np.load(path, mmap_mode="r")
        except (OSError, ValueError) as error:
            set_aside(path, str(error))
            with suppress(OSError):
                path.with_suffix(".json").unlink(missing_ok=True)
            return
        self._add(facts["digests"], part)

    def _add(self, digests: Sequence[str], part: NDArray[Any]) -> None:
        self._place |= {digest: (len(self._parts), row) for row, digest in enumerate(digests)}
        self._parts.append(part)

    def write(self, digests: Sequence[str], rows: Sequence[NDArray[Any]]) -> None:
        """Write a part file and add it to the cache.

        Where the cache folder cannot be written, the part file is a temporary file of this process.

        Args:
            digests: the digests of N photos.
            rows: their activations, N arrays ``(h, w, C)`` of one shape.

        Raises:
            TrainingError: a temporary file cannot be written either.
        """
        name = f"part-{uuid.uuid4().hex}.npy"
        try:
            path = _write(self.folder / name, digests, rows)
        except OSError as error:
            tell_unwritable(error)
            try:
                path = _write(scratch_folder() / name, digests, rows)
            except OSError as second:
                raise TrainingError(
                    f"the activations can be written neither to {self.folder} nor to {scratch_folder()} "
                    f"({second.strerror}); free disk space, or thaw fewer blocks"
                ) from second
        self._add(digests, np.load(path, mmap_mode="r"))

    def __contains__(self, digest: str) -> bool:
        return digest in self._place

    def __getitem__(self, digest: str) -> NDArray[Any]:
        part, row = self._place[digest]
        found: NDArray[Any] = self._parts[part][row]
        return found


def _write(path: Path, digests: Sequence[str], rows: Sequence[NDArray[Any]]) -> Path:
    """Write the array of a part file and then its JSON index; a part file without an index is not read."""
    with atomic_file(path) as temporary:
        with temporary.open("wb") as file:
            np.save(file, np.stack(rows))
        checksum = _checksum(temporary)
    write_value(path.with_suffix(".json"), {"digests": list(digests), "maps": checksum})
    return path


def _checksum(path: Path) -> str:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return crc32(data)


def extract_maps(records: Sequence[ImageRecord], engine: Engine, disk: float, turns: int = 0) -> Activations:
    """Return the activations ``(h, w, C)`` of photos in float16, from the cache or computed now.

    Args:
        records: the photos; one that cannot be read is left out.
        engine: the engine of the frozen blocks.
        disk: the largest size of all cached activations, in gigabytes; older ones are deleted to stay below it.
        turns: by how many quarter turns, counterclockwise, each photo is rotated before it goes into the network.

    Raises:
        ConfigError: these activations alone take more than ``disk`` gigabytes.
        TrainingError: the activations cannot be written to disk.
    """
    loaders = partial(_transformed, transform=engine.backbone.transform, turns=turns)
    key = digest_json([engine.fingerprint, turns]) if turns else engine.fingerprint
    return _store(key, records, lambda some: engine.compute(loaders(some)), disk)


def extract_pixels(records: Sequence[ImageRecord], transform: Transform, disk: float) -> Activations:
    """Return the decoded pixels ``(size, size, 3)`` of photos in uint8, from the cache or decoded now.

    Args:
        records: the photos; one that cannot be read is left out.
        transform: how photos are cropped and scaled.
        disk: the largest size of all cached activations, in gigabytes; older ones are deleted to stay below it.

    Raises:
        ConfigError: these pixels alone take more than ``disk`` gigabytes.
        TrainingError: the pixels cannot be written to disk.
    """
    key = digest_json(["pixels", transform.to_dict(), DECODING_VERSION])
    return _store(key, records, lambda some: _decode(_transformed(some, transform)), disk)


def _transformed(records: Sequence[ImageRecord], transform: Transform, turns: int = 0) -> list[Loader]:
    return [partial(_load, record, transform, turns) for record in records]


def _load(record: ImageRecord, transform: Transform, turns: int) -> NDArray[np.uint8]:
    return np.ascontiguousarray(np.rot90(transform.load(record.read_unchanged()), turns))


def _decode(loaders: Sequence[Loader]) -> Results:
    """Decode photos on several threads, and yield them in their order."""

    def decoded(loader: Loader) -> NDArray[Any] | str:
        try:
            return loader()
        except ImageError as error:
            return str(error)

    with ThreadPoolExecutor(thread_limit()) as pool:
        for start in range(0, len(loaders), _DECODED_AT_ONCE):
            yield from enumerate(pool.map(decoded, loaders[start : start + _DECODED_AT_ONCE]), start)


def _store(
    key: str, records: Sequence[ImageRecord], produce: Callable[[Sequence[ImageRecord]], Results], disk: float
) -> Activations:
    """Return the activations under ``key`` from the cache; compute those that are missing by ``produce``."""
    folder = cache_folder("activations") / digest_json([key, _LAYOUT])[:32]
    mark_as_used(folder)
    known = Activations(folder, {record.digest for record in records})
    todo = list({r.digest: r for r in records if r.digest not in known}.values())
    digests: list[str] = []
    rows: list[NDArray[Any]] = []
    has_room = False
    with console.progress("computing activations", len(todo)) as advance:
        for index, row in produce(todo):
            advance()
            if isinstance(row, str):
                continue
            if not has_room:
                _make_room(folder, row.nbytes * len(todo), disk)
                has_room = True
            digests.append(todo[index].digest)
            rows.append(row)
            if len(rows) * row.nbytes >= _PART_BYTES:
                known.write(digests, rows)
                digests, rows = [], []
    if rows:
        known.write(digests, rows)
    return known


def _make_room(folder: Path, wanted: int, disk: float) -> None:
    """Delete the oldest activations outside ``folder`` until ``wanted`` more bytes fit into ``disk`` GB.

    Raises:
        ConfigError: ``folder`` alone would take more than ``disk`` GB.
    """
    if wanted + folder_size(folder) > disk * 1e9:
        raise ConfigError(
            f"activations take {(wanted + folder_size(folder)) / 1e9:.1f} GB, and {option('disk')} allows {disk:g}; "
            f"thaw fewer blocks, or type a larger {option('disk')}"
        )
    with suppress(FileNotFoundError):  # there is no cache yet, or another process is deleting too
        others = sorted((p for p in folder.parent.iterdir() if p != folder), key=lambda p: p.lstat().st_mtime)
        while others and wanted + folder_size(folder.parent) > disk * 1e9:
            shutil.rmtree(others.pop(0), ignore_errors=True)
