"""Photos → features, each computed once, ever.

In: records with content digests, and an engine. Out: `Features`, one row a readable photo.
Why: nearly all of a run's time is here; what is cached by content survives renaming, relabelling and kills.
Surprise: a photo that cannot be decoded is found only here; it comes back as a `Problem`, not as a row.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft import _console
from regraft._files import atomic_file, cache_folder
from regraft.accelerator import AnyEngine
from regraft.computing import compute
from regraft.dataset import ImageRecord
from regraft.images import THUMBNAIL, Pixels, Problem, Transform

LOOK = np.dtype([("thumbnail", "u1", (THUMBNAIL, THUMBNAIL)), ("width", "<i4"), ("height", "<i4")])
"""What is kept of a photo beside its features: see `Look`. 0 wide where it cannot be read."""

Row = tuple[NDArray[np.float32], np.void]
"""A photo's features (D,) and its `LOOK`."""

PART_ROWS = 256
PART_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Features:
    """Feature rows and what they belong to.

    Attributes:
        x: ``(N, D)`` float32.
        y: ``(N,)`` int64 class indices.
        classes: the labels, in index order.
        digests: the N photos' digests.
        backbone: the full name of what computed them.
    """

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    classes: tuple[str, ...]
    digests: tuple[str, ...]
    backbone: str

    def select(self, indices: Sequence[int]) -> Features:
        """The rows at ``indices``, in that order."""
        rows = np.asarray(indices, dtype=np.int64)
        return Features(self.x[rows], self.y[rows], self.classes, tuple(self.digests[i] for i in rows), self.backbone)

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True, slots=True)
class Extraction:
    """What `extract` did.

    Attributes:
        x: ``(N, D)`` float32, a row for each record, in their order; NaN where the photo cannot be read.
        looks: ``(N,)`` of `LOOK`: thumbnail, width and height.
        problems: the photos that cannot be read.
        computed: photos that went through the backbone.
        cached: photos whose features were known, byte-equal twins included.
    """

    x: NDArray[np.float32]
    looks: NDArray[np.void]
    problems: tuple[Problem, ...]
    computed: int
    cached: int


def extract(records: Sequence[ImageRecord], engine: AnyEngine) -> Extraction:
    """Features of ``records``: from the cache where they are known, else computed and cached.

    What is computed is written every 256 photos or 5 seconds; a kill loses what is younger than that.

    Raises:
        BackboneError: the backbone cannot be built. A bad photo never raises.
    """
    cache = FeatureCache(engine.fingerprint, engine.backbone.num_features)
    rows: dict[str, list[int]] = defaultdict(list)
    for index, record in enumerate(records):
        rows[record.digest].append(index)
    x = np.full((len(records), engine.backbone.num_features), np.nan, np.float32)
    looks = np.zeros(len(records), LOOK)
    known: set[str] = set()
    for digest, (values, look) in cache.read(rows):
        known.add(digest)
        x[rows[digest]], looks[rows[digest]] = values, look
    todo = [indices[0] for digest, indices in rows.items() if digest not in known]
    problems: list[Problem] = []
    with cache.writer() as write, _console.progress("extracting features", len(todo)) as advance:
        loaders = [partial(_load_unchanged, records[i], engine.backbone.transform, looks[i : i + 1]) for i in todo]
        for number, result in compute(loaders, engine):
            index = todo[number]
            same = rows[records[index].digest]
            if isinstance(result, str):
                problems += [Problem(records[i].path, result) for i in same]
            else:
                x[same], looks[same] = result, looks[index]
                write(records[index].digest, (result, looks[index]))
            advance()
    failed = {problem.path for problem in problems}
    computed = sum(records[i].path not in failed for i in todo)
    return Extraction(x, looks, tuple(problems), computed, len(records) - computed - len(problems))


def _load_unchanged(record: ImageRecord, transform: Transform, look: NDArray[np.void]) -> Pixels:
    """The record's pixels; ``look`` (1,) gets the rest."""
    seen = record.look(transform)
    look[0] = (seen.thumbnail, seen.width, seen.height)
    return seen.pixels


class FeatureCache:
    """Parquet part files of one engine's features, keyed by content digest.

    Each part is written under a temporary name and renamed, so a reader never meets half of one; a part that is
    damaged all the same fails its checksum, is set aside with a warning, and its photos are computed again. Two
    processes may share the folder: they add parts, and never change one.

    Args:
        fingerprint: the engine's; rows of another never mix in.
        num_features: D.
    """

    def __init__(self, fingerprint: str, num_features: int) -> None:
        self.folder = cache_folder() / "features" / fingerprint[:32]
        self._fingerprint = fingerprint
        self._num_features = num_features

    def read(self, wanted: Iterable[str]) -> Iterator[tuple[str, Row]]:
        """Yield (digest, row) for those of ``wanted`` that are known, each once."""
        missing = set(wanted)
        for part in sorted(self.folder.glob("part-*.parquet")):
            if not missing:
                return
            yield from self._read_part(part, missing)

    def known(self, wanted: Iterable[str]) -> set[str]:
        """Those of ``wanted`` that `read` would find."""
        return {digest for digest, _ in self.read(wanted)}

    def _read_part(self, part: Path, missing: set[str]) -> Iterator[tuple[str, Row]]:
        import pyarrow as pa
        from pyarrow import parquet

        try:
            file = parquet.ParquetFile(part, page_checksum_verification=True)
            digests = file.read(columns=["digest"]).column("digest").to_pylist()
            hits = [i for i, digest in enumerate(digests) if digest in missing]
            if not hits:
                return
            table = file.read(columns=["features", "look"]).combine_chunks()
            values = np.frombuffer(table["features"].chunk(0).buffers()[1], np.float32).reshape(-1, self._num_features)
            looks = np.frombuffer(table["look"].chunk(0).buffers()[1], LOOK)
        except FileNotFoundError:  # another process cleared the cache
            return
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            aside = part.with_suffix(".damaged")
            with suppress(OSError):  # another process may have moved it first, or the folder is read-only
                part.replace(aside)
            _console.warn(f"a damaged cache file is set aside and computed again: {aside} ({error})")
            return
        for i in hits:
            if digests[i] in missing:
                missing.discard(digests[i])
                yield digests[i], (values[i], looks[i])

    def writer(self) -> _Writer:
        """A context whose value is a function ``write(digest, row)``."""
        return _Writer(self)

    def write_part(self, digests: list[str], rows: list[Row]) -> None:
        """Write one part file: ``digests`` and their ``rows``."""
        import pyarrow as pa
        from pyarrow import parquet

        # Rows as bytes of fixed length: read back without decoding, three times as fast as lists of floats.
        columns = {
            "features": np.ascontiguousarray([values for values, _ in rows], dtype="<f4"),
            "look": np.array([look for _, look in rows], LOOK),
        }
        arrays = {"digest": pa.array(digests)}
        for name, column in columns.items():
            kind = pa.binary(column.nbytes // len(rows))
            arrays[name] = pa.FixedSizeBinaryArray.from_buffers(kind, len(rows), [None, pa.py_buffer(column)])
        facts = {"regraft.schema": "2", "regraft.fingerprint": self._fingerprint, "regraft.dtype": "<f4"}
        table = pa.table(arrays).replace_schema_metadata(facts)
        with atomic_file(self.folder / f"part-{uuid.uuid4().hex}.parquet") as path:
            parquet.write_table(
                table, path, compression="none", use_dictionary=False, write_page_checksum=True, write_statistics=False
            )


class _Writer:
    """Collects rows and writes a part when one is full or old, and at the end, also when stopped half way."""

    def __init__(self, cache: FeatureCache) -> None:
        self._cache = cache
        self._digests: list[str] = []
        self._rows: list[Row] = []
        self._since = monotonic()

    def __enter__(self) -> _Writer:
        return self

    def __call__(self, digest: str, row: Row) -> None:
        self._digests.append(digest)
        self._rows.append(row)
        if len(self._rows) >= PART_ROWS or monotonic() - self._since > PART_SECONDS:
            self._flush()

    def __exit__(self, *_: Any) -> None:
        self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._cache.write_part(self._digests, self._rows)
            self._digests, self._rows = [], []
        self._since = monotonic()
