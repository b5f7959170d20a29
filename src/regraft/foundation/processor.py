"""Identify the processor of this machine. Results that depend on the processor are cached for one kind of it."""

from __future__ import annotations

import platform
from functools import lru_cache
from pathlib import Path

from regraft.foundation.files import digest_json


def processor_digest() -> str:
    """Return a digest of the processor's name and instruction set, as 64 hexadecimal digits.

    Cache keys contain it, since machines with different processors may share a cache folder.
    """
    return digest_json([platform.machine(), *(f"{key}: {value}" for key, value in _facts())])


def processor_name() -> str:
    """Return the name of the processor as the system reports it; may be empty."""
    return next((value for key, value in _facts() if key == "model name"), "")


@lru_cache
def _facts() -> tuple[tuple[str, str], ...]:
    """Return the name and the instruction set of the first core, from /proc/cpuinfo or else from Python."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return (("model name", platform.processor()),)  # not on Linux, where this call starts a process
    found = []
    with path.open(errors="replace") as file:
        for line in file:
            if not line.strip():  # the end of the first core; to read hundreds of cores would take long
                break
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "flags", "Features"):
                found.append((key.strip(), value.strip()))
    return tuple(found)
