"""The command `regraft completion`: it prints a script for a shell, which shtab writes from the parser."""

from __future__ import annotations

import sys
from argparse import Action, ArgumentParser, _SubParsersAction
from collections.abc import Iterator
from typing import Any

import shtab

from regraft.backbones.base import list_backbones
from regraft.cli.arguments import whole_parser
from regraft.cli.verbs import ABOUT, VERBS
from regraft.exporting.formats.base import registry as formats
from regraft.heads.base import registry as heads


def completion(arguments: Any) -> int:
    """Run `regraft completion`. Returns the exit code."""
    sys.stdout.write(script(arguments.shell, whole_parser("regraft", ABOUT, VERBS)) + "\n")
    return 0


def script(shell: str, parser: ArgumentParser) -> str:
    """Return the completion script for a shell.

    Args:
        shell: ``bash``, ``zsh`` or ``fish``.
        parser: the parser with the flags of every verb. The parser is changed: it gets possible values for completion,
            so it must not parse a command line afterwards.
    """
    # bash treats a colon as the end of a word, so backbones are completed without the name of their source.
    backbones = [name.partition(":")[2] for name in list_backbones()]
    known = {"--backbone": backbones, "--head": heads.names(), "--format": formats.names()}
    for action in _actions(parser):
        flag = action.option_strings[-1] if action.option_strings else ""
        if action.choices is not None:
            continue
        if flag in known:
            action.choices = known[flag]
        elif action.metavar == "PATH" or not flag:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    return str(shtab.complete(parser, shell))


def _actions(parser: ArgumentParser) -> Iterator[Action]:
    """Yield the flags and positionals of a parser and of the parsers of its verbs."""
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            for verb in action.choices.values():
                yield from _actions(verb)
        else:
            yield action
