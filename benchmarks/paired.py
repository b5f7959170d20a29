"""Is this code as good and as fast as that of another checkout? Both in one run, on the same sides, in turn.

    git worktree add ../before COMMIT
    scripts/bench paired ../before FLOWERS --fixed ANTS_BEES

Accuracy: five folds of the first photos, pooled, and the sides that the ``--fixed`` photos have of their own. Seconds:
`--help`, `predict` of one photo and a warm `train`, each in turn by the other code and by this one, as processes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from _common import report, run, write_fold
from sklearn.model_selection import StratifiedKFold

from regraft.photos.dataset import Dataset

HERE = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="a checkout of other code")
    parser.add_argument("photos", type=Path)
    parser.add_argument("--fixed", type=Path, help="photos with train and val of their own")
    parser.add_argument("--repeats", type=int, default=11)
    options = parser.parse_args()
    checkouts = {"other": options.other.resolve(), "this": HERE}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        told: dict[str, Any] = {"folds": folds(checkouts, options.photos.resolve(), folder)}
        if options.fixed:
            told["fixed"] = {
                key: trained(place, options.fixed.resolve(), key, folder)["val"]["accuracy"]
                for key, place in checkouts.items()
            }
        told["seconds"] = seconds(checkouts, options.photos.resolve(), folder, options.repeats)
    report(**told)


def folds(checkouts: Mapping[str, Path], photos: Path, folder: Path) -> dict[str, Any]:
    """Photos answered right in five folds, by each code."""
    records = Dataset.open(photos).records
    labels = [record.label for record in records]
    right = dict.fromkeys(checkouts, 0)
    by_fold: dict[str, list[float]] = {key: [] for key in checkouts}
    for number, (rest, test) in enumerate(StratifiedKFold(5, shuffle=True, random_state=0).split(labels, labels)):
        table = folder / f"fold{number}.csv"
        write_fold(records, rest, test, number, table)
        for key, place in checkouts.items():
            found = trained(place, table, key, folder)["test"]
            right[key] += round(found["accuracy"] * found["n"])
            by_fold[key].append(round(found["accuracy"], 4))
    return {"photos": len(records), "right": right, "by_fold": by_fold}


def trained(checkout: Path, photos: Path, key: str, folder: Path) -> Any:
    """What `regraft train` of a checkout prints, as JSON values."""
    return json.loads(command(checkout, folder, "train", photos, "--json", "--overwrite", "--out", f"run-{key}")[1])


def command(checkout: Path, folder: Path, *arguments: str | Path) -> tuple[float, str]:
    """Run a checkout's command line; returns its seconds and what it printed."""
    os.environ["PYTHONPATH"] = str(checkout / "src")
    cache = folder / ("this" if checkout == HERE else "other")
    done = run([sys.executable, "-P", "-m", "regraft", *map(str, arguments)], cache, folder)
    return done.seconds, done.stdout


def seconds(checkouts: Mapping[str, Path], photos: Path, folder: Path, repeats: int) -> dict[str, Any]:
    """Medians of each code's seconds, and of the ratios of this code's to the other's."""
    photo = next(path for path in sorted(photos.rglob("*")) if path.suffix.lower() == ".jpg")
    for key, place in checkouts.items():
        trained(place, photos, key, folder)
    jobs: dict[str, tuple[str | Path, ...]] = {
        "help": ("--help",),
        "predict": ("predict", "RUN", photo),
        "warm train": ("train", photos, "--overwrite", "--out", "RUN"),
    }

    def took(key: str, arguments: tuple[str | Path, ...]) -> float:
        named = (f"run-{key}" if word == "RUN" else word for word in arguments)
        return command(checkouts[key], folder, *named)[0]

    told: dict[str, Any] = {}
    for name, arguments in jobs.items():
        rows = [{key: took(key, arguments) for key in checkouts} for _ in range(repeats)]
        told[name] = {key: round(median(row[key] for row in rows), 3) for key in checkouts}
        told[name]["times as long"] = round(median(row["this"] / row["other"] for row in rows), 2)
    return told


if __name__ == "__main__":
    main()
