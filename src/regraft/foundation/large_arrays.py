"""Large arrays in files, so that the features of a million photos need no memory of their own.

In: a shape. Out: an array, which lies in memory or, if it is larger than `LARGEST`, in a file that has no name.
Why: the features of 100,000 photos take 0.7 GB, and several copies of them exist during a training. What lies in a file
leaves the memory whenever another program needs it.
Surprise: the pages of a file that were touched count as memory of the process. `blocks_of` gives them back block by
block, so that code which goes through an array in blocks keeps only one of them.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft.foundation.documents import MEBIBYTE
from regraft.foundation.files import cache_folder

LARGEST = 768 * MEBIBYTE
"""The most bytes of an array that lies in memory."""

BLOCK_ROWS = 4096
"""The number of rows that are worked on at a time."""

SCATTERED_ROWS = 256
"""The number of rows that are worked on at a time where they lie anywhere in an array: for each row that is touched, up
to 2 MiB of the file count as memory of the process."""

_MAPPED_BYTES = 2 * MEBIBYTE
"""The most bytes of a file that the system maps where one of them is touched."""

_BLOCK_NUMBERS = 4_000_000
"""The most numbers of a block whose rows may be long: 400 rows of 10,000 classes."""


def empty(shape: tuple[int, ...], dtype: Any = np.float32) -> NDArray[Any]:
    """Return a new array whose values are arbitrary: in memory, or in a file in the cache folder if it is large.

    The file is deleted when the process ends, however it ends. Where no file can be written, the array is in memory.
    """
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if size <= LARGEST:
        return np.empty(shape, dtype)
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.truncate(size)
            return np.ndarray(shape, dtype, mmap.mmap(file.fileno(), size))
    except OSError:
        return np.empty(shape, dtype)


def row_blocks(count: int, rows: int = BLOCK_ROWS) -> list[slice]:
    """Return the blocks of ``count`` rows; the last block may be smaller than the others."""
    return [slice(start, min(start + rows, count)) for start in range(0, count, rows)]


def rows_of(columns: int) -> int:
    """Return how many rows of ``columns`` numbers are worked on at a time, where there can be very many columns."""
    return max(1, _BLOCK_NUMBERS // columns)


def blocks_of(x: NDArray[Any], rows: int = BLOCK_ROWS) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Yield the blocks of an array (N, …) with their rows, and give the memory of each back when the next one is due.

    Args:
        x: an array, which may lie in a file. Values that were written to it stay.
        rows: the number of rows of a block; the last block may be smaller.
    """
    for block in row_blocks(len(x), rows):
        yield block, x[block]
        give_back(x[block])


def take(x: NDArray[Any], rows: Sequence[int] | NDArray[np.int64]) -> NDArray[Any]:
    """Return the rows of an array (N, …) with these numbers, in their order, as a new array."""
    chosen = np.asarray(rows, np.int64)
    result = empty((len(chosen), *x.shape[1:]), x.dtype)
    for block in row_blocks(len(chosen), SCATTERED_ROWS):
        result[block] = x[chosen[block]]
        give_back(x)
        give_back(result[block])
    return result


def give_back(x: NDArray[Any]) -> None:
    """Let the pages of an array that lies in a file leave the memory of this process. Its values stay."""
    base: Any = x
    while isinstance(base, np.ndarray):
        base = base.base
    if not isinstance(base, mmap.mmap) or not hasattr(base, "madvise") or not x.nbytes:
        return
    first = x.__array_interface__["data"][0] - np.frombuffer(base, np.uint8).__array_interface__["data"][0]
    # The system maps the neighbours of a page that is touched, so those are given back as well.
    start = first // _MAPPED_BYTES * _MAPPED_BYTES
    end = min(-(-(first + x.nbytes) // _MAPPED_BYTES) * _MAPPED_BYTES, len(base))
    base.madvise(mmap.MADV_DONTNEED, start, end - start)
