"""Unpack archives that may be hostile: nothing is written outside the folder, and disk space and time are limited.

The modules `tar` and `zip` read the members, and `inflating` decompresses them. This module counts members, folders,
headers and decompressed bytes. All errors of these modules become one error that names the archive.
"""

from __future__ import annotations

import errno
import io
import posixpath
import shutil
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from regraft.downloads.inflating import Inflated, TooMuchError, decoder_of
from regraft.downloads.tar import Member, Tar
from regraft.downloads.zip import EntryError, Zip, name_of
from regraft.errors import DataError
from regraft.foundation import console, file_names

MAX_MEMBER = 2**28
"""The greatest size of one file in an archive, in bytes. A larger photo would not be read anyway."""

MAX_RATIO = 50
"""The greatest ratio of the unpacked size to the size of the archive. Photos hardly shrink, but drawings may."""

MIN_TOTAL = 2**28
"""The number of bytes that may be unpacked from any archive, however small the archive is."""

MIN_MEMBERS = 10_000
"""The number of members and headers that any archive may have. One more is allowed per `BYTES_PER_MEMBER` bytes."""

BYTES_PER_MEMBER = 128
"""The least size of a member in an archive, in bytes. Small drawings of digits take 220 bytes each in a .tgz; members
that take less are not photos, and only cost time."""

FOLDER_COST = 10
"""The number of members that a new folder counts as, since a disk takes much longer to make and remove a folder."""

MAX_DEPTH = 32  # folders
MAX_PROBLEMS = 1000  # members that were left out, with their reasons; further members are only counted
_MAX_NAME = 4000  # characters
_MAX_REASON = 200  # characters of a library's error message
_PIECE = 2**16  # bytes that are read at a time
# Errors that come from the name of one member and not from the disk: only this member is left out.
_NAME_ERRORS = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EMLINK, errno.EEXIST, errno.ENOTDIR, errno.EISDIR)


class BadArchiveError(DataError):
    """The archive is at fault, not the disk: the file is not an archive, is damaged, or exceeds a limit."""


def kind_of(file: Path) -> str | None:
    """Return the kind of an archive by the first bytes of the file.

    Returns:
        ``zip``, ``tar`` (also for a gzip, bzip2 or xz file), or None for any other file.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        with file.open("rb") as opened:
            head = opened.read(512)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {(error.strerror or str(error)).lower()}") from error
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    return "tar" if decoder_of(head) or head[257:262] == b"ustar" else None


def unpack(archive: Path, folder: Path) -> dict[str, str]:
    """Unpack a .zip file, or a .tar file that may be compressed by gzip, bzip2 or xz.

    A link to a file that was unpacked before becomes a hard link to that file. No other link is made.

    Args:
        archive: the archive.
        folder: an empty folder to unpack into.

    Returns:
        The reason for each entry that was left out, by its name. It holds the first thousand entries, and one more
        entry that says how many others there are.

    Raises:
        BadArchiveError: the file is not an archive, is damaged or cut off, or exceeds a limit.
        DataError: the archive cannot be read, or the disk has not enough free space.
    """
    kind = kind_of(archive)
    if kind is None:
        raise BadArchiveError(f"{archive} is no archive; wanted a .zip or .tar, or a .tar under gzip, bzip2 or xz")
    place = _Place(archive, folder)
    with _errors_of(archive):
        (_unpack_zip if kind == "zip" else _unpack_tar)(archive, place)
    return place.problems()


@contextmanager
def _errors_of(archive: Path) -> Iterator[None]:
    """Turn errors of the libraries and of the disk in the ``with`` block into a DataError that names the archive."""
    try:
        yield
    except DataError:
        raise
    except TooMuchError as error:
        raise BadArchiveError(f"{archive} {error}; unpack it yourself if you trust it, and give the folder") from error
    except OSError as error:
        if error.strerror is None:  # an error of bzip2, which raises OSError for damaged data
            raise BadArchiveError(f"{archive} is damaged or cut off ({error}); get it again") from error
        raise DataError(f"{archive} cannot be unpacked: {error.strerror.lower()}") from error
    except Exception as error:  # struct.error, IndexError, RecursionError, MemoryError and others, on damaged data
        reason = str(error)[:_MAX_REASON] or type(error).__name__
        raise BadArchiveError(f"{archive} is damaged or cut off ({reason}); get it again") from error


class _Place:
    """The folder into which an archive is unpacked. It checks the limits, and records which members were left out why.

    Args:
        archive: the archive, whose size sets the limits.
        folder: the empty folder.
    """

    def __init__(self, archive: Path, folder: Path) -> None:
        size = archive.stat().st_size
        self._archive = archive
        self._most = MIN_MEMBERS + size // BYTES_PER_MEMBER
        self._free = shutil.disk_usage(folder).free
        self._allowed = max(MIN_TOTAL, MAX_RATIO * size)
        self._spent = 0
        self._root = folder
        self._made = {folder}
        self._names: set[int] = set()  # hashes of the names, since the names themselves could take much memory
        self._left = self._most
        self._problems: dict[str, str] = {}
        self._more = 0

    def problems(self) -> dict[str, str]:
        """Return why members were left out, by name."""
        more = {f"({self._more:,} more)": "left out too"} if self._more else {}
        return {**self._problems, **more}

    def leave_out(self, name: str, reason: str) -> None:
        """Record that a member was left out, and why."""
        if len(self._problems) < MAX_PROBLEMS:
            self._problems[name if len(name) <= 200 else f"{name[:200]}…"] = reason
        else:
            self._more += 1

    def count(self, cost: int = 1) -> None:
        """Count a header, an entry or a folder. Raises TooMuchError if there are too many."""
        self._left -= cost
        if self._left < 0:
            raise TooMuchError(f"has more than {self._most:,} files and folders, too many for photos in its size")

    def spend(self, size: int) -> None:
        """Count decompressed bytes, including those of headers.

        Raises:
            DataError: the bytes do not fit on the disk.
            TooMuchError: there are too many for an archive of this size.
        """
        self._spent += size
        if self._spent > self._free:
            raise DataError(
                f"{self._archive} unpacks to more than the {_mebibytes(self._free)} that are free on the disk"
            )
        if self._spent > self._allowed:
            raise TooMuchError(f"unpacks to more than {_mebibytes(self._allowed)}, the most for an archive of its size")

    def write(self, name: str, size: int, pieces: Iterable[bytes]) -> None:
        """Write one file of ``size`` bytes, or record why it was left out.

        An EntryError raised by ``pieces`` becomes such a reason. Other errors of ``pieces`` are raised.
        """
        if size > MAX_MEMBER:
            return self.leave_out(name, f"{_mebibytes(size)}, more than the {_mebibytes(MAX_MEMBER)} of one file")
        return self._make(name, lambda path: _copy(pieces, path))

    def link(self, name: str, target: str) -> None:
        """Make ``name`` a hard link to the file ``target`` of the archive, or record why it was left out."""
        linked = _inside(self._root, target)
        if isinstance(linked, str):
            return self.leave_out(name, f"a link that leads nowhere: {linked}")
        return self._make(name, lambda path: _link(path, linked))

    def _make(self, name: str, make: Callable[[Path], None]) -> None:
        """Call ``make`` with the path for a member, or record why the member was left out."""
        target = _inside(self._root, name)
        if isinstance(target, str):
            return self.leave_out(name, target)
        key = hash((str(target.parent), unicodedata.normalize("NFC", target.name).casefold()))
        try:
            self._make_folder(target.parent)
            if key in self._names:
                raise EntryError("an entry of this name came before" if target.exists() else _ALIKE)
            make(target)
        except EntryError as error:
            return self.leave_out(name, str(error))
        except OSError as error:
            if error.errno not in _NAME_ERRORS:
                raise
            return self.leave_out(name, f"cannot be written: {(error.strerror or '').lower()}")
        self._names.add(key)
        return None

    def _make_folder(self, folder: Path) -> None:
        if folder not in self._made:
            self._make_folder(folder.parent)
            folder.mkdir(exist_ok=True)
            self._made.add(folder)
            self.count(FOLDER_COST)


_ALIKE = "its name differs from one before it only in upper and lower case, or in Unicode form"


def _inside(folder: Path, name: str) -> Path | str:
    """Return the path for the member ``name`` within ``folder``, or the reason why it can have none."""
    if len(name) > _MAX_NAME:
        return f"its name has {len(name):,} characters"
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    if not parts or name.startswith(("/", "\\")) or ".." in parts or "\0" in name or parts[0][1:2] == ":":
        return "its name points outside the archive"
    if len(parts) > MAX_DEPTH:
        return f"{len(parts)} folders deep, more than {MAX_DEPTH}"
    if file_names.WINDOWS and not all(map(file_names.is_name_on_windows, parts)):
        return "Windows takes no such name"  # for example, "a:b" would write a hidden stream of the file "a"
    return folder.joinpath(*parts)


def _copy(pieces: Iterable[bytes], target: Path) -> None:
    """Write a new file. If ``pieces`` raises an EntryError, delete the file again and raise another one."""
    try:
        with target.open("xb") as file:
            for piece in pieces:
                file.write(piece)
    except EntryError as error:
        target.unlink()
        raise EntryError(f"cannot be unpacked: {error}") from error


def _link(path: Path, linked: Path) -> None:
    """Make ``path`` a hard link to the unpacked file ``linked``. A hard link takes no disk space."""
    if not linked.is_file():
        raise EntryError("a link to something that is not in the archive before it")
    path.hardlink_to(linked)


def _unpack_tar(archive: Path, place: _Place) -> None:
    with archive.open("rb") as raw:
        decoder = decoder_of(raw.peek(6))
        file = io.BufferedReader(Inflated(raw, decoder, place.spend), _PIECE) if decoder else raw
        tar = Tar(file, place.count)
        for member in tar:
            _take(tar, member, place)
        while decoder and file.read(_PIECE):  # read to the end of the compressed data, where their checksum is checked
            pass
    if not tar.whole:
        place.leave_out("", "has no end: it may be cut off")


def _take(tar: Tar, member: Member, place: _Place) -> None:
    """Unpack one member of a tar."""
    if member.kind == "file":
        place.write(member.name, member.size, tar.data(member))
    elif member.kind == "symbolic link":
        beside = posixpath.join(posixpath.dirname(member.name), member.target)
        place.link(member.name, posixpath.normpath(beside) if len(beside) <= _MAX_NAME else beside)
    elif member.kind == "hard link":
        place.link(member.name, member.target)
    elif member.kind != "folder":
        place.leave_out(member.name, member.kind)


def _unpack_zip(archive: Path, place: _Place) -> None:
    with archive.open("rb", buffering=0) as file:
        opened = Zip(file)
        with console.progress("unpacking", len(opened.entries)) as go:
            for entry in opened.entries:
                place.count()
                place.write(name_of(entry), entry.file_size, opened.data(entry, place.spend))
                go()


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
