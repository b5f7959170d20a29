"""How many times faster than the Keras tutorial is the whole cold job?

In one run, both timed as processes on the same photos, split and weights: `regraft train` on an empty cache, then
``keras_flow.py`` (TensorFlow) until its val accuracy first reaches regraft's, or ``--epochs``.
Needs the extra ``tensorflow``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from _common import regraft, report, run

from regraft.photos.dataset import Dataset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos")
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos = Path(options.photos).resolve()
        ours = regraft("train", photos, "--out", "run", "--json", cache=folder / "cache", cwd=folder)
        document = json.loads(ours.stdout)
        link_sides(photos, folder)
        flow = [sys.executable, str(Path(__file__).with_name("keras_flow.py")), str(folder / "sides")]
        until = document["val"]["accuracy"]
        theirs = run([*flow, "--until", str(until), "--epochs", str(options.epochs)], folder / "cache", folder)
        history = json.loads(theirs.stdout.splitlines()[-1])["val_accuracy"]
    report(
        photos=sum(document["counts"].values()),
        regraft_s=round(ours.seconds, 1),
        keras_s=round(theirs.seconds, 1),
        times_faster=round(theirs.seconds / ours.seconds, 1),
        regraft_val_accuracy=round(until, 4),
        keras_val_accuracy=history,
        reached=history[-1] >= until,
    )


def link_sides(photos: Path, folder: Path, sides: tuple[str, ...] = ("train", "val")) -> None:
    """``sides/train/<class>`` and so on, of links to the photos of the run's own split."""
    split = json.loads((folder / "run" / "split.json").read_text(encoding="utf-8"))
    side_of = {digest: side for side in sides for digest in split[side]}
    shutil.rmtree(folder / "sides", ignore_errors=True)
    for record in Dataset.open(photos).records:
        if record.digest in side_of:
            link = folder / "sides" / side_of[record.digest] / record.label / record.path.name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(record.path)


if __name__ == "__main__":
    main()
