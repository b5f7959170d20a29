"""Which processor this is: what was tried or compiled on one kind of processor holds for no other."""

from __future__ import annotations

import platform
from functools import lru_cache
from pathlib import Path

from regraft._files import digest_json


def processor_digest() -> str:
    """Digest of the processor's kind and instructions, as 64 hexadecimal digits: a cache folder may be shared."""
    return digest_json([platform.machine(), *(f"{key}: {value}" for key, value in _facts())])


def processor_name() -> str:
    """What the processor calls itself; may be empty."""
    return next((value for key, value in _facts() if key == "model name"), "")


@lru_cache
def _facts() -> tuple[tuple[str, str], ...]:
    """Name and instructions of the first core, from /proc/cpuinfo, or what Python knows where there is none."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return (("model name", platform.processor()),)  # on Linux this would start a process
    found = []
    with path.open(errors="replace") as file:
        for line in file:
            if not line.strip():  # the end of the first core: reading hundreds of them takes long
                break
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "flags", "Features"):
                found.append((key.strip(), value.strip()))
    return tuple(found)
