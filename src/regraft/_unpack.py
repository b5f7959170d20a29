"""Archives unpacked as if their makers were hostile: nothing outside the folder, no links, limits on what it costs.

Members come from `_tar` or `_zip`, decompressed bytes from `_inflate`; all are counted here, with folders and headers.
Whatever goes wrong there becomes one error that names the archive.
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

from regraft import _console
from regraft._inflate import Inflated, TooMuchError, decoder_of
from regraft._tar import Member, Tar
from regraft._zip import EntryError, Zip, name_of
from regraft.errors import DataError

MAX_MEMBER = 2**28
"""The most bytes that one file in an archive may have: a larger photo is refused unread anyway."""

MAX_RATIO = 50
"""How many times its own size an archive may unpack to; photos do not shrink, but drawings may."""

MIN_TOTAL = 2**28
"""So many bytes may be unpacked from any archive, whatever its size."""

MIN_MEMBERS = 10_000
"""So many members and headers any archive may have, and one more for each `BYTES_PER_MEMBER` that it has."""

BYTES_PER_MEMBER = 128
"""Small drawings of digits take 220 bytes each in a .tgz. What takes less is no photo, and there to cost time."""

FOLDER_COST = 10
"""So many members a folder that is made counts for: to make and to remove one takes a disk many times as long."""

MAX_DEPTH = 32
MAX_PROBLEMS = 1000
_MAX_NAME = 4000
_MAX_REASON = 200
_PIECE = 2**16
# What is wrong with a name, or with two names, and not with the disk: one member is left out, the others are not.
_NAME_ERRORS = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EMLINK, errno.EEXIST, errno.ENOTDIR, errno.EISDIR)


class BadArchiveError(DataError):
    """The archive itself is at fault, not the disk: it is none, is damaged, or asks for too much."""


def kind_of(file: Path) -> str | None:
    """``zip`` or ``tar`` by the file's content, or None. Raises DataError where it cannot be read."""
    try:
        with file.open("rb") as opened:
            head = opened.read(512)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {(error.strerror or str(error)).lower()}") from error
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    return "tar" if decoder_of(head) or head[257:262] == b"ustar" else None


def unpack(archive: Path, folder: Path) -> dict[str, str]:
    """Unpack a .zip or .tar, the latter also under gzip, bzip2 or xz, into the empty ``folder``.

    A link to a file that was unpacked before becomes another name of it; no other link is made.

    Returns:
        For each entry that was left out, why; of the first thousand, and then how many more.

    Raises:
        BadArchiveError: it is no archive, is damaged or cut off, or unpacks to more than it may.
        DataError: it cannot be read, or there is no room for what it holds.
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
    """Make one DataError of whatever the libraries raise on damaged bytes, and of a disk that takes no more."""
    try:
        yield
    except DataError:
        raise
    except TooMuchError as error:
        raise BadArchiveError(f"{archive} {error}; unpack it yourself if you trust it, and give the folder") from error
    except OSError as error:
        if error.strerror is None:  # of bzip2, whose errors are OSErrors too
            raise BadArchiveError(f"{archive} is damaged or cut off ({error}); get it again") from error
        raise DataError(f"{archive} cannot be unpacked: {error.strerror.lower()}") from error
    except Exception as error:  # struct.error, IndexError, RecursionError, MemoryError, …: there are many ways
        reason = str(error)[:_MAX_REASON] or type(error).__name__
        raise BadArchiveError(f"{archive} is damaged or cut off ({reason}); get it again") from error


class _Place:
    """The folder that members are written to, with the limits on what they cost and the reasons for those left out."""

    def __init__(self, archive: Path, folder: Path) -> None:
        size = archive.stat().st_size
        self._archive = archive
        self._most = MIN_MEMBERS + size // BYTES_PER_MEMBER
        self._free = shutil.disk_usage(folder).free
        self._allowed = max(MIN_TOTAL, MAX_RATIO * size)
        self._spent = 0
        self._root = folder
        self._made = {folder}
        self._names: set[int] = set()  # hashes: names alone could take more memory than all else
        self._left = self._most
        self._problems: dict[str, str] = {}
        self._more = 0

    def problems(self) -> dict[str, str]:
        more = {f"({self._more:,} more)": "left out too"} if self._more else {}
        return {**self._problems, **more}

    def leave_out(self, name: str, reason: str) -> None:
        if len(self._problems) < MAX_PROBLEMS:
            self._problems[name if len(name) <= 200 else f"{name[:200]}…"] = reason
        else:
            self._more += 1

    def count(self, cost: int = 1) -> None:
        """Count a header, an entry or a folder against the limit."""
        self._left -= cost
        if self._left < 0:
            raise TooMuchError(f"has more than {self._most:,} files and folders, too many for photos in its size")

    def spend(self, size: int) -> None:
        """Count decompressed bytes, of headers too, against the limits."""
        self._spent += size
        if self._spent > self._free:
            raise DataError(
                f"{self._archive} unpacks to more than the {_mebibytes(self._free)} that are free on the disk"
            )
        if self._spent > self._allowed:
            raise TooMuchError(f"unpacks to more than {_mebibytes(self._allowed)}, the most for an archive of its size")

    def write(self, name: str, size: int, pieces: Iterable[bytes]) -> None:
        """Write one file of ``size`` bytes, or say why it was left out. Errors of ``pieces`` pass, save EntryError."""
        if size > MAX_MEMBER:
            return self.leave_out(name, f"{_mebibytes(size)}, more than the {_mebibytes(MAX_MEMBER)} of one file")
        return self._make(name, lambda path: _copy(pieces, path))

    def link(self, name: str, target: str) -> None:
        """Make ``name`` another name of the file ``target``, or say why it was left out."""
        linked = _inside(self._root, target)
        if isinstance(linked, str):
            return self.leave_out(name, f"a link that leads nowhere: {linked}")
        return self._make(name, lambda path: _link(path, linked))

    def _make(self, name: str, make: Callable[[Path], None]) -> None:
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
    """The place for ``name`` within ``folder``; where there is none, the reason."""
    if len(name) > _MAX_NAME:
        return f"its name has {len(name):,} characters"
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    if not parts or name.startswith(("/", "\\")) or ".." in parts or "\0" in name or parts[0][1:2] == ":":
        return "its name points outside the archive"
    if len(parts) > MAX_DEPTH:
        return f"{len(parts)} folders deep, more than {MAX_DEPTH}"
    return folder.joinpath(*parts)


def _copy(pieces: Iterable[bytes], target: Path) -> None:
    try:
        with target.open("xb") as file:
            for piece in pieces:
                file.write(piece)
    except EntryError as error:
        target.unlink()
        raise EntryError(f"cannot be unpacked: {error}") from error


def _link(path: Path, linked: Path) -> None:
    """Make another name of a file: that costs nothing, however many there are."""
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
        while decoder and file.read(_PIECE):  # to the end, where the checksums are
            pass
    if not tar.whole:
        place.leave_out("", "has no end: it may be cut off")


def _take(tar: Tar, member: Member, place: _Place) -> None:
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
        with _console.progress("unpacking", len(opened.entries)) as go:
            for entry in opened.entries:
                place.count()
                place.write(name_of(entry), entry.file_size, opened.data(entry, place.spend))
                go()


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
