"""Does a killed run lose anything? SIGKILL at random moments of a cold run, then to the end.

The result must equal an undisturbed run's, and no photo may be computed twice beyond one part file a kill. What was
computed is counted on disk: each kill leaves whole part files, whose rows are never computed again.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from _common import kill_after, regraft, report
from pyarrow import parquet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    photos = Path(options.photos).resolve()
    dice = random.Random(options.seed)
    with TemporaryDirectory() as name:
        folder = Path(name)
        whole = regraft("train", photos, "--json", "--out", "whole", cache=folder / "cache-a", cwd=folder)
        expected = json.loads(whole.stdout)
        known = []
        for _ in range(options.kills):
            kill_after(
                dice.uniform(1.0, whole.seconds / 3),
                *("train", photos, "--out", "killed", "--overwrite"),
                cache=folder / "cache-b",
                cwd=folder,
            )
            known.append(sum(rows(folder / "cache-b").values()))
        last = json.loads(
            regraft("train", photos, "--json", "--out", "last", cache=folder / "cache-b", cwd=folder).stdout
        )
        counted = rows(folder / "cache-b")
    same = all(last[key] == expected[key] for key in ("classes", "counts", "val", "test"))
    report(
        kills=options.kills,
        known_after_each=known,
        computed_in_the_last_run=last["features"]["computed"],
        rows_computed_twice_on_disk=sum(counted.values()) - len(counted),
        never_lost=known == sorted(known) and last["features"]["cached"] >= known[-1],
        same_result=same,
    )
    if not same:
        sys.exit("the results differ")


def rows(cache: Path) -> Counter[str]:
    """Digests in all whole part files, and how often each is there."""
    found: Counter[str] = Counter()
    for part in (cache / "features").rglob("part-*.parquet"):
        found.update(parquet.read_table(part, columns=["digest"]).column("digest").to_pylist())
    return found


if __name__ == "__main__":
    main()
