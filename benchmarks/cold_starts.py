"""Do processes that share one cold cache get in each other's way? Many real ones are started at once, round by round.

In each round the cache is empty and all processes train on the same drawn photos; then what OpenVINO compiled is
deleted and all of them predict. Every process must end with exit code 0 and without a warning, every head must be equal
to the bit, and so must every answer.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from _common import report
from PIL import Image, ImageDraw


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--photos", type=int, default=40)
    options = parser.parse_args()
    ends: dict[str, Counter[str]] = {"train": Counter(), "predict": Counter()}
    results: dict[str, Counter[str]] = {"train": Counter(), "predict": Counter()}
    start = time.perf_counter()
    with TemporaryDirectory() as name:
        folder = Path(name)
        draw(folder / "photos", options.photos)
        for number in range(options.rounds):
            cache = folder / f"cache-{number}"
            numbers = range(options.processes)
            together(folder, cache, [["train", "photos", "--out", f"run-{i}", "--overwrite"] for i in numbers], ends)
            heads = [folder / f"run-{i}" / "head.safetensors" for i in numbers]
            results["train"].update(digest(head.read_bytes()) for head in heads if head.is_file())
            for blob in (cache / "openvino").glob("*.blob"):
                blob.unlink()
            answers = together(folder, cache, [["predict", "run-0", "photos/circle", "--json"] for _ in numbers], ends)
            results["predict"].update(digest(answer) for answer in answers)
            shutil.rmtree(cache)
            print(f"round {number + 1}: {dict(ends['train'])} {dict(ends['predict'])}", file=sys.stderr)
    report(
        processes=options.processes,
        rounds=options.rounds,
        cold_starts=sum(ends["train"].values()),
        ends=ends,
        different_heads=len(results["train"]),
        different_answers=len(results["predict"]),
        seconds=round(time.perf_counter() - start),
    )
    if any(set(found) != {"0"} for found in ends.values()) or any(len(found) != 1 for found in results.values()):
        sys.exit("not every process ended well with the same result")


def together(folder: Path, cache: Path, commands: list[list[str]], ends: dict[str, Counter[str]]) -> list[bytes]:
    """Run all commands at the same time over one cache; what each printed. Counts how they ended."""
    environment = {**os.environ, "REGRAFT_CACHE": str(cache)}
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "regraft", *command],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for command in commands
    ]
    answers = []
    for process, command in zip(running, commands, strict=True):
        out, err = process.communicate()
        answers.append(out)
        code = process.returncode
        end = signal.Signals(-code).name if code < 0 else str(code)
        ends[command[0]][f"{end}, with a warning" if b"warning" in err else end] += 1
        if end != "0" or b"warning" in err:
            print(f"{' '.join(command)}: {end}\n{err.decode(errors='replace')}", file=sys.stderr)
    return answers


def draw(folder: Path, count: int) -> None:
    """``count`` photos of circles and as many of squares."""
    for label in ("circle", "square"):
        (folder / label).mkdir(parents=True)
        for number in range(count):
            dice = random.Random(f"{label} {number}")
            image = Image.new("RGB", (160, 120), tuple(dice.randint(150, 250) for _ in range(3)))
            x, y, side = dice.randint(5, 80), dice.randint(5, 50), dice.randint(20, 60)
            shape = ImageDraw.Draw(image).ellipse if label == "circle" else ImageDraw.Draw(image).rectangle
            shape((x, y, x + side, y + side), fill=(dice.randint(0, 80), dice.randint(0, 80), 200))
            image.save(folder / label / f"{number}.jpg", quality=90)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    main()
