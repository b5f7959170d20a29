"""Write docs/reference/cli.md from the command line's own help: ``python docs/reference.py [--check]``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TARGET = Path(__file__).parent / "reference" / "cli.md"


def text() -> str:
    """The page."""
    from regraft.cli import VERBS

    verbs = list(VERBS)
    parts = ["# Command line", "", "Made by `python docs/reference.py` from `--help`; not to be edited.", ""]
    for verb in ("", *verbs):
        parts += [f"## regraft {verb}".rstrip(), "", "```", _help(verb).strip(), "```", ""]
    return "\n".join(parts)


def _help(verb: str) -> str:
    command = [sys.executable, "-m", "regraft", *([verb] if verb else []), "--help"]
    environment = {**os.environ, "COLUMNS": "110", "TERM": "dumb", "NO_COLOR": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=True)
    return "\n".join(line.rstrip() for line in done.stdout.splitlines())


def main() -> None:
    """Write the page, or with ``--check`` only tell whether it is current."""
    if "--check" not in sys.argv[1:]:
        TARGET.parent.mkdir(exist_ok=True)
        TARGET.write_text(text(), encoding="utf-8")
    elif not TARGET.is_file() or TARGET.read_text(encoding="utf-8") != text():
        sys.exit(f"{TARGET} is not current; type: scripts/fix")


if __name__ == "__main__":
    main()
