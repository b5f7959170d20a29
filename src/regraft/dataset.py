"""A source's listing → a Dataset: records with content digests, classes, and the files left out.

In: a folder, or any spec a source takes. Out: `Dataset`, frozen.
Why: everything after this line goes by content, so that names, places and order change nothing.
Surprise: every file is read once here, to digest it; none is decoded.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from regraft import _console
from regraft._files import digest_bytes, digest_json, threads
from regraft._levels import Levels
from regraft.errors import ConfigError, DataError, ImageError
from regraft.images import Look, Part, Problem, Transform, read
from regraft.sources import Entry, Layered, Listing, Side, find_source, require_fit_labels, spec_of

_BATCH = 64  # files a thread reads at a time: handing them over one by one took twice as long


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One labelled photo.

    Attributes:
        path: the file, or its name within a file of many.
        label: its class, Unicode NFC.
        digest: SHA-256 of the photo's bytes, 64 hexadecimal digits.
        split: the side its owner gave it, or None.
        group: what its owner grouped it by, or None.
        part: where its bytes lie, of a photo within a file of many.
        origin: digest of the photo that these bytes were made from, or None: shards may encode a photo anew.
    """

    path: Path
    label: str
    digest: str
    split: Side | None = None
    group: str | None = None
    part: Part | None = None
    origin: str | None = None

    @property
    def identity(self) -> str:
        """What decides its side of a split: the digest of the photo it was made from, or else its own."""
        return self.origin or self.digest

    def read(self) -> bytes:
        """The photo's bytes. Raises ImageError."""
        return read(self.path, self.part)

    def look(self, transform: Transform) -> Look:
        """What a backbone sees of it. Raises ImageError."""
        return transform.look(self.read_unchanged())

    def read_unchanged(self) -> bytes:
        """`read`; what changed since it was listed must not be cached under its old digest. Raises ImageError."""
        data = self.read()
        if digest_bytes(data) != self.digest:
            raise ImageError("changed while regraft was reading it; run again")
        return data


@dataclass(frozen=True, slots=True)
class Dataset:
    """Labelled photos.

    Attributes:
        records: the photos, in the order the source lists them.
        classes: the labels that occur, sorted by code point; a photo's class index is its label's place here.
        problems: the files that were left out.
        hint: what their owner may have meant otherwise, in one line; empty for nothing.
    """

    records: tuple[ImageRecord, ...]
    classes: tuple[str, ...]
    problems: tuple[Problem, ...] = ()
    hint: str = ""

    @classmethod
    def open(cls, spec: str | os.PathLike[str] | Dataset, label_from: str = "first", group_from: str = "") -> Dataset:
        """Read a data set; one that is open already is returned as it is.

        Args:
            spec: a folder of class folders; a .csv, .tsv, .jsonl or .parquet with columns path and label; an archive,
                also at a URL; TFRecord or WebDataset shards; ``tfds:NAME``, ``hf:NAME``, ``demo:elpv``.
            label_from: of a folder or an archive, the folder that names a photo's class: ``first`` below the root,
                ``last``, or a number from 1.
            group_from: the folder that names its group, likewise; empty for none.

        Raises:
            ConfigError: a level is none, or ``spec`` is neither a folder nor an archive.
            DataError: there is nothing there, no class, no file that could be a photo, or a label that cannot be one.
        """
        if isinstance(spec, Dataset):
            return spec
        spec = spec_of(spec)
        listing = _listed(spec, Levels(label_from=label_from, group_from=group_from))
        require_fit_labels(listing)  # here, where the labels of every source come in
        results: list[ImageRecord | Problem] = []
        batches = [listing.entries[i : i + _BATCH] for i in range(0, len(listing.entries), _BATCH)]
        with ThreadPoolExecutor(threads()) as pool, _console.progress("reading", len(listing.entries)) as advance:
            for batch in pool.map(_read_all, batches):
                results += batch
                advance(len(batch))
        problems = [*listing.problems, *(r for r in results if isinstance(r, Problem))]
        records = [r for r in results if isinstance(r, ImageRecord)]
        if listing.empty_classes:
            _console.warn(f"classes without any photo are left out: {', '.join(listing.empty_classes)}")
        if not records:
            first = f": {problems[0].path}: {problems[0].reason}" if problems else ""
            raise DataError(f"no photo was found in {spec}; {len(problems)} other files were{first}")
        return cls(tuple(records), _classes(records), tuple(problems), listing.hint)

    @property
    def digest(self) -> str:
        """Digest of what there is to learn: the photos' contents and labels, whatever their names and order."""
        return digest_json(sorted((r.digest, r.label) for r in self.records))

    def counts(self) -> dict[str, int]:
        """Photos in each class, in class order."""
        found = Counter(r.label for r in self.records)
        return {label: found[label] for label in self.classes}

    def without(self, problems: Iterable[Problem]) -> Dataset:
        """The data set less the files of ``problems``, which join its own. Raises DataError where none is left."""
        problems = tuple(problems)
        bad = {p.path for p in problems}
        records = tuple(r for r in self.records if r.path not in bad)
        if not records:
            raise DataError(f"none of the {len(self.records)} photos can be read: {problems[0].reason}")
        return replace(self, records=records, classes=_classes(records), problems=(*self.problems, *problems))


def _listed(spec: str, levels: Levels) -> Listing:
    source = find_source(spec)
    if isinstance(source, Layered):
        return source.list_levels(spec, levels)
    if levels != Levels():
        raise ConfigError(f"label_from and group_from are for folders and archives; {spec} names its classes itself")
    return source.list(spec)


def takes_levels(spec: str | os.PathLike[str]) -> bool:
    """Whether folders name the classes of what ``spec`` names. Raises DataError where there is nothing."""
    return isinstance(find_source(spec_of(spec)), Layered)


def _classes(records: Iterable[ImageRecord]) -> tuple[str, ...]:
    return tuple(sorted({record.label for record in records}))


def _read_all(entries: Sequence[Entry]) -> list[ImageRecord | Problem]:
    return [_read(entry) for entry in entries]


def _read(entry: Entry) -> ImageRecord | Problem:
    try:
        data = read(entry.path, entry.part)
        if not looks_like_an_image(data):
            raise ImageError("not an image" if data else "empty file (0 bytes)")
    except ImageError as error:
        return Problem(entry.path, str(error))
    return ImageRecord(entry.path, entry.label, digest_bytes(data), entry.split, entry.group, entry.part, entry.origin)


def looks_like_an_image(data: bytes) -> bool:
    """Whether the first bytes are those of a format that could be a photo; cheap, and no promise that it decodes."""
    head = data[:16]
    starts = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
    return head.startswith(starts) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP") or head[4:8] == b"ftyp"
