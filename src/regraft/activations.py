"""Photos → what training starts from: the maps at a cut, or pixels; each computed once.

In: records, and an engine for a trunk, or a transform. Out: `Activations`, half-precision maps on disk.
Why: a frozen trunk gives the same maps in every epoch; computing them once is most of the time saved.
Surprise: they are large (70 kB a photo), so they are mapped from disk, and there is a limit on what they may take.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft import _console
from regraft._files import atomic_file, cache_folder, digest_json, folder_size, thread_limit, write_json
from regraft.accelerator import AnyEngine
from regraft.computing import Loader, compute
from regraft.dataset import ImageRecord
from regraft.errors import ConfigError, ImageError
from regraft.images import DECODING_VERSION, Transform

_PART_BYTES = 64 * 2**20
_DECODED = 128  # photos in memory at once
Results = Iterator[tuple[int, "NDArray[Any] | str"]]


class Activations:
    """Maps (h, w, C) by digest, read from disk when asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._parts: list[NDArray[Any]] = []
        self._place: dict[str, tuple[int, int]] = {}
        for index in sorted(folder.glob("part-*.json")):
            try:
                digests = json.loads(index.read_text(encoding="utf-8"))
                part = np.load(index.with_suffix(".npy"), mmap_mode="r")
            except (OSError, ValueError):
                continue
            if len(part) == len(digests):
                self._place |= {digest: (len(self._parts), row) for row, digest in enumerate(digests)}
                self._parts.append(part)

    def __contains__(self, digest: str) -> bool:
        return digest in self._place

    def __getitem__(self, digest: str) -> NDArray[Any]:
        part, row = self._place[digest]
        found: NDArray[Any] = self._parts[part][row]
        return found


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
    folder = cache_folder() / "activations" / key[:32]
    known = Activations(folder)
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
                _write(folder, digests, rows)
                digests, rows = [], []
    if rows:
        _write(folder, digests, rows)
    return Activations(folder)


def _write(folder: Path, digests: list[str], rows: list[NDArray[Any]]) -> None:
    """The maps first, then the digests that make them count."""
    path = folder / f"part-{uuid.uuid4().hex}.npy"
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, np.stack(rows))
    with atomic_file(path.with_suffix(".json")) as temporary:
        write_json(temporary, digests)


def _make_room(folder: Path, wanted: int, disk: float) -> None:
    """Delete the activations that were written longest ago, other than ``folder``'s, to stay within ``disk`` GB."""
    if wanted + folder_size(folder) > disk * 1e9:
        raise ConfigError(
            f"the activations take {(wanted + folder_size(folder)) / 1e9:.1f} GB and --disk allows {disk:g}; "
            "thaw fewer blocks, or type a larger --disk"
        )
    others = [p for p in folder.parent.iterdir() if p != folder] if folder.parent.is_dir() else []
    others.sort(key=lambda p: p.stat().st_mtime)
    while others and wanted + folder_size(folder.parent) > disk * 1e9:
        shutil.rmtree(others.pop(0), ignore_errors=True)
