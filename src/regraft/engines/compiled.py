"""OpenVINO graphs compiled for this machine, and kept in the cache so that the next process need not compile them.

In: a graph in a file, and OpenVINO's options. Out: OpenVINO's compiled model.
Why: `predict` starts in half the time if it reads a compiled graph.
Surprise: OpenVINO's own cache (``CACHE_DIR``) is not used. It overwrites a file in place, and a process that has mapped
the file then dies of SIGBUS (one process in 240, where six shared an empty cache). It also accepts a file with zeros in
the middle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from regraft.backbones.graphs import seal_of
from regraft.errors import BackboneError
from regraft.foundation.cache_files import map_sealed, set_aside, write_sealed
from regraft.foundation.files import cache_folder, digest_json, environment_variable
from regraft.foundation.processor import processor_digest

_MAX_WEIGHTS = 2**29
"""The largest size of a graph's weights, in bytes, for which the compiled graph is kept. The whole compiled graph is in
memory while it is written."""

_TRIES = 2
"""How often to compile a graph: another process may have replaced its file between the check and the reading."""

_mapped: list[memoryview] = []
"""The mapped files of the compiled models that were read. They stay mapped until the process ends: OpenVINO keeps only
the address of a tensor, and its requests outlive the Python object of the model. The pages belong to the file cache of
the system and cost the process no memory of its own."""


def compile_graph(path: Path, options: Mapping[str, str], checked: Callable[[], Path]) -> Any:
    """Return the graph as an ``openvino.CompiledModel`` on the CPU, from the cache or compiled and then cached.

    Args:
        path: the graph (.xml). If the cache has the compiled graph, only the seal of the graph is read.
        options: OpenVINO's properties.
        checked: checks the contents of the same graph, builds it again if it is damaged, and returns its path. It is
            called a second time if OpenVINO cannot read the file, since another process may just have replaced it.

    Raises:
        BackboneError: OpenVINO cannot compile the graph, or ``checked`` fails.
    """
    import openvino

    core, reason = openvino.Core(), ""
    if (kept := _import(core, path, options)) is not None:
        return kept
    for _ in range(_TRIES):
        path = checked()
        try:
            compiled = core.compile_model(str(path), "CPU", dict(options))
        except RuntimeError as error:
            reason = _last_line(error)
        else:
            _keep(compiled, path, options)
            return compiled
    raise BackboneError(f"{path} cannot be compiled ({reason})")


def _blob(path: Path, options: Mapping[str, str]) -> Path | None:
    """Return the path of the compiled graph in the cache; None if the graph does not exist.

    The name depends on the graph, the version of OpenVINO, the processor and the options.
    """
    from openvino import get_version

    if (seal := seal_of(path)) is None:
        return None
    facts = [seal, get_version(), processor_digest(), environment_variable("ONEDNN_MAX_CPU_ISA"), dict(options)]
    return cache_folder("openvino") / f"{digest_json(facts)[:32]}.blob"


def _import(core: Any, path: Path, options: Mapping[str, str]) -> Any:
    """Return the compiled graph from the cache; None if the cache does not have it, or it is damaged."""
    import openvino

    blob = _blob(path, options)
    data = map_sealed(blob) if blob else None
    if blob is None or data is None:
        return None
    tensor = openvino.Tensor(np.frombuffer(data, np.uint8), shared_memory=True)
    try:
        compiled = core.import_model(tensor, "CPU", dict(options))
    except RuntimeError as error:
        set_aside(blob, _last_line(error))
        return None
    _mapped.append(data)
    return compiled


def _keep(compiled: Any, path: Path, options: Mapping[str, str]) -> None:
    """Write the compiled graph to the cache, unless it is too large."""
    blob = _blob(path, options)
    if blob is not None and path.with_suffix(".bin").stat().st_size <= _MAX_WEIGHTS:
        write_sealed(blob, compiled.export_model().getbuffer())


def _last_line(error: Exception) -> str:
    """Return the last line of an error of OpenVINO, which has the reason, or the name of the error's class."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
