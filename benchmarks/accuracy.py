"""How good is the default classifier? Accuracy of five folds pooled, over several salts, from one feature cache.

Photos with a val side and no test side of their own are measured on val, once.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from statistics import mean, stdev

from _common import regraft, report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos")
    parser.add_argument("--salts", type=int, default=5)
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=[], help="passed on to regraft train")
    options = parser.parse_args()
    spec = options.photos if ":" in options.photos else Path(options.photos).resolve()
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for salt in range(options.salts):
            arguments = ("train", spec, "--json", "--folds", "5", "--salt", str(salt), *options.options)
            document = json.loads(regraft(*arguments, cache=folder / "cache", cwd=folder).stdout)
            side = "folds" if "folds" in document else "test" if document["counts"]["test"] else "val"
            found.append({k: document[side][k] for k in ("n", "accuracy", "log_loss", "calibration_error")})
            if side != "folds":
                break
    accuracies = [f["accuracy"] for f in found]
    report(
        side=side,
        mean_accuracy=round(mean(accuracies), 4),
        stdev=round(stdev(accuracies), 4) if len(accuracies) > 1 else None,
        runs=found,
    )


if __name__ == "__main__":
    main()
