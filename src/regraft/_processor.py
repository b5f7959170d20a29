"""Which processor this is: what was tried or compiled on one kind of processor holds for no other."""

from __future__ import annotations

import platform
from functools import lru_cache
from pathlib import Path

from regraft._files import digest_json


def processor_digest() -> str:
    """Digest of the processor's kind and instructions, as 64 hexadecimal digits: a cache folder may be shared."""
    facts = _cpuinfo()
    return digest_json([platform.machine(), platform.processor(), *(f"{key}: {value}" for key, value in facts)])


def processor_name() -> str:
    """What the processor calls itself; may be empty."""
    return dict(_cpuinfo()).get("model name", platform.processor())


@lru_cache
def _cpuinfo() -> tuple[tuple[str, str], ...]:
    """Name and instructions of the first core, where the system has a /proc/cpuinfo."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return ()
    found = []
    with path.open(errors="replace") as file:
        for line in file:
            if not line.strip():  # the end of the first core: reading hundreds of them takes long
                break
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "flags", "Features"):
                found.append((key.strip(), value.strip()))
    return tuple(found)
