"""What there is: this installation, a run, an export, the backbones, the cache.

In: a word or a run folder. Out: JSON values.
Why: a tool that keeps things should say what and where.
Surprise: clearing the cache is always safe; only time is lost.
"""

from __future__ import annotations

import platform
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from regraft import _console, probe
from regraft._cache import require_regular
from regraft._files import CACHE_KINDS, as_path, cache_folder, folder_size
from regraft._processes import call
from regraft.backbones import list_backbones, load_backbone
from regraft.errors import BackboneError, ConfigError, RegraftError
from regraft.exporters import is_export, read_report
from regraft.run_folder import read_run


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
    before = _sizes(root)
    left = [path for kind in CACHE_KINDS for path in _delete(root / kind)] if clear else []
    after = _sizes(root) if clear else before
    for path, reason in left:
        _console.warn(f"{path} was not deleted: {reason}")
    return {
        "folder": str(root),
        "photos": _cached_rows(root / "features"),
        "bytes": after,
        "freed_bytes": sum(before.values()) - sum(after.values()),
        "not_deleted": [str(path) for path, _ in left],
    }


def _sizes(root: Path) -> dict[str, int]:
    """Bytes of each kind of what is kept; a link out of the cache has none."""
    return {kind: 0 if (root / kind).is_symlink() else folder_size(root / kind) for kind in CACHE_KINDS}


def _delete(folder: Path) -> list[tuple[Path, str]]:
    """Delete a folder; what of it could not be deleted, and why. Links in it are deleted, and not what they lead to."""
    if folder.is_symlink():
        return [(folder, f"it is a link to {folder.readlink()}, outside the cache")]
    left: list[tuple[Path, str]] = []

    def note(_: Any, path: str, error: BaseException) -> None:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        told = any(Path(path) in other.parents for other, _ in left)  # of a folder, by what is left in it
        if not isinstance(error, FileNotFoundError) and not told:
            left.append((Path(path), reason.lower()))

    if folder.exists():
        if sys.version_info >= (3, 12):
            shutil.rmtree(folder, onexc=note)
        else:
            shutil.rmtree(folder, onerror=lambda function, path, facts: note(function, path, facts[1]))
    return left


def _cached_rows(folder: Path) -> int:
    from pyarrow import ArrowException, parquet

    rows = 0
    for part in folder.rglob("part-*.parquet"):
        try:
            require_regular(part)
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
