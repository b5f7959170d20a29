"""Options from a dict or a TOML file, with each value checked against the type of its field."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from regraft.errors import ConfigError
from regraft.foundation import documents
from regraft.foundation.files import as_path, kind_of

T = TypeVar("T")

LARGEST = 2**15
"""The largest size of a file of options, in bytes; the TOML parser takes minutes for very long keys."""


def options_of(cls: type[T], given: Any) -> T:
    """Return the options from any value that a ``config`` argument may have.

    Args:
        cls: the dataclass of the options.
        given: an instance of ``cls``; a dict of values by name; the path of a TOML file of such values; or None for the
            defaults.

    Raises:
        ConfigError: ``given`` is of another type, a name is no option, or a value is not of the option's type.
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
    """Return the options with the given values. Raises ConfigError for an unknown name or a wrong value."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"options are {kind_of(values)}; wanted a table of names and values")
    known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise ConfigError(f"unknown option {name!r}; there is {', '.join(sorted(known))}")
    return cls(**values)


def require_types(options: Any) -> None:
    """Check each value of a frozen dataclass against the type of its field.

    Equivalent values are replaced by plain Python values: text by a `Path`, a NumPy integer by an int.

    Raises:
        ConfigError: a value is not of the type of its field.
    """
    hints = get_type_hints(type(options))
    for field in fields(options):
        value = getattr(options, field.name)
        plain = _plain(field.name, value, hints[field.name])
        if plain is not value:
            object.__setattr__(options, field.name, plain)


def _plain(name: str, value: Any, hint: Any) -> Any:
    """Return the value of an option as a plain Python value of type ``hint``. Raises ConfigError."""
    kinds = get_args(hint) if get_origin(hint) is not Literal else ()
    kinds = kinds or (hint,)
    if value is None and type(None) in kinds:
        return None
    if str in kinds and isinstance(value, str):
        return value
    kind = next(kind for kind in kinds if kind is not type(None))
    if kind is Path and isinstance(value, str | os.PathLike):
        return as_path(value, name)
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if is_number and kind is float:
        return value if isinstance(value, int | float) else float(value)
    # Larger whole numbers are refused: the readers of our JSON documents refuse them too.
    if is_number and kind is int and isinstance(value, Integral) and abs(int(value)) < 2**53:
        return value if isinstance(value, int) else int(value)
    if kind not in (int, float) and isinstance(value, str if get_origin(kind) is Literal else kind):
        return value
    raise ConfigError(f"{name} is {value!r}; wanted {_WORDS.get(kind, 'a text')}")


_WORDS = {int: "a whole number", float: "a number", bool: "true or false", Path: "a path"}


def read_toml(path: Path) -> dict[str, Any]:
    """Return the options in a TOML file. Raises ConfigError where the file cannot be read."""
    with documents.mended(ConfigError, "wanted a TOML file of options"):
        return documents.read_toml(path, LARGEST)
