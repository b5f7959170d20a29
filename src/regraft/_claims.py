"""A place on disk that one process has claimed, so that no other one writes there.

Beside a place that is claimed lies a small file, made so that only one process can make it; it says which process that
is. Where the process ended without removing it, as after a power cut, the next one takes the place over: it puts back
what was just being replaced, and removes what was half written.
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

from regraft import _console
from regraft._documents import DamagedError, Fields, read_json
from regraft._files import digest_bytes

if sys.platform != "win32":
    import fcntl

NEW, REPLACED = "new", "replaced"
"""In the hidden folder of a claim: what is being written, and what it replaces until it is finished."""

_YOUNG = 10.0  # seconds for which a claim that says nothing may be one that is just being written
_SHELTER = re.compile(r"\.tmp-[0-9a-f]{16}")
_IN_THE_WAY = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EISDIR}


class TakenError(Exception):
    """A place cannot be claimed; the message says why, and ends before what to type."""


@dataclass(frozen=True, slots=True)
class _Owner:
    """Who has claimed a place: a process, when it began, its machine, and its hidden folder beside the place."""

    pid: int
    began: str
    host: str
    shelter: str

    @classmethod
    def read(cls, claim: Path) -> _Owner:
        """Read a claim. Raises DamagedError where it says nothing."""
        fields = Fields(read_json(claim, 4096), claim)
        shelter = fields.text("shelter", "a hidden folder", _SHELTER.fullmatch)
        return cls(fields.whole("pid", 1), fields.text("began"), fields.text("host"), shelter)

    @property
    def lives(self) -> bool:
        """Whether its process still runs; where that cannot be known, as of another machine's, it does."""
        began = _beginning(self.pid)
        return self.host != platform.node() or began is None or began == self.began


@dataclass(frozen=True, slots=True)
class Claim:
    """What this process has claimed.

    Attributes:
        target: the place, all links followed.
        file: what tells other processes.
        shelter: a hidden folder beside the place, for its owner alone; what is made in it has the ordinary mode.
        made: folders above the place that were not there before.
    """

    target: Path
    file: Path
    shelter: Path
    made: tuple[Path, ...]

    def put(self, fresh: Path, before: object, shown: Path) -> Path:
        """Rename ``fresh`` to the target if that looks as it did before, else to a free name beside it.

        Returns:
            Where it is now: ``shown``, or the other place.
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
        told = shown.with_name(beside.name) if shown.name == self.target.name else beside
        _console.warn(f"{shown} appeared or changed meanwhile and was left alone: the result is in {told}")
        return told

    def name(self, error: OSError, shown: Path) -> None:
        """Have an error speak of ``shown``, which the user typed, not of hidden files beside it."""
        if isinstance(error.filename, str | bytes):
            named = os.fsdecode(error.filename)
            for hidden in (self.shelter / NEW, self.shelter, self.file):
                named = named.replace(str(hidden), str(shown))
            error.filename = named

    def _swapped(self, fresh: Path, before: object) -> bool:
        """Put ``fresh`` in place of what is there; return whether that was possible. What is there is lost last."""
        old = self.shelter / REPLACED
        try:
            if before is not None:
                self.target.rename(old)
            if look(old) == before:
                fresh.rename(self.target)
                return True
        except OSError:
            pass  # it is put beside the target, and if that fails too, then it is told
        restore(self.shelter, self.target)
        return False

    def release(self) -> None:
        """Remove what tells other processes, and what was not put in its place."""
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
    """Put back what was moved aside and is not replaced yet; return whether there was such a thing."""
    wanted = os.path.lexists(shelter / REPLACED) and not os.path.lexists(target)
    if wanted:
        (shelter / REPLACED).rename(target)
    return wanted


def claim(path: Path) -> Claim:
    """Claim a place for this process.

    Raises:
        TakenError: another process has it, or ``path`` is a link that leads nowhere.
        OSError: one may not write there.
    """
    try:
        target = path.resolve()
    except RuntimeError as error:  # Python 3.13 says it by an OSError
        raise TakenError(f"{path}: its symbolic links lead in a circle") from error
    file = target.with_name(f".regraft-{digest_bytes(os.fsencode(target.name))[:12]}.claim")
    owner = _Owner(os.getpid(), _beginning(os.getpid()) or "", platform.node(), f".tmp-{secrets.token_hex(8)}")
    found = Claim(target, file, target.with_name(owner.shelter), tuple(_missing(target.parent)))
    try:
        while not _created(file, owner):
            with suppress(FileNotFoundError):  # another process has just given it back
                _take_over(file, target)
        found.shelter.mkdir(0o700)
    except BaseException as error:
        found.release()
        if isinstance(error, OSError):
            found.name(error, path)
        raise
    return found


def _missing(folder: Path) -> Iterator[Path]:
    """Yield a folder that is not there, then the one above it, up to one that is there."""
    while not folder.exists():
        yield folder
        folder = folder.parent


def _created(file: Path, owner: _Owner) -> bool:
    """Write a claim; return False where there is one."""
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
    """Remove the claim of a process that has ended, and finish or undo what it was doing.

    Raises:
        TakenError: that process lives.
        FileNotFoundError: another process has taken it over, or has given it back.
    """
    aside = file.with_name(f".tmp-{secrets.token_hex(8)}")
    with _one_at_a_time(file):
        try:
            owner: _Owner | None = _Owner.read(file)
        except DamagedError:
            owner = None
        if owner.lives if owner else time.time() - file.lstat().st_mtime < _YOUNG:
            who = f" (process {owner.pid} on {owner.host})" if owner else ""
            raise TakenError(f"another regraft{who} is writing to {target} (if there is none, delete {file})")
        file.rename(aside)
    if owner:
        shelter = target.with_name(owner.shelter)
        if restore(shelter, target):
            _console.warn(f"{target} is again what it was before a process was killed while it replaced it")
        shutil.rmtree(shelter, ignore_errors=True)
    with suppress(OSError):
        aside.unlink()


@contextmanager
def _one_at_a_time(file: Path) -> Iterator[None]:
    """Within it the claim at ``file`` stays the same one: whoever wants to take it over waits here.

    Otherwise a process that has found it dead could take away the claim of the one that was faster. Where the system or
    the disk has no locks, and where something else than a file is there, nobody waits.

    Raises:
        FileNotFoundError: it is gone, or another one is there now.
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
    """Return when a process began, in the system's own words; nothing where there is none, None where it is unknown."""
    with suppress(OSError):
        state, *rest = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        return "" if state in "ZX" else rest[18]
    if os.name == "posix":
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return ""
        except (OSError, OverflowError):
            pass
    return None


def look(path: Path) -> object:
    """Return what tells whether a place has changed: None where nothing is there."""
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
