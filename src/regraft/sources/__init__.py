"""Where photos come from: one protocol, one registry.

In: what the user typed, a path or ``name:rest``. Out: `Entry` records, each a file and its label.
Why: a folder is one way to keep labelled photos among many; the rest of regraft knows none of them.
Surprise: a source opens no photo. It lists; `Dataset.open` reads.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from regraft._console import printable
from regraft._files import kind_of
from regraft._levels import Levels
from regraft._registry import Registry
from regraft.errors import DataError
from regraft.images import Part, Problem

Side = Literal["train", "val", "test"]
SIDES: tuple[Side, ...] = ("train", "val", "test")
_DIGEST = re.compile(r"[0-9a-f]{64}")
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
        path: the file; of a photo within a file, the file's path, ``#`` and its name or number there.
        label: its class, Unicode NFC.
        split: the side it was given by its owner, or None where regraft is to choose.
        group: photos of one group stay on one side: a patient, a camera, a burst. None stands alone.
        part: where it lies, of a photo within a file.
        origin: digest of the photo that its bytes were made from, where the source says so; 64 hexadecimal digits.
    """

    path: Path
    label: str
    split: Side | None = None
    group: str | None = None
    part: Part | None = None
    origin: str | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """All that a source found.

    Attributes:
        entries: the photos.
        problems: the files that it left out.
        empty_classes: the classes that have no file.
        hint: what the owner of the photos may have meant otherwise, in one line; empty for nothing.
    """

    entries: tuple[Entry, ...]
    problems: tuple[Problem, ...] = ()
    empty_classes: tuple[str, ...] = ()
    hint: str = ""


class Source(Protocol):
    """Lists labelled photos."""

    def accepts(self, spec: str) -> bool:
        """Whether ``spec`` is of this source's kind, judged without reading photos."""
        ...

    def list(self, spec: str) -> Listing:
        """List the photos of ``spec``. Raises DataError where there are none to list."""
        ...


@runtime_checkable
class Layered(Protocol):
    """A source whose photos lie in nested folders, each of which may name their class or group."""

    def list_levels(self, spec: str, levels: Levels) -> Listing:
        """List the photos of ``spec``, classes and groups named by the folders of ``levels``. Raises DataError."""
        ...


registry: Registry[type[Source]] = Registry("source", DataError)
# In the order in which they are asked: a folder of shards is also a folder, so that comes last.
registry.register("demo", "regraft.sources.demo:Demo")
registry.register("tfds", "regraft.sources.tfds:TensorFlowDatasets")
registry.register("hf", "regraft.sources.huggingface:HuggingFace")
registry.register("manifest", "regraft.sources.manifest:Manifest")
registry.register("tfrecord", "regraft.sources.tfrecord:TFRecord")
registry.register("webdataset", "regraft.sources.webdataset:WebDataset")
registry.register("archive", "regraft.sources.archive:Archive")
registry.register("folder", "regraft.sources.folder:Folder")


def side_of(name: str) -> Side | None:
    """The side that a folder, a column or a file calls ``name``; None where it is the name of none."""
    return _SIDE_NAMES.get(name.strip().lower())


def label_of(text: str) -> str:
    """``text`` as a label: Unicode NFC, without white space around it."""
    return unicodedata.normalize("NFC", text).strip()


def origin_of(text: str) -> str | None:
    """``text`` as the digest of a photo; None where it is none."""
    return text if _DIGEST.fullmatch(text) else None


def flaw_of_label(label: str) -> str:
    """Say why a text cannot be a label; nothing where it can.

    A line break would shift all later lines of ``labels.txt``, and other control characters reach terminals.
    """
    if not label.strip():
        return "is empty"
    broken = next((c for c in label if unicodedata.category(c) in ("Cc", "Zl", "Zp", "Cs")), "")
    return f"has the character {broken!r} in it" if broken else ""


def require_fit_labels(listing: Listing) -> None:
    """Raise DataError for photos whose labels cannot be labels, naming the first of them."""
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
    """The class names in ``labels.txt`` in ``folder``, one a line in index order; none where there is no such file.

    Raises:
        DataError: it is not UTF-8 text, or longer than names of classes are.
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
    """Return what names labelled photos as text: a path, or ``name:rest``.

    Raises:
        DataError: it is something else.
    """
    if isinstance(photos, str | os.PathLike) and (spec := os.fsdecode(photos)):
        return spec
    found = "an empty text" if isinstance(photos, str) else kind_of(photos)
    raise DataError(
        f"photos are {found}; wanted a folder of class folders, or what else names labelled photos: a table, an "
        "archive, shards, tfds:NAME, hf:NAME"
    )


def find_source(spec: str) -> Source:
    """The source that takes ``spec``. Raises DataError, naming what was found there instead."""
    place = _place(spec)
    if place.exists() and not place.is_file() and not place.is_dir():  # to look into a pipe would keep us waiting
        raise DataError(f"{spec} is a pipe, a device or a socket, not a regular file; {_WANTED}")
    for name in registry.lookup_order():
        source = registry.load(name)()
        if source.accepts(spec):
            return source
    raise DataError(_why_none(spec, place))


def _place(spec: str) -> Path:
    """The path that ``spec`` is, if it is one. Raises DataError where no file can have such a name."""
    try:
        place = Path(spec).expanduser()
        place.exists()
    except RuntimeError as error:
        raise DataError(f"{spec} can be no file or folder: there is no such user; {_WANTED}") from error
    except (OSError, ValueError) as error:  # too long, or with a NUL
        reason = str(getattr(error, "strerror", None) or error).lower()
        raise DataError(f"{spec[:200]} can be no file or folder: {reason}; {_WANTED}") from error
    return place


def _why_none(spec: str, path: Path) -> str:
    if path.exists():
        return f"{spec} is no list of photos (.csv, .tsv, .jsonl, .parquet), archive or shard; {_WANTED}"
    near: Iterable[Path] = ()
    if path.parent.is_dir():
        import difflib

        near = [path.parent / n for n in difflib.get_close_matches(path.name, [p.name for p in path.parent.iterdir()])]
    hint = "".join(f"; did you mean {p}?" for p in list(near)[:1])
    return f"there is no {spec}{hint or '; ' + _WANTED}"
