"""What does a training cost with many photos whose features are known, and one from an older run with some new ones?

The photos are small JPEG files with synthetic features of EfficientNet-Lite0 (1,704 numbers, 20 classes, a twentieth
of the labels wrong). For each number of photos: the first `train`, which reads the files and searches copies; `train`
again, in which nothing has changed; and then, with ``--new`` more photos whose features are known too, `train --from`.
Times are those of the whole process, memory is the largest resident memory of the process.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _common import report
from _synthetic import synthetic_photos


def train(work: Path, *arguments: str | Path) -> dict[str, Any]:
    """Run `regraft train` and return its seconds, its memory and what it says of both."""
    command = [sys.executable, "-m", "regraft", "train", *map(str, arguments), "--json", "--quiet"]
    environment = {**os.environ, "REGRAFT_CACHE": str(work / "cache")}
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=work, env=environment, stdout=subprocess.PIPE)
    assert process.stdout is not None
    document = json.loads(process.stdout.read())
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return {
        "process_s": round(time.perf_counter() - start, 1),
        "MiB": round(usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)),
        "steps_s": document["seconds"],
        "accuracy": document["test"]["accuracy"],
    }


def measure(count: int, new: int, repeats: int, folder: Path | None) -> dict[str, Any]:
    """The figures of one number of photos."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        work = Path(place)
        synthetic_photos(work / "photos", work / "cache", range(count))
        time.sleep(2)  # files that were written just now are read again
        found: dict[str, Any] = {"first": train(work, "photos", "--out", "run")}
        found["again"] = [train(work, "photos", "--out", f"run-again-{i}") for i in range(repeats)]
        if new:
            synthetic_photos(work / "photos", work / "cache", range(count, count + new))
            time.sleep(2)
            found["from"] = []
            for _ in range(repeats):
                found["from"].append(train(work, "photos", "--from", "run", "--out", "later"))
                shutil.rmtree(work / "later")
                for file in (work / "cache" / "duplicates").glob("*"):
                    if file.stat().st_mtime > (work / "run" / "manifest.json").stat().st_mtime:
                        file.unlink()  # so that new photos are compared again
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--new", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the photos and the cache are made; a million take 20 GB")
    options = parser.parse_args()
    report(**{str(n): measure(n, options.new, options.repeats, options.folder) for n in options.counts})


if __name__ == "__main__":
    main()
