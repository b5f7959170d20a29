"""Archives unpacked as if their makers were hostile: nothing outside the folder, no links, limits on what it costs."""

from __future__ import annotations

import posixpath
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

from regraft import _console
from regraft.errors import DataError

MAX_MEMBER = 2**30
"""The most bytes that one file in an archive may have."""

MAX_RATIO = 100
"""How many times its own size an archive may unpack to; photos do not shrink, but drawings may."""

MIN_TOTAL = 2**30
"""So much may be unpacked from any archive, whatever its size."""

MAX_MEMBERS = 5_000_000


class _Member(NamedTuple):
    name: str
    size: int
    kind: str  # file, link or other
    target: str
    source: object


def kind_of(file: Path) -> str | None:
    """``zip`` or ``tar`` by the file's content, or None."""
    with file.open("rb") as opened:
        head = opened.read(512)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    packed = head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0"))
    return "tar" if packed or head[257:262] == b"ustar" else None


def ends_early(opened: tarfile.TarFile) -> bool:
    """Whether a tar that was read to its last member lacks the zeros at its end: `tarfile` takes a cut for the end."""
    file = opened.fileobj
    if file is None:
        return False
    file.seek(opened.offset)
    return file.read(512) != bytes(512)


def unpack(archive: Path, folder: Path) -> dict[str, str]:
    """Unpack a .zip or .tar, the latter also under gzip, bzip2 or xz, into the empty ``folder``.

    A link to a file that was unpacked before becomes another name of it; no other link is made.

    Returns:
        For each entry that was left out, why.

    Raises:
        DataError: it is no archive, is damaged or cut off, or unpacks to more than it may.
    """
    budget = max(MIN_TOTAL, MAX_RATIO * archive.stat().st_size)
    budget = min(budget, shutil.disk_usage(folder).free)
    problems: dict[str, str] = {}
    try:
        with (
            _open(archive) as opened,
            _console.progress("unpacking", 0 if opened.count is None else opened.count) as go,
        ):
            for number, member in enumerate(opened):
                budget -= member.size if member.kind == "file" else 0
                if budget < 0 or number >= MAX_MEMBERS:
                    raise DataError(f"{archive} unpacks to more than {MAX_RATIO} times its size, or than is free")
                reason = _unpack_one(opened, member, folder)
                if reason:
                    problems[member.name] = reason
                go()
            if isinstance(opened.library, tarfile.TarFile) and ends_early(opened.library):
                problems[""] = "has no end: it may be cut off"
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, ValueError) as error:
        raise DataError(f"{archive} is damaged or cut off ({error}); get it again") from error
    return problems


class _Archive:
    """The two libraries behind one face."""

    def __init__(self, opened: tarfile.TarFile | zipfile.ZipFile) -> None:
        self.library = opened
        self.count = len(opened.infolist()) if isinstance(opened, zipfile.ZipFile) else None

    def __enter__(self) -> _Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self.library.close()

    def __iter__(self) -> Iterator[_Member]:
        if isinstance(self.library, zipfile.ZipFile):
            for entry in self.library.infolist():
                if not entry.is_dir():
                    yield _Member(_zip_name(entry), entry.file_size, _zip_kind(entry), "", entry)
            return
        for member in self.library:
            if not member.isdir():
                kind = "file" if member.isreg() else "link" if member.issym() or member.islnk() else "other"
                base = posixpath.dirname(member.name) if member.issym() else ""
                target = posixpath.normpath(posixpath.join(base, member.linkname))
                yield _Member(member.name, member.size, kind, target, member)

    def open(self, member: _Member) -> IO[bytes]:
        if isinstance(member.source, zipfile.ZipInfo) and isinstance(self.library, zipfile.ZipFile):
            return self.library.open(member.source)
        if isinstance(member.source, tarfile.TarInfo) and isinstance(self.library, tarfile.TarFile):
            file = self.library.extractfile(member.source)
            if file is not None:
                return file
        raise ValueError(f"{member.name} cannot be opened")


def _open(archive: Path) -> _Archive:
    kind = kind_of(archive)
    if kind is None:
        raise DataError(f"{archive} is no archive; wanted a .zip or .tar, or a .tar under gzip, bzip2 or xz")
    return _Archive(zipfile.ZipFile(archive) if kind == "zip" else tarfile.open(archive))


def _unpack_one(archive: _Archive, member: _Member, folder: Path) -> str | None:
    """Write one file. Returns why it was left out, or None."""
    target = _inside(folder, member.name)
    if target is None:
        return "its name points outside the archive"
    if member.size > MAX_MEMBER:
        return f"{member.size / 2**30:.1f} GiB, more than one file may have"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if member.kind == "link":
            linked = _inside(folder, member.target)
            if linked is None or not linked.is_file():
                return "a link to something that is not in the archive before it"
            target.hardlink_to(linked)  # costs nothing, however many there are
        elif member.kind == "other":
            return "neither a file nor a folder"
        else:
            with archive.open(member) as source, target.open("xb") as copy:
                shutil.copyfileobj(source, copy, 2**20)
    except FileExistsError:
        return "an entry of this name came before"
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:  # a checksum, a password, a method
        with suppress(OSError):
            target.unlink()
        return f"cannot be unpacked: {error}"
    except OSError as error:
        if error.strerror is None:  # the archive's own damage: gzip's errors are OSErrors
            raise
        return f"cannot be written: {error.strerror.lower()}"
    return None


def _inside(folder: Path, name: str) -> Path | None:
    """The place for ``name`` within ``folder``; None where it would lie outside."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    if not parts or name.startswith(("/", "\\")) or ".." in parts or "\0" in name or parts[0][1:2] == ":":
        return None
    return folder.joinpath(*parts)


def _zip_name(entry: zipfile.ZipInfo) -> str:
    """The entry's name. Without the UTF-8 flag its bytes are taken as UTF-8, or Windows' Korean, where they fit."""
    if entry.flag_bits & 0x800:
        return entry.filename
    raw = entry.filename.encode("cp437", "replace")
    if raw.isascii():
        return entry.filename
    for encoding in ("utf-8", "cp949"):
        with suppress(UnicodeDecodeError):
            return raw.decode(encoding)
    return entry.filename


def _zip_kind(entry: zipfile.ZipInfo) -> str:
    mode = entry.external_attr >> 16 & 0o170000
    return "file" if mode in (0, 0o100000) else "other"
