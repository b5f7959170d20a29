"""A limit for the size of the cache: what was not used for the longest time is deleted first.

In: the environment variable ``REGRAFT_CACHE_LIMIT``, such as ``20GB``. Out: a cache that is not larger for long.
Why: features of a million photos take 7 GB for each backbone, and nobody looks into a cache.
Surprise: what was used within the last hour stays, whatever the limit is, since a process may be using it. Downloads
stay as well, because a machine may be offline when it needs them again.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from regraft.errors import ConfigError
from regraft.foundation import console
from regraft.foundation.files import CacheKind, cache_folder, environment_variable, folder_size

_VARIABLE = "REGRAFT_CACHE_LIMIT"
_EVICTED: tuple[CacheKind, ...] = ("features", "activations", "openvino", "duplicates", "indexes")
_ASIDE = ".evicted-"
_IN_USE_SECONDS = 3600.0
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def cache_limit() -> int | None:
    """Return the limit for the size of the cache in bytes; None for no limit.

    Raises:
        ConfigError: the environment variable is no size.
    """
    text = environment_variable(_VARIABLE).strip()
    if not text:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?)B?", text.upper())
    if found is None:
        raise ConfigError(f"{_VARIABLE} is {text!r}; wanted a size such as 500MB or 20GB")
    return int(float(found[1]) * _UNITS[found[2]])


def mark_as_used(path: Path) -> None:
    """Note that a file or folder of the cache is used now. The note is its time of change."""
    with suppress(OSError):  # the cache may be read-only, and then nothing in it is deleted either
        if time.time() - path.stat().st_mtime > _IN_USE_SECONDS / 2:
            os.utime(path)


def keep_within_limit() -> None:
    """Delete what was not used for the longest time, until the cache is within its limit, if there is one.

    Raises:
        ConfigError: the environment variable is no size.
    """
    limit = cache_limit()
    if limit is None:
        return
    for kind in _EVICTED:  # what a killed process has moved aside and not deleted
        for left in cache_folder(kind).glob(f"{_ASIDE}*"):
            shutil.rmtree(left, ignore_errors=True)
    size = folder_size(cache_folder())
    for used, path in sorted(_deletable()):
        if size <= limit:
            return
        if time.time() - used < _IN_USE_SECONDS:
            break
        freed = folder_size(path) if path.is_dir() else path.stat().st_size
        if _delete(path):
            size -= freed
    if size > limit:
        console.note(f"the cache has {size / 1e9:.1f} GB, more than {_VARIABLE} allows; the rest of it is in use")


def _deletable() -> Iterator[tuple[float, Path]]:
    """Yield the time of the last use and the path of each file or folder that can be deleted by itself."""
    for kind in _EVICTED:
        folder = cache_folder(kind)
        for path in folder.glob("*/*" if kind == "features" else "*"):
            with suppress(OSError):
                if not path.name.startswith(".tmp-"):
                    yield path.lstat().st_mtime, path


def _delete(path: Path) -> bool:
    """Delete a file or a folder of the cache, and return whether it is gone. A folder is first moved aside."""
    try:
        if path.is_dir() and not path.is_symlink():
            aside = path.rename(path.with_name(f"{_ASIDE}{os.urandom(8).hex()}"))
            shutil.rmtree(aside, ignore_errors=True)
        else:
            path.unlink()
    except OSError:
        return False
    return True
