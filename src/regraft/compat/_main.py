"""What the old commands' entry points share: errors as one line, in the words of the old flags."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

from regraft._exits import run_command

Job = Callable[[Sequence[str]], int]


def entry(prog: str, job: Job, words: Mapping[str, str] | None = None) -> Callable[..., int]:
    """Return what a script calls, which returns the exit code as `run_command` does.

    Args:
        prog: its name.
        job: what it does with the command line.
        words: what errors advise to type, and what stands for it in this command.
    """

    def main(tokens: Sequence[str] | None = None) -> int:
        return run_command(prog, lambda: job(sys.argv[1:] if tokens is None else tokens), words=words)

    return main
