"""Does any verb lose or believe half of anything when it is killed? SIGKILL and SIGTERM at random moments.

Each verb is first run undisturbed. Then come rounds of five kills of the same command, on a cache that knows the graphs
alone: after each kill what lies at the output must be absent or whole, and no finished feature may be lost; after the
fifth the command runs to its end, and its result must equal the undisturbed one. SIGTERM must also end with the exit
code 143 and one line. Needs the extra tensorflow for `finetune`, which is left out without it.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from _common import report
from kill import rows

from regraft.classifiers.classifier import Classifier
from regraft.photos.dataset import Dataset

ROUND = 5


@dataclass(frozen=True)
class Case:
    """One verb.

    Attributes:
        command: its arguments; ``OUT`` stands for the output.
        again: what is added where something is at the output already.
        out: the output's name.
        result: what must be equal in two runs to their end.
        whole: raises where the output is there and not whole.
    """

    command: tuple[str, ...]
    again: tuple[str, ...]
    out: str
    result: Callable[[Path], Any]
    whole: Callable[[Path], Any]


def digest(*files: Path) -> str:
    found = hashlib.sha256()
    for file in files:
        found.update(file.read_bytes())
    return found.hexdigest()


def of_run(out: Path) -> Any:
    metrics = json.loads((out / "metrics.json").read_text())
    tuned = [out / "backbone.safetensors"] if (out / "backbone.safetensors").is_file() else []
    return [metrics[key] for key in ("classes", "counts", "val", "test")], digest(out / "head.safetensors", *tuned)


def of_sweep(out: Path) -> Any:
    with (out / "sweep.csv").open(newline="") as file:
        trials = [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
    return sorted(trials, key=lambda row: row["name"]), of_run(out / "best")


def of_export(out: Path) -> Any:
    told = json.loads((out / "export.json").read_text())["comparison"]
    return {k: v for k, v in told.items() if k not in ("ms", "mebibytes")}, digest(out / "model.bin")


def of_folder(out: Path) -> Any:
    return {file.name: digest(file) for file in sorted(out.iterdir())}


def whole_sweep(out: Path) -> None:
    for folder in out.iterdir():
        if (folder / "manifest.json").exists():
            Classifier.load(folder)


CASES = {
    "train": Case(("train", "photos.csv", "--out", "OUT"), ("--overwrite",), "run", of_run, Classifier.load),
    "sweep": Case(
        ("sweep", "photos.csv", "--head", "logistic,prototype,knn", "--resolution", "192,224", "--out", "OUT"),
        (),
        "sweep",
        of_sweep,
        whole_sweep,
    ),
    "export": Case(
        ("export", "base", "--format", "openvino", "--out", "OUT"), ("--overwrite",), "exported", of_export, of_export
    ),
    "shard": Case(("shard", "photos.csv", "--shards", "4", "--out", "OUT"), (), "shards", of_folder, of_folder),
    "predict": Case(("predict", "base", "photos", "--out", "OUT"), (), "answers.csv", digest, digest),
    "finetune": Case(
        ("finetune", "base", "--epochs", "4", "--thaw", "2", "--out", "OUT"), ("--resume",), "tuned", of_run, of_run
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos")
    parser.add_argument("--kills", type=int, default=35, help="SIGKILLs of each verb")
    parser.add_argument("--terms", type=int, default=20, help="SIGTERMs of each verb")
    parser.add_argument("--verbs", nargs="*", default=list(CASES))
    parser.add_argument("--per-class", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    dice = random.Random(options.seed)
    told: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_photos(Path(options.photos), folder, options.per_class)
        start(folder, folder / "cache", "train", "photos.csv", "--out", "base").wait()
        shutil.copytree(folder / "cache", folder / "graphs", ignore=shutil.ignore_patterns("features", "activations"))
        for verb in options.verbs:
            if verb == "finetune" and find_spec("tensorflow") is None:
                continue
            told[verb] = try_verb(CASES[verb], folder, options.kills, options.terms, dice)
            print(verb, told[verb], file=sys.stderr, flush=True)
    report(verbs=told)
    if any(row["failures"] for row in told.values()):
        sys.exit("something was lost, half read or different")


def copy_photos(photos: Path, folder: Path, per_class: int) -> None:
    """``photos.csv`` with as many photos of each class, and ``photos``, links to all of them."""
    seen: Counter[str] = Counter()
    (folder / "photos").mkdir()
    with (folder / "photos.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label"))
        for record in Dataset.open(photos).records:
            seen[record.label] += 1
            if seen[record.label] <= per_class:
                writer.writerow((record.path.resolve(), record.label))
                (folder / "photos" / f"{record.digest[:12]}.jpg").symlink_to(record.path.resolve())


def start(folder: Path, cache: Path, *arguments: str) -> subprocess.Popen[bytes]:
    with (folder / "stderr").open("wb") as err:
        return subprocess.Popen(
            [sys.executable, "-m", "regraft", *arguments],
            cwd=folder,
            env={**os.environ, "REGRAFT_CACHE": str(cache)},
            stdout=subprocess.DEVNULL,
            stderr=err,
            start_new_session=True,
        )


def try_verb(case: Case, folder: Path, kills: int, terms: int, dice: random.Random) -> dict[str, Any]:
    failures: list[str] = []
    out, cache = folder / case.out, folder / "killed-cache"
    seconds, expected = undisturbed(case, folder, cache)
    signals = [signal.SIGKILL] * kills + [signal.SIGTERM] * terms
    struck = 0
    for first in range(0, len(signals), ROUND):
        renew(folder, cache, out)
        known: Counter[str] = Counter()
        for number in signals[first : first + ROUND]:
            process = start(folder, cache, *arguments(case, out))
            time.sleep(dice.uniform(0.05, 1.1) * seconds / 2)
            struck += process.poll() is None
            strike(process, number, folder, failures)
            if out.exists():
                failures += broken(case, out)
            after = rows(cache)
            failures += [f"{len(known - after)} features were lost"] if known - after else []
            known = after
        process = start(folder, cache, *arguments(case, out))
        if process.wait() and "is there already" not in (folder / "stderr").read_text():
            failures.append((folder / "stderr").read_text()[-300:])
        elif case.result(out) != expected:
            failures.append("the result differs from the undisturbed one")
    return {"signals": len(signals), "struck_while_running": struck, "seconds": round(seconds, 1), "failures": failures}


def undisturbed(case: Case, folder: Path, cache: Path) -> tuple[float, Any]:
    out = folder / case.out
    renew(folder, cache, out)
    begun = time.perf_counter()
    if start(folder, cache, *arguments(case, out)).wait():
        sys.exit((folder / "stderr").read_text())
    return time.perf_counter() - begun, case.result(out)


def renew(folder: Path, cache: Path, out: Path) -> None:
    """Nothing at the output, and a cache that knows graphs but no features."""
    shutil.rmtree(cache, ignore_errors=True)
    shutil.copytree(folder / "graphs", cache)
    for old in folder.glob(f"{out.name}*"):
        if old.is_dir():
            shutil.rmtree(old)
        else:
            old.unlink()


def arguments(case: Case, out: Path) -> list[str]:
    there = case.again if out.exists() else ()
    return [*(out.name if word == "OUT" else word for word in case.command), *there]


def strike(process: subprocess.Popen[bytes], number: int, folder: Path, failures: list[str]) -> None:
    running = process.poll() is None
    process.send_signal(number)
    code = process.wait()
    if number == signal.SIGTERM and running and code not in (0, 143, -signal.SIGTERM):
        failures.append(f"SIGTERM gave the exit code {code}: {(folder / 'stderr').read_text()[-300:]}")
    if number == signal.SIGTERM and "Traceback" in (folder / "stderr").read_text():
        failures.append((folder / "stderr").read_text()[-600:])


def broken(case: Case, out: Path) -> list[str]:
    if case.out == "tuned" and not (out / "manifest.json").exists():
        return []  # under way, with checkpoints
    try:
        case.whole(out)
    except Exception as error:
        return [f"{out.name} is there and broken: {type(error).__name__}: {error}"]
    return []


if __name__ == "__main__":
    main()
