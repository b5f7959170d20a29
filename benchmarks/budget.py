"""Does a fine-tuning keep its time budget when other work begins in the middle of it?

Each run has more epochs than its budget allows. At a random moment of its training a process for each core begins to
compute, and goes on until the run has ended. The seconds of training, as the run reports them, are compared with the
budget.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from _common import regraft, report

WITHIN = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--budget", type=int, default=60, help="seconds")
    parser.add_argument("--runs", type=int, default=20)
    options = parser.parse_args()
    dice = random.Random(0)
    shares, begun = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cache = folder / "cache"
        regraft("train", options.photos.resolve(), "--out", "run", cache=cache, cwd=folder)
        regraft("finetune", "run", "--out", "warm", "--epochs", "1", cache=cache, cwd=folder)  # caches the activations
        for number in range(options.runs):
            after = dice.uniform(0.1, 0.9) * options.budget
            seconds = tuned_beside_load(folder, cache, options.budget, after)
            shares.append(seconds / options.budget)
            begun.append(after)
            print(f"run {number + 1}: {seconds:.1f} s, other work after {after:.0f} s", file=sys.stderr, flush=True)
    report(
        budget=options.budget,
        within=sum(abs(share - 1) <= WITHIN for share in shares),
        runs=len(shares),
        least=round(min(shares), 3),
        median=round(float(np.median(shares)), 3),
        most=round(max(shares), 3),
    )


def tuned_beside_load(folder: Path, cache: Path, budget: int, after: float) -> float:
    """Fine-tune with a budget, with other work that begins ``after`` seconds of training; return the seconds of it."""
    log = folder / "progress"
    command = ("finetune", "run", "--out", "tuned", "--overwrite", "--json", "--epochs", "1000", "--patience", "1000")
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "regraft", *command, "--budget", f"{budget}s"],
            cwd=folder,
            env={**os.environ, "REGRAFT_CACHE": str(cache)},
            stdout=subprocess.PIPE,
            stderr=file,
        )
        while process.poll() is None and "val accuracy" not in log.read_text():  # the first epoch is done
            time.sleep(0.1)
        time.sleep(after)
        load = [multiprocessing.Process(target=compute, daemon=True) for _ in range(os.cpu_count() or 1)]
        for worker in load:
            worker.start()
        out, _ = process.communicate()
        for worker in load:
            worker.kill()
            worker.join()
    if process.returncode != 0:
        sys.exit(log.read_text())
    return float(json.loads(out)["seconds"]["training"])


def compute() -> None:
    """Multiply matrices until the process is killed."""
    left = np.ones((256, 256), np.float32)
    while True:
        left @ left


if __name__ == "__main__":
    main()
