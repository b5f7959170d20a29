"""Digests, atomic writes and the cache folder. The only module that touches the environment."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def digest_bytes(data: bytes) -> str:
    """SHA-256 of ``data``, as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of the file's bytes, as 64 hexadecimal digits; reads in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_json(value: Any) -> str:
    """SHA-256 of ``value`` written as canonical JSON: the same for equal values on every machine."""
    return digest_bytes(json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode())


def cache_folder() -> Path:
    """Where regraft keeps what it can compute again: ``$REGRAFT_CACHE``, or the platform's user cache."""
    if chosen := os.environ.get("REGRAFT_CACHE"):
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("regraft", appauthor=False))


@contextmanager
def scratch_cache() -> Iterator[Path]:
    """Within it, everything that is cached goes to a new folder, which is then deleted; child processes too."""
    before = os.environ.get("REGRAFT_CACHE")
    with tempfile.TemporaryDirectory(prefix="regraft-", ignore_cleanup_errors=True) as folder:
        os.environ["REGRAFT_CACHE"] = folder
        try:
            yield Path(folder)
        finally:
            if before is None:
                del os.environ["REGRAFT_CACHE"]
            else:
                os.environ["REGRAFT_CACHE"] = before


def keras_folder() -> Path:
    """Where Keras keeps what it downloads."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")


def child_environment(**changes: str) -> dict[str, str]:
    """The environment for a child process: ours, with ``changes``."""
    return {**os.environ, **changes}


def set_environment(name: str, value: str) -> None:
    """Set a variable for this process: Keras reads its backend from one when it is imported."""
    os.environ[name] = value


def peak_memory() -> int:
    """The most memory that this process has had, in MiB; 0 where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM")), 0)


def folder_size(folder: Path) -> int:
    """Bytes in all files under ``folder``; 0 where there is none."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have the system's errors within it name ``path`` where they name nothing: a write to a full disk does not."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is flushed to disk and takes that name.

    A reader sees the old file, the new file or none, never half of one, even after a power cut.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{secrets.token_hex(8)}")  # mkstemp's would be for its owner alone
    temporary.touch(exist_ok=False)
    try:
        with naming(path):
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside ``path``; on success it takes that name.

    An existing folder of that name is moved aside first and deleted last, so that a failure
    between the two leaves either the old or the new one whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Made inside a folder of mode 0700, so that the result itself has the user's ordinary mode.
    shelter = Path(tempfile.mkdtemp(prefix=".tmp-", dir=path.parent))
    fresh = shelter / "new"
    fresh.mkdir()
    try:
        yield fresh
        if path.exists():
            path.replace(shelter / "old")
        fresh.replace(path)
    finally:
        shutil.rmtree(shelter, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with Unix line ends, the same bytes on every platform."""
    with naming(path):
        path.write_bytes(text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented UTF-8 JSON. File names that are not UTF-8 keep their odd bytes as escapes."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")
