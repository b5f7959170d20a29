"""The entry point that all classic commands share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

from regraft.cli.entry import run_command
from regraft.errors import Spelling
from regraft.foundation import console

Job = Callable[[Sequence[str]], int]


def entry(prog: str, job: Job, names: Mapping[str, str] | None = None) -> Callable[..., int]:
    """Return the function that a command's script calls; that function returns the exit code, as `run_command` does.

    Args:
        prog: the name of the command.
        job: the function that takes the command line and does the work.
        names: the flags by which this command spells options of regraft, by the option's name.
    """
    spelling = Spelling(flags=True, names={"path": "path", **(names or {})})

    def main(tokens: Sequence[str] | None = None) -> int:
        def run() -> int:
            console.turn_on()
            return job(sys.argv[1:] if tokens is None else tokens)

        return run_command(prog, run, lambda: _STOPPED, spelling, own_process=tokens is None)

    return main


_STOPPED = "stopped; what was computed is kept, and the same command continues from there"
