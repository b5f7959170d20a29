"""Claim a path on disk for one process, so that no other process writes there.

A claim is a small file beside the claimed path. Only one process can create this file, and the file names the process.
If a process ended without removing its claim, for example after a power cut, the next process takes the claim over: it
restores the content that was being replaced, and deletes the half-written content.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

from regraft.foundation import console
from regraft.foundation.documents import DamagedError, Fields, read_json
from regraft.foundation.files import digest_bytes

if sys.platform != "win32":
    import fcntl

NEW, REPLACED = "new", "replaced"
"""Names in the hidden folder of a claim: the new content, and the old content, which is kept until the new one is
complete."""

_SECONDS_TO_WRITE = 10.0
"""For so many seconds, an empty or unreadable claim file counts as one that another process is just writing."""
_SHELTER = re.compile(r"\.tmp-[0-9a-f]{16}")
"""The name of a claim's hidden folder."""
_IN_THE_WAY = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EISDIR}
"""Error numbers that say that something else exists at the target of a rename."""


class TakenError(Exception):
    """A path cannot be claimed. The message gives the reason; the caller adds what the user can type."""


@dataclass(frozen=True, slots=True)
class _Owner:
    """The process that has claimed a path.

    Attributes:
        pid: the process number.
        began: the start time of the process, as `_beginning` returns it. It tells a process from a later one of the
            same number.
        host: the name of the machine.
        shelter: the name of the claim's hidden folder beside the claimed path.
    """

    pid: int
    began: str
    host: str
    shelter: str

    @classmethod
    def read(cls, claim: Path) -> _Owner:
        """Read the owner from a claim file. Raises DamagedError if the file is empty or damaged."""
        fields = Fields(read_json(claim, 4096), claim)
        shelter = fields.text("shelter", "a hidden folder", _SHELTER.fullmatch)
        return cls(fields.whole("pid", 1), fields.text("began"), fields.text("host"), shelter)

    @property
    def lives(self) -> bool:
        """Whether the owner still runs. True also if that cannot be known, as for a process on another machine."""
        began = _beginning(self.pid)
        return self.host != platform.node() or began is None or (began != "" and began == self.began)


@dataclass(frozen=True, slots=True)
class Claim:
    """A path that this process has claimed.

    Attributes:
        target: the claimed path, with all links followed.
        file: the claim file, which other processes read.
        shelter: a hidden folder beside the target with mode 0700. Files made in it have the user's ordinary mode.
        made: the parent folders of the target that did not exist before the claim.
    """

    target: Path
    file: Path
    shelter: Path
    made: tuple[Path, ...]

    def put(self, fresh: Path, before: object, shown: Path) -> Path:
        """Rename ``fresh`` to the target if the target has not changed, else to a free name beside the target.

        Args:
            fresh: the finished file or folder.
            before: what `look` returned for the target when the work began.
            shown: the target as the user typed it.

        Returns:
            The path of the result: ``shown``, or the name beside it.
        """
        if look(self.target) == before and self._swapped(fresh, before):
            return shown
        for number in count(2):
            beside = self.target.with_name(f"{self.target.stem}-{number}{self.target.suffix}")
            try:
                if not os.path.lexists(beside):
                    fresh.rename(beside)
                    break
            except OSError as error:
                if error.errno not in _IN_THE_WAY:
                    raise
        result = shown.with_name(beside.name) if shown.name == self.target.name else beside
        console.warn(f"{shown} appeared or changed meanwhile and was left alone: the result is in {result}")
        return result

    def name(self, error: OSError, shown: Path) -> None:
        """Replace hidden paths of this claim in ``error.filename`` by ``shown``, the path that the user typed."""
        if isinstance(error.filename, str | bytes):
            named = os.fsdecode(error.filename)
            for hidden in (self.shelter / NEW, self.shelter, self.file):
                named = named.replace(str(hidden), str(shown))
            error.filename = named

    def _swapped(self, fresh: Path, before: object) -> bool:
        """Replace the target by ``fresh``, and return whether that was possible.

        The old content is moved to the hidden folder first, and deleted only when the claim is released.
        """
        old = self.shelter / REPLACED
        try:
            if before is not None:
                self.target.rename(old)
            if look(old) == before:
                fresh.rename(self.target)
                return True
        except OSError:
            pass  # the caller puts the result beside the target, and reports the error if that fails too
        restore(self.shelter, self.target)
        return False

    def release(self) -> None:
        """Remove the claim file, the hidden folder, and the parent folders made for the claim that are still empty."""
        with suppress(OSError):
            restore(self.shelter, self.target)
            shutil.rmtree(self.shelter)
        with suppress(DamagedError, OSError):
            if _Owner.read(self.file).shelter == self.shelter.name:
                self.file.unlink()
        for folder in self.made:
            with suppress(OSError):
                folder.rmdir()


def restore(shelter: Path, target: Path) -> bool:
    """Move the old content from the hidden folder back to ``target``, unless new content is there.

    Args:
        shelter: the hidden folder of the claim.
        target: the claimed path.

    Returns:
        Whether there was old content to move back.
    """
    wanted = os.path.lexists(shelter / REPLACED) and not os.path.lexists(target)
    if wanted:
        (shelter / REPLACED).rename(target)
    return wanted


def claim(path: Path) -> Claim:
    """Claim a path for this process.

    Args:
        path: the path of a file or folder, which need not exist.

    Returns:
        The claim. The caller must release it.

    Raises:
        TakenError: another process has claimed the path, or its links lead in a circle.
        OSError: the parent folder cannot be written.
    """
    try:
        target = path.resolve()
    except RuntimeError as error:  # Python 3.13 and newer raise no error here, but one when the claim is created
        raise TakenError(f"{path}: its symbolic links lead in a circle") from error
    file = target.with_name(f".regraft-{digest_bytes(os.fsencode(target.name))[:12]}.claim")
    owner = _Owner(os.getpid(), _beginning(os.getpid()) or "", platform.node(), f".tmp-{secrets.token_hex(8)}")
    found = Claim(target, file, target.with_name(owner.shelter), tuple(_missing(target.parent)))
    try:
        while not _created(file, owner):
            with suppress(FileNotFoundError):  # another process has just released its claim
                _take_over(file, target)
        found.shelter.mkdir(0o700)
    except BaseException as error:
        found.release()
        if isinstance(error, OSError):
            found.name(error, path)
        raise
    return found


def _missing(folder: Path) -> Iterator[Path]:
    """Yield ``folder`` and its parent folders, from the innermost outwards, up to the first that exists."""
    while not folder.exists():
        yield folder
        folder = folder.parent


def _created(file: Path, owner: _Owner) -> bool:
    """Create the claim file and return True; return False if the file already exists."""
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return False
    try:
        os.write(descriptor, json.dumps(asdict(owner)).encode())
    except OSError:
        file.unlink()
        raise
    finally:
        os.close(descriptor)
    return True


def _take_over(file: Path, target: Path) -> None:
    """Remove the claim of a process that has ended, and restore the content that the process was replacing.

    Raises:
        TakenError: the process still runs.
        FileNotFoundError: another process has taken over or released the claim.
    """
    aside = file.with_name(f".tmp-{secrets.token_hex(8)}")
    with _one_at_a_time(file):
        try:
            owner: _Owner | None = _Owner.read(file)
        except DamagedError:
            owner = None
        if owner.lives if owner else time.time() - file.lstat().st_mtime < _SECONDS_TO_WRITE:
            who = f" (process {owner.pid} on {owner.host})" if owner else ""
            raise TakenError(
                f"another regraft{who} is writing to {target} (if there is none, delete {file}); wait for it"
            )
        file.rename(aside)
    if owner:
        shelter = target.with_name(owner.shelter)
        if restore(shelter, target):
            console.warn(f"{target} is again what it was before a process was killed while it replaced it")
        shutil.rmtree(shelter, ignore_errors=True)
    with suppress(OSError):
        aside.unlink()


@contextmanager
def _one_at_a_time(file: Path) -> Iterator[None]:
    """Lock the claim file for the ``with`` block, so that only one process at a time can take the claim over.

    Without the lock, two processes could find the same dead claim. The slower one would then remove the new claim of
    the faster one. There is no lock on Windows, on a disk without locks, or if ``file`` is not a regular file.

    Raises:
        FileNotFoundError: the claim file is gone, or has been replaced by another one.
    """
    if sys.platform == "win32" or not stat.S_ISREG(file.lstat().st_mode):
        yield
        return
    with file.open("rb") as opened:
        with suppress(OSError):
            fcntl.flock(opened, fcntl.LOCK_EX)
        if not os.path.samestat(os.fstat(opened.fileno()), file.lstat()):
            raise FileNotFoundError(errno.ENOENT, "another claim is there", str(file))
        yield


def _beginning(pid: int) -> str | None:
    """Return the start time of a process, as text in the system's own unit.

    Returns:
        The start time; an empty text if the process does not run; None if its start time cannot be known.
    """
    with suppress(OSError):
        state, *rest = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        return "" if state in "ZX" else rest[18]  # Z and X: the process has ended; field 22 is its start time
    if os.name == "posix":
        try:
            os.kill(pid, 0)  # signal 0 only asks whether the process exists
        except ProcessLookupError:
            return ""
        except (OSError, OverflowError):
            pass
    return None


def look(path: Path) -> object:
    """Return a value that changes when the file or folder at ``path`` changes; None if nothing is there.

    The value holds the device, the inode, sizes and times of change. For a folder, it covers the direct entries only.
    """
    if not os.path.lexists(path):
        return None
    status = path.lstat()
    if not path.is_dir():
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
    inside = {}
    for entry in os.scandir(path):
        found = entry.stat(follow_symlinks=False)
        is_file = entry.is_file(follow_symlinks=False)  # TensorBoard may read in a folder, which changes its time
        inside[entry.name] = (found.st_size, found.st_mtime_ns) if is_file else ()
    return status.st_dev, status.st_ino, inside
