"""Information on this installation, a run, an export, the backbones or the cache: what `regraft info` prints.

In: a run folder, an export folder, or the word ``backbones`` or ``cache``. Out: JSON values.
Why: a tool that keeps files should say which files it keeps, and where.
Surprise: clearing the cache is always safe. It only costs the time to compute its content again.
"""

from __future__ import annotations

import platform
import shutil
import sys
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

from regraft.backbones.base import list_backbones, load_backbone
from regraft.classifiers.run_folder import read_run
from regraft.engines import probe
from regraft.errors import BackboneError, ConfigError, RegraftError, option
from regraft.exporting.formats.base import is_export, read_report
from regraft.features.cache_limit import cache_limit
from regraft.foundation import console
from regraft.foundation.cache_files import require_regular
from regraft.foundation.files import CACHE_KINDS, as_path, cache_folder, folder_size
from regraft.foundation.processes import call


def describe(what: str | None, clear: bool = False, measure: bool = False) -> dict[str, Any]:
    """Return facts about this installation, a run, an export, the backbones or the cache, as JSON values.

    Args:
        what: a run folder, an export folder, ``backbones``, ``cache``, or None for this installation.
        clear: whether to delete the content of the cache first.
        measure: whether to measure the speed and the memory of each backbone on this machine.

    Raises:
        RunError: ``what`` is not one of these words, and no run folder or export folder.
        ExportError: the report of the export is damaged.
        ConfigError: ``clear`` is set without ``cache``, or ``measure`` without ``backbones``.
    """
    if measure and what != "backbones":
        raise ConfigError(f"{option('measure', True)} goes with `regraft info backbones`")
    if clear and what != "cache":
        raise ConfigError(f"{option('clear', True)} goes with `regraft info cache`")
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
        with console.progress("measuring", len(names) if measure else 0) as advance:
            return {"backbones": [_backbone(name, measure, advance) for name in names]}
    if what == "cache":
        return _cache(clear)
    return _run(as_path(what, "what"))


def _backbone(name: str, measure: bool, advance: console.Advance) -> dict[str, Any]:
    """Return the facts about one backbone. ``missing`` says why it cannot be used or measured."""
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
        if measure:
            advance()
        return facts
    if measure:
        try:
            facts |= call("regraft.engines.measuring:measure", {"spec": name}, "it cannot be measured")
        except RegraftError as error:
            facts["missing"] = str(error)
        advance()
    return facts


def _cache(clear: bool) -> dict[str, Any]:
    """Return the facts about the cache, after deleting its content if ``clear`` is set."""
    root = cache_folder()
    before = _sizes(root)
    left = [path for kind in CACHE_KINDS for path in _delete(root / kind)] if clear else []
    after = _sizes(root) if clear else before
    for path, reason in left:
        console.warn(f"{path} was not deleted: {reason}")
    features = _cached_features(root / "features")
    return {
        "folder": str(root),
        "photos": sum(one["photos"] for one in features),
        "features": features,
        "bytes": after,
        "limit_bytes": cache_limit(),
        "freed_bytes": sum(before.values()) - sum(after.values()),
        "not_deleted": [str(path) for path, _ in left],
    }


def _sizes(root: Path) -> dict[str, int]:
    """Return the size of each folder of the cache in bytes. A link to a place outside the cache counts as 0."""
    return {kind: 0 if (root / kind).is_symlink() else folder_size(root / kind) for kind in CACHE_KINDS}


def _delete(folder: Path) -> list[tuple[Path, str]]:
    """Delete a folder, and return the paths that could not be deleted, each with the reason.

    A link inside the folder is deleted, but not the file or folder to which it points.
    """
    if folder.is_symlink():
        return [(folder, f"it is a link to {folder.readlink()}, outside the cache")]
    left: list[tuple[Path, str]] = []

    def note(_: Any, path: str, error: BaseException) -> None:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        # A folder that could not be deleted because of a path in it is not listed beside that path.
        is_listed = any(Path(path) in other.parents for other, _ in left)
        if not isinstance(error, FileNotFoundError) and not is_listed:
            left.append((Path(path), reason.lower()))

    if folder.exists():
        if sys.version_info >= (3, 12):
            shutil.rmtree(folder, onexc=note)
        else:
            shutil.rmtree(folder, onerror=lambda function, path, facts: note(function, path, facts[1]))
    return left


def _cached_features(folder: Path) -> list[dict[str, Any]]:
    """Return for each engine the name of its backbone, and the number of photos and of bytes in the cache."""
    from pyarrow import ArrowException, parquet

    found: list[dict[str, Any]] = []
    for place in sorted(folder.glob("*/")):
        names, rows = Counter[str](), 0
        for part in place.glob("part-*.parquet"):
            try:
                require_regular(part)
                metadata = parquet.read_metadata(part)
            except (OSError, ValueError, ArrowException):  # the next process that reads it sets it aside
                continue
            rows += metadata.num_rows
            names[(metadata.metadata or {}).get(b"regraft.backbone", b"").decode("utf-8", "replace")] += 1
        name = max(names, key=lambda name: (name != "", names[name]), default="")
        facts = {"backbone": name or "unknown", "fingerprint": place.name, "photos": rows, "bytes": folder_size(place)}
        found.append(facts)
    return found


def _run(folder: Path) -> dict[str, Any]:
    """Return the facts about a run folder, or the report of an export folder. Raises RunError or ExportError."""
    if is_export(folder):
        return read_report(folder)
    run = read_run(folder)
    metrics = run.metrics
    measured = {name: metrics.get(name) for name in ("val", "test", "folds")}
    kept = ("n", "accuracy", "interval", "log_loss", "calibration_error")
    return {
        "run": str(folder),
        "classes": list(run.manifest.classes),
        "backbone": run.manifest.backbone.name,
        "size": run.manifest.backbone.transform.size,
        "sizes": [part.transform.size for part in run.manifest.backbone.parts or (run.manifest.backbone,)],
        "head": run.manifest.head,
        "counts": metrics["counts"],
        **{name: {key: found.get(key) for key in kept} for name, found in measured.items() if found},
        "made_by": run.manifest.document["made_by"],
    }
