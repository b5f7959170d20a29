"""How well are defective solar cells found, frozen and fine-tuned? Five folds of the 2,624 photos of elpv-dataset.

Defective is a probability of at least 0.5, as in Deitsch et al. (2019), whose fine-tuned VGG-19 has 88.4 %. In each
fold a tenth of the other photos is val. `--sure` takes the 2,223 cells of which the experts are sure alone, as Demirci
(2024) does, whose VGG-16 has 91.5 %; `--frozen` leaves fine-tuning out. Needs the extras demo and tensorflow.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from _common import regraft, report, write_fold
from sklearn.model_selection import StratifiedKFold

from regraft.photos.dataset import Dataset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--train", default="", help="options of `regraft train`")
    parser.add_argument("--finetune", default="", help="options of `regraft finetune`")
    parser.add_argument("--only", type=int, default=5, help="how many of the folds")
    parser.add_argument("--sure", action="store_true", help="only cells that are defective with probability 0 or 1")
    parser.add_argument("--frozen", action="store_true", help="without fine-tuning")
    options = parser.parse_args()
    records = [one for one in Dataset.open("demo:elpv").records if not options.sure or one.probability in (None, 1)]
    labels = np.array([record.label for record in records])
    folds = StratifiedKFold(options.folds, shuffle=True, random_state=0).split(labels, labels)
    right = {"frozen": 0.0} if options.frozen else {"frozen": 0.0, "tuned": 0.0}
    measured, rows = 0, []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, (rest, test) in enumerate(list(folds)[: options.only]):
            write_fold(records, rest, test, number, folder / "photos.csv")
            place = {"cache": folder / "cache", "cwd": folder}
            first = regraft(
                "train", "photos.csv", "--out", "run", "--overwrite", "--json", *options.train.split(), **place
            )
            document = json.loads(first.stdout)
            n = document["test"]["n"]
            row = {"fold": number, "n": n, "seconds": round(first.seconds, 1)}
            if not options.frozen:
                done = regraft(
                    "finetune", "run", "--out", "tuned", "--overwrite", "--json", *options.finetune.split(), **place
                )
                tuned = json.loads(done.stdout)
                val = {"val": (document["val"]["accuracy"], tuned["val"]["accuracy"])}
                row |= {"tuned": tuned["test"]["accuracy"], **val, "seconds": round(done.seconds, 1)}
            row["frozen"] = document["test"]["accuracy"]
            rows.append(row)
            measured += n
            right = {key: right[key] + row[key] * n for key in right}
            print(json.dumps(row), file=sys.stderr, flush=True)
    report(rows=rows, photos=measured, **{key: round(100 * value / measured, 2) for key, value in right.items()})


if __name__ == "__main__":
    main()
