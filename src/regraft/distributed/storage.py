"""A folder or a bucket that all nodes can write, in which the part files of features are kept.

In: an address: a path, ``s3://BUCKET/FOLDER`` or ``gs://BUCKET/FOLDER``. Out: the bytes of part files, by their names.
Why: what the nodes have computed survives the driver and its disk, also where no folder is shared.
Surprise: an object in a bucket appears when it is whole, so that only files in a folder need a rename.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any

from regraft.errors import ConfigError, option
from regraft.foundation.buckets import place_of, reached
from regraft.foundation.files import atomic_file


class Storage:
    """The part files in a folder or a bucket, in a subfolder for each engine.

    Args:
        address: the path of a folder, or the URI of one.

    Attributes:
        address: the same; an absolute path where it is one, so that it is valid on every node.
    """

    def __init__(self, address: str) -> None:
        self.address: str = address if "://" in address else str(Path(address).expanduser().resolve())

    def names(self, key: str) -> list[str]:
        """Return the names of the part files of the engine ``key``, sorted. Raises ConfigError."""
        from pyarrow import fs

        with self._reached():
            system, base = self._place
            found = system.get_file_info(fs.FileSelector(f"{base}/{key}", allow_not_found=True))
            return sorted(info.base_name for info in found if info.base_name.startswith("part-"))

    def digests(self, key: str, name: str) -> list[str]:
        """Return the digests of the photos in a part file, without its features. Raises ConfigError."""
        from pyarrow import parquet

        with self._reached():
            system, base = self._place
            with system.open_input_file(f"{base}/{key}/{name}") as file:
                return [str(digest) for digest in parquet.read_table(file, columns=["digest"])["digest"].to_pylist()]

    def read(self, key: str, name: str) -> bytes:
        """Return the bytes of a part file. Raises ConfigError."""
        with self._reached():
            system, base = self._place
            with system.open_input_stream(f"{base}/{key}/{name}") as stream:
                return bytes(stream.read())

    def write(self, key: str, name: str, data: bytes) -> None:
        """Write a part file, which appears as a whole or not at all. Raises ConfigError."""
        with self._reached():
            system, base = self._place
            if system.type_name == "local":
                with atomic_file(Path(base, key, name)) as temporary:
                    temporary.write_bytes(data)
                return
            with system.open_output_stream(f"{base}/{key}/{name}") as stream:
                stream.write(data)

    @cached_property
    def _place(self) -> tuple[Any, str]:
        """The file system of pyarrow, and the path of the folder in it."""
        return place_of(self.address)

    def _reached(self) -> AbstractContextManager[None]:
        """Turn the errors of pyarrow into a ConfigError that names the storage."""
        return reached(f"{option('storage')} {self.address}", ConfigError)
