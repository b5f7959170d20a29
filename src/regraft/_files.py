"""Digests, paths, atomic writes and the cache folder. The only module that touches the environment."""

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

from regraft import _console
from regraft.errors import ConfigError

if sys.platform != "win32":
    import fcntl

CacheKind = Literal["features", "graphs", "probes", "activations", "openvino", "duplicates", "downloads", "unpacked"]
"""What is kept in the cache folder: each kind in a folder of that name."""

CACHE_KINDS: tuple[CacheKind, ...] = get_args(CacheKind)

STALE_SECONDS = 86_400.0
"""The age from which a temporary file, that nothing has written to since, is what a killed process left behind."""

_LEFT_FILE = re.compile(r"\.tmp-[0-9a-f]{16}")
_LEFT_FOLDER = re.compile(r"\.tmp-[a-z0-9_]{8}")

_THREADS = "REGRAFT_THREADS"


def digest_bytes(data: bytes) -> str:
    """SHA-256 of ``data``, as 64 hexadecimal digits."""
    import hashlib  # not at the top, as others below: `--help` needs none of them

    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of the file's bytes, as 64 hexadecimal digits; reads in blocks."""
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_json(value: Any) -> str:
    """SHA-256 of ``value`` written as canonical JSON: the same for equal values on every machine."""
    return digest_bytes(json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode())


def cache_folder(kind: CacheKind | None = None) -> Path:
    """Where regraft keeps what it can compute again: ``$REGRAFT_CACHE``, or the platform's user cache.

    Where that can be no folder, since it is a file, belongs to no user, or lies where nothing can be made, a warning
    says so once and a temporary folder takes its place, for this process and its children, until this process ends.

    Args:
        kind: of what, for the folder of one kind; None for the folder of all kinds.
    """
    folder = _usable_folder(os.environ.get("REGRAFT_CACHE") or "")
    return folder / kind if kind else folder


@lru_cache
def _usable_folder(chosen: str) -> Path:
    folder, reason = Path(chosen or _user_cache()), ""
    try:
        folder = folder.expanduser()
        reason = _why_unusable(folder)
    except RuntimeError:  # there is no such user, or no home
        reason = "there is no such home folder"
    except OSError as error:  # a name that is too long
        reason = (error.strerror or str(error)).lower()
    if not reason:
        return folder
    _console.warn(f"nothing is cached: {folder} cannot be the cache folder ({reason})")
    os.environ["REGRAFT_CACHE"] = str(scratch_folder())
    return scratch_folder()


def _user_cache() -> str:
    import platformdirs

    return platformdirs.user_cache_dir("regraft", appauthor=False)


def _why_unusable(folder: Path) -> str:
    """Why ``folder`` neither is a folder that can be read nor can be made; empty where it can. Raises OSError."""
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
    """A temporary folder of this process, deleted when it ends: for what must be in a file and cannot be cached."""
    import shutil
    import tempfile

    folder = tempfile.mkdtemp(prefix="regraft-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@contextmanager
def scratch_cache() -> Iterator[Path]:
    """Within it, everything that is cached goes to a new folder, which is then deleted; child processes too."""
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
    """Where Keras keeps what it downloads."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")


def child_environment(**changes: str) -> dict[str, str]:
    """The environment for a child process: ours, with ``changes``."""
    return {**os.environ, **changes}


def environment_variable(name: str) -> str:
    """The value of an environment variable; empty where it is not set."""
    return os.environ.get(name, "")


def set_environment(name: str, value: str) -> None:
    """Set a variable for this process: Keras reads its backend from one when it is imported."""
    os.environ[name] = value


def threads() -> int:
    """Return how many threads may compute at once: what ``--threads`` says, or else the number of this machine's cores.

    The number travels in the environment, so that child processes keep to it too.
    """
    chosen = os.environ.get(_THREADS, "")
    if chosen.isdecimal() and int(chosen) > 0:
        return int(chosen)
    return getattr(os, "process_cpu_count", os.cpu_count)() or 1


def thread_limit() -> int | None:
    """Return what ``--threads`` says, for libraries that choose well themselves where it says nothing."""
    return threads() if os.environ.get(_THREADS) else None


@contextmanager
def limited_threads(count: int | None) -> Iterator[None]:
    """Within it `threads` is ``count``, in child processes too; None changes nothing.

    Raises:
        ConfigError: ``count`` is below 1.
    """
    if count is None:
        yield
        return
    if count < 1:
        raise ConfigError(f"--threads is {count}; wanted at least 1")
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
    """Return ``value`` as a path, with ``~`` as the home folder.

    Args:
        value: what somebody gave for a path.
        what: what to call it in the error, such as ``out``.

    Raises:
        ConfigError: it is neither text nor a path, it is empty, or the user it names after ``~`` is unknown.
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
    """Return what to call a value in an error: its type with an article, as in ``a list`` or ``an int``."""
    name = "None" if value is None else type(value).__name__
    return name if value is None else f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def peak_memory() -> int:
    """The most memory that this process has had, in MiB; 0 where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM")), 0)


def folder_size(folder: Path) -> int:
    """Bytes in all files under ``folder``; 0 where there is none.

    What links in it lead to does not count; a file of several names counts once.
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
    """What the system tells of each regular file under ``folder``; no link is followed."""
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # another process deleted it just now
                facts = Path(place, name).lstat()
                if stat.S_ISREG(facts.st_mode):
                    yield facts


@lru_cache
def tidy(folder: Path) -> None:
    """Delete what killed processes left behind in ``folder``; once a process, since it means listing the folder.

    Only names that `atomic_file` and `atomic_folder` give, and only where nothing was written for a day. A shelter that
    holds an older folder of the user's, moved aside when its process was killed, stays.
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
    if shelter.is_symlink() or not {path.name for path in shelter.iterdir()} <= {"new"}:
        return False
    newest = max([shelter.lstat().st_mtime, *(facts.st_mtime for facts in _files_under(shelter))])
    return time.time() - newest > STALE_SECONDS and not _is_locked(shelter)


@contextmanager
def shelter_in(folder: Path) -> Iterator[Path]:
    """Yield a new temporary folder in ``folder``, deleted at the end. What is finished is moved out of it.

    It is locked while in use, where the system has such locks: so `tidy` leaves the one of a process that sleeps alone.
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
            with suppress(OSError):  # a file system without locks: there age alone decides
                fcntl.flock(lock, fcntl.LOCK_SH)
        yield shelter
    finally:
        if lock >= 0:
            os.close(lock)
        shutil.rmtree(shelter, ignore_errors=True)


def _is_locked(shelter: Path) -> bool:
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
    tidy(path.parent)
    temporary = path.with_name(f".tmp-{os.urandom(8).hex()}")  # mkstemp's would be for its owner alone
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
    # Made inside a folder of mode 0700, so that the result itself has the user's ordinary mode.
    with shelter_in(path.parent) as shelter:
        fresh = shelter / "new"
        fresh.mkdir()
        yield fresh
        if path.exists():
            path.replace(shelter / "old")
        fresh.replace(path)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with Unix line ends, the same bytes on every platform."""
    with naming(path):
        path.write_bytes(text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented UTF-8 JSON. File names that are not UTF-8 keep their odd bytes as escapes."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Within it no other process of this user's is within the same: who comes second waits.

    ``file`` is made where it is missing, and stays. Where the system or the disk has no locks, nobody waits.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("ab") as opened:
        if sys.platform != "win32":
            with suppress(OSError):  # some network disks
                fcntl.flock(opened, fcntl.LOCK_EX)
        yield
