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
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from _common import regraft, report

from regraft.classifiers.run_folder import LAYOUT

WITHIN = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--budget", type=int, default=60, help="seconds")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=30, help="more than the budget allows")
    options = parser.parse_args()
    dice = random.Random(0)
    shares = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cache = folder / "cache"
        regraft("train", options.photos.resolve(), "--out", "run", cache=cache, cwd=folder)
        regraft("finetune", "run", "--out", "warm", "--epochs", "1", cache=cache, cwd=folder)  # caches the activations
        for number in range(options.runs):
            after = dice.uniform(0.1, 0.9) * options.budget
            wanted = ("--epochs", str(options.epochs), "--patience", str(options.epochs))
            seconds = tuned_beside_load(folder, cache, (*wanted, "--budget", f"{options.budget}s"), after)
            shares.append(seconds / options.budget)
            print(f"run {number + 1}: {seconds:.1f} s, other work after {after:.0f} s", file=sys.stderr, flush=True)
    report(
        budget=options.budget,
        within=sum(abs(share - 1) <= WITHIN for share in shares),
        runs=len(shares),
        least=round(min(shares), 3),
        median=round(float(np.median(shares)), 3),
        most=round(max(shares), 3),
    )


def tuned_beside_load(folder: Path, cache: Path, wanted: Sequence[str], after: float) -> float:
    """Fine-tune, and begin other work so many seconds ``after`` the first epoch. Return the seconds of training."""
    shutil.rmtree(folder / "tuned", ignore_errors=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "regraft", "finetune", "run", "--out", "tuned", "--json", *wanted],
        cwd=folder,
        env={**os.environ, "REGRAFT_CACHE": str(cache)},
        stdout=subprocess.PIPE,
    )
    while process.poll() is None and not (folder / "tuned" / LAYOUT.checkpoints / LAYOUT.history).exists():
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
        sys.exit("the fine-tuning failed")
    return float(json.loads(out)["seconds"]["training"])


def compute() -> None:
    """Multiply matrices until the process is killed."""
    left = np.ones((256, 256), np.float32)
    while True:
        left @ left


if __name__ == "__main__":
    main()
