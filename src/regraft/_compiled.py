"""A graph, compiled by OpenVINO for this machine, and kept so that the next process need not compile it.

In: a graph in a file, and OpenVINO's options. Out: OpenVINO's compiled model.
Why: reading a compiled graph halves the start of `predict`.
Surprise: OpenVINO's own cache (``CACHE_DIR``) is not used. It writes a file in place, which ends other processes that
have mapped it with SIGBUS (one in 240 where six shared a cold cache), and it believes a file with zeros in the middle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from regraft._cache import map_sealed, set_aside, write_sealed
from regraft._files import cache_folder, digest_json, environment_variable
from regraft._processor import processor_digest
from regraft.backbones._graphs import seal_of
from regraft.errors import BackboneError

_LARGEST = 2**29
"""Bytes of weights above which a compiled graph is not kept: it passes through memory as a whole when it is written."""

_TRIES = 2

_mapped: list[memoryview] = []
"""What compiled models were read from, mapped until the process ends: OpenVINO keeps the address of a tensor alone, and
requests outlive the model in Python. These pages are the system's cache of files, not memory of the process."""


def compile_graph(path: Path, options: Mapping[str, str], checked: Callable[[], Path]) -> Any:
    """The graph as an ``openvino.CompiledModel`` on the CPU: as it was kept, or compiled and then kept.

    Args:
        path: the graph (.xml). Its seal alone is read where it was compiled before, so that a start is fast.
        options: OpenVINO's properties.
        checked: returns the path of the same graph, its contents checked, built anew where they are damaged. It is
            called once more where OpenVINO cannot read the file, since another process may just have replaced it.

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
    """Where the compiled graph is kept: a name for each graph, OpenVINO, processor and options."""
    from openvino import get_version

    if (seal := seal_of(path)) is None:
        return None
    facts = [seal, get_version(), processor_digest(), environment_variable("ONEDNN_MAX_CPU_ISA"), dict(options)]
    return cache_folder("openvino") / f"{digest_json(facts)[:32]}.blob"


def _import(core: Any, path: Path, options: Mapping[str, str]) -> Any:
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
    blob = _blob(path, options)
    if blob is not None and path.with_suffix(".bin").stat().st_size <= _LARGEST:
        write_sealed(blob, compiled.export_model().getbuffer())


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
