"""Folders and buckets by their addresses: a path, ``s3://BUCKET/FOLDER`` or ``gs://BUCKET/FOLDER``, through pyarrow.

In: an address. Out: the file system of pyarrow and the path in it, and errors in our words.
Why: object stores differ in how they name, list and refuse, and pyarrow knows them all.
Surprise: credentials and regions come from where the stores' own tools take them, such as ``AWS_ACCESS_KEY_ID``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from regraft.errors import RegraftError


def is_bucket(address: str) -> bool:
    """Return whether an address is that of an object store."""
    return address.startswith(("s3://", "gs://"))


def place_of(address: str) -> tuple[Any, str]:
    """Return the file system of pyarrow, and the path in it without a slash at its end.

    Raises:
        OSError, ValueError, NotImplementedError, ImportError: the address cannot be used; see `reached`.
    """
    from pyarrow import fs

    if "://" not in address:
        return fs.LocalFileSystem(), address
    system, base = fs.FileSystem.from_uri(address)
    return system, base.rstrip("/")


@contextmanager
def reached(what: str, error: type[RegraftError]) -> Iterator[None]:
    """Turn the errors of pyarrow in the ``with`` block into an ``error``, which says that ``what`` cannot be used."""
    try:
        yield
    except (OSError, ValueError, KeyError, NotImplementedError, ImportError) as found:  # ArrowInvalid is a ValueError
        raise error(f"{what} cannot be used: {' '.join(str(found).split())[:300]}") from found
