"""Print the result of a command on stdout, and the options that were changed on stderr."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, TypeVar

from regraft.foundation import console
from regraft.foundation.records import as_record

T = TypeVar("T")


def emit(document: Any, as_json: bool, record: type[T], show: Callable[[T], None], indent: int | None = 2) -> None:
    """Print the document of a command.

    Args:
        document: the document, as JSON values.
        as_json: whether to print the document as JSON; otherwise it is printed as text for people.
        record: the type of the document's record.
        show: prints the record as text.
        indent: the number of spaces by which JSON is indented; None for JSON on one line.
    """
    if as_json:
        print(console.as_json(document, indent), flush=True)
    else:
        show(as_record(record, document))


def tell_changed_options(config: Any) -> None:
    """Print on stderr those options that do not have their default values. The run's config.toml has all options."""
    changed = {k: v for k, v in asdict(config).items() if v != type(config).__dataclass_fields__[k].default}
    if changed:
        console.note("options: " + ", ".join(f"{name.replace('_', '-')} {value}" for name, value in changed.items()))
