"""A backbone's OpenVINO graph in the cache folder, and what building it told: made by a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from regraft import _console
from regraft._children import running
from regraft._files import atomic_folder, cache_folder, child_environment
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
    with atomic_folder(path.parent) as folder, _console.waiting_for("preparing the network (once)"):
        child("regraft._graph", backbone.name, json.dumps(options), str(folder / path.name), what=backbone.name)
    return path


def child(module: str, *arguments: str, what: str, keras: str = "openvino") -> str:
    """Run one of our modules as a process of its own, with Keras on that backend; what it prints.

    Raises:
        BackboneError: it failed; ``what`` could not be built.
    """
    with subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        env=child_environment(KERAS_BACKEND=keras, PYTHONPATH=_python_path(), TF_CPP_MIN_LOG_LEVEL="3"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as process:
        running.add(process)
        try:
            out, err = process.communicate()
        except BaseException:
            process.kill()
            raise
        finally:
            running.discard(process)
    if process.returncode != 0:
        last = (err.strip().splitlines() or ["no message"])[-1]
        # The child's own errors already read "regraft.errors.BackboneError: what to do".
        raise BackboneError(f"{what} cannot be built: {last.partition('Error: ')[2] or last}")
    return out


def _python_path() -> str:
    """What this process can import, its child can too."""
    return os.pathsep.join(p for p in sys.path if p)
