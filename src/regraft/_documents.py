"""Small files that regraft wrote, read as if a stranger had: bounded, regular, of the types they should have.

JSON, TOML and safetensors. What is wrong is a `DamagedError` of one line that names the file and the key.
"""

from __future__ import annotations

import json
import math
import os
import re
import reprlib
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from regraft.errors import RegraftError, explain

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")

MEBIBYTE = 2**20
DEPTH = 32
"""How deeply the objects and lists of a JSON document may be nested. Ours are nested six deep."""

_MEMORY = 512 * MEBIBYTE
"""What a parsed document may take at most, roughly: a list of small texts takes twelve times its file."""
_HEADER = MEBIBYTE  # bytes of a safetensors file's header; ours have less than 100 kB
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class DamagedError(RegraftError, ValueError):
    """A file is missing, or is not what regraft would have written."""


@contextmanager
def mended(error: type[RegraftError], mend: str = "") -> Iterator[None]:
    """Turn a `DamagedError` of what is inside into ``error``, with what the user can do about it."""
    try:
        yield
    except DamagedError as damage:
        raise error(f"{damage}; {mend}" if mend else str(damage)) from damage


def require_regular(path: Path, most: int) -> None:
    """Raise DamagedError unless ``path`` is a regular file, or a link to one, of at most ``most`` bytes."""
    try:
        status = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    _require_regular(path, status, most)


def read_bytes(path: Path, most: int) -> bytes:
    """Return the bytes of a regular file of at most ``most`` bytes. Raises DamagedError."""
    require_regular(path, most)  # before opening: to open a pipe waits, and to open a device may do something
    try:
        with path.open("rb") as file:
            _require_regular(path, os.fstat(file.fileno()), most)
            data = file.read(most + 1)
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(data) > most:
        raise DamagedError(f"{path} is larger than {_size(most)}")
    return data


def _require_regular(path: Path, status: os.stat_result, most: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise DamagedError(f"{path} is {kind}; wanted a regular file")
    if status.st_size > most:
        raise DamagedError(f"{path} is larger than {_size(most)}")


def _unreadable(path: Path, error: OSError) -> DamagedError:
    if isinstance(error, FileNotFoundError):
        return DamagedError(f"{path} is missing")
    error.filename = None
    return DamagedError(f"{path} cannot be read: {explain(error)}")


def _size(most: int) -> str:
    return f"{most / MEBIBYTE:.3g} MiB" if most >= MEBIBYTE else f"{most} bytes"


def read_text(path: Path, most: int) -> str:
    """Return a regular file's text. Raises DamagedError where it is no UTF-8 or longer than ``most`` bytes."""
    try:
        return read_bytes(path, most).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DamagedError(f"{path} is damaged: it is no UTF-8 text ({error.reason} at byte {error.start})") from error


def read_json(path: Path, most: int, memory: int = 0) -> Any:
    """Return the values of a JSON file.

    Args:
        path: a regular file, UTF-8.
        most: how many bytes it may have.
        memory: bytes that its values may take beyond half a gibibyte.

    Raises:
        DamagedError: it is missing, too large, no JSON, nested too deeply, or has numbers that are none.
    """
    text = read_text(path, most)
    if 64 * text.count(",") + 256 * (text.count("[") + text.count("{")) > _MEMORY + memory:
        raise DamagedError(f"{path} has more values than fit in memory")
    try:
        values = json.loads(text, parse_constant=_no_number, parse_float=_finite)
    except RecursionError as error:
        raise DamagedError(f"{path} is damaged: nested more than {DEPTH} deep") from error
    except ValueError as error:
        raise DamagedError(f"{path} is damaged: {error}") from error
    level, depth = [values], 0
    while level:
        depth += 1
        if depth > DEPTH + 1:
            raise DamagedError(f"{path} is damaged: nested more than {DEPTH} deep")
        inner = (v.values() if isinstance(v, dict) else v for v in level if isinstance(v, dict | list))
        level = [child for children in inner for child in children if isinstance(child, dict | list)]
    return values


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{reprlib.repr(text)} is too large a number")
    return value


def read_toml(path: Path, most: int) -> dict[str, Any]:
    """Return the values of a TOML file of at most ``most`` bytes. Raises DamagedError."""
    import tomllib  # --help need not wait for it

    text = read_text(path, most)
    try:
        return tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError is one, and so is that of a number of too many digits
        raise DamagedError(f"{path} is not TOML: {error}") from error
    except RecursionError as error:
        raise DamagedError(f"{path} is not TOML: it is nested too deeply") from error


def read_tensors(path: Path, most: int) -> dict[str, NDArray[Any]]:
    """Return the arrays of a safetensors file of at most ``most`` bytes; all their numbers are finite.

    Raises:
        DamagedError: it is missing, too large, no safetensors file, or has a number that is none.
    """
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    require_regular(path, most)
    try:
        with path.open("rb") as file:
            if int.from_bytes(file.read(8), "little") > _HEADER:
                raise DamagedError(f"{path} is damaged: its header is larger than {_size(_HEADER)}")
        arrays: dict[str, NDArray[Any]] = load_file(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{path} is damaged: {error}") from error
    for name, array in arrays.items():
        if not np.issubdtype(array.dtype, np.integer) and not np.isfinite(array).all():
            raise DamagedError(f"{path} is damaged: {reprlib.repr(name)} has numbers that are not finite")
    return arrays


def write_tensors(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays as a safetensors file, readable by whoever may read the user's other files.

    Raises:
        OSError: the disk is full, or the like.
    """
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    path.touch()
    mode = stat.S_IMODE(path.stat().st_mode)  # the library's own files are for their owner alone
    try:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
    path.chmod(mode)


_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", Path: "a path"}


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53


class Fields:
    """A JSON object of which each value is taken by its type.

    Every method raises DamagedError where the value is missing, of another type or out of range. ``where`` is the
    file, or the file and the keys that lead to the object.
    """

    def __init__(self, values: Any, where: str | Path) -> None:
        self._where = str(where)
        if not isinstance(values, Mapping):
            raise DamagedError(f"{self._where}: there is {reprlib.repr(values)}; wanted an object")
        self.values: Mapping[str, Any] = values

    def has(self, key: str) -> bool:
        """Return whether there is a value for ``key``, and it is not null."""
        return self.values.get(key) is not None

    def text(self, key: str, wanted: str = "text", fits: Callable[[str], object] | None = None) -> str:
        """Return a text without zero bytes of which ``fits`` is true, as ``wanted`` says in words."""

        def taken(value: Any) -> str | None:
            return value if isinstance(value, str) and "\0" not in value and (fits is None or fits(value)) else None

        return self._taken(key, wanted, taken)

    def number(self, key: str, low: float = -math.inf, high: float = math.inf) -> float:
        """Return a finite number from ``low`` to ``high``."""

        def taken(value: Any) -> float | None:
            if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e300:
                return None
            return float(value) if low <= value <= high else None

        return self._taken(key, "a number" + _bounds(low, high), taken)

    def number_or_none(self, key: str, low: float = -math.inf, high: float = math.inf) -> float | None:
        """Return a finite number from ``low`` to ``high``; None where there is none, or null."""
        return self.number(key, low, high) if self.has(key) else None

    def whole(self, key: str, low: int = 0, high: int = 2**53) -> int:
        """Return a whole number from ``low`` to ``high``."""

        def taken(value: Any) -> int | None:
            return value if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high else None

        return self._taken(key, "a whole number" + _bounds(low, high), taken)

    def fields(self, key: str) -> Fields:
        """Return an object's own fields."""
        return Fields(self._value(key, "an object"), f"{self._where}: {key}")

    def each(self, key: str) -> list[Fields]:
        """Return the fields of each object in a list."""
        items = self._taken(key, "a list", lambda v: v if isinstance(v, list | tuple) else None)
        return [Fields(item, f"{self._where}: {key}[{i}]") for i, item in enumerate(items)]

    def texts(self, key: str, wanted: str = "a list of texts") -> tuple[str, ...]:
        """Return a list of texts."""

        def taken(value: Any) -> tuple[str, ...] | None:
            are_texts = isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
            return tuple(value) if are_texts else None

        return self._taken(key, wanted, taken)

    def numbers(self, key: str, count: int, low: float = -math.inf, high: float = math.inf) -> tuple[float, ...]:
        """Return a list of ``count`` finite numbers from ``low`` to ``high``."""
        items = self._taken(
            key, f"a list of {count} numbers", lambda v: v if isinstance(v, list | tuple) and len(v) == count else None
        )
        inner = Fields({f"{key}[{i}]": item for i, item in enumerate(items)}, self._where)
        return tuple(inner.number(name, low, high) for name in inner.values)

    def _value(self, key: str, wanted: str) -> Any:
        if key not in self.values:
            raise DamagedError(f"{self._where}: {key} is missing; wanted {wanted}")
        return self.values[key]

    def _taken(self, key: str, wanted: str, take: Callable[[Any], T | None]) -> T:
        value = self._value(key, wanted)
        taken = take(value)
        if taken is None:
            raise self.wrong(key, wanted)
        return taken

    def wrong(self, key: str, wanted: str) -> DamagedError:
        """Return the error for a value that is not as ``wanted`` says."""
        return DamagedError(f"{self._where}: {key} is {reprlib.repr(self.values.get(key))}; wanted {wanted}")


def _bounds(low: float, high: float) -> str:
    ends = [f"at least {low:g}"] if math.isfinite(low) else []
    ends += [f"at most {high:g}"] if math.isfinite(high) and high < 2**53 else []
    return f" of {' and '.join(ends)}" if ends else ""
