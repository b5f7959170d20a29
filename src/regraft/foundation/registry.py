"""A table from names to objects, which are imported on first use. Plug-ins add names through entry points."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Generic, TypeVar, cast

from regraft.errors import ConfigError, RegraftError
from regraft.foundation.names import nearest, resolve

T = TypeVar("T")


class Registry(Generic[T]):
    """The names of one kind of object, each with the ``"module:attribute"`` from which it is imported.

    Other packages add names with an entry point in the group ``regraft.<kind>s``, with spaces as underscores.

    Args:
        kind: the kind of object in words, such as ``"head"``.
        error: the type of the error for an unknown name.
    """

    def __init__(self, kind: str, error: type[RegraftError] = ConfigError) -> None:
        self.kind = kind
        self._error = error
        self._targets: dict[str, str | T] = {}

    def register(self, name: str, target: str | T) -> None:
        """Add a name with its object, or with the ``"module:attribute"`` of its object.

        Raises:
            ValueError: the name is registered already, so that one object would hide the other.
        """
        if name in self._targets:
            raise ValueError(f"the {self.kind} {name!r} is registered twice")
        self._targets[name] = target

    def names(self) -> list[str]:
        """Return all names in alphabetical order, including those of installed plug-ins."""
        return sorted({*self._targets, *self._plugins()})

    def lookup_order(self) -> Iterator[str]:
        """Yield all names: the built-in names in the order of their registration, then the names of plug-ins.

        Plug-ins are looked up only after the last built-in name, since that takes time.
        """
        yield from list(self._targets)
        yield from sorted(set(self._plugins()) - set(self._targets))

    def load(self, name: str) -> T:
        """Return the object with this name, and import it if needed.

        Raises:
            RegraftError: of the type given as ``error``; the name is unknown. The message names the nearest name.
        """
        target = self._targets[name] if name in self._targets else self._plugins().get(name)
        if target is None:
            raise self._error(self.unknown(name))
        if isinstance(target, str):
            return cast("T", resolve(target))
        return target

    def unknown(self, name: str) -> str:
        """Return the error message for an unknown name. It contains the nearest name, if any, and all names."""
        near = nearest(name, self.names())
        hint = f"did you mean {near!r}? " if near else ""
        return f"unknown {self.kind} {name!r}: {hint}there is {', '.join(self.names())}"

    def _plugins(self) -> dict[str, Any]:
        # Call this only if no built-in name will do: reading the metadata of every installed package takes time.
        from importlib.metadata import entry_points

        return {point.name: point.value for point in entry_points(group=f"regraft.{self.kind.replace(' ', '_')}s")}
