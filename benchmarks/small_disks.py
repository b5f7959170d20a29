"""Train and export on disks of 30 sizes from 0 to 64 MB: done, or one line; and nothing half-written is ever read.

Needs leave to mount disks in memory. Results and cache are on the small disk, and the cache is cold each time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from _common import report

from regraft.foundation.files import digest_file

LARGEST = 64 * 2**20


@contextmanager
def disk(size: int, folder: Path) -> Iterator[Path]:
    """Mount a disk of so many bytes, one page at least: a size of 0 would mean no limit."""
    folder.mkdir()
    options = f"size={max(4096, size)}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True, capture_output=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def ended(*arguments: str | Path, cache: Path, cwd: Path) -> dict[str, Any]:
    """How a command ended; ``fault`` says what no command may do."""
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "regraft", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "REGRAFT_CACHE": str(cache)},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=600,
        check=False,
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("regraft: ")]
    fault = ""
    if "Traceback" in done.stderr or done.returncode not in (0, 1):
        fault = f"exit code {done.returncode}: {done.stderr[-500:]}"
    elif len(lines) != done.returncode:
        fault = f"exit code {done.returncode} and {len(lines)} lines of error: {done.stderr[-500:]}"
    return {"code": done.returncode, "says": lines[:1], "fault": fault, "seconds": round(time.monotonic() - start, 1)}


def tried(size: int, photos: Path, folder: Path, expected: str) -> dict[str, Any]:
    """Train and export on a disk of so many bytes; look at what is left; train again beside it with the same cache."""
    with disk(size, folder / f"disk-{size}") as small:
        cache, run = small / "cache", small / "run"
        trained = ended("train", photos, "--effort", "quick", "--out", run, cache=cache, cwd=folder)
        exported: dict[str, Any] = {"code": None, "fault": ""}
        if trained["code"] == 0:
            exported = ended("export", run, "--format", "openvino", cache=cache, cwd=folder)
        faults = [trained["fault"], exported["fault"]]
        if {path.name for path in small.iterdir()} - {"cache", "run"}:
            faults.append(f"left behind: {sorted(path.name for path in small.iterdir())}")
        if run.exists() and digest_file(run / "head.safetensors") != expected:
            faults.append("another head")
        if run.exists() and (run / "exports" / "openvino").exists() != (exported["code"] == 0):
            faults.append("half an export")
        again = folder / f"again-{size}"
        after = ended("train", photos, "--effort", "quick", "--out", again, cache=cache, cwd=folder)
        faults.append(after["fault"])
        if after["code"] == 0 and digest_file(again / "head.safetensors") != expected:
            faults.append("another head, with the cache that was left")
    return {
        "bytes": size,
        "train": trained,
        "export": exported,
        "again": after["code"],
        "faults": [f for f in faults if f],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--sizes", type=int, default=30)
    options = parser.parse_args()
    sizes = [0, *(round(16384 * (LARGEST / 16384) ** (i / (options.sizes - 2))) for i in range(options.sizes - 1))]
    with tempfile.TemporaryDirectory() as name:
        folder, photos = Path(name), options.photos.resolve()
        first = ended("train", photos, "--effort", "quick", "--out", "whole", cache=folder / "cache", cwd=folder)
        if first["code"] != 0:
            sys.exit(f"with room enough: {first}")
        expected = digest_file(folder / "whole" / "head.safetensors")
        found = []
        for size in sizes:
            found.append(tried(size, photos, folder, expected))
            print(json.dumps(found[-1], ensure_ascii=False), file=sys.stderr, flush=True)
    report(
        sizes=len(found),
        trained=sum(f["train"]["code"] == 0 for f in found),
        exported=sum(f["export"]["code"] == 0 for f in found),
        faults=sum(len(f["faults"]) for f in found),
    )


if __name__ == "__main__":
    main()
