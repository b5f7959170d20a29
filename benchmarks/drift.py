"""How often does `regraft check --against` see a difference where there is none, and does it see one that is there?

Each draw puts half of the photos, by chance, into a run; new photos come from the other half. Files of the same bytes
are taken once. Alike: all of the other half, or a few of them. Different: as many of them darkened, blurred or saved as
JPEG of quality 10, and a set in which one class has twice its share. Of the alike ones, about 2.5 of 100 should seem to
differ: those whose 95 % interval lies above 0.5. With --scale, instead: the seconds of a comparison of new
photos with a run on ten times as many, so many as --scale says, whose features are drawn and known.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from time import perf_counter, sleep
from typing import Any

import numpy as np
from _common import regraft, report
from _synthetic import synthetic_photos
from PIL import Image, ImageEnhance, ImageFilter

from regraft import Classifier, check_drift, train
from regraft.exploring.drift_record import Drift
from regraft.photos.dataset import Dataset, ImageRecord

Rows = list[tuple[Path, str]]
CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "darkened": lambda image: ImageEnhance.Brightness(image).enhance(0.6),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(1.5)),
    "jpeg10": lambda image: image,
}


def changed(records: Sequence[ImageRecord], folder: Path) -> dict[str, dict[str, Path]]:
    """The paths of changed photos, by the change and the digest of the photo."""
    found: dict[str, dict[str, Path]] = {name: {} for name in CHANGES}
    for name, change in CHANGES.items():
        for record in records:
            path = folder / f"{name}-{record.digest}.jpg"
            with Image.open(record.path) as image:
                change(image.convert("RGB")).save(path, quality=10 if name == "jpeg10" else 95)
            found[name][record.digest] = path
    return found


def listed(rows: Rows, table: Path) -> Path:
    """A table of photos and labels."""
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label"), *((str(path), label) for path, label in rows)])
    return table


def new_sets(rest: Sequence[ImageRecord], few: int, changes: dict[str, dict[str, Path]]) -> dict[str, Rows]:
    """The sets of new photos of a draw, by name; ``rest`` is in the order of chance."""
    rows = [(record.path, record.label) for record in rest]
    label = Counter(record.label for record in rest).most_common(1)[0][0]
    own, others = [row for row in rows if row[1] == label], [row for row in rows if row[1] != label]
    share = min(0.9, 2 * len(own) / len(rows))
    sets: dict[str, Rows] = {"half": rows, "few": rows[:few]}
    for name, paths in changes.items():
        sets[name] = [(paths[record.digest], record.label) for record in rest if record.digest in paths][:few]
    sets["class_doubled"] = [*own[: round(share * few)], *others[: few - round(share * few)]]
    return sets


def one_draw(
    records: Sequence[ImageRecord], seed: int, few: int, changes: dict[str, dict[str, Path]], folder: Path
) -> dict[str, tuple[Drift, float]]:
    """Each set of new photos beside the run of a draw, with the seconds of the comparison."""
    order = [records[i] for i in np.random.default_rng(seed).permutation(len(records)).tolist()]
    half = len(order) // 2
    table = listed([(record.path, record.label) for record in order[:half]], folder / f"run-{seed}.csv")
    classifier: Classifier = train(table, folder / f"run-{seed}", {"folds": 0})
    found = {}
    for name, rows in new_sets(order[half:], few, changes).items():
        start = perf_counter()
        drift = check_drift(listed(rows, folder / f"{name}-{seed}.csv"), classifier)
        found[name] = drift, perf_counter() - start
    return found


def summary(found: Sequence[tuple[Drift, float]]) -> dict[str, Any]:
    """The verdicts on the sets of one name, their AUC, and the seconds."""
    values = [drift.auc.value for drift, _ in found if drift.auc]
    return {
        "draws": len(found),
        "photos": [found[0][0].run_photos, found[0][0].new_photos],
        "verdicts": Counter(drift.verdict for drift, _ in found),
        "auc": [round(number, 3) for number in (min(values), mean(values), max(values))],
        "holds_half": sum(drift.auc.interval[0] <= 0.5 <= drift.auc.interval[1] for drift, _ in found if drift.auc),
        "seconds": round(float(np.median([seconds for _, seconds in found])), 2),
    }


def at_scale(count: int) -> None:
    """Compare a tenth as many new photos with a run on ``count`` photos, three times, each in a process of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        synthetic_photos(work / "photos", work / "cache", range(count))
        synthetic_photos(work / "new", work / "cache", range(count, count + count // 10))
        sleep(2)  # files that were written just now are read again
        regraft("train", "photos", "--out", "run", "--folds", "0", cache=work / "cache", cwd=work)
        command = ("check", "new", "--against", "run", "--json")
        done = [regraft(*command, cache=work / "cache", cwd=work) for _ in range(3)]
    found = json.loads(done[-1].stdout)
    compared = {name: found[name] for name in ("verdict", "auc", "run_photos", "run_total", "new_photos", "new_total")}
    report(**compared, seconds=[round(one.seconds, 1) for one in done])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", nargs="?")
    parser.add_argument("--scale", type=int, help="photos of a run, with features that are drawn")
    parser.add_argument("--draws", type=int, default=60, help="draws of photos that are alike")
    parser.add_argument("--shifted", type=int, default=10, help="of these, those with photos that differ too")
    parser.add_argument("--few", type=int, default=100, help="new photos, where these are not half of all")
    options = parser.parse_args()
    if options.scale:
        at_scale(options.scale)
        return
    dataset = Dataset.open(Path(options.photos).resolve())
    records = list({record.digest: record for record in dataset.records}.values())
    found: dict[str, list[tuple[Drift, float]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        some = sorted(records, key=lambda record: record.digest)[: 4 * options.few]  # of which half are new in a draw
        changes = changed(some, folder)
        for seed in range(options.draws):
            with_changes = changes if seed < options.shifted else {}
            for name, one in one_draw(records, seed, options.few, with_changes, folder).items():
                found.setdefault(name, []).append(one)
    report(new_photos=options.few, **{name: summary(each) for name, each in found.items()})


if __name__ == "__main__":
    main()
