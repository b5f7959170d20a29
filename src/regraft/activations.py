"""Photos → what training starts from: the maps at a cut, or pixels; each computed once.

In: records, and an engine for a trunk, or a transform. Out: `Activations`, half-precision maps on disk.
Why: a frozen trunk gives the same maps in every epoch; computing them once is most of the time saved.
Surprise: they are large (70 kB a photo), so they are mapped from disk, and there is a limit on what they may take.
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

from regraft import _console
from regraft._cache import crc32, read_value, require_regular, set_aside, tell_unwritable, write_value
from regraft._files import atomic_file, cache_folder, digest_json, folder_size, scratch_folder, thread_limit
from regraft.accelerator import AnyEngine
from regraft.computing import Loader, compute
from regraft.dataset import ImageRecord
from regraft.errors import ConfigError, ImageError, TrainingError
from regraft.images import DECODING_VERSION, Transform

_PART_BYTES = 64 * 2**20
_LAYOUT = 2  # part of a folder's name: earlier versions wrote parts without checksums
_DECODED = 128  # photos in memory at once
Results = Iterator[tuple[int, "NDArray[Any] | str"]]


class Activations:
    """Maps (h, w, C) by digest, in part files that are checked when they are opened, and mapped from disk.

    Args:
        folder: where the parts are.
        wanted: digests of the photos that will be asked for; parts with none of them stay closed. None for all parts.
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
        try:
            require_regular(path)
            if _checksum(path) != facts["maps"]:
                raise ValueError("it has not the checksum it was written with")
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
        """Add a part file: the maps first, then the digests that make them count.

        Where the cache cannot be written, the part is a temporary file of this process.

        Raises:
            TrainingError: no temporary file can be written either.
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
                    f"({second.strerror}); free some room, or thaw fewer blocks"
                ) from second
        self._add(digests, np.load(path, mmap_mode="r"))

    def __contains__(self, digest: str) -> bool:
        return digest in self._place

    def __getitem__(self, digest: str) -> NDArray[Any]:
        part, row = self._place[digest]
        found: NDArray[Any] = self._parts[part][row]
        return found


def _write(path: Path, digests: Sequence[str], rows: Sequence[NDArray[Any]]) -> Path:
    with atomic_file(path) as temporary:
        with temporary.open("wb") as file:
            np.save(file, np.stack(rows))
        checksum = _checksum(temporary)
    write_value(path.with_suffix(".json"), {"digests": list(digests), "maps": checksum})
    return path


def _checksum(path: Path) -> str:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return crc32(data)


def extract_maps(records: Sequence[ImageRecord], engine: AnyEngine, disk: float) -> Activations:
    """Maps of ``records`` from a trunk's engine, in float16. A photo that cannot be read is left out.

    Raises:
        ConfigError: they would take more than ``disk`` gigabytes.
    """
    loaders = partial(_transformed, transform=engine.backbone.transform)
    return _store(engine.fingerprint, records, lambda some: compute(loaders(some), engine), disk)


def extract_pixels(records: Sequence[ImageRecord], transform: Transform, disk: float) -> Activations:
    """Decoded photos of ``records`` (size, size, 3) uint8. A photo that cannot be read is left out.

    Raises:
        ConfigError: they would take more than ``disk`` gigabytes.
    """
    key = digest_json(["pixels", transform.to_dict(), DECODING_VERSION])
    return _store(key, records, lambda some: _decode(_transformed(some, transform)), disk)


def _transformed(records: Sequence[ImageRecord], transform: Transform) -> list[Loader]:
    return [partial(_load, record, transform) for record in records]


def _load(record: ImageRecord, transform: Transform) -> NDArray[np.uint8]:
    return transform.load(record.read_unchanged())


def _decode(loaders: Sequence[Loader]) -> Results:
    def one(loader: Loader) -> NDArray[Any] | str:
        try:
            return loader()
        except ImageError as error:
            return str(error)

    with ThreadPoolExecutor(thread_limit()) as pool:
        for start in range(0, len(loaders), _DECODED):
            yield from enumerate(pool.map(one, loaders[start : start + _DECODED]), start)


def _store(
    key: str, records: Sequence[ImageRecord], produce: Callable[[Sequence[ImageRecord]], Results], disk: float
) -> Activations:
    folder = cache_folder("activations") / digest_json([key, _LAYOUT])[:32]
    known = Activations(folder, {record.digest for record in records})
    todo = list({r.digest: r for r in records if r.digest not in known}.values())
    digests: list[str] = []
    rows: list[NDArray[Any]] = []
    has_room = False
    with _console.progress("computing activations", len(todo)) as advance:
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
    """Delete the activations that were written longest ago, other than ``folder``'s, to stay within ``disk`` GB."""
    if wanted + folder_size(folder) > disk * 1e9:
        raise ConfigError(
            f"the activations take {(wanted + folder_size(folder)) / 1e9:.1f} GB and --disk allows {disk:g}; "
            "thaw fewer blocks, or type a larger --disk"
        )
    with suppress(FileNotFoundError):  # there are none yet, or another process makes room as well
        others = sorted((p for p in folder.parent.iterdir() if p != folder), key=lambda p: p.lstat().st_mtime)
        while others and wanted + folder_size(folder.parent) > disk * 1e9:
            shutil.rmtree(others.pop(0), ignore_errors=True)
