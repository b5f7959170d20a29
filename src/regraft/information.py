"""What there is: this installation, a run, an export, the backbones, the cache.

In: a word or a run folder. Out: JSON values.
Why: a tool that keeps things should say what and where.
Surprise: clearing the cache is always safe; only time is lost.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from regraft import _console
from regraft._cache import require_regular
from regraft._files import CACHE_KINDS, cache_folder, folder_size
from regraft.backbones import list_backbones, load_backbone
from regraft.classifier import read_manifest
from regraft.errors import BackboneError, ConfigError
from regraft.exporters import REPORT


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
        }
    if what == "backbones":
        names = list_backbones()
        with _console.progress("measuring", len(names) if measure else 0) as advance:
            return {"backbones": [_backbone(name, measure, advance) for name in names]}
    if what == "cache":
        return _cache(clear)
    return _run(Path(what).expanduser())


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
        command = [sys.executable, "-m", "regraft._measure", name]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        last = (done.stderr.strip().splitlines() or [""])[-1]
        facts |= json.loads(done.stdout) if done.returncode == 0 else {"missing": last}
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
    if (folder / REPORT).is_file():
        export: dict[str, Any] = json.loads((folder / REPORT).read_text(encoding="utf-8"))
        return export
    manifest = read_manifest(folder)
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    kept = ("n", "accuracy", "interval", "log_loss", "calibration_error")
    return {
        "run": str(folder),
        "classes": manifest["classes"],
        "backbone": manifest["backbone"]["name"],
        "size": manifest["backbone"]["transform"]["size"],
        "head": manifest["head"],
        "counts": metrics["counts"],
        **{side: {key: metrics[side][key] for key in kept} for side in ("val", "test")},
        "made_by": manifest["made_by"],
    }
