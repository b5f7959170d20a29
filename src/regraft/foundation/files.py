"""Digests, paths, atomic writes and the cache folder. No other module reads or sets environment variables."""

from __future__ import annotations

import atexit
import json
import os
import re
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

from regraft.errors import ConfigError, option
from regraft.foundation import console

if sys.platform != "win32":
    import fcntl

CacheKind = Literal[
    "features", "graphs", "probes", "activations", "openvino", "duplicates", "indexes", "downloads", "unpacked"
]
"""The kinds of content in the cache folder. Each kind is kept in a subfolder of the same name."""

CACHE_KINDS: tuple[CacheKind, ...] = get_args(CacheKind)

STALE_SECONDS = 86_400.0
"""The age, in seconds, from which an unchanged temporary file counts as left behind by a killed process."""

_LEFT_FILE = re.compile(r"\.tmp-[0-9a-f]{16}")
_LEFT_FOLDER = re.compile(r"\.tmp-[a-z0-9_]{8}")

_THREADS = "REGRAFT_THREADS"  # the environment variable that passes --threads to child processes


def digest_bytes(data: bytes) -> str:
    """Return the SHA-256 digest of ``data``, as 64 hexadecimal digits."""
    import hashlib  # like others below not at the top of the file, so that `--help` does not wait for the import

    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """Return the SHA-256 digest of a file's bytes, as 64 hexadecimal digits. The file is read in blocks."""
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_json(value: Any) -> str:
    """Return the SHA-256 digest of ``value`` as canonical JSON. Equal values have equal digests on every machine."""
    return digest_bytes(json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode())


def cache_folder(kind: CacheKind | None = None) -> Path:
    """Return the cache folder: ``$REGRAFT_CACHE``, or else the user cache folder of the platform.

    The cache holds only what regraft can compute or download again. If the cache folder cannot be used, for example
    because it is a file or lies in a read-only folder, a warning says so once. Then this process and its children use
    a temporary folder, which is deleted when this process ends.

    Args:
        kind: the kind of content whose subfolder is wanted; None for the whole cache folder.
    """
    folder = _usable_folder(os.environ.get("REGRAFT_CACHE") or "")
    return folder / kind if kind else folder


@lru_cache
def _usable_folder(chosen: str) -> Path:
    """Return the cache folder that the user chose, or the default one if ``chosen`` is empty, or a temporary one."""
    folder, reason = Path(chosen or _user_cache()), ""
    try:
        folder = folder.expanduser()
        reason = _why_unusable(folder)
    except RuntimeError:  # the user named after ~ does not exist, or has no home folder
        reason = "there is no such home folder"
    except OSError as error:  # for example because the name is too long
        reason = (error.strerror or str(error)).lower()
    if not reason:
        return folder
    console.warn(f"nothing is cached: {folder} cannot be the cache folder ({reason})")
    os.environ["REGRAFT_CACHE"] = str(scratch_folder())
    return scratch_folder()


def _user_cache() -> str:
    import platformdirs

    return platformdirs.user_cache_dir("regraft", appauthor=False)


def _why_unusable(folder: Path) -> str:
    """Return why ``folder`` cannot be the cache folder; empty if it is readable or can be made. Raises OSError."""
    if folder.is_dir():
        return "" if os.access(folder, os.R_OK | os.X_OK) else "permission denied"
    above = folder
    while not (above.exists() or above.is_symlink()) and above != above.parent:
        above = above.parent
    if not above.is_dir():
        return f"{above} is no folder"
    return "" if os.access(above, os.W_OK | os.X_OK) else f"nothing can be made in {above}"


@lru_cache
def scratch_folder() -> Path:
    """Return the temporary folder of this process, for files that cannot be cached. It is deleted at the end."""
    import shutil
    import tempfile

    folder = tempfile.mkdtemp(prefix="regraft-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@contextmanager
def scratch_cache() -> Iterator[Path]:
    """Use a new, empty cache folder in the ``with`` block, also in child processes; yield it, then delete it."""
    import tempfile

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
    """Return the folder in which Keras keeps the files it downloads."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")


def child_environment(**changes: str) -> dict[str, str]:
    """Return the environment variables for a child process: those of this process, updated with ``changes``."""
    return {**os.environ, **changes}


def environment_variable(name: str) -> str:
    """Return the value of an environment variable; an empty text if the variable is not set."""
    return os.environ.get(name, "")


def set_environment(name: str, value: str) -> None:
    """Set an environment variable of this process. Keras, for example, reads the name of its backend from one."""
    os.environ[name] = value


def threads() -> int:
    """Return the number of threads for computation: the value of ``--threads``, or else the number of CPU cores.

    An environment variable passes the value of ``--threads`` on to child processes.
    """
    chosen = os.environ.get(_THREADS, "")
    if chosen.isdecimal() and int(chosen) > 0:
        return int(chosen)
    return getattr(os, "process_cpu_count", os.cpu_count)() or 1


def thread_limit() -> int | None:
    """Return the value of ``--threads``; None if it was not given, so that a library may choose a number itself."""
    return threads() if os.environ.get(_THREADS) else None


@contextmanager
def limited_threads(count: int | None) -> Iterator[None]:
    """Let `threads` return ``count`` in the ``with`` block, also in child processes.

    Args:
        count: the number of threads, at least 1; None changes nothing.

    Raises:
        ConfigError: ``count`` is below 1.
    """
    if count is None:
        yield
        return
    if count < 1:
        raise ConfigError(f"{option('threads')} is {count}; wanted at least 1")
    before = os.environ.get(_THREADS)
    os.environ[_THREADS] = str(count)
    try:
        yield
    finally:
        if before is None:
            del os.environ[_THREADS]
        else:
            os.environ[_THREADS] = before


def as_path(value: Any, what: str) -> Path:
    """Return ``value`` as a path, with ``~`` replaced by the home folder.

    Args:
        value: the path that the user gave.
        what: the name of the option for the error message, such as ``out``.

    Raises:
        ConfigError: ``value`` is neither text nor a path, is empty, or names an unknown user after ``~``.
    """
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(text, str):
        raise ConfigError(f"{what} is {kind_of(value)}; wanted a path")
    if not text:
        raise ConfigError(f"{what} is an empty text; wanted a path")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{what} is {text}: there is no such user; wanted a path") from error


def kind_of(value: Any) -> str:
    """Return the type of a value with its article for an error message, such as ``a list``, ``an int`` or ``None``."""
    name = "None" if value is None else type(value).__name__
    return name if value is None else f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def peak_memory() -> int:
    """Return the peak memory of this process, in MiB; 0 if the system does not report it."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM")), 0)


def folder_size(folder: Path) -> int:
    """Return the total size of all files under ``folder``, in bytes; 0 if the folder does not exist.

    Links are not followed. A file with several names (hard links) counts once.
    """
    seen: dict[tuple[int, int], int] = {}
    total = 0
    for facts in _files_under(folder):
        if facts.st_nlink == 1:
            total += facts.st_size
        else:
            seen[facts.st_dev, facts.st_ino] = facts.st_size
    return total + sum(seen.values())


def _files_under(folder: Path) -> Iterator[os.stat_result]:
    """Yield the status of each regular file under ``folder``. Links are not followed."""
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # another process deleted it just now
                facts = Path(place, name).lstat()
                if stat.S_ISREG(facts.st_mode):
                    yield facts


@lru_cache
def tidy(folder: Path) -> None:
    """Delete the temporary files and folders that killed processes left behind in ``folder``.

    Each process does this once per folder, since listing a folder takes time. Only files and folders with the names
    that `atomic_file` and `atomic_folder` give are deleted, and only if they have not changed for a day. A temporary
    folder stays if it holds a folder of the user's that `atomic_folder` had moved aside when its process was killed.
    """
    import shutil

    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _LEFT_FILE.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                if time.time() - entry.stat(follow_symlinks=False).st_mtime > STALE_SECONDS:
                    Path(entry.path).unlink(missing_ok=True)
            elif _LEFT_FOLDER.fullmatch(entry.name) and _is_left_shelter(Path(entry.path)):
                shutil.rmtree(entry.path, ignore_errors=True)


def _is_left_shelter(shelter: Path) -> bool:
    """Return whether a killed process left this temporary folder behind, and it holds nothing of the user's."""
    if shelter.is_symlink() or not {path.name for path in shelter.iterdir()} <= {"new"}:
        return False
    newest = max([shelter.lstat().st_mtime, *(facts.st_mtime for facts in _files_under(shelter))])
    return time.time() - newest > STALE_SECONDS and not _is_locked(shelter)


@contextmanager
def shelter_in(folder: Path) -> Iterator[Path]:
    """Yield a new temporary folder in ``folder``, and delete it afterwards. The caller moves finished work out of it.

    The temporary folder is locked while it is in use, if the system has such locks. So `tidy` does not delete the
    folder of a process that is still running but has written nothing for a day.
    """
    import shutil
    import tempfile

    folder.mkdir(parents=True, exist_ok=True)
    tidy(folder)
    shelter = Path(tempfile.mkdtemp(prefix=".tmp-", dir=folder))
    lock = -1
    try:
        if sys.platform != "win32":
            lock = os.open(shelter, os.O_RDONLY)
            with suppress(OSError):  # a file system without locks, where `tidy` can only look at the age
                fcntl.flock(lock, fcntl.LOCK_SH)
        yield shelter
    finally:
        if lock >= 0:
            os.close(lock)
        shutil.rmtree(shelter, ignore_errors=True)


def _is_locked(shelter: Path) -> bool:
    """Return whether a running process has locked a temporary folder; False if the system has no locks."""
    if sys.platform == "win32":
        return False
    lock = os.open(shelter, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(lock)
    return False


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add ``path`` to each OSError in the ``with`` block that names no file, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside ``path``; on success flush it to disk and rename it to ``path``.

    A reader sees the old file, the new file or no file, but never a part of one, even after a power cut.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tidy(path.parent)
    temporary = path.with_name(f".tmp-{os.urandom(8).hex()}")  # a file of mkstemp could only be read by its owner
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
    """Yield an empty temporary folder beside ``path``; on success rename it to ``path``.

    An existing folder at ``path`` is moved aside first and deleted last. So a failure at any moment leaves either the
    old folder or the new folder complete.
    """
    # The temporary folder is made inside a folder of mode 0700, so that it can itself have the user's ordinary mode.
    with shelter_in(path.parent) as shelter:
        fresh = shelter / "new"
        fresh.mkdir()
        yield fresh
        if path.exists():
            path.replace(shelter / "old")
        fresh.replace(path)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with Unix line ends, so that the bytes are the same on every platform."""
    with naming(path):
        path.write_bytes(text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented UTF-8 JSON. Bytes of file names that are not UTF-8 are written as escapes."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold the lock on ``file`` in the ``with`` block. Another process that asks for the same lock waits.

    The file is created if it is missing, and is not deleted. If the system or the disk has no locks, nobody waits.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("ab") as opened:
        if sys.platform != "win32":
            with suppress(OSError):  # some network disks have no locks
                fcntl.flock(opened, fcntl.LOCK_EX)
        yield
