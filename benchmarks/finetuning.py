"""What does fine-tuning gain, and how long does it take; and how much faster is it than plain Keras from pixels?

For each salt `regraft train` and `regraft finetune --folds 5`, as processes, all in one run: before and after on all
photos, in turns, and the seconds of each step. With ``--folds 0`` sides take the place of folds, as they do with
``--keras``, which for the first so many salts also runs ``keras_finetune.py``: the same layers, the same start, the
same epochs, from pixels. Needs the extra tensorflow.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _common import regraft, report, run
from against_keras import link_sides


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos")
    parser.add_argument("--salts", default=",b,c", help="with commas")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--train", default="", help="options of `regraft train`")
    parser.add_argument("--finetune", default="", help="options of `regraft finetune`")
    parser.add_argument("--keras", type=int, default=0, help="for how many of the salts to run plain Keras too")
    options = parser.parse_args()
    photos = Path(options.photos).resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = []
        for number, salt in enumerate(options.salts.split(",")):
            folds = 0 if options.keras else options.folds
            tuning = (*options.finetune.split(), "--folds", str(folds))
            row = measured(photos, salt, folder, options.train.split(), tuning)
            if number < options.keras:
                row["keras"] = plain_keras(photos, folder)
            print(json.dumps(row), file=sys.stderr, flush=True)
            found.append(row)
    gains = {
        side: round(100 * sum(row["beside"][side]["difference"] for row in found) / len(found), 2)
        for side in found[0]["beside"]
    }
    report(rows=found, mean_gain_in_points=gains)


def measured(photos: Path, salt: str, folder: Path, training: Sequence[str], tuning: Sequence[str]) -> dict[str, Any]:
    """Accuracy before and after, and seconds; only the first salt computes features."""
    cache = folder / "cache"
    sides = ("--folds", "0", "--salt", salt)
    regraft("train", photos, *sides, *training, "--out", "run", "--overwrite", cache=cache, cwd=folder)
    done = regraft("finetune", "run", *tuning, "--out", "tuned", "--overwrite", "--json", cache=cache, cwd=folder)
    document = json.loads(done.stdout)
    return {
        "salt": salt,
        "beside": {
            side: {"before": row["before"]["accuracy"], "after": row["after"]["accuracy"], **row["accuracy"]}
            for side, row in document["finetuned"]["beside"].items()
        },
        "seconds": {**document["seconds"], "process": round(done.seconds, 1)},
        "blend": document["finetuned"]["blend"],
    }


def plain_keras(photos: Path, folder: Path) -> dict[str, Any]:
    """The same from pixels: seconds, and accuracy on test."""
    link_sides(photos, folder, ("train", "val", "test"))
    script = str(Path(__file__).with_name("keras_finetune.py"))
    done = run([sys.executable, script, "run", "sides"], folder / "cache", folder)
    return {**json.loads(done.stdout.splitlines()[-1]), "process": round(done.seconds, 1)}


if __name__ == "__main__":
    main()
