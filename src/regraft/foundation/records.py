"""Convert JSON documents to dataclasses, and write the JSON Schemas of such dataclasses, with msgspec.

msgspec is imported only when a document is converted, since the import takes as long as a small command.
"""

from __future__ import annotations

from inspect import cleandoc
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def as_record(kind: type[T], document: Any) -> T:
    """Return a JSON document as a dataclass object. Keys that the dataclass does not have are ignored.

    Args:
        kind: a dataclass, or a tuple type of dataclasses.
        document: JSON values.

    Raises:
        ValueError: a key is missing, or a value has the wrong type; the message names the key.
    """
    import msgspec

    return msgspec.convert(document, kind, dec_hook=_from_text)


def json_schema(kind: type[Any]) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of the documents that `as_record` accepts for the same ``kind``."""
    import msgspec

    schema = msgspec.json.schema(kind, schema_hook=lambda _: {"type": "string"})
    for record in schema.get("$defs", {}).values():
        record["description"] = cleandoc(record.get("description", ""))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _from_text(kind: type[Any], value: Any) -> Any:
    """Convert a text to a path, for which JSON has no type. Raises TypeError for any other value."""
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise TypeError(f"{kind.__name__} cannot be made of {type(value).__name__}")
