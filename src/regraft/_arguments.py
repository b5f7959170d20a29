"""Command-line flags from dataclasses, by the standard library's argparse.

A field is a flag: its name, type and default are the flag's, the string under it is the flag's help. argparse
imports in 10 ms; cyclopts, which does this and more, took 100 (docs/decisions.md).
"""

from __future__ import annotations

import argparse
import ast
import difflib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from itertools import pairwise
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints


class UsageError(Exception):
    """The command line is not understood; the message says which part, and what is."""


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb of the command line.

    Attributes:
        run: what it does; its doc string is the verb's help, its result the exit code.
        positionals: (name, meaning, how many) in order; how many as in argparse: None, "?" or "+".
        options: the dataclasses whose fields are its flags, under their headings.
    """

    run: Callable[..., int]
    positionals: tuple[tuple[str, str, str | None], ...]
    options: Mapping[str, type[Any]]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; type: {self.prog} --help")

    def _print_message(self, message: str, file: Any = None) -> None:
        (file or sys.stderr).write(message)  # argparse's own passes over a disk that is full

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            near = difflib.get_close_matches(str(value), known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            what = "command" if isinstance(action, argparse._SubParsersAction) else "/".join(action.option_strings)
            raise UsageError(f"unknown {what} {str(value)!r}: {hint}there is {', '.join(known)}")


def parse(
    prog: str, about: str, version: Callable[[], str], verbs: Mapping[str, Verb], tokens: Sequence[str]
) -> tuple[Verb, Any]:
    """Understand ``tokens``.

    Returns:
        The verb and its namespace: positionals by name, and of the flags only those that were given.

    Raises:
        UsageError: they are not understood.
        SystemExit: help or the version was asked for, and is printed.
    """
    parser = _Parser(prog=prog, description=about, allow_abbrev=False)
    # Looking up the version takes reading the installed package's metadata.
    parser.add_argument("--version", action="version", version=version() if "--version" in tokens else "")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, dest="verb")
    for name, verb in verbs.items():
        # Only the verb in question gets its flags: their help is read from source files.
        asked = name == next((token for token in tokens if not token.startswith("-")), None)
        doc = inspect.getdoc(verb.run) or ""
        sub = commands.add_parser(
            name,
            help=doc.partition("\n")[0].rstrip("."),
            description=doc,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if asked:
            for positional, meaning, count in verb.positionals:
                sub.add_argument(positional, metavar=positional.upper(), help=meaning, nargs=count)
            for heading, cls in verb.options.items():
                _add_flags(sub if heading == "options" else sub.add_argument_group(heading), cls)
    found = parser.parse_args(list(tokens))
    return verbs[found.verb], found


def given(namespace: Any, cls: type[Any]) -> dict[str, Any]:
    """The fields of ``cls`` whose flags were given, with their values."""
    return {field.name: getattr(namespace, field.name) for field in fields(cls) if hasattr(namespace, field.name)}


def _add_flags(group: argparse._ActionsContainer, cls: type[Any]) -> None:
    hints, docs = get_type_hints(cls), field_docs(cls)
    for field in fields(cls):
        if field.default is MISSING:
            raise TypeError(f"{cls.__name__}.{field.name} has no default, so it cannot be a flag")
        flag, hint = "--" + field.name.replace("_", "-"), hints[field.name]
        text = docs[field.name].replace("%", "%%")
        if hint is bool:
            group.add_argument(flag, action="store_true", default=argparse.SUPPRESS, help=text)
            continue
        if field.default not in (None, ""):
            text += f" [default: {field.default}]"
        choices = get_args(hint) if get_origin(hint) is Literal else None
        group.add_argument(
            flag,
            type=str if choices else _plain_type(hint),
            choices=choices,
            metavar="|".join(choices) if choices else _plain_type(hint).__name__.upper(),
            default=argparse.SUPPRESS,
            help=text,
        )


def _plain_type(hint: Any) -> type[Any]:
    """``Path`` of ``Path | None``."""
    if isinstance(hint, UnionType):
        hint = next(part for part in get_args(hint) if part is not type(None))
    if hint not in (str, int, float, Path):
        raise TypeError(f"{hint} cannot be a flag")
    return hint  # type: ignore[no-any-return]


def field_docs(cls: type[Any]) -> dict[str, str]:
    """The string under each field of a dataclass, on one line; of inherited fields too."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        body = ast.parse(inspect.cleandoc("\n" + inspect.getsource(base))).body[0]
        statements = body.body if isinstance(body, ast.ClassDef) else []
        for field, doc in pairwise(statements):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(doc, ast.Expr):
                found[field.target.id] = " ".join(str(getattr(doc.value, "value", "")).split())
    return found
