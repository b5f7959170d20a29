"""Convert JSON documents to dataclasses, and write the JSON Schemas of such dataclasses, with msgspec.

msgspec is imported only when a document is converted, since the import takes as long as a small command.
"""

from __future__ import annotations

from collections.abc import Sequence
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


def decoded(kind: type[T], data: bytes) -> T:
    """Return a JSON text as a dataclass object. Keys that the dataclass does not have are ignored.

    Args:
        kind: the dataclass.
        data: the text, in UTF-8.

    Raises:
        ValueError: the text is no JSON, a key is missing, or a value has the wrong type; the message names the key.
    """
    import msgspec

    try:
        return msgspec.json.decode(data, type=kind)
    except RecursionError as error:
        raise ValueError("JSON is nested too deeply") from error


def encoded(document: Any) -> bytes:
    """Return JSON values and dataclass objects as a JSON text in UTF-8. Numbers that are not finite become null."""
    import msgspec

    return msgspec.json.encode(document)


def schemas_of(kinds: Sequence[type[Any]], reference: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the JSON Schemas of several dataclasses that stand in one document.

    Args:
        kinds: the dataclasses.
        reference: where the document holds the schema ``{name}``, such as ``#/components/schemas/{name}``.

    Returns:
        A schema that refers to each dataclass, and the schemas of all dataclasses by their names.
    """
    import msgspec

    found, records = msgspec.json.schema_components(kinds, ref_template=reference)
    for record in records.values():
        record["description"] = cleandoc(record.get("description", ""))
    return list(found), records


def _from_text(kind: type[Any], value: Any) -> Any:
    """Convert a text to a path, for which JSON has no type. Raises TypeError for any other value."""
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise TypeError(f"{kind.__name__} cannot be made of {type(value).__name__}")
