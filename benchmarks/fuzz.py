"""Does any damaged input end in anything but success or one RegraftError, within 5 s and 400 MiB more? (Linux)

    scripts/bench fuzz archive --minutes 10

Each case has a seed; the inputs of findings are saved under their seeds. `tests/hostile/seeds/` keeps those that once
failed. The target ``run`` damages a run that was just trained, in this process, and keeps the numbers of its findings.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from _common import report

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.hostile.fuzzing import TARGETS, Finding, findings
from tests.hostile.test_runs_fuzz import fuzz_runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=[*sorted(TARGETS), "run"])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, help="the first seed; the time of day unless given")
    parser.add_argument("--out", type=Path, default=Path("fuzz-findings"), help="a folder for the inputs of findings")
    given = parser.parse_args()
    first = int(time.time()) * 10**6 if given.seed is None else given.seed
    if given.target == "run":
        told = fuzz_runs(given.minutes, given.seed)
        report(target="run", minutes=given.minutes, **told)
        sys.exit(1 if told["wrong"] else 0)
    until = time.monotonic() + 60 * given.minutes
    cases, found = 0, 0
    for one in findings(TARGETS[given.target], first, until, given.out / given.target):
        if isinstance(one, Finding):
            found += 1
            print(f"seed {one.seed}: {one.what}", flush=True)
        else:
            cases += one
    report(target=given.target, minutes=given.minutes, first_seed=first, cases=cases, findings=found)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
