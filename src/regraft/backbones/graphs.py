"""The OpenVINO graphs of backbones in the cache folder, with a description of each. A child process builds them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from regraft.backbones.base import Backbone
from regraft.errors import BackboneError
from regraft.foundation import console
from regraft.foundation.cache_files import crc32, kept_folder, require_regular
from regraft.foundation.files import cache_folder, write_json
from regraft.foundation.processes import call

GRAPH = "graph.xml"
"""The name of a graph's file in its folder of the cache."""

SEAL = ".seal"
"""The suffix of the seal: a file beside a graph with the length and the checksum of each of the graph's files."""

_SEALED = (".xml", ".bin", ".json")
_LAYOUT = 2  # part of the folder's name, since the graphs of earlier versions have no seal

building_here = False
"""Whether this process builds a graph. If code in such a process asked for the description of the graph, it would start
another process that builds the graph, and so on without end."""


def graph_place(backbone: Backbone) -> Path:
    """Return the path of the backbone's graph (.xml) in the cache, whether the file exists or not."""
    return cache_folder("graphs") / _folder_of(backbone) / GRAPH


def graph_path(backbone: Backbone) -> Path:
    """Return the path of the backbone's graph (.xml), after a check of its contents.

    If there is no graph, or it is damaged, a child process builds it.

    Raises:
        BackboneError: the graph cannot be built.
    """
    options = {**asdict(backbone.options), "size": backbone.transform.size}

    def build(path: Path) -> None:
        if building_here:
            raise BackboneError(f"{backbone.name} asks for its own graph while that is being built")
        job = {"spec": backbone.name, "options": options, "out": str(path)}
        with console.waiting_for("preparing the network (once)"):
            call("regraft.backbones.graph_building:write_graph", job, f"{backbone.name} cannot be built")

    return kept_graph(_folder_of(backbone), build)


def kept_graph(name: str, build: Callable[[Path], None]) -> Path:
    """Return the path of a graph (.xml) in the cache, after a check of its contents. It is built if there is none.

    Args:
        name: the name of the graph's folder.
        build: writes a graph to a path, with a .bin and perhaps a .json beside it, or raises BackboneError.

    Raises:
        BackboneError: the graph cannot be built.
    """

    def make(folder: Path) -> None:
        build(folder / GRAPH)
        seal(folder / GRAPH)

    return kept_folder("graphs", name, lambda folder: damage_of(folder / GRAPH), make) / GRAPH


def _folder_of(backbone: Backbone) -> str:
    """Return the name of the folder in the cache that has the backbone's graph."""
    return f"{backbone.fingerprint[:32]}-{_LAYOUT}"


def is_quantised(path: Path) -> bool:
    """Return whether a graph (.xml) has layers that are computed in int8."""
    return b"FakeQuantize" in path.read_bytes()


def seal(path: Path) -> None:
    """Write the seal of a graph (.xml): the length and the checksum of each of its files."""
    write_json(path.with_suffix(SEAL), _sums(path, _SEALED))


def seal_of(path: Path) -> str | None:
    """Return the content of a graph's seal, which identifies the graph; None if there is no graph.

    If there is no seal, as in runs of earlier versions, the lengths and checksums are computed from the files.
    """
    with suppress(OSError):
        return path.with_suffix(SEAL).read_text(encoding="utf-8", errors="replace")
    with suppress(OSError):
        return json.dumps(_sums(path, _SEALED))
    return None


def damage_of(path: Path, suffixes: Sequence[str] = _SEALED) -> str | None:
    """Return how a sealed graph is damaged, in words; None if its files have the lengths and checksums of the seal.

    Args:
        path: the graph (.xml).
        suffixes: the suffixes of the files to check.
    """
    try:
        sealed = json.loads(path.with_suffix(SEAL).read_bytes())
        actual = _sums(path, suffixes)
        wrong = next((suffix for suffix in suffixes if actual.get(suffix) != sealed.get(suffix)), None)
    except OSError as error:
        return f"{Path(error.filename or path).name} cannot be read: {(error.strerror or str(error)).lower()}"
    except (ValueError, AttributeError, RecursionError) as error:
        return f"{path.stem}{SEAL} cannot be read: {error}"
    return wrong and f"{path.stem}{wrong} does not have the checksum that was written with it"


def checked_graph(path: Path) -> Path:
    """Return ``path``, the graph (.xml) of a run, after a check of its files. Raises BackboneError if it is damaged.

    A graph without a seal, of an earlier version, is not checked.
    """
    if path.with_suffix(SEAL).is_file() and (damage := damage_of(path)):
        raise BackboneError(f"{path.parent} is damaged ({damage}); train it again")
    return path


def _sums(path: Path, suffixes: Sequence[str]) -> dict[str, list[Any]]:
    """Return the length in bytes and the checksum of each file of a graph, by suffix. A missing .json is left out.

    Raises:
        OSError: a file is missing or cannot be read.
    """
    files = {suffix: path.with_suffix(suffix) for suffix in suffixes}
    files = {suffix: file for suffix, file in files.items() if suffix != ".json" or file.exists()}
    for file in files.values():
        require_regular(file)
    return {suffix: [file.stat().st_size, crc32(file.read_bytes())] for suffix, file in files.items()}


def description(backbone: Backbone) -> dict[str, Any]:
    """Return the description of a backbone's graph, which is built if there is none.

    Returns:
        A dict whose key ``widths`` has the number of features of each stage, by the name of the stage.

    Raises:
        BackboneError: the graph cannot be built.
    """
    path = graph_place(backbone)
    if damage_of(path, (".json",)):
        path = graph_path(backbone)
    facts: dict[str, Any] = json.loads(path.with_suffix(".json").read_bytes())
    return facts


class Described:
    """A base class of backbones that read their stages from their graph, since they know them only once it is built."""

    @property
    def stages(self: Backbone) -> tuple[str, ...]:
        """The names of the layers, outputs or kinds of tokens that make the features, in order."""
        return tuple(description(self)["widths"])

    @property
    def widths(self: Backbone) -> tuple[int, ...]:
        """The number of features of each stage, in the order of `stages`."""
        return tuple(description(self)["widths"].values())

    @property
    def num_features(self: Backbone) -> int:
        """D, the number of features over all stages."""
        return sum(self.widths)
