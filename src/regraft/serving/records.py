"""JSON texts to dataclasses and back, and the JSON Schemas of several dataclasses in one document.

msgspec is imported when it is first used, since its import takes as long as a small part of the start.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import cleandoc
from typing import Any, TypeVar

T = TypeVar("T")


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
