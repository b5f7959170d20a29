"""Read labelled photos into a `Dataset`: records with content digests, the classes, and the files that were left out.

In: a folder, or any other spec that a source accepts. Out: a `Dataset`, which cannot be changed.
Why: the later steps use the digest of a photo's content, so that file names, folders and order change nothing.
Surprise: a file is read here to compute its digest, unless `StatIndex` knows that it has not changed. No photo is
decoded.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

from regraft.config.levels import Levels
from regraft.drawing.html import displayed_by
from regraft.errors import ConfigError, DataError, ImageError
from regraft.foundation import console
from regraft.foundation.files import digest_bytes, digest_json, threads
from regraft.photos.images import Look, Part, Problem, Transform, cropped, cropped_digest, read, read_whole
from regraft.photos.sources.base import Entry, Layered, Listing, Side, find_source, require_fit_labels, spec_of
from regraft.photos.stat_index import StatIndex

_INDEX_SECONDS = 30.0  # after which the index is written: a kill loses at most this much reading
_BATCH = 64  # files that a thread reads at a time: to hand them over one by one took twice as long


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One labelled photo.

    Attributes:
        path: the path of the file; for a photo in a shard, the path of the shard and the name of the photo.
        label: the name of the class, in Unicode NFC.
        digest: the SHA-256 digest of the photo's bytes, or of these and the box, 64 hexadecimal digits.
        split: the side of the split that the data set gives the photo; None if it gives none.
        group: the name of the group that the data set gives the photo; None if it gives none.
        part: the position of the photo's bytes in a shard; None if the photo is a file of its own.
        origin: the digest of the photo from which this photo was made, since shards may encode a photo again; or None.
        probability: the probability, 0.5 to 1, that the label is right; the rest belongs to the other of two classes.
    """

    path: Path
    label: str
    digest: str
    split: Side | None = None
    group: str | None = None
    part: Part | None = None
    origin: str | None = None
    probability: float = 1.0

    @property
    def identity(self) -> str:
        """The digest that decides the photo's side of the split: ``origin`` if it is known, else ``digest``."""
        return self.origin or self.digest

    def read(self) -> bytes:
        """Return the photo's bytes. Raises ImageError if they cannot be read."""
        return read(self.path, self.part)

    def look(self, transform: Transform) -> Look:
        """Return the photo as a backbone with this transform sees it. Raises ImageError if it cannot be decoded."""
        return transform.look(self.read_unchanged())

    def read_unchanged(self) -> bytes:
        """Return the photo's bytes, and check that they still have the digest under which results are cached.

        Raises:
            ImageError: the photo cannot be read, or has changed since it was listed.
        """
        data = read_whole(self.path, self.part)
        if cropped_digest(digest_bytes(data), self.part) != self.digest:
            raise ImageError("changed while regraft was reading it; run again")
        return cropped(data, self.part)


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set of labelled photos.

    Attributes:
        records: the photos, in the order in which the source lists them.
        classes: the labels of the photos. The position of a label is its class index. `open` sorts them by code point;
            the photos of a run have the order of the run's classes.
        problems: the files that were left out, with the reasons.
        hint: advice in one line if the user may have wanted other options; empty otherwise.
    """

    records: tuple[ImageRecord, ...]
    classes: tuple[str, ...]
    problems: tuple[Problem, ...] = ()
    hint: str = ""

    @classmethod
    def open(cls, spec: str | os.PathLike[str] | Dataset, label_from: str = "first", group_from: str = "") -> Dataset:
        """Read a data set. A `Dataset` is returned unchanged.

        Args:
            spec: a folder of class folders; a .csv, .tsv, .jsonl or .parquet table with the columns path and label; an
                archive, also at a URL; TFRecord or WebDataset shards; ``coco:FILE``, ``coco-boxes:FILE``,
                ``labelstudio:FILE`` or ``cvat:FILE`` of a label tool; ``megadetector:FILE:PHOTOS``; ``tfds:NAME``,
                ``hf:NAME`` or ``demo:elpv``.
            label_from: which folder names a photo's class, for a folder or an archive: ``first`` below the root,
                ``last``, or a number from 1 (the first).
            group_from: which folder names a photo's group, with the same values; empty for no groups.

        Returns:
            The data set. Photos that cannot be read are in ``problems``.

        Raises:
            ConfigError: ``label_from`` or ``group_from`` has an invalid value, or is given for a ``spec`` that is
                neither a folder nor an archive.
            DataError: ``spec`` does not exist or has no classes or no photos, or a label has invalid characters.
        """
        if isinstance(spec, Dataset):
            return spec
        spec = spec_of(spec)
        listing = _listed(spec, Levels(label_from=label_from, group_from=group_from))
        require_fit_labels(listing)  # checked here once, for the labels of all sources
        return cls.of(listing, spec)

    @classmethod
    def of(cls, listing: Listing, spec: str) -> Dataset:
        """Read the photos of a listing. Raises DataError, which names ``spec``, if there are none."""
        results = _read_changed(listing.entries, spec)
        problems = [*listing.problems, *(r for r in results if isinstance(r, Problem))]
        records = [r for r in results if isinstance(r, ImageRecord)]
        if listing.empty_classes:
            console.warn(f"classes without any photo are left out: {', '.join(listing.empty_classes)}")
        if not records:
            first = f": {problems[0].path}: {problems[0].reason}" if problems else ""
            raise DataError(f"no photo was found in {spec}; {len(problems)} other files were{first}")
        return cls(tuple(records), _classes(records), tuple(problems), listing.hint)

    _repr_html_ = displayed_by("regraft.reporting.displays:dataset_html")

    @property
    def digest(self) -> str:
        """The digest of the photos' contents and labels. It does not depend on their file names or order."""
        rows = ((r.digest, r.label) if r.probability == 1 else (r.digest, r.label, r.probability) for r in self.records)
        return digest_json(sorted(rows))

    def counts(self) -> dict[str, int]:
        """Return the number of photos of each class, in the order of the classes."""
        found = Counter(r.label for r in self.records)
        return {label: found[label] for label in self.classes}

    def without(self, problems: Iterable[Problem]) -> Dataset:
        """Return the data set without the photos of ``problems``, which are added to its own problems.

        Raises:
            DataError: no photo is left.
        """
        problems = tuple(problems)
        bad = {p.path for p in problems}
        records = tuple(r for r in self.records if r.path not in bad)
        if not records:
            raise DataError(f"none of the {len(self.records)} photos can be read: {problems[0].reason}")
        found = replace(self, records=records, problems=(*self.problems, *problems))
        return found.in_order(self.classes)

    def in_order(self, first: Sequence[str]) -> Dataset:
        """Return the data set with other class indices: its classes in the order of ``first``, then all others, sorted.

        Only labels of photos are classes, whatever ``first`` names.
        """
        labels = _classes(self.records)
        there = set(labels)
        known = dict.fromkeys(label for label in first if label in there)
        return replace(self, classes=(*known, *(label for label in labels if label not in known)))


def _listed(spec: str, levels: Levels) -> Listing:
    """Return the listing of the source that accepts ``spec``. Raises ConfigError if it has no folder levels."""
    source = find_source(spec)
    if isinstance(source, Layered):
        return source.list_levels(spec, levels)
    if levels != Levels():
        raise ConfigError(f"label_from and group_from are for folders and archives; {spec} names its classes itself")
    return source.list(spec)


def takes_levels(spec: str | os.PathLike[str]) -> bool:
    """Return whether folder names are the classes of the photos of ``spec``, as in a folder or an archive.

    Raises:
        DataError: no source accepts ``spec``.
    """
    return isinstance(find_source(spec_of(spec)), Layered)


def _classes(records: Iterable[ImageRecord]) -> tuple[str, ...]:
    return tuple(sorted({record.label for record in records}))


def _read_changed(entries: Sequence[Entry], spec: str) -> list[ImageRecord | Problem]:
    """Return a record or a problem for each entry. Files that have not changed since they were read are not read."""
    index = StatIndex(spec)
    digests = index.look_up(entries)
    results: dict[int, ImageRecord | Problem] = {
        i: _record(entries[i], digest) for i, digest in enumerate(digests) if digest
    }
    todo = [i for i, digest in enumerate(digests) if digest is None]
    batches = [todo[i : i + _BATCH] for i in range(0, len(todo), _BATCH)]
    written = monotonic()
    with ThreadPoolExecutor(threads()) as pool, console.progress("reading", len(todo)) as advance:
        read = pool.map(lambda batch: [_read(entries[i]) for i in batch], batches)
        for batch, found in zip(batches, read, strict=True):
            for i, result in zip(batch, found, strict=True):
                digests[i], results[i] = result
            advance(len(batch))
            if monotonic() - written > _INDEX_SECONDS:
                index.write(digests)
                written = monotonic()
    index.write(digests)
    return [results[i] for i in range(len(entries))]


def _read(entry: Entry) -> tuple[str | None, ImageRecord | Problem]:
    """Read the file of an entry; return the digest of its bytes and its record, or None and a `Problem`."""
    try:
        data = read_whole(entry.path, entry.part)
        if not looks_like_an_image(data):
            raise ImageError("not an image" if data else "empty file (0 bytes)")
    except ImageError as error:
        return None, Problem(entry.path, str(error))
    digest = digest_bytes(data)
    return digest, _record(entry, digest)


def _record(entry: Entry, digest: str) -> ImageRecord:
    """Return the record of an entry whose bytes have this digest."""
    group = entry.group
    if group is None and entry.part and entry.part.box:
        group = digest  # all that is cropped from one photo stays on one side of the split
    digest = cropped_digest(digest, entry.part)
    return ImageRecord(entry.path, entry.label, digest, entry.split, group, entry.part, entry.origin, entry.probability)


def record_of(entry: Entry) -> ImageRecord | Problem:
    """Read the file of an entry and return its record; a `Problem` where it cannot be read or is not an image."""
    return _read(entry)[1]


def looks_like_an_image(data: bytes) -> bool:
    """Return whether the first 16 bytes of a file are those of an image format. The image may still be damaged."""
    head = data[:16]
    starts = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
    return head.startswith(starts) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP") or head[4:8] == b"ftyp"
