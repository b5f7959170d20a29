"""A backbone's OpenVINO graph in the cache folder, and what building it told: made by a process of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from regraft import _console
from regraft._cache import crc32, kept_folder, require_regular
from regraft._files import cache_folder, write_json
from regraft._processes import call
from regraft.backbones import Backbone
from regraft.errors import BackboneError

GRAPH = "graph.xml"
SEAL = ".seal"
"""Suffix of the file beside a graph that holds length and checksum of the graph's files."""

_SEALED = (".xml", ".bin", ".json")
_LAYOUT = 2  # part of a folder's name: graphs that earlier versions kept have no seal

building_here = False
"""Set in the process that builds a graph. What asks there for what only the graph knows would start another such
process, and that another."""


def graph_place(backbone: Backbone) -> Path:
    """Where the graph (.xml) is kept, whether it is there or not."""
    return cache_folder("graphs") / _folder_of(backbone) / GRAPH


def graph_path(backbone: Backbone) -> Path:
    """The graph (.xml) with its contents checked, built by Keras where there is none, or a damaged one.

    Raises:
        BackboneError: it cannot be built.
    """
    options = {**asdict(backbone.options), "size": backbone.transform.size}

    def build(path: Path) -> None:
        if building_here:
            raise BackboneError(f"{backbone.name} asks for its own graph while that is being built")
        job = {"spec": backbone.name, "options": options, "out": str(path)}
        with _console.waiting_for("preparing the network (once)"):
            call("regraft._graph:write_graph", job, f"{backbone.name} cannot be built")

    return kept_graph(_folder_of(backbone), build)


def kept_graph(name: str, build: Callable[[Path], None]) -> Path:
    """The graph (.xml) in the cache's folder ``name``, with its contents checked; built where there is none.

    Args:
        name: of the folder.
        build: writes a graph to a path, the .bin (and, if need be, a .json) beside it, or raises BackboneError.
    """

    def make(folder: Path) -> None:
        build(folder / GRAPH)
        seal(folder / GRAPH)

    return kept_folder("graphs", name, lambda folder: damage_of(folder / GRAPH), make) / GRAPH


def _folder_of(backbone: Backbone) -> str:
    return f"{backbone.fingerprint[:32]}-{_LAYOUT}"


def is_quantised(path: Path) -> bool:
    """Whether a graph (.xml) has layers that are computed in eight bits."""
    return b"FakeQuantize" in path.read_bytes()


def seal(path: Path) -> None:
    """Write down length and checksum of each file of a graph (.xml), beside it."""
    write_json(path.with_suffix(SEAL), _sums(path, _SEALED))


def seal_of(path: Path) -> str | None:
    """What tells a graph (.xml) from any other: its seal, or what that would be. None where there is no graph.

    The files themselves are read only where there is no seal, as in runs that earlier versions wrote.
    """
    with suppress(OSError):
        return path.with_suffix(SEAL).read_text(encoding="utf-8", errors="replace")
    with suppress(OSError):
        return json.dumps(_sums(path, _SEALED))
    return None


def damage_of(path: Path, suffixes: Sequence[str] = _SEALED) -> str | None:
    """What is wrong with a sealed graph (.xml), in words; None where its files are as they were sealed.

    Args:
        path: of the graph.
        suffixes: which of its files to look at.
    """
    try:
        sealed = json.loads(path.with_suffix(SEAL).read_bytes())
        found = _sums(path, suffixes)
        wrong = next((suffix for suffix in suffixes if found.get(suffix) != sealed.get(suffix)), None)
    except OSError as error:
        return f"{Path(error.filename or path).name} cannot be read: {(error.strerror or str(error)).lower()}"
    except (ValueError, AttributeError, RecursionError) as error:
        return f"{path.stem}{SEAL} cannot be read: {error}"
    return wrong and f"{path.stem}{wrong} has not the checksum it was written with"


def checked_graph(path: Path) -> Path:
    """``path`` (.xml) of a run's own graph, its files checked where they were sealed. Raises BackboneError."""
    if path.with_suffix(SEAL).is_file() and (damage := damage_of(path)):
        raise BackboneError(f"{path.parent} is damaged ({damage}); train it again")
    return path


def _sums(path: Path, suffixes: Sequence[str]) -> dict[str, list[Any]]:
    """Bytes and checksum of each file of a graph that is there; not each has a .json. Raises OSError."""
    files = {suffix: path.with_suffix(suffix) for suffix in suffixes}
    files = {suffix: file for suffix, file in files.items() if suffix != ".json" or file.exists()}
    for file in files.values():
        require_regular(file)
    return {suffix: [file.stat().st_size, crc32(file.read_bytes())] for suffix, file in files.items()}


def description(backbone: Backbone) -> dict[str, Any]:
    """What only the graph knows: ``widths``, the features of each stage by its name. Builds it where there is none."""
    path = graph_place(backbone)
    if damage_of(path, (".json",)):
        path = graph_path(backbone)
    found: dict[str, Any] = json.loads(path.with_suffix(".json").read_bytes())
    return found


class Described:
    """The part of a `Backbone` that only its graph knows, for those that cannot tell without building it."""

    @property
    def stages(self: Backbone) -> tuple[str, ...]:
        """The layers, outputs or kinds of tokens that make the features, in order."""
        return tuple(description(self)["widths"])

    @property
    def widths(self: Backbone) -> tuple[int, ...]:
        """How many features each of them makes."""
        return tuple(description(self)["widths"].values())

    @property
    def num_features(self: Backbone) -> int:
        """Of all of them."""
        return sum(self.widths)
