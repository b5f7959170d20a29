"""Command-line flags made from dataclasses, with argparse of the standard library.

Each field of a dataclass becomes a flag with the name, type and default of the field; the string under the field is the
help of the flag. argparse imports in 10 ms; cyclopts, which can do the same and more, took 100 ms (docs/decisions.md).
"""

from __future__ import annotations

import argparse
import ast
import inspect
import math
import re
import sys
import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, Field, dataclass, fields
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from regraft.foundation.names import nearest, resolve


class UsageError(Exception):
    """The error that a command line is wrong; the message names the wrong part and what is possible."""


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb of the command line.

    Attributes:
        run: the ``"module:function"`` of the function that does the work. It takes the namespace that `parse` returns,
            and returns the exit code.
        example: an example of a command line, which is shown at the start of the help.
        about: the help of the verb. Its first line is also shown in the help of the program.
        positionals: (name, meaning, count) of each positional argument, in order. The count is as in argparse: None for
            one, "?" for at most one, "+" for at least one, "*" for any number.
        options: the ``"module:class"`` of each dataclass whose fields are flags of the verb, the most common flags
            first. In the help, the fields of a class with a ``heading`` are listed under this heading; expert options
            come at the end.
        choices: by the name of a positional, the words that it may be. Other positionals accept any text.
    """

    run: str
    example: str
    about: str
    positionals: tuple[tuple[str, str, str | None], ...]
    options: tuple[str, ...]
    choices: Mapping[str, tuple[str, ...]] | None = None


_NUMBER = re.compile(r"^-\d*\.?\d+(\.\.\d*\.?\d+)?$")
"""A negative number, or a range that begins with one, such as ``-1..1``: the value of a flag, and no flag."""


class _Parser(argparse.ArgumentParser):
    """An argparse parser that raises `UsageError`, suggests similar words, and does not hide errors of stdout."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._negative_number_matcher = _NUMBER  # argparse's own takes the range of --pixels for a flag

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; type: {self.prog} --help")

    def _print_message(self, message: str, file: Any = None) -> None:
        (file or sys.stderr).write(message)  # the method of argparse ignores errors, such as a full disk

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            near = nearest(str(value), known)
            hint = f"did you mean {near!r}? " if near else ""
            what = (
                "command"
                if isinstance(action, argparse._SubParsersAction)
                else "/".join(action.option_strings) or action.dest.upper()
            )
            raise UsageError(f"unknown {what} {str(value)!r}: {hint}there is {', '.join(known)}")


class _Formatter(argparse.HelpFormatter):
    """A formatter that keeps paragraphs apart; argparse's own makes one paragraph of all of them."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = partial(textwrap.fill, width=width, initial_indent=indent, subsequent_indent=indent)
        return "\n\n".join(fill(" ".join(part.split()), break_on_hyphens=False) for part in text.split("\n\n"))


def parse(
    prog: str, about: str, version: Callable[[], str], verbs: Mapping[str, Verb], tokens: Sequence[str]
) -> tuple[Verb, Any]:
    """Parse a command line.

    Args:
        prog: the name of the program.
        about: the description of the program, for its help.
        version: the function that returns the version of the program.
        verbs: the verbs by name.
        tokens: the arguments of the command line, without the name of the program.

    Returns:
        The verb and its namespace, which holds the positionals by name, and those flags that were given.

    Raises:
        UsageError: the command line is wrong.
        SystemExit: help or the version was asked for and is printed; or there are no tokens, and help is printed to
            stderr.
    """
    place = next((i for i, token in enumerate(tokens) if not token.startswith("-")), len(tokens))
    word = tokens[place] if place < len(tokens) else ""
    # Two things are slow and done only where needed: the version, which is read from the metadata of the installed
    # package, and the flags of a verb, whose classes are imported and whose help is read from source files.
    parser, verb_parsers = _parser_of(prog, about, version() if "--version" in tokens else "", verbs, {word})
    if not tokens:
        with suppress(OSError):  # a stderr that is closed or full changes nothing
            parser.print_help(sys.stderr)
            sys.stderr.flush()
        raise SystemExit(2)
    of_verb = verb_parsers.get(word)
    _require_known_flags(parser, tokens[:place], of_verb)
    if of_verb is not None:
        _require_known_flags(of_verb, tokens[place + 1 :])
    found = parser.parse_args(list(tokens))
    return verbs[found.verb], found


def whole_parser(prog: str, about: str, verbs: Mapping[str, Verb]) -> argparse.ArgumentParser:
    """Return a parser with the flags of every verb, for shell completion, which needs the whole command line."""
    return _parser_of(prog, about, "", verbs, verbs)[0]


def _parser_of(
    prog: str, about: str, version: str, verbs: Mapping[str, Verb], filled: Collection[str]
) -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """Return the parser of a program, and the parsers of its verbs by name.

    Only the verbs in ``filled`` get their flags and positionals.
    """
    parser = _Parser(prog=prog, description=about, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(metavar="COMMAND", required=True, dest="verb")
    for name, verb in verbs.items():
        about = inspect.cleandoc(verb.about)
        sub = commands.add_parser(
            name,
            help=about.partition("\n")[0].rstrip("."),
            usage=" ".join(["%(prog)s", *map(_shown, verb.positionals), "[options]"]) + f"\nexample: {verb.example}",
            description=about,
            allow_abbrev=False,
            formatter_class=_Formatter,
        )
        if name in filled:
            _add_arguments(sub, verb)
    return parser, commands.choices


def _shown(positional: tuple[str, str, str | None]) -> str:
    """Return a positional argument as the usage line shows it, such as ``[PHOTO]`` or ``PHOTO ...``."""
    name, _, count = positional
    shown = {"?": f"[{name.upper()}]", "+": f"{name.upper()} ...", "*": f"[{name.upper()} ...]"}
    return shown.get(count or "", name.upper())


def _add_arguments(parser: argparse.ArgumentParser, verb: Verb) -> None:
    """Add the positionals and the flags of a verb to its parser, the expert flags last."""
    for positional, meaning, count in verb.positionals:
        choices = (verb.choices or {}).get(positional)
        parser.add_argument(
            positional, metavar=positional.upper(), help=meaning, nargs=count, type=_not_empty, choices=choices
        )
    classes = [resolve(target) for target in verb.options]
    for expert in (False, True):
        for cls in classes:
            _add_flags(parser, cls, expert)


def _require_known_flags(
    parser: argparse.ArgumentParser, tokens: Sequence[str], later: argparse.ArgumentParser | None = None
) -> None:
    """Raise UsageError for an unknown flag, with the most similar known flag in the message.

    argparse itself would first report the arguments that seem to be missing because of the unknown flag, and suggests
    no similar flag.

    Args:
        parser: the parser that knows the flags.
        tokens: the part of the command line for this parser.
        later: for the tokens before the verb, the parser of the verb: its flags are known but are in the wrong place.
    """
    for word in tokens:
        if word == "--":
            return
        flag = word.partition("=")[0]
        is_flag = word.startswith("-") and word != "-" and not _NUMBER.match(word)
        if not is_flag or flag in parser._option_string_actions:
            continue
        if later is not None and flag in later._option_string_actions:
            verb = later.prog.rpartition(" ")[2]
            raise UsageError(f"{flag} stands after {verb}, as in: {later.prog} … {flag}")
        near = nearest(flag, parser._option_string_actions)
        hint = f": did you mean {near}?" if near else ";"
        if _is_there(word):
            hint = f"; the file of that name is typed ./{word};"
        raise UsageError(f"unknown flag {flag}{hint} type: {parser.prog} --help")


def _is_there(name: str) -> bool:
    """Return whether there is a file with a name."""
    try:
        return Path(name).exists()
    except OSError:  # a name that is too long
        return False


def given(namespace: Any, cls: type[Any]) -> dict[str, Any]:
    """Return the values of those fields of ``cls`` whose flags were given on the command line, by name.

    The values of a flag that may be given several times are a tuple.

    Raises:
        UsageError: a value is not Unicode text.
    """
    found = {field.name: getattr(namespace, field.name) for field in fields(cls) if hasattr(namespace, field.name)}
    for name, value in found.items():
        # A lone surrogate cannot be written to a UTF-8 file.
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and any("\ud800" <= c <= "\udfff" for c in text):
                raise UsageError(f"--{name.replace('_', '-')} {text!r} is not Unicode text (UTF-8)")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}


def _add_flags(parser: argparse.ArgumentParser, cls: type[Any], expert: bool) -> None:
    """Add the flags of a dataclass to a parser: either all common flags or all expert flags.

    Each common flag is listed under the heading of the class that defines its field.
    """
    hints, docs = get_type_hints(cls), field_docs(cls)
    for field in fields(cls):
        heading = _EXPERT if expert else _heading_of(cls, field.name)
        if field.metadata.get("expert", False) == expert:
            _add_flag(_group(parser, heading), field, hints[field.name], docs[field.name])


_EXPERT = "expert options (no measurement supports other values than the default)"


def _heading_of(cls: type[Any], name: str) -> str:
    """Return the heading of the class that defines a field; ``options`` where this class has no heading."""
    owner = next(base for base in cls.__mro__ if name in vars(base).get("__annotations__", {}))
    return str(vars(owner).get("heading", "options"))


def _group(parser: argparse.ArgumentParser, heading: str) -> argparse._ArgumentGroup:
    """Return the argument group of a parser with a heading. A missing group is added to the parser."""
    known = (group for group in parser._action_groups if group.title == heading)
    return next(known, None) or parser.add_argument_group(heading)


def _flag(name: str) -> str:
    """Return the flag of a field: ``--label-from`` for ``label_from``."""
    return f"--{name.replace('_', '-')}"


def _add_flag(group: argparse._ActionsContainer, field: Field[Any], hint: Any, doc: str) -> None:
    """Add the flag of one field to an argument group.

    Args:
        group: the argument group.
        field: the field of the dataclass.
        hint: the type of the field.
        doc: the help of the flag.

    Raises:
        TypeError: the field has no default, or a type that cannot be a flag.
    """
    if field.default is MISSING:
        raise TypeError(f"{field.name} has no default, so it cannot be a flag")
    flag = field.metadata.get("flag", _flag(field.name))  # a word of Python, such as from, can be no field
    flags = [field.metadata["short"], flag] if "short" in field.metadata else [flag]
    text = doc.replace("%", "%%")
    if hint is bool:
        group.add_argument(*flags, dest=field.name, action="store_true", default=argparse.SUPPRESS, help=text)
        return
    if field.default not in (None, "", ()):
        text += f" [default: {field.default}]"
    if hint == tuple[str, ...]:
        metavar = field.metadata.get("metavar", field.name.upper())
        group.add_argument(
            *flags, action="append", type=_not_empty, default=argparse.SUPPRESS, help=text, metavar=metavar
        )
        return
    choices = get_args(hint) if get_origin(hint) is Literal else None
    kind = _plain_type(str if choices else hint)
    group.add_argument(
        *flags,
        dest=field.name,
        type=_READERS.get(kind, kind),
        choices=choices,
        metavar="|".join(choices) if choices else kind.__name__.upper(),
        default=argparse.SUPPRESS,
        help=text,
    )


def _plain_type(hint: Any) -> type[Any]:
    """Return the type of a flag's value: ``Path`` for ``Path | None``; text where it may be one. Raises TypeError."""
    if isinstance(hint, UnionType):
        kinds = [part for part in get_args(hint) if part is not type(None)]
        hint = str if str in kinds else kinds[0]
    if hint not in (str, int, float, Path):
        raise TypeError(f"{hint} cannot be a flag")
    return hint  # type: ignore[no-any-return]


def _not_empty(text: str) -> str:
    """Return a text that is not empty. Raises ArgumentTypeError."""
    if not text:
        raise argparse.ArgumentTypeError("an empty text; wanted a path or a name")
    return text


def _finite(text: str) -> float:
    """Return the finite number that a text holds. Raises ValueError or ArgumentTypeError, both known to argparse."""
    number = float(text)
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text} is no finite number")
    return number


_READERS: dict[type[Any], Callable[[str], Any]] = {Path: lambda text: Path(_not_empty(text)), float: _finite}
"""By type, the function that turns the text of a flag into a value, where the type itself would accept too much."""


def field_docs(cls: type[Any]) -> dict[str, str]:
    """Return the string under each field of a dataclass, on one line, by the field's name; inherited fields too."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        body = ast.parse(inspect.cleandoc("\n" + inspect.getsource(base))).body[0]
        statements = body.body if isinstance(body, ast.ClassDef) else []
        for field, doc in pairwise(statements):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(doc, ast.Expr):
                found[field.target.id] = " ".join(str(getattr(doc.value, "value", "")).split())
    return found
