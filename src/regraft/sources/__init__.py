"""Where photos come from: one protocol, one registry.

In: what the user typed, a path or ``name:rest``. Out: `Entry` records, each a file and its label.
Why: a folder is one way to keep labelled photos among many; the rest of regraft knows none of them.
Surprise: a source opens no photo. It lists; `Dataset.open` reads.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from regraft._console import printable
from regraft._registry import Registry
from regraft.errors import DataError
from regraft.images import Part, Problem

Side = Literal["train", "val", "test"]
SIDES: tuple[Side, ...] = ("train", "val", "test")
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
    """

    path: Path
    label: str
    split: Side | None = None
    group: str | None = None
    part: Part | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """All that a source found: entries, the files it left out, and the classes that have no file."""

    entries: tuple[Entry, ...]
    problems: tuple[Problem, ...] = ()
    empty_classes: tuple[str, ...] = ()


class Source(Protocol):
    """Lists labelled photos."""

    def accepts(self, spec: str) -> bool:
        """Whether ``spec`` is of this source's kind, judged without reading photos."""
        ...

    def list(self, spec: str) -> Listing:
        """List the photos of ``spec``. Raises DataError where there are none to list."""
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
        DataError: it is not UTF-8 text.
    """
    file = folder / "labels.txt"
    try:
        return [label_of(line) for line in file.read_text("utf-8-sig").splitlines()] if file.is_file() else []
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read as UTF-8 text: {error}") from error


def find_source(spec: str) -> Source:
    """The source that takes ``spec``. Raises DataError, naming what was found there instead."""
    for name in registry.lookup_order():
        source = registry.load(name)()
        if source.accepts(spec):
            return source
    raise DataError(_why_none(spec))


def _why_none(spec: str) -> str:
    path = Path(spec).expanduser()
    wanted = "wanted a folder that holds one folder of photos for each class"
    if path.exists():
        return f"{spec} is no list of photos (.csv, .tsv, .jsonl, .parquet), archive or shard; {wanted}"
    near: Iterable[Path] = ()
    if path.parent.is_dir():
        import difflib

        near = [path.parent / n for n in difflib.get_close_matches(path.name, [p.name for p in path.parent.iterdir()])]
    hint = "".join(f"; did you mean {p}?" for p in list(near)[:1])
    return f"there is no {spec}{hint or '; ' + wanted}"
