"""Read small JSON, TOML and safetensors files that regraft wrote, without trust in their content.

Each file must be a regular file of limited size, and each value must have the expected type. Otherwise a
`DamagedError` says in one line what is wrong, in which file and for which key.
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
"""The greatest depth of nested objects and lists in a JSON document. The documents of regraft are nested six deep."""

_MEMORY = 512 * MEBIBYTE
"""The most memory, in bytes, that a parsed document may take, as an estimate from its numbers of values.

A list of short texts takes twelve times the size of its file."""
_HEADER = MEBIBYTE
"""The greatest size of a safetensors file's header, in bytes. The headers of regraft have less than 100 kB."""
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
    """Turn a `DamagedError` raised in the ``with`` block into another error, with advice for the user.

    Args:
        error: the type of the new error.
        mend: what the user can do, added to the message; empty for no advice.
    """
    try:
        yield
    except DamagedError as damage:
        raise error(f"{damage}; {mend}" if mend else str(damage)) from damage


def require_regular(path: Path, most: int) -> None:
    """Raise DamagedError unless ``path`` is a regular file of at most ``most`` bytes, or a link to such a file."""
    try:
        status = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    _require_regular(path, status, most)


def read_bytes(path: Path, most: int) -> bytes:
    """Return the bytes of a regular file.

    Raises:
        DamagedError: the file is missing, unreadable, not regular, or larger than ``most`` bytes.
    """
    require_regular(path, most)  # before opening, since opening a pipe may block and opening a device may act
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
    """Return the text of a regular UTF-8 file.

    Raises:
        DamagedError: the file is missing, unreadable, not UTF-8, or larger than ``most`` bytes.
    """
    try:
        return read_bytes(path, most).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DamagedError(f"{path} is damaged: it is no UTF-8 text ({error.reason} at byte {error.start})") from error


def read_json(path: Path, most: int, memory: int = 0) -> Any:
    """Return the values of a JSON file.

    Args:
        path: a regular UTF-8 file.
        most: the greatest size of the file, in bytes.
        memory: bytes of memory that the values may take in addition to the usual 512 MiB.

    Raises:
        DamagedError: the file is missing, too large, not JSON, nested too deeply, or has a number that is not finite.
    """
    text = read_text(path, most)
    # An upper bound of the memory, before anything is parsed: 64 bytes a value, 256 bytes a list or object.
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
        if depth > DEPTH:
            raise DamagedError(f"{path} is damaged: nested more than {DEPTH} deep")
        inner = (v.values() if isinstance(v, dict) else v for v in level if isinstance(v, dict | list))
        level = [child for children in inner for child in children if isinstance(child, dict | list)]
    return values


def _no_number(text: str) -> float:
    """Refuse ``NaN`` and ``Infinity``, which Python's JSON reader would accept."""
    raise ValueError(f"{text} is no number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{reprlib.repr(text)} is too large a number")
    return value


def read_toml(path: Path, most: int) -> dict[str, Any]:
    """Return the values of a TOML file.

    Raises:
        DamagedError: the file is missing, unreadable, not TOML, or larger than ``most`` bytes.
    """
    import tomllib  # not at the top of the file, so that `--help` does not wait for this import

    text = read_text(path, most)
    try:
        return tomllib.loads(text)
    except ValueError as error:  # a TOMLDecodeError, or the error for a number with too many digits
        raise DamagedError(f"{path} is not TOML: {error}") from error
    except RecursionError as error:
        raise DamagedError(f"{path} is not TOML: it is nested too deeply") from error


def read_tensors(path: Path, most: int) -> dict[str, NDArray[Any]]:
    """Return the arrays of a safetensors file by name.

    Args:
        path: a regular file.
        most: the greatest size of the file, in bytes.

    Raises:
        DamagedError: the file is missing, too large, not a safetensors file, or has a number that is not finite.
    """
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    require_regular(path, most)
    try:
        with path.open("rb") as file:
            header = int.from_bytes(file.read(8), "little")
    except OSError as error:
        raise _unreadable(path, error) from error
    if header > _HEADER:
        raise DamagedError(f"{path} is damaged: its header is larger than {_size(_HEADER)}")
    try:
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
    """Write arrays to a safetensors file that has the user's ordinary file mode.

    Raises:
        OSError: the file cannot be written, for example because the disk is full.
    """
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    path.touch()
    mode = stat.S_IMODE(path.stat().st_mode)  # safetensors itself would make a file that only its owner can read
    try:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
    except SafetensorError as error:  # the library names the system's error only in its message
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
    path.chmod(mode)


class Fields:
    """A JSON object whose values are read with a check of their types.

    Every method that returns a value raises DamagedError if the value is missing, of another type or out of range.

    Args:
        values: the JSON object.
        where: the file, or the file and the keys that lead to the object, for error messages.

    Raises:
        DamagedError: ``values`` is not a JSON object.
    """

    def __init__(self, values: Any, where: str | Path) -> None:
        self._where = str(where)
        if not isinstance(values, Mapping):
            raise DamagedError(f"{self._where}: there is {reprlib.repr(values)}; wanted an object")
        self.values: Mapping[str, Any] = values

    def has(self, key: str) -> bool:
        """Return whether the object has a value for ``key`` that is not null."""
        return self.values.get(key) is not None

    def text(self, key: str, wanted: str = "text", fits: Callable[[str], object] | None = None) -> str:
        """Return the text for ``key``. It has no zero bytes.

        Args:
            key: the key of the value.
            wanted: what ``fits`` demands, in words, for the error message.
            fits: returns a true value if the text is acceptable; None accepts any text.
        """

        def taken(value: Any) -> str | None:
            return value if isinstance(value, str) and "\0" not in value and (fits is None or fits(value)) else None

        return self._taken(key, wanted, taken)

    def number(self, key: str, low: float = -math.inf, high: float = math.inf) -> float:
        """Return the number for ``key``. It is finite and lies from ``low`` to ``high``, both included."""

        def taken(value: Any) -> float | None:
            if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e300:
                return None
            return float(value) if low <= value <= high else None

        return self._taken(key, "a number" + _bounds(low, high), taken)

    def number_or_none(self, key: str, low: float = -math.inf, high: float = math.inf) -> float | None:
        """Return the finite number from ``low`` to ``high`` for ``key``; None if the number is missing or null."""
        return self.number(key, low, high) if self.has(key) else None

    def whole(self, key: str, low: int = 0, high: int = 2**53) -> int:
        """Return the whole number for ``key``. It lies from ``low`` to ``high``, both included."""

        def taken(value: Any) -> int | None:
            return value if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high else None

        return self._taken(key, "a whole number" + _bounds(low, high), taken)

    def fields(self, key: str) -> Fields:
        """Return the fields of the object for ``key``."""
        return Fields(self._value(key, "an object"), f"{self._where}: {key}")

    def each(self, key: str) -> list[Fields]:
        """Return the fields of each object in the list for ``key``."""
        items = self._taken(key, "a list", lambda v: v if isinstance(v, list | tuple) else None)
        return [Fields(item, f"{self._where}: {key}[{i}]") for i, item in enumerate(items)]

    def texts(self, key: str, wanted: str = "a list of texts") -> tuple[str, ...]:
        """Return the list of texts for ``key``. ``wanted`` describes the list in the error message."""

        def taken(value: Any) -> tuple[str, ...] | None:
            are_texts = isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
            return tuple(value) if are_texts else None

        return self._taken(key, wanted, taken)

    def numbers(self, key: str, count: int, low: float = -math.inf, high: float = math.inf) -> tuple[float, ...]:
        """Return the list of ``count`` finite numbers for ``key``. Each lies from ``low`` to ``high``."""
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
        """Return the error that the value for ``key`` is wrong. ``wanted`` says what was expected, in words."""
        return DamagedError(f"{self._where}: {key} is {reprlib.repr(self.values.get(key))}; wanted {wanted}")


def _bounds(low: float, high: float) -> str:
    ends = [f"at least {low:g}"] if math.isfinite(low) else []
    ends += [f"at most {high:g}"] if math.isfinite(high) and high < 2**53 else []
    return f" of {' and '.join(ends)}" if ends else ""
