"""Parse flags as TensorFlow's own parser did: ``--flag value``, ``--flag=value``, ``--flag``, ``--noflag``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from regraft.cli.arguments import UsageError
from regraft.foundation import console
from regraft.foundation.names import nearest


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag of a classic command.

    Attributes:
        name: the name of the flag, without dashes.
        default: the default value of the original command; its type is the type of the flag.
        does: what the flag does in regraft.
        changed: a message for users of the flag, where its meaning differs from the original; else empty.
    """

    name: str
    default: Any
    does: str
    changed: str = ""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; type: {self.prog} --help")

    def _print_message(self, message: str, file: Any = None) -> None:
        (file or sys.stderr).write(message)  # argparse's own method ignores write errors, such as a full disk


def parse_flags(
    prog: str, about: str, flags: Sequence[Flag], tokens: Sequence[str], positional: str = ""
) -> argparse.Namespace:
    """Parse a command line, and print a message for each given flag whose meaning differs from the original.

    Args:
        prog: the name of the command.
        about: the first line of its help.
        flags: the flags that it takes.
        tokens: the command line, without the name of the command.
        positional: the name of an argument without a flag; empty for none.

    Returns:
        The values of all flags, and of the positional argument, by name.

    Raises:
        UsageError: a flag is unknown (the message has the nearest spelling), or its value is not of its type.
    """
    parser = _Parser(prog=prog, description=about, allow_abbrev=False)
    names = [flag.name for flag in flags]
    if positional:
        parser.add_argument(positional)
    for flag in flags:
        meaning = f"{flag.does}; {flag.changed}" if flag.changed else flag.does
        help_text = f"{meaning} (default: {flag.default!r})".replace("%", "%%")
        if isinstance(flag.default, bool):
            parser.add_argument(f"--{flag.name}", nargs="?", const=True, default=None, type=_boolean, help=help_text)
            parser.add_argument(f"--no{flag.name}", dest=flag.name, action="store_false", help=argparse.SUPPRESS)
        else:
            parser.add_argument(f"--{flag.name}", default=None, type=type(flag.default), help=help_text)
    found, unknown = parser.parse_known_args(list(tokens))
    if unknown:
        if not unknown[0].startswith("-"):
            raise UsageError(f"unexpected argument {unknown[0]!r}; type: {prog} --help")
        name = unknown[0].lstrip("-").partition("=")[0]
        near = nearest(name, names)
        hint = f"did you mean --{near}? " if near else ""
        raise UsageError(f"unknown flag '--{name}': {hint}type: {prog} --help")
    for flag in flags:
        if getattr(found, flag.name) is None:
            setattr(found, flag.name, flag.default)
        elif flag.changed:
            console.say(f"--{flag.name}: {flag.changed}")
    return found


def _boolean(text: str) -> bool:
    if text.lower() in ("true", "t", "1", "yes"):
        return True
    if text.lower() in ("false", "f", "0", "no"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
