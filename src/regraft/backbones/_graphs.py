"""A backbone's OpenVINO graph in the cache folder, and what building it told: made by a process of its own."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from regraft._files import atomic_folder, cache_folder
from regraft._processes import call
from regraft.backbones import Backbone
from regraft.errors import BackboneError

building_here = False
"""Set in the process that builds a graph. What asks there for what only the graph knows would start another such
process, and that another."""


def graph_path(backbone: Backbone) -> Path:
    """The graph (.xml), built by Keras where it is not there yet. Raises BackboneError."""
    path = cache_folder() / "graphs" / backbone.fingerprint[:32] / "graph.xml"
    return path if path.is_file() else build_graph(backbone, path)


def description(backbone: Backbone) -> dict[str, Any]:
    """What only the graph knows: ``widths``, the features of each stage by its name. Builds it where there is none."""
    path = graph_path(backbone)
    try:
        found: dict[str, Any] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        known = "widths" in found
    except (OSError, ValueError):
        known = False
    if not known:
        found = json.loads(build_graph(backbone, path).with_suffix(".json").read_text(encoding="utf-8"))
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


def build_graph(backbone: Backbone, path: Path) -> Path:
    """Build it anew. Raises BackboneError."""
    if building_here:
        raise BackboneError(f"{backbone.name} asks for its own graph while that is being built")
    options = {**asdict(backbone.options), "size": backbone.transform.size}
    with atomic_folder(path.parent) as folder:
        job = {"spec": backbone.name, "options": options, "path": str(folder / path.name)}
        call("regraft._graph:write_graph", job, f"{backbone.name} cannot be built")
    return path
