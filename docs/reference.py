"""Write docs/reference/ from the command line's own help and tables: ``python docs/reference.py [--check]``."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

FOLDER = Path(__file__).parent / "reference"


def command_line() -> str:
    """The page of ``regraft``."""
    from regraft.cli import VERBS

    verbs = list(VERBS)
    parts = ["# Command line", "", "Made by `python docs/reference.py` from `--help`; not to be edited.", ""]
    for verb in ("", *verbs):
        parts += [f"## regraft {verb}".rstrip(), "", "```", _help(verb).strip(), "```", ""]
    return "\n".join(parts)


def old_commands() -> str:
    """The page of the classic commands: every flag with its default."""
    from regraft.compat import COMMANDS

    parts = [
        "# Old commands",
        "",
        "Made by `python docs/reference.py` from their tables of flags; not to be edited.",
        "",
    ]
    for name in COMMANDS:
        module = import_module(f"regraft.compat.{name}")
        rows = [
            f"| `--{flag.name}` | `{flag.default!r}` | {flag.does}{'; ' if flag.changed else ''}{flag.changed} |"
            for flag in module.FLAGS
        ]
        about = (module.__doc__ or "").splitlines()[0].replace("``", "`")
        parts += [f"## regraft-{name.replace('_', '-')}", "", about, "", "| flag | default | here |", "|---|---|---|"]
        parts += [*rows, ""]
    return "\n".join(parts)


PAGES: dict[str, Callable[[], str]] = {"cli.md": command_line, "old-commands.md": old_commands}


def _help(verb: str) -> str:
    command = [sys.executable, "-m", "regraft", *([verb] if verb else []), "--help"]
    environment = {**os.environ, "COLUMNS": "110", "TERM": "dumb", "NO_COLOR": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=True)
    return "\n".join(line.rstrip() for line in done.stdout.splitlines())


def main() -> None:
    """Write the pages, or with ``--check`` only tell whether they are current."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in PAGES.items():
        path = FOLDER / name
        if "--check" not in sys.argv[1:]:
            path.write_text(text(), encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != text():
            sys.exit(f"{path} is not current; type: scripts/fix")


if __name__ == "__main__":
    main()
