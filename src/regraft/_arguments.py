"""Command-line flags from dataclasses, by the standard library's argparse.

A field is a flag: its name, type and default are the flag's, the string under it is the flag's help. argparse
imports in 10 ms; cyclopts, which does this and more, took 100 (docs/decisions.md).
"""

from __future__ import annotations

import argparse
import ast
import inspect
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
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


def _nearest(word: str, known: Sequence[str]) -> list[str]:
    """Return the known word that is most like a mistyped one; none where none is alike."""
    import difflib  # only a mistake needs it

    return difflib.get_close_matches(word, known, n=1)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; type: {self.prog} --help")

    def _print_message(self, message: str, file: Any = None) -> None:
        (file or sys.stderr).write(message)  # argparse's own passes over a disk that is full

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            near = _nearest(str(value), known)
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
        SystemExit: help or the version was asked for, and is printed; or nothing was, and help is printed to stderr.
    """
    parser = _Parser(prog=prog, description=about, allow_abbrev=False)
    # Looking up the version takes reading the installed package's metadata.
    parser.add_argument("--version", action="version", version=version() if "--version" in tokens else "")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, dest="verb")
    place = next((i for i, token in enumerate(tokens) if not token.startswith("-")), len(tokens))
    word = tokens[place] if place < len(tokens) else ""
    for name, verb in verbs.items():
        doc = inspect.getdoc(verb.run) or ""
        sub = commands.add_parser(
            name,
            help=doc.partition("\n")[0].rstrip("."),
            description=doc,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name == word:  # only the verb in question gets its flags: their help is read from source files
            _add_arguments(sub, verb)
    if not tokens:
        with suppress(OSError):  # a stderr that is closed or full changes nothing
            parser.print_help(sys.stderr)
            sys.stderr.flush()
        raise SystemExit(2)
    of_verb = commands.choices.get(word)
    _require_known_flags(parser, tokens[:place], of_verb)
    if of_verb is not None:
        _require_known_flags(of_verb, tokens[place + 1 :])
    found = parser.parse_args(list(tokens))
    return verbs[found.verb], found


def _add_arguments(parser: argparse.ArgumentParser, verb: Verb) -> None:
    for positional, meaning, count in verb.positionals:
        parser.add_argument(positional, metavar=positional.upper(), help=meaning, nargs=count, type=_not_empty)
    for heading, cls in verb.options.items():
        _add_flags(parser if heading == "options" else parser.add_argument_group(heading), cls)


def _require_known_flags(
    parser: argparse.ArgumentParser, tokens: Sequence[str], later: argparse.ArgumentParser | None = None
) -> None:
    """Raise UsageError for a flag that ``parser`` does not know, with the nearest one that it does know.

    argparse itself would first miss what the wrong flag has swallowed, and know of no near spelling. ``later`` is the
    parser of the verb, before which ``tokens`` stand.
    """
    for word in tokens:
        if word == "--":
            return
        flag = word.partition("=")[0]
        is_flag = word.startswith("-") and word != "-" and not re.fullmatch(r"-\d*\.?\d+", word)
        if not is_flag or flag in parser._option_string_actions:
            continue
        if later is not None and flag in later._option_string_actions:
            verb = later.prog.rpartition(" ")[2]
            raise UsageError(f"{flag} stands after {verb}, as in: {later.prog} … {flag}")
        near = _nearest(flag, list(parser._option_string_actions))
        hint = f": did you mean {near[0]}?" if near else ";"
        if _is_there(word):
            hint = f"; the file of that name is typed ./{word};"
        raise UsageError(f"unknown flag {flag}{hint} type: {parser.prog} --help")


def _is_there(name: str) -> bool:
    try:
        return Path(name).exists()
    except OSError:  # a name that is too long
        return False


def given(namespace: Any, cls: type[Any]) -> dict[str, Any]:
    """The fields of ``cls`` whose flags were given, with their values. Raises UsageError for text of no Unicode."""
    found = {field.name: getattr(namespace, field.name) for field in fields(cls) if hasattr(namespace, field.name)}
    for name, value in found.items():
        if isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value):  # no file could record it
            raise UsageError(f"--{name.replace('_', '-')} {value!r} is not Unicode text (UTF-8)")
    return found


def _add_flags(group: argparse._ActionsContainer, cls: type[Any]) -> None:
    hints, docs = get_type_hints(cls), field_docs(cls)
    for field in fields(cls):
        if field.default is MISSING:
            raise TypeError(f"{cls.__name__}.{field.name} has no default, so it cannot be a flag")
        flag, hint = "--" + field.name.replace("_", "-"), hints[field.name]
        flags = [field.metadata["short"], flag] if "short" in field.metadata else [flag]
        text = docs[field.name].replace("%", "%%")
        if hint is bool:
            group.add_argument(*flags, action="store_true", default=argparse.SUPPRESS, help=text)
            continue
        if field.default not in (None, ""):
            text += f" [default: {field.default}]"
        choices = get_args(hint) if get_origin(hint) is Literal else None
        kind = _plain_type(str if choices else hint)
        group.add_argument(
            *flags,
            type=_READERS.get(kind, kind),
            choices=choices,
            metavar="|".join(choices) if choices else kind.__name__.upper(),
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


def _not_empty(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("an empty text; wanted a path or a name")
    return text


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text} is no finite number")
    return number


_READERS: dict[type[Any], Callable[[str], Any]] = {Path: lambda text: Path(_not_empty(text)), float: _finite}
"""What makes a value of a flag's text, where its type alone would take too much."""


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
