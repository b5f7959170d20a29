"""What the old commands' entry points share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

from regraft import _console
from regraft._entry import run_command

Job = Callable[[Sequence[str]], int]


def entry(prog: str, job: Job, words: Mapping[str, str] | None = None) -> Callable[..., int]:
    """What a script calls. It returns the exit code, as `run_command` does.

    Args:
        prog: its name.
        job: what it does with the command line.
        words: what errors advise to type, and what stands for it in this command.
    """

    def main(tokens: Sequence[str] | None = None) -> int:
        def run() -> int:
            _console.turn_on()
            return job(sys.argv[1:] if tokens is None else tokens)

        return run_command(prog, run, lambda: _STOPPED, words, own_process=tokens is None)

    return main


_STOPPED = "stopped; what was computed is kept, and the same command goes on from there"
