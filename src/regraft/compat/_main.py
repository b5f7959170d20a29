"""What the old commands' entry points share: streams, and errors as one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence

from regraft import _console
from regraft._arguments import UsageError
from regraft._processes import Terminated, stop_on_signals
from regraft.errors import RegraftError

Job = Callable[[Sequence[str]], int]


def entry(prog: str, job: Job, words: Mapping[str, str] | None = None) -> Callable[..., int]:
    """What a script calls. It returns the exit code.

    0 is done, 1 something that the user must mend, 2 wrong usage, 130 stopped by Ctrl-C, 143 by SIGTERM.

    Args:
        prog: its name.
        job: what it does with the command line.
        words: what errors advise to type, and what stands for it in this command.
    """
    return lambda tokens=None: _run(prog, job, words or {}, tokens)


def _run(prog: str, job: Job, words: Mapping[str, str], tokens: Sequence[str] | None) -> int:
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    _console.turn_on()
    if tokens is None:
        stop_on_signals()
    try:
        code = job(sys.argv[1:] if tokens is None else tokens)
        sys.stdout.flush()
        return code
    except UsageError as error:
        code, message = 2, str(error)
    except RegraftError as error:
        code, message = 1, str(error)
        for ours, theirs in words.items():
            message = message.replace(ours, theirs)
    except KeyboardInterrupt as error:
        code = 143 if isinstance(error, Terminated) else 130
        message = "stopped; what was computed is kept, and the same command goes on from there"
    except SystemExit as error:  # help was asked for
        return int(error.code or 0)
    except BrokenPipeError:  # the reader of our output has had enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    sys.stderr.write(f"{prog}: {_console.printable(' '.join(message.split()))}\n")
    return code
