"""Does a killed fine-tuning come to the same end? SIGKILL at random moments, resumed each time, then to the end.

Both runs are of the same `regraft train`; the metrics and every weight must be equal to the bit. Needs the extra
tensorflow.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path

from _common import kill_after, regraft, report

EPOCHS = 24
TRAINING = ("--epochs", str(EPOCHS), "--patience", str(EPOCHS))
END = 4.0  # seconds after training, of measuring and writing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    dice = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        place = {"cache": folder / "cache", "cwd": folder}
        regraft("train", Path(options.photos).resolve(), "--out", "run", **place)
        regraft("finetune", "run", "--out", "warm", "--epochs", "1", **place)  # so that both find the maps cached
        wanted = ("finetune", "run", *TRAINING, "--json", "--out")
        whole = regraft(*wanted, "whole", **place)
        training = json.loads(whole.stdout)["seconds"]["training"]
        epochs = []
        for _ in range(options.kills):  # within training, and seldom beyond one epoch, or it would soon be done
            kill_after(
                whole.seconds - training - END + dice.uniform(0.0, 2.0) * training / EPOCHS,
                *("finetune", "run", *TRAINING, "--out", "killed", "--resume"),
                **place,
            )
            epochs.append(epochs_done(folder / "killed"))
            if epochs[-1] is None:
                break
        last = regraft(*wanted, "killed", "--resume", **place) if epochs[-1] is not None else None
        first, second = (json.loads((folder / run / "metrics.json").read_text()) for run in ("whole", "killed"))
        names = ("backbone.safetensors", "head.safetensors")
        equal = all((folder / "whole" / n).read_bytes() == (folder / "killed" / n).read_bytes() for n in names)
    same = equal and all(first[side] == second[side] for side in ("val", "test"))
    report(
        kills=len(epochs),
        epochs_done_at_each_kill=epochs,
        seconds_undisturbed=round(whole.seconds, 1),
        seconds_of_the_last=round(last.seconds, 1) if last else None,
        same_metrics_and_bits=same,
    )
    if not same:
        sys.exit("the results differ")


def epochs_done(run: Path) -> int | None:
    """Of a run under way; None where it was finished before it could be killed."""
    if (run / "manifest.json").is_file():
        return None
    try:
        return int(json.loads((run / "checkpoints" / "history.json").read_text())[-1]["number"])
    except FileNotFoundError:
        return 0


if __name__ == "__main__":
    main()
