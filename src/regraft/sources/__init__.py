"""Where photos come from: one protocol, one registry.

In: what the user typed, a path or ``name:rest``. Out: `Entry` records, each a file and its label.
Why: a folder is one way to keep labelled photos among many; the rest of regraft knows none of them.
Surprise: a source opens no photo. It lists; `Dataset.open` reads.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from regraft._registry import Registry
from regraft.errors import DataError
from regraft.images import Problem

Side = Literal["train", "val", "test"]
SIDES: tuple[Side, ...] = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Entry:
    """One file that a source lists.

    Attributes:
        path: the file.
        label: its class, Unicode NFC.
        split: the side it was given by its owner, or None where regraft is to choose.
    """

    path: Path
    label: str
    split: Side | None = None


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
registry.register("demo", "regraft.sources.demo:Demo")
registry.register("folder", "regraft.sources.folder:Folder")


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
        return f"{spec} is a file; {wanted}"
    near: Iterable[Path] = ()
    if path.parent.is_dir():
        import difflib

        near = [path.parent / n for n in difflib.get_close_matches(path.name, [p.name for p in path.parent.iterdir()])]
    hint = "".join(f"; did you mean {p}?" for p in list(near)[:1])
    return f"there is no {spec}{hint or '; ' + wanted}"
