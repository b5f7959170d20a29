"""Does `regraft serve` answer what it accepted, when clients vanish half way and the server is told to stop?

10,000 requests in 20 rounds, each with a server of its own, which gets a SIGTERM after nine tenths of the round's
requests. A third of the clients vanish: in the middle of the body, after it, or by a reset. Counts the answers by what
the server owed, and how the server's process ended: by itself within 60 s, with exit code 0 or that of SIGTERM. The
exit code of this program is 1 where a request was lost, or a server did not end so. For Linux.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from _common import report
from _servers import Server, serving

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.serving.vanishing_clients import Tally, storm

LIMIT = 60.0  # seconds for the server to end after the SIGTERM
ENDED = (0, -signal.SIGTERM, 128 + signal.SIGTERM)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="a run or an export")
    parser.add_argument("photos", type=Path, help="a folder of JPEGs")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--command", help="another server, for example: program --port {port}")
    parser.add_argument("--ready", default="/v2/health/ready")
    options = parser.parse_args()
    ours = f"{sys.executable} -m regraft serve {options.model.resolve()} --port {{port}}"
    server = Server("regraft", tuple((options.command or ours).split()), options.ready, "/predict", "jpeg")
    photos = [path.read_bytes() for path in sorted(options.photos.rglob("*.jpg"))[:500]]
    answers: dict[str, Counter[str]] = {}
    vanished: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    lost, seconds = 0, []
    for number in range(options.rounds):
        tally, code, took = one_round(server, photos, options.count // options.rounds, options.connections, number)
        print(number, code, round(took, 2), tally, file=sys.stderr)
        lost += tally.lost
        seconds.append(took)
        ends[str(code)] += 1
        vanished += tally.vanished
        for owed, found in tally.answers.items():
            answers[owed] = answers.get(owed, Counter()) + found
    report(answers=answers, vanished=vanished, lost=lost, exit_codes=ends, slowest_end_s=round(max(seconds), 2))
    sys.exit(1 if lost or any(code not in map(str, ENDED) for code in ends) else 0)


def one_round(
    server: Server, photos: list[bytes], count: int, connections: int, seed: int
) -> tuple[Tally, int | None, float]:
    """What became of the requests, the exit code of the server (None: still there), and how long its end took."""
    log = Path(os.devnull)
    with serving(server, log) as watched:
        pid = watched.process.pid
        tally = storm(watched.port, pid, photos, count, connections=connections, seed=seed, stop_at=count * 9 // 10)
        began = time.perf_counter()
        try:
            code: int | None = watched.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            code = None
        return tally, code, time.perf_counter() - began


if __name__ == "__main__":
    main()
