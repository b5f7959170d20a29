"""The protocol and the registry of photo sources.

In: what the user typed, a path or ``name:rest``. Out: `Entry` records, each with a file and its label.
Why: labelled photos are kept in folders, tables, shards and more. The rest of regraft need not know how.
Surprise: a source opens no photo. It only lists them, and `Dataset.open` reads them.
"""

from __future__ import annotations

import math
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from regraft.config.levels import Levels
from regraft.errors import DataError
from regraft.foundation.console import printable
from regraft.foundation.files import kind_of
from regraft.foundation.registry import Registry
from regraft.photos.images import Part, Problem

Side = Literal["train", "val", "test"]
SIDES: tuple[Side, ...] = ("train", "val", "test")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NUMBER = re.compile(r"([0-9]{1,99}\.?[0-9]{0,99}|\.[0-9]{1,99})(e[-+]?[0-9]{1,3})?", re.IGNORECASE)
_WANTED = "wanted a folder that holds one folder of photos for each class"
_MAX_LABELS = 2**24  # bytes of labels.txt
_SIDE_NAMES: dict[str, Side] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One photo that a source lists.

    Attributes:
        path: the path of the file; for a photo in a shard, the shard's path, ``#``, and the photo's name or number.
        label: the name of the class, in Unicode NFC.
        split: the side of the split that the data set gives the photo; None if regraft chooses the side.
        group: the name of a group, such as a patient, a camera or a burst, whose photos stay on one side; or None.
        part: the position of the photo's bytes in a shard; None if the photo is a file of its own.
        origin: the digest of the photo from which this photo was made, 64 hexadecimal digits; None if not known.
        probability: the probability, 0.5 to 1, that the label is right; the rest belongs to the other class. Below 1
            only in data sets of two classes.
    """

    path: Path
    label: str
    split: Side | None = None
    group: str | None = None
    part: Part | None = None
    origin: str | None = None
    probability: float = 1.0


@dataclass(frozen=True, slots=True)
class Listing:
    """The result of listing a source.

    Attributes:
        entries: the photos.
        problems: the files that were left out, with the reasons.
        empty_classes: the names of the classes without files.
        hint: advice in one line if the user may have wanted other options; empty otherwise.
    """

    entries: tuple[Entry, ...]
    problems: tuple[Problem, ...] = ()
    empty_classes: tuple[str, ...] = ()
    hint: str = ""


class Source(Protocol):
    """The protocol of a source: it lists labelled photos."""

    def accepts(self, spec: str) -> bool:
        """Return whether this source can list ``spec``. It reads no photos to decide."""
        ...

    def list(self, spec: str) -> Listing:
        """List the photos of ``spec``. Raises DataError if there are none."""
        ...


@runtime_checkable
class Layered(Protocol):
    """A source whose photos lie in nested folders, each of which may name their class or group."""

    def list_levels(self, spec: str, levels: Levels) -> Listing:
        """List the photos of ``spec``. Raises DataError if there are none.

        Args:
            spec: what the user typed.
            levels: which folders name classes and groups.
        """
        ...


@runtime_checkable
class Copied(Protocol):
    """A source that copies its photos into a folder of the cache, which need not be class folders."""

    def copy(self, spec: str) -> tuple[Path, Sequence[Problem]]:
        """Bring the copy up to date. Returns its place, and what could not be copied. Raises DataError."""
        ...


registry: Registry[type[Source]] = Registry("source", DataError)
# `find_source` asks the sources in this order. The folder comes last, since a folder of shards is also a folder.
registry.register("demo", "regraft.photos.sources.demo:Demo")
registry.register("tfds", "regraft.data_sets.tfds:TensorFlowDatasets")
registry.register("hf", "regraft.data_sets.huggingface:HuggingFace")
registry.register("coco", "regraft.label_tools.coco:Coco")
registry.register("cvat", "regraft.label_tools.cvat:Cvat")
registry.register("labelstudio", "regraft.label_tools.label_studio:LabelStudio")
registry.register("megadetector", "regraft.label_tools.megadetector:MegaDetector")
registry.register("bucket", "regraft.data_sets.bucket:Bucket")
registry.register("parquet", "regraft.data_sets.parquet:Parquet")
registry.register("manifest", "regraft.photos.sources.manifest:Manifest")
registry.register("tfrecord", "regraft.photos.sources.tfrecord:TFRecord")
registry.register("webdataset", "regraft.photos.sources.webdataset:WebDataset")
registry.register("archive", "regraft.photos.sources.archive:Archive")
registry.register("folder", "regraft.photos.sources.folder:Folder")


def side_of(name: str) -> Side | None:
    """Return the side of the split that a folder, a column or a file calls ``name``; None if ``name`` is no side."""
    return _SIDE_NAMES.get(name.strip().lower())


def label_of(text: str) -> str:
    """Return ``text`` as a label: in Unicode NFC, without white space around it."""
    return unicodedata.normalize("NFC", text).strip()


def origin_of(text: str) -> str | None:
    """Return ``text`` if it is a SHA-256 digest of 64 hexadecimal digits, else None."""
    return text if _DIGEST.fullmatch(text) else None


def probability_of(text: str) -> float | None:
    """Return the number from 0 to 1 that a text gives; None if it gives none."""
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    return value if 0 <= value <= 1 else None


def flaw_of_label(label: str) -> str:
    """Return why a text cannot be a label, as the end of a sentence; empty if it can.

    A line break would shift all later lines of ``labels.txt``, and control characters would reach terminals.
    """
    if not label.strip():
        return "is empty"
    broken = next((c for c in label if unicodedata.category(c) in ("Cc", "Zl", "Zp", "Cs")), "")
    return f"has the character {broken!r} in it" if broken else ""


def require_fit_labels(listing: Listing) -> None:
    """Raise DataError if a label is empty or has invalid characters. The message names the first such photo."""
    flaws = {label: flaw_of_label(label) for label in {entry.label for entry in listing.entries}}
    unfit = [entry for entry in listing.entries if flaws[entry.label]]
    if unfit:
        first = unfit[0]
        more = f", and so have {len(unfit) - 1} more" if len(unfit) > 1 else ""
        raise DataError(
            f"{printable(str(first.path))} has the label {first.label!r}, which {flaws[first.label]}{more}; "
            "rename its folder, or mend what gives it that label"
        )


def read_labels(folder: Path) -> list[str]:
    """Return the class names in ``folder/labels.txt``, one per line in the order of the class index.

    Returns:
        The names; an empty list if the file does not exist.

    Raises:
        DataError: the file is not UTF-8 text, or larger than 16 MiB.
    """
    file = folder / "labels.txt"
    try:
        if not file.is_file():
            return []
        with file.open("rb") as opened:
            text = opened.read(_MAX_LABELS + 1)
        if len(text) > _MAX_LABELS:
            raise DataError(f"{file} has more than {_MAX_LABELS >> 20} MiB; wanted one name of a class a line")
        return [label_of(line) for line in text.decode("utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read as UTF-8 text: {error}") from error


def spec_of(photos: Any) -> str:
    """Return a ``photos`` argument as text: a path, or ``name:rest``.

    Raises:
        DataError: the argument is neither text nor a path, or is empty.
    """
    if isinstance(photos, str | os.PathLike) and (spec := os.fsdecode(photos)):
        return spec
    found = "an empty text" if isinstance(photos, str) else kind_of(photos)
    raise DataError(
        f"photos are {found}; wanted a folder of class folders, or what else names labelled photos: a table, an "
        "archive, shards, tfds:NAME, hf:NAME, coco:FILE, labelstudio:FILE, cvat:FILE"
    )


def find_source(spec: str) -> Source:
    """Return the source that accepts ``spec``.

    Raises:
        DataError: no source accepts it. The message says what was found instead.
    """
    place = _place(spec)
    if place.exists() and not place.is_file() and not place.is_dir():  # reading a pipe could wait forever
        raise DataError(f"{spec} is a pipe, a device or a socket, not a regular file; {_WANTED}")
    for name in registry.lookup_order():
        source = registry.load(name)()
        if source.accepts(spec):
            return source
    raise DataError(_why_none(spec, place))


def _place(spec: str) -> Path:
    """Return ``spec`` as a path, which need not exist. Raises DataError if no file can have such a path."""
    try:
        place = Path(spec).expanduser()
        place.exists()
    except RuntimeError as error:
        raise DataError(f"{spec} can be no file or folder: there is no such user; {_WANTED}") from error
    except (OSError, ValueError) as error:  # the name is too long, or has a zero byte
        reason = str(getattr(error, "strerror", None) or error).lower()
        raise DataError(f"{spec[:200]} can be no file or folder: {reason}; {_WANTED}") from error
    return place


def _why_none(spec: str, path: Path) -> str:
    """Return the message for a ``spec`` that no source accepts, with the nearest file name if the file is missing."""
    if path.exists():
        return f"{spec} is no list of photos (.csv, .tsv, .jsonl, .parquet), archive or shard; {_WANTED}"
    near: Iterable[Path] = ()
    if path.parent.is_dir():
        import difflib

        near = [path.parent / n for n in difflib.get_close_matches(path.name, [p.name for p in path.parent.iterdir()])]
    hint = "".join(f"; did you mean {p}?" for p in list(near)[:1])
    return f"there is no {spec}{hint or '; ' + _WANTED}"
