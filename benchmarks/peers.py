"""How good and how fast is regraft beside what people use, with the same weights on the same five folds?

All systems start from the ImageNet weights of EfficientNet-Lite0 that regraft has, and answer the same test photos. In
each fold a tenth of the other photos is val, which a system may use to stop early. Systems take turns within a fold.

    train, finetune            `regraft train`, and `regraft finetune` after it, with their defaults
    kernel                     `regraft train --head kernel`
    keras, keras-thawed        the Keras tutorial, without and with its second part
    pytorch, pytorch-thawed    the PyTorch tutorial, its network frozen or fine-tuned
    fastai                     `vision_learner` and `fine_tune(3)`
    autogluon                  AutoGluon MultiModal with its defaults
    sklearn                    logistic regression on the pooled outputs of the network

Seconds are those of whole processes from start to end, the answers to the test photos included. regraft's cache is
empty in the first fold, whose seconds are those of a cold job; later folds find the features of the earlier ones, as a
user's next training would. Memory is that of a system's largest process, or that of this one where it is smaller. Peers
get environments of their own, by pip, which are kept. A peer that cannot be installed, or that fails, is reported with
the reason.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from _common import report, write_fold
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold

from regraft.backbones.efficientnet_lite import weights_file
from regraft.classifiers.paired_evaluation import pair
from regraft.foundation.files import cache_folder
from regraft.photos.dataset import Dataset, ImageRecord

BENCHMARKS = Path(__file__).resolve().parent
PROGRAMS = BENCHMARKS / "peers"
LAST_LINES = 5  # of a failed process, which are reported
PACKAGES = {"torch": ("fastai", "timm", "torch"), "autogluon": ("autogluon.multimodal", "timm", "torch")}
OFFLINE = {"HF_HUB_OFFLINE": "1"}
PATIENT = {"OMP_WAIT_POLICY": "PASSIVE"}  # threads of torch that spin took ten times as long beside other work
VERSIONS = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"


class FailedError(Exception):
    """A process ended with an error. The message has the last lines that it printed."""


class System(NamedTuple):
    """The commands of a system, with places to fill in, and the environment that they run in.

    Attributes:
        commands: run in a folder of their own; the last one writes ``answers.csv`` with the columns path and label.
        environment: a key of ``PACKAGES``; empty for the environment of this process.
    """

    commands: tuple[tuple[str, ...], ...]
    environment: str = ""


def ours(*commands: str) -> System:
    """Return the system that runs these commands of regraft."""
    return System(tuple((sys.executable, "-m", "regraft", *command.split()) for command in commands))


def peer(program: str, environment: str, *options: str) -> System:
    """Return the system that runs a program of the folder ``peers``."""
    command = ("{python}", str(PROGRAMS / program), "{manifest}", "answers.csv", "{weights}", "{seed}", *options)
    return System((command,), environment)


OURS = {
    "train": ours("train {manifest} --out run", "predict run {test} --out answers.csv"),
    "kernel": ours("train {manifest} --head kernel --out run", "predict run {test} --out answers.csv"),
    "finetune": ours(
        "train {manifest} --out run", "finetune run --out tuned", "predict tuned {test} --out answers.csv"
    ),
}
SYSTEMS = {
    **OURS,
    "keras": peer("keras_peer.py", "", "frozen"),
    "keras-thawed": peer("keras_peer.py", "", "thawed"),
    "pytorch": peer("pytorch_peer.py", "torch", "frozen"),
    "pytorch-thawed": peer("pytorch_peer.py", "torch", "thawed"),
    "fastai": peer("fastai_peer.py", "torch"),
    "autogluon": peer("autogluon_peer.py", "autogluon"),
    "sklearn": peer("sklearn_peer.py", "torch"),
}


class Fold(NamedTuple):
    """A fold: its number, the manifest of all photos, the table of the test photos, and their records."""

    number: int
    manifest: Path
    test: Path
    records: Sequence[ImageRecord]


class Usage(NamedTuple):
    """Seconds of a process from start to end, and the largest memory of it or of a process that it started, in MiB."""

    seconds: float
    mebibytes: float


class Outcome(NamedTuple):
    """The outcome of a system on a fold: the usage of its processes, and which test photos it answers right (N,)."""

    usage: Usage
    right: NDArray[np.bool_]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a folder of class folders")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--only", type=int, help="how many of the folds; by default all")
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="names with commas between them")
    parser.add_argument("--outcomes", type=Path, help="folder to keep outcomes in; those it has are not measured again")
    parser.add_argument("--environments", type=Path, help="folder of the peers' environments; by default in the cache")
    options = parser.parse_args()
    names = options.systems.split(",")
    if unknown := set(names) - SYSTEMS.keys():
        parser.error(f"unknown systems {', '.join(sorted(unknown))}; there is {', '.join(SYSTEMS)}")
    environments = Environments((options.environments or cache_folder() / "peers").resolve())
    outcomes: dict[str, list[Outcome]] = {name: [] for name in names}
    failures: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as scratch:
        place = (options.outcomes or Path(scratch) / "outcomes").resolve()
        bench, kept = Bench(Path(scratch), place, environments), Outcomes(place)
        for fold in list(bench.folds(options.photos.resolve(), options.folds))[: options.only]:
            for name in names:
                if name in failures:
                    continue
                try:
                    outcomes[name].append(kept.find(name, fold) or kept.add(name, fold, bench.measure(name, fold)))
                except FailedError as error:
                    failures[name] = str(error)
                tell(name, fold.number, outcomes[name], failures)
    done = {name: found for name, found in outcomes.items() if name not in failures}
    report(
        photos=str(options.photos.name),
        folds=options.folds if options.only is None else options.only,
        versions=environments.versions(),
        systems={name: summary(name, done) for name in done},
        failed=failures,
    )


class Environments:
    """The environments of the peers, each of which is made when a system first needs it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._checked: set[str] = set()

    def python(self, name: str) -> Path:
        """Return the interpreter of an environment. Raises FailedError if the environment cannot be made."""
        if not name:
            return Path(sys.executable)
        place = self._folder / name
        if not (place / "made").exists():
            try:
                run([sys.executable, "-m", "venv", "--clear", str(place)], {}, self._parent())
                run([str(place / "bin" / "python"), "-m", "pip", "install", "-q", *PACKAGES[name]], {}, place)
            except FailedError:
                shutil.rmtree(place)
                raise
            (place / "made").touch()
        return place / "bin" / "python"

    def weights(self, name: str) -> Path:
        """Return the weights with timm's names, checked once by the environment's own timm. Raises FailedError."""
        original, python = weights_file("efficientnet_lite0"), self.python(name)
        if not name:
            return original
        converted = self._folder / name / "tf_efficientnet_lite0.pth"
        if name not in self._checked:
            run([str(python), str(PROGRAMS / "lite0_weights.py"), str(original), str(converted)], {}, self._folder)
            self._checked.add(name)
        return converted

    def versions(self) -> dict[str, dict[str, str]]:
        """Return the versions of the packages in each environment that was used."""
        return {name: dict(zip(PACKAGES[name], self._versions(name), strict=True)) for name in sorted(self._checked)}

    def _versions(self, name: str) -> list[str]:
        command = [self.python(name), "-c", VERSIONS, *PACKAGES[name]]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    def _parent(self) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder


class Bench:
    """The folds of a folder of photos, and the systems that are measured on them in a scratch folder.

    The caches of regraft lie in a folder of their own, which outlives the scratch folder where outcomes are kept.
    """

    def __init__(self, scratch: Path, caches: Path, environments: Environments) -> None:
        self._scratch, self._caches, self._environments = scratch, caches, environments

    def folds(self, photos: Path, count: int) -> Iterator[Fold]:
        """Write the tables of each fold. All photos are read, so that the first system need not wait for the disk."""
        records = Dataset.open(photos).records
        for record in records:
            record.read()
        labels = [record.label for record in records]
        folds = StratifiedKFold(count, shuffle=True, random_state=0).split(labels, labels)
        for number, (rest, test) in enumerate(folds):
            fold = Fold(
                number,
                self._scratch / f"photos{number}.csv",
                self._scratch / f"test{number}.csv",
                [records[i] for i in test],
            )
            write_fold(records, rest, test, number, fold.manifest)
            with fold.test.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows(
                    [("path", "label"), *((record.path, record.label) for record in fold.records)]
                )
            yield fold

    def measure(self, name: str, fold: Fold) -> Outcome:
        """Run a system on a fold. Raises FailedError if one of its processes fails."""
        system = SYSTEMS[name]
        values = {
            "python": self._environments.python(system.environment),
            "weights": self._environments.weights(system.environment),
            "manifest": fold.manifest,
            "test": fold.test,
            "seed": fold.number,
        }
        folder = self._scratch / f"{name}{fold.number}"
        folder.mkdir()
        variables = {"REGRAFT_CACHE": str(self._caches / f"cache-{name}"), **OFFLINE, **PATIENT}
        if not system.environment:
            paths = (str(BENCHMARKS), os.environ.get("PYTHONPATH", ""))
            variables["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        usages = [run([word.format(**values) for word in command], variables, folder) for command in system.commands]
        right = right_answers(folder / "answers.csv", fold.records)
        shutil.rmtree(folder)
        seconds, mebibytes = zip(*usages, strict=True)
        return Outcome(Usage(sum(seconds), max(mebibytes)), right)


class Outcomes:
    """A folder of outcomes, one file for each system and fold. A table of hours is measured in several parts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def find(self, name: str, fold: Fold) -> Outcome | None:
        """Return the outcome of a system on a fold, if it was measured."""
        try:
            found = json.loads(self._place(name, fold).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return Outcome(Usage(**found["usage"]), np.array(found["right"], bool))

    def add(self, name: str, fold: Fold, outcome: Outcome) -> Outcome:
        """Keep the outcome of a system on a fold, and return it."""
        kept = {"usage": outcome.usage._asdict(), "right": outcome.right.astype(int).tolist()}
        self._place(name, fold).write_text(json.dumps(kept), encoding="utf-8")
        return outcome

    def _place(self, name: str, fold: Fold) -> Path:
        return self._folder / f"{name}-{fold.number}.json"


def run(command: Sequence[str], variables: dict[str, str], folder: Path) -> Usage:
    """Run a process with these environment variables in a folder. Raises FailedError if it fails."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    start = perf_counter()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env={**inherited, **variables}, cwd=folder, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            log.seek(0)
            lines = log.read().decode(errors="replace").splitlines()
            raise FailedError("\n".join([f"exit code {process.returncode}", *lines[-LAST_LINES:]]))
    return Usage(seconds, usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10))


def right_answers(table: Path, records: Sequence[ImageRecord]) -> NDArray[np.bool_]:
    """Return for each photo whether its label in the table of answers is right (N,). Each photo must have an answer."""
    with table.open(newline="", encoding="utf-8") as file:
        labels = {row["path"]: row["label"] for row in csv.DictReader(file)}
    return np.array([labels[str(record.path)] == record.label for record in records])


def tell(name: str, fold: int, outcomes: Sequence[Outcome], failures: dict[str, str]) -> None:
    """Print the newest outcome of a system on stderr, for whoever waits."""
    row: dict[str, Any] = {"system": name, "fold": fold}
    if name in failures:
        row["failed"] = failures[name]
    else:
        usage, right = outcomes[-1]
        row |= {"accuracy": round(float(right.mean()), 4), **rounded(usage)}
    print(json.dumps(row), file=sys.stderr, flush=True)


def rounded(usage: Usage) -> dict[str, float]:
    return {"seconds": round(usage.seconds, 1), "MiB": round(usage.mebibytes)}


def summary(name: str, outcomes: dict[str, list[Outcome]]) -> dict[str, Any]:
    """Return the pooled accuracy of a system, its costs, and how much better regraft is on the same photos."""
    found = outcomes[name]
    seconds = [outcome.usage.seconds for outcome in found]
    costs = {"median": median(seconds), "least": min(seconds), "most": max(seconds)}
    if name in OURS:
        costs = {"cold": seconds[0], **({"warm": median(seconds[1:])} if len(seconds) > 1 else {})}
    right = pooled(found)
    return {
        "accuracy": round(float(right.mean()), 4),
        "n": len(right),
        "seconds": {key: round(value, 1) for key, value in costs.items()},
        "MiB": round(max(outcome.usage.mebibytes for outcome in found)),
        **{f"{one} - {name}": gain(right, pooled(outcomes[one])) for one in OURS if one in outcomes and one != name},
    }


def pooled(outcomes: Sequence[Outcome]) -> NDArray[np.bool_]:
    """Return which of the test photos of all folds are answered right (N,)."""
    return np.concatenate([outcome.right for outcome in outcomes])


def gain(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> dict[str, Any]:
    """Return the difference of two accuracies on the same photos in points, with its 95 % interval."""
    change = pair(before, after)
    low, high = (round(100 * value, 2) for value in change.interval)
    return {"points": round(100 * change.difference, 2), "interval": [low, high], "p": round(change.p, 4)}


if __name__ == "__main__":
    main()
