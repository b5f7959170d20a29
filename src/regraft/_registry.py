"""One table from names to things that are imported on first use; plug-ins come in by entry points."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from importlib import import_module
from typing import Any, Generic, TypeVar, cast

from regraft.errors import ConfigError, RegraftError

T = TypeVar("T")


class Registry(Generic[T]):
    """Names of one kind of thing, say ``"head"``, each with the ``"module:attribute"`` where it is.

    Other packages add to it with an entry point in the group ``regraft.<kind>s``, spaces as
    underscores.
    """

    def __init__(self, kind: str, error: type[RegraftError] = ConfigError) -> None:
        self.kind = kind
        self._error = error
        self._targets: dict[str, str | T] = {}

    def register(self, name: str, target: str | T) -> None:
        """Add ``name``. Raises ValueError where it is taken: two plug-ins must not shadow each other."""
        if name in self._targets:
            raise ValueError(f"the {self.kind} {name!r} is registered twice")
        self._targets[name] = target

    def names(self) -> list[str]:
        """All names, sorted, those of installed plug-ins included."""
        return sorted({*self._targets, *self._plugins()})

    def lookup_order(self) -> Iterator[str]:
        """All names, the built-in ones first, as registered: who is served by those never waits for plug-ins."""
        yield from list(self._targets)
        yield from sorted(set(self._plugins()) - set(self._targets))

    def load(self, name: str) -> T:
        """What is called ``name``, imported now. Raises the registry's error with near names."""
        target = self._targets[name] if name in self._targets else self._plugins().get(name)
        if target is None:
            raise self._error(self.unknown(name))
        if isinstance(target, str):
            module, _, attribute = target.partition(":")
            return cast("T", getattr(import_module(module), attribute))
        return target

    def unknown(self, name: str) -> str:
        """The message for a name that is not there: the nearest spelling, then all of them."""
        near = difflib.get_close_matches(name, self.names(), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return f"unknown {self.kind} {name!r}: {hint}there is {', '.join(self.names())}"

    def _plugins(self) -> dict[str, Any]:
        # Looked up only for a name that is not built in: reading every installed package's metadata takes time.
        from importlib.metadata import entry_points

        return {point.name: point.value for point in entry_points(group=f"regraft.{self.kind.replace(' ', '_')}s")}
