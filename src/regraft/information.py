"""What there is: this installation, a run, an export, the backbones, the cache.

In: a word or a run folder. Out: JSON values.
Why: a tool that keeps things should say what and where.
Surprise: clearing the cache is always safe; only time is lost.
"""

from __future__ import annotations

import platform
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

from regraft import _console, probe
from regraft._files import as_path, cache_folder, folder_size
from regraft._processes import call
from regraft.backbones import list_backbones, load_backbone
from regraft.errors import BackboneError, ConfigError, RegraftError
from regraft.exporters import is_export, read_report
from regraft.run_folder import read_run

_CACHES = ("features", "graphs", "activations", "openvino", "duplicates", "downloads", "unpacked")


def describe(what: str | None, clear: bool = False, measure: bool = False) -> dict[str, Any]:
    """Facts about ``what``: a run folder, an export's, ``backbones``, ``cache``, or None for this installation.

    Raises:
        RunError: ``what`` is neither, and no run folder.
        ConfigError: ``clear`` without ``cache``, or ``measure`` without ``backbones``.
    """
    if measure and what != "backbones":
        raise ConfigError("--measure goes with `regraft info backbones`")
    if clear and what != "cache":
        raise ConfigError("--clear goes with `regraft info cache`")
    if what is None:
        packages = ("regraft", "keras", "openvino", "numpy", "pillow", "pyarrow")
        return {
            **{package: version(package) for package in packages},
            "python": platform.python_version(),
            "cache": str(cache_folder()),
            "precision": probe.findings() or "not tried on this processor yet; the first training does it",
        }
    if what == "backbones":
        names = list_backbones()
        with _console.progress("measuring", len(names) if measure else 0) as advance:
            return {"backbones": [_backbone(name, measure, advance) for name in names]}
    if what == "cache":
        return _cache(clear)
    return _run(as_path(what, "what"))


def _backbone(name: str, measure: bool, advance: _console.Advance) -> dict[str, Any]:
    backbone = load_backbone(name)
    facts: dict[str, Any] = {
        "name": name,
        "size": backbone.transform.size,
        "parameters": f"{backbone.parameters:g} M",
        "top1": backbone.top1,
        "licence": backbone.licence,
    }
    try:
        backbone.require_weights()
    except BackboneError as error:
        facts["missing"] = str(error)
        return facts
    if measure:
        try:
            facts |= call("regraft._measure:measure", {"spec": name}, "it cannot be measured")
        except RegraftError as error:
            facts["missing"] = str(error)
        advance()
    return facts


def _cache(clear: bool) -> dict[str, Any]:
    root = cache_folder()
    sizes = {name: folder_size(root / name) for name in _CACHES}
    if clear:
        for name in _CACHES:
            shutil.rmtree(root / name, ignore_errors=True)
    return {
        "folder": str(root),
        "photos": 0 if clear else _cached_rows(root / "features"),
        "bytes": {name: 0 if clear else size for name, size in sizes.items()},
        "freed_bytes": sum(sizes.values()) if clear else 0,
    }


def _cached_rows(folder: Path) -> int:
    from pyarrow import ArrowException, parquet

    rows = 0
    for part in folder.rglob("part-*.parquet"):
        try:
            rows += parquet.read_metadata(part).num_rows
        except (OSError, ArrowException):  # set aside when it is next read
            continue
    return rows


def _run(folder: Path) -> dict[str, Any]:
    if is_export(folder):
        return read_report(folder)
    run = read_run(folder)
    metrics = run.metrics
    kept = ("n", "accuracy", "interval", "log_loss", "calibration_error")
    return {
        "run": str(folder),
        "classes": list(run.manifest.classes),
        "backbone": run.manifest.backbone.name,
        "size": run.manifest.backbone.transform.size,
        "head": run.manifest.head,
        "counts": metrics["counts"],
        **{side: {key: metrics[side].get(key) for key in kept} for side in ("val", "test")},
        "made_by": run.manifest.document["made_by"],
    }
