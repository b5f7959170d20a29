"""What the benchmarks share: running regraft as a process, and telling where and on what."""

from __future__ import annotations

import csv
import json
import os
import platform
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Done(NamedTuple):
    """A finished process: seconds from start to end, largest memory in MiB, and what it printed."""

    seconds: float
    mebibytes: float
    stdout: str


def regraft(*arguments: str | Path, cache: Path, cwd: Path) -> Done:
    """Run the command line as a user would, with a cache folder of the benchmark's own."""
    return run([sys.executable, "-m", "regraft", *map(str, arguments)], cache, cwd)


def run(command: list[str], cache: Path, cwd: Path) -> Done:
    """Run a process; its children's memory is measured by the operating system, each alone."""
    environment = {**os.environ, "REGRAFT_CACHE": str(cache)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its bytecode, which pip writes
    start = time.perf_counter()
    process = subprocess.Popen(command, env=environment, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate()
    seconds = time.perf_counter() - start
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{err.decode()}")
    # ru_maxrss is the largest of all children so far: call first what is expected to be smallest.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return Done(seconds, peak, out.decode())


def kill_after(seconds: float, *arguments: str | Path, cache: Path, cwd: Path) -> None:
    """Start the command line and kill it, and all it started, after ``seconds``."""
    process = subprocess.Popen(
        [sys.executable, "-m", "regraft", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "REGRAFT_CACHE": str(cache)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def write_fold(records: Sequence[Any], rest: Any, test: Any, number: int, table: Path) -> None:
    """A manifest of one fold: ``test`` as it is; of ``rest`` (indices) a tenth of each class is val."""
    from sklearn.model_selection import StratifiedKFold

    labels = [records[i].label for i in rest]
    val = next(StratifiedKFold(10, shuffle=True, random_state=number).split(labels, labels))[1]
    sides = ["train"] * len(records)
    for side, indices in (("test", test), ("val", rest[val])):
        for i in indices:
            sides[i] = side
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label", "split"))
        writer.writerows((record.path, record.label, side) for record, side in zip(records, sides, strict=True))


def where() -> dict[str, Any]:
    """Commit and machine, for the table."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), model)
    return {"commit": commit.stdout.strip(), "cores": os.cpu_count(), "processor": model}


def report(**figures: Any) -> None:
    """Print the figures as one JSON document."""
    print(json.dumps({**figures, **where()}, ensure_ascii=False, indent=2))
