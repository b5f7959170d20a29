"""The table of corrections on the disk: rows are added and never changed, whoever adds them and whoever is killed.

In: the path of a table, and rows. Out: `Corrections`, or a row that is on the disk.
Why: what a person has said must not be lost, whether a process is killed or two people correct at once.
Surprise: only the last line can be incomplete. It is not read, and the next row that is added cuts it off.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from regraft.errors import ConfigError, DataError
from regraft.foundation.files import locked, naming
from regraft.foundation.tables import MAX_BYTES, MAX_LINE, MAX_ROWS
from regraft.label_tools.corrections import HEADER, NAME, Correction, Corrections, beside, row_of
from regraft.photos.images import Problem

_IN_THIS_PROCESS = Lock()  # for systems without file locks


def read_corrections(path: Path) -> Corrections:
    """Read a table of corrections. An incomplete last line, which a killed process leaves, is not read.

    Returns:
        The rows; those that are damaged or stand there twice are in ``problems``. No rows if there is no table.

    Raises:
        DataError: the file cannot be read, is too large, or is no table of corrections.
    """
    rows: dict[str, Correction] = {}
    problems: list[Problem] = []
    try:
        for number, line in enumerate(_lines(path), 1):
            found = row_of(line)
            if isinstance(found, str) or found.id in rows:
                reason = found if isinstance(found, str) else "has the id of an earlier row"
                problems.append(Problem(path, f"line {number + 1} {reason}"))
            else:
                rows[found.id] = found
    except FileNotFoundError:
        return Corrections()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from error
    return Corrections(tuple(rows.values()), tuple(problems))


def corrections_of(run: Path, source: str) -> Corrections:
    """Return the rows with which a run was trained, and then those beside the run that are about its photos.

    Args:
        run: the run folder.
        source: the source of the run's photos, as its manifest records it.

    Raises:
        DataError: a table cannot be read, is too large, or is no table of corrections.
    """
    return read_corrections(run / NAME).followed_by(read_corrections(beside(run)).of_source(source))


def _lines(path: Path) -> Iterator[bytes]:
    """Yield the complete lines of a table, without its first. Raises DataError, OSError."""
    if path.exists() and not path.is_file():
        raise DataError(f"{path} is no regular file; wanted a table of corrections")
    with path.open("rb") as file:
        if (size := os.fstat(file.fileno()).st_size) > MAX_BYTES:
            raise DataError(f"{path} has {size / 2**20:,.0f} MiB, more than the {MAX_BYTES >> 20} of a table; move it")
        header = file.readline(MAX_LINE)
        if not header.endswith(b"\n") and HEADER.startswith(header):  # a process was killed as it began the table
            return
        _require_header(path, header)
        for number, line in enumerate(iter(lambda: file.readline(MAX_LINE), b"")):
            if number >= MAX_ROWS:
                raise DataError(f"{path} has more than {MAX_ROWS:,} rows; move it")
            if line.endswith(b"\n"):
                yield line
            elif len(line) == MAX_LINE:
                raise DataError(f"{path} has a line of more than {MAX_LINE:,} bytes; wanted a table of corrections")


def _require_header(path: Path, line: bytes) -> None:
    """Raise DataError if the first line of a table is not ours; a spreadsheet may have changed its ends."""
    if line.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n") != HEADER.rstrip():
        wanted = HEADER.decode().strip()
        raise DataError(f"{path} is no table of corrections: its first line is not {wanted}; move the file")


def append(path: Path, row: Correction) -> None:
    """Add a row to a table, which is made if it is missing. When the function returns, the row is on the disk.

    Several threads and processes may append at once. A line that a killed process left incomplete is cut off first.

    Raises:
        ConfigError: the row has a flaw.
        DataError: the file is no table of corrections, or is full.
        OSError: the file cannot be written; it then has the rows that it had.
    """
    if row.flaw:
        raise ConfigError(f"the correction {row.flaw}")
    with _open_table(path) as table:
        _append(table, path, row)


def undo(path: Path, wanted: str) -> Correction:
    """Add a row that takes back an earlier row of a table, and return it; the row may itself be an undo.

    Args:
        path: the table.
        wanted: the ``id`` of the row to take back.

    Raises:
        DataError: the table has no such row, or the file is no table of corrections.
        OSError: the file cannot be written.
    """
    found = next((row for row in read_corrections(path).rows if row.id == wanted), None)
    if found is None:
        raise DataError(f"{path} has no row {wanted[:40]!r} to undo")
    row = Correction("undo", found.digest, found.was, found.id, found.path, found.source)
    append(path, row)
    return row


@contextmanager
def _open_table(path: Path) -> Iterator[int]:
    """Open a table to append to it, locked, and yield the number of the open file."""
    with _IN_THIS_PROCESS, locked(path), naming(path):
        flags = os.O_RDWR | os.O_APPEND | getattr(os, "O_BINARY", 0)
        table = os.open(path, flags)
        try:
            yield table
        finally:
            os.close(table)


def _append(table: int, path: Path, row: Correction) -> None:
    """Write one row at the end of an open table in one go, and wait until the disk has it."""
    end = _mended_end(table, path)
    data = (b"" if end else HEADER) + row.to_line()
    if end + len(data) > MAX_BYTES:
        raise DataError(f"{path} is full; move it, and train from a run that has its corrections")
    try:
        written = os.write(table, data)
        if written < len(data):  # a full disk: what is missing cannot be written either
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.fsync(table)
    except OSError:
        os.ftruncate(table, end)
        raise
    if not end:
        _sync_folder(path.parent)


def _mended_end(table: int, path: Path) -> int:
    """Cut off an incomplete last line of an open table, and return the size of the rest in bytes.

    Raises:
        DataError: the file is no table of corrections.
    """
    size, block = os.fstat(table).st_size, 2**16
    start = _read(table, 0, len(HEADER) + 8)
    if HEADER.startswith(start):
        os.ftruncate(table, 0)
        return 0
    _require_header(path, start.partition(b"\n")[0])
    end = size
    while end:
        begin = max(0, end - block)
        found = _read(table, begin, end - begin).rfind(b"\n")
        if found >= 0:
            end = begin + found + 1
            break
        end = begin
    if end < size:
        os.ftruncate(table, end)
    return end


def _read(table: int, start: int, count: int) -> bytes:
    os.lseek(table, start, os.SEEK_SET)
    return os.read(table, count)


def _sync_folder(folder: Path) -> None:
    """Wait until the disk has the name of a new file; some systems cannot open a folder, and need no such wait."""
    try:
        opened = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(opened)
    except OSError:  # a file system that cannot do this
        pass
    finally:
        os.close(opened)
