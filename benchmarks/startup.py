"""How long does one wait when nothing is left to compute? Whole processes, with their peak memory.

`regraft --help`, `regraft predict RUN one.jpg`, and `regraft train` on a full cache; also the peak of the cold run
that filled it. The yardstick is a process that only imports NumPy, Pillow and pyarrow: how slow the machine is now.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import median

from _common import Done, regraft, report, run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos")
    parser.add_argument("--repeats", type=int, default=11)
    options = parser.parse_args()
    photos = Path(options.photos).resolve()
    photo = next(path for path in sorted(photos.rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def timed(*arguments: str | Path) -> Done:
            return regraft(*arguments, cache=folder / "cache", cwd=folder)

        helps = [timed("--help") for _ in range(options.repeats)]
        cold = timed("train", photos, "--out", "run")
        timed("predict", "run", photo)
        # Peaks of later processes cannot be told apart once a larger one has run.
        predicts = [timed("predict", "run", photo) for _ in range(options.repeats)]
        warms = [timed("train", photos, "--out", f"run{i}") for i in range(options.repeats)]
        imports = [sys.executable, "-c", "import numpy, PIL.Image, pyarrow.parquet"]
        yardstick = [run(imports, folder, folder) for _ in range(options.repeats)]
    report(
        help_s=summary(helps),
        predict_s=summary(predicts),
        warm_train_s=summary(warms),
        yardstick_s=summary(yardstick),
        cold_peak_MiB=round(cold.mebibytes),
    )


def summary(runs: list[Done]) -> dict[str, float]:
    """Median and range of the seconds."""
    seconds = sorted(run.seconds for run in runs)
    return {"median": round(median(seconds), 3), "min": round(seconds[0], 3), "max": round(seconds[-1], 3)}


if __name__ == "__main__":
    main()
