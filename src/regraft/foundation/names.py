"""Find an object by the text ``"module:attribute"``, and the known name that is most similar to a mistyped one."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Any


def resolve(target: str) -> Any:
    """Return the object that a text such as ``"regraft.heads.base:Head"`` names. Its module is imported if needed."""
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most similar to a mistyped one; None if no name is similar."""
    import difflib  # imported only for a mistyped word, so that other commands start faster

    return next(iter(difflib.get_close_matches(word, list(known), n=1)), None)
