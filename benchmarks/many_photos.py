"""What does a training cost with many photos whose features are known, and one from an older run with some new ones?

The photos are small JPEG files with synthetic features of EfficientNet-Lite0 (1,704 numbers, 20 classes, a twentieth
of the labels wrong). For each number of photos: the first `train`, which reads the files and searches copies; `train`
again, in which nothing has changed; and then, with ``--new`` more photos whose features are known too, `train --from`.
Times are those of the whole process, memory is the largest resident memory of the process.

With ``--rows``, instead: the steps of a training that grow with the photos, on that many rows of synthetic features
without files: the split (four fifths are train), the head, its calibration, the measurement of a tenth, and the search
for copies. Each number of rows has a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _common import report
from _synthetic import CLASSES, WRONG, synthetic_photos


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


def peak() -> int:
    """The largest resident memory of this process so far, in MiB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10))


def steps(count: int, classes: int, kind: str) -> dict[str, Any]:
    """The seconds of each step on ``count`` rows, and the largest resident memory of this process."""
    import numpy as np

    from regraft.classifiers.calibration import FEWEST, MOST_LOGITS, PHOTOS, Calibration
    from regraft.classifiers.evaluation import measure_parts
    from regraft.features.duplicates import near_duplicates
    from regraft.features.features import Features
    from regraft.foundation.large_arrays import blocks_of, empty, row_blocks, rows_of
    from regraft.heads.base import registry

    widths, dice, found = (40, 80, 112, 192, 1280), np.random.default_rng(0), {}
    y = dice.integers(0, classes, count)
    centres = np.abs(np.random.default_rng(1).normal(size=(classes, sum(widths)))).astype(np.float32)
    x = empty((count, sum(widths)))
    for block, rows in blocks_of(x):
        rows[...] = np.abs(centres[y[block]] * 0.3 + dice.standard_normal(rows.shape, np.float32))
    wrong = dice.random(count) < WRONG
    labels = np.where(wrong, dice.integers(0, classes, count), y)
    names = tuple(f"class {i:02}" for i in range(classes))
    features = Features(x, labels, names, ("",) * count, "synthetic", (widths,))
    order = dice.permutation(count).tolist()
    ends = (count * 8 // 10, count * 9 // 10)

    def timed(name: str, start: float) -> float:
        found[name] = round(time.perf_counter() - start, 2)
        print(name, found[name], "s;", peak(), "MiB at most", file=sys.stderr)
        return time.perf_counter()

    start = timed("drawn", time.perf_counter())
    train, val, test = (
        features.select(part, scratch=True) for part in (order[: ends[0]], order[ends[0] : ends[1]], order[ends[1] :])
    )
    start = timed("split_s", start)
    head = registry.load(kind)().fit(train, val)
    start = timed("fit_s", start)
    some = train.select(range(0, len(train), max(1, len(train) // PHOTOS)))
    assert len(val) >= FEWEST
    known = val.select(range(0, len(val), -(-len(val) * classes // MOST_LOGITS)))
    calibration = Calibration.fit(head, some, known, widths[-1], 0.05)
    start = timed("calibrate_s", start)
    blocks = row_blocks(len(test), rows_of(classes))
    parts = ((calibration.answers(test.x[b], head.logits(test.x[b])), test.y[b]) for b in blocks)
    paths = [Path(str(i)) for i in range(len(test))]
    evaluation = measure_parts(parts, names, paths, calibration.temperature, calibration.threshold)
    start = timed("evaluate_s", start)
    thumbnails = dice.integers(0, 255, (count, 16, 16), np.uint8)
    start = time.perf_counter()
    pairs = near_duplicates(x, thumbnails)
    timed("copies_s", start)
    return {**found, "MiB": peak(), "accuracy": evaluation.accuracy, "pairs": len(pairs)}


def in_a_process(count: int, classes: int, kind: str) -> dict[str, Any]:
    """The result of `steps` in a process of its own."""
    command = [sys.executable, __file__, "--steps", str(count), "--classes", str(classes), "--head", kind]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--new", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the photos and the cache are made; a million take 20 GB")
    parser.add_argument("--rows", type=int, nargs="+", help="measure the steps on so many rows instead")
    parser.add_argument("--classes", type=int, default=CLASSES, help="the number of classes of --rows")
    parser.add_argument("--head", default="logistic", help="the head of --rows")
    parser.add_argument("--steps", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.steps:
        print(json.dumps(steps(options.steps, options.classes, options.head)))
        return
    if options.rows:
        report(**{str(n): in_a_process(n, options.classes, options.head) for n in options.rows})
        return
    report(**{str(n): measure(n, options.new, options.repeats, options.folder) for n in options.counts})


if __name__ == "__main__":
    main()
