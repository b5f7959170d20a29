"""Values of options: from a dict or a TOML file, each checked against the type of its field."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from regraft import _documents
from regraft._files import as_path, kind_of
from regraft.errors import ConfigError

T = TypeVar("T")

LARGEST = 2**15
"""The most bytes of a file of options; what reads TOML takes minutes for long names of a stranger."""


def options_of(cls: type[T], given: Any) -> T:
    """Return the options that ``given`` stands for: what every function that takes a ``config`` accepts.

    Args:
        cls: the dataclass of the options.
        given: one of them; a dict of values by name; the path of a TOML file of such values; or None for the defaults.

    Raises:
        ConfigError: it is none of these, a name is no option, or a value is not of the option's type.
    """
    if given is None:
        return cls()
    if isinstance(given, cls):
        return given
    if isinstance(given, Mapping):
        return from_dict(cls, given)
    if isinstance(given, str | os.PathLike):
        return from_dict(cls, read_toml(as_path(given, "config")))
    raise ConfigError(
        f"config is {kind_of(given)}; wanted a {cls.__name__}, a dict of its options, or the path of a TOML file"
    )


def from_dict(cls: type[T], values: Mapping[str, Any]) -> T:
    """Return the options with the given values. Raises ConfigError for a name that is no option, or a wrong value."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"options are {kind_of(values)}; wanted a table of names and values")
    known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise ConfigError(f"unknown option {name!r}; there is {', '.join(sorted(known))}")
    return cls(**values)


def require_types(options: Any) -> None:
    """Check each value of a frozen dataclass against the type of its field.

    What is as good is replaced by a plain Python value: text by a `Path`, one of NumPy's integers by an int.

    Raises:
        ConfigError: a value is of another type.
    """
    hints = get_type_hints(type(options))
    for field in fields(options):
        value = getattr(options, field.name)
        plain = _plain(field.name, value, hints[field.name])
        if plain is not value:
            object.__setattr__(options, field.name, plain)


def _plain(name: str, value: Any, hint: Any) -> Any:
    kinds = get_args(hint) if get_origin(hint) is not Literal else ()
    kinds = kinds or (hint,)
    if value is None and type(None) in kinds:
        return None
    kind = next(kind for kind in kinds if kind is not type(None))
    if kind is Path and isinstance(value, str | os.PathLike):
        return as_path(value, name)
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if is_number and kind is float:
        return value if isinstance(value, int | float) else float(value)
    if is_number and kind is int and isinstance(value, Integral) and abs(int(value)) < 2**53:
        return value if isinstance(value, int) else int(value)
    if kind not in (int, float) and isinstance(value, str if get_origin(kind) is Literal else kind):
        return value
    raise ConfigError(f"{name} is {value!r}; wanted {_WORDS.get(kind, 'a text')}")


_WORDS = {int: "a whole number", float: "a number", bool: "true or false", Path: "a path"}


def read_toml(path: Path) -> dict[str, Any]:
    """The options of a TOML file. Raises ConfigError where it cannot be read."""
    with _documents.mended(ConfigError, "wanted a TOML file of options"):
        return _documents.read_toml(path, LARGEST)
