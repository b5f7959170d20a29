"""How well are defective solar cells found, frozen and fine-tuned? Five folds of the 2,624 photos of elpv-dataset.

Defective is a probability of at least 0.5, as in Deitsch et al. (2019), whose fine-tuned VGG-19 has 88.4 %. In each
fold a tenth of the other photos is val. Needs the extras demo and tensorflow.
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
    options = parser.parse_args()
    records = Dataset.open("demo:elpv").records
    labels = np.array([record.label for record in records])
    folds = StratifiedKFold(options.folds, shuffle=True, random_state=0).split(labels, labels)
    right = {"frozen": 0.0, "tuned": 0.0}
    measured, rows = 0, []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, (rest, test) in enumerate(list(folds)[: options.only]):
            write_fold(records, rest, test, number, folder / "photos.csv")
            place = {"cache": folder / "cache", "cwd": folder}
            regraft("train", "photos.csv", "--out", "run", "--overwrite", *options.train.split(), **place)
            done = regraft(
                "finetune", "run", "--out", "tuned", "--overwrite", "--json", *options.finetune.split(), **place
            )
            document = json.loads(done.stdout)
            n = document["test"]["n"]
            row = {
                "fold": number,
                "n": n,
                "frozen": document["finetuned"]["frozen"]["test"],
                "tuned": document["test"]["accuracy"],
                "val": (document["finetuned"]["frozen"]["val"], document["val"]["accuracy"]),
                "seconds": round(done.seconds, 1),
            }
            rows.append(row)
            measured += n
            right = {key: right[key] + row[key] * n for key in right}
            print(json.dumps(row), file=sys.stderr, flush=True)
    report(rows=rows, photos=measured, **{key: round(100 * value / measured, 2) for key, value in right.items()})


if __name__ == "__main__":
    main()
