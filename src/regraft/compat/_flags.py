"""Flags as TensorFlow's own parser took them: ``--flag value``, ``--flag=value``, ``--flag``, ``--noflag``."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from regraft import _console
from regraft._arguments import UsageError


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag of an old command.

    Attributes:
        name: without its dashes.
        default: as it was; its type is the flag's.
        does: what it does here.
        changed: what is said to whoever gives it, where its meaning had to change; empty where it has not.
    """

    name: str
    default: Any
    does: str
    changed: str = ""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; type: {self.prog} --help")

    def _print_message(self, message: str, file: Any = None) -> None:
        (file or sys.stderr).write(message)  # argparse's own passes over a disk that is full


def parse_flags(
    prog: str, about: str, flags: Sequence[Flag], tokens: Sequence[str], positional: str = ""
) -> argparse.Namespace:
    """The values of all flags, and of the argument before them that has no flag; says which meanings had to change.

    Raises:
        UsageError: one is unknown (the message has the nearest spelling), or its value is not of its type.
    """
    parser = _Parser(prog=prog, description=about, allow_abbrev=False)
    names = [flag.name for flag in flags]
    if positional:
        parser.add_argument(positional)
    for flag in flags:
        meaning = f"{flag.does}; {flag.changed}" if flag.changed else flag.does
        told = f"{meaning} (default: {flag.default!r})".replace("%", "%%")
        if isinstance(flag.default, bool):
            parser.add_argument(f"--{flag.name}", nargs="?", const=True, default=None, type=_boolean, help=told)
            parser.add_argument(f"--no{flag.name}", dest=flag.name, action="store_false", help=argparse.SUPPRESS)
        else:
            parser.add_argument(f"--{flag.name}", default=None, type=type(flag.default), help=told)
    found, unknown = parser.parse_known_args(list(tokens))
    if unknown:
        name = unknown[0].lstrip("-").partition("=")[0]
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean --{near[0]}? " if near else ""
        raise UsageError(f"unknown flag '--{name}': {hint}type: {prog} --help")
    for flag in flags:
        if getattr(found, flag.name) is None:
            setattr(found, flag.name, flag.default)
        elif flag.changed:
            _console.say(f"--{flag.name}: {flag.changed}")
    return found


def _boolean(text: str) -> bool:
    if text.lower() in ("true", "t", "1", "yes"):
        return True
    if text.lower() in ("false", "f", "0", "no"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
