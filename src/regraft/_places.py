"""May I write here? One answer for every verb, and a claim, so that two processes never write to one place.

A result is written in a hidden folder beside its place and renamed into it at the end, if what is there is still what
was there at the start. If not, it is kept under another name: what a user or another process put there is never lost.

Beside a place that is claimed lies a small file, made so that only one process can make it. It says which process that
is; where the process has ended without removing it, as after a power cut, the next one takes the place over.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import chain, count
from pathlib import Path

from regraft import _console
from regraft._documents import DamagedError, Fields, read_bytes, read_json
from regraft._files import digest_bytes
from regraft.errors import RegraftError, RunError

_YOUNG = 10.0  # seconds for which a claim that says nothing may be one that is just being written
_SHELTER = re.compile(r"\.tmp-[0-9a-f]{16}")
_NEW, _OLD = "new", "old"
_IN_THE_WAY = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EISDIR}


@dataclass(frozen=True, slots=True)
class Kind:
    """What is written, and what may be replaced by it.

    Attributes:
        name: what it is called in a message, with its article.
        is_ours: whether what is at a path is of this kind, so that the user may have it replaced.
        option: the option that names the place.
        error: raised where the place is taken.
        overwrite: what to type to have one of this kind replaced; empty where nothing need be typed.
    """

    name: str
    is_ours: Callable[[Path], bool]
    option: str = "--out"
    error: type[RegraftError] = RunError
    overwrite: str = "--overwrite"


@dataclass(slots=True)
class Place:
    """A place that is claimed.

    Attributes:
        path: where the result will be; known for certain once the claim has ended.
        fresh: an empty folder to write it into, or the path of a file that is not there yet.
    """

    path: Path
    fresh: Path


def expanded(path: str | os.PathLike[str]) -> Path:
    """Return a path with ``~`` replaced. Raises RunError where it names a user who is not known."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise RunError(f"{os.fspath(path)}: there is no such user here; type the whole path") from error


def require_free(path: Path, kind: Kind, overwrite: bool = False) -> None:
    """Raise the kind's error unless one may write to ``path``: nothing is there, an empty folder, or one to replace."""
    another = f"type another {kind.option}"
    if path.name in ("", ".."):
        raise kind.error(f"{str(path)!r} cannot be replaced by {kind.name}; {another}, the path of a new one")
    above = next((folder for folder in path.parents if os.path.lexists(folder)), None)
    if above is not None and not above.is_dir():
        raise kind.error(f"{above} is no folder, so {path} cannot be in it; {another}")
    if not os.path.lexists(path) or (path.is_symlink() and not path.exists()):
        return
    if path.is_dir() and os.path.ismount(path):
        raise kind.error(f"{path} is where a disk is mounted, so it cannot be replaced; type {kind.option} {path / 'new'}")
    if path.is_dir() and not any(path.iterdir()):
        return
    if not kind.is_ours(path):
        raise kind.error(f"{path} is there already and is not {kind.name}, so it is not overwritten; {another}")
    if kind.overwrite and not overwrite:
        raise kind.error(f"{path} is there already; type {kind.overwrite} to replace it, or another {kind.option}")


@contextmanager
def claimed(
    path: str | os.PathLike[str], kind: Kind, overwrite: bool = False, names: Iterable[Path] = (), file: bool = False
) -> Iterator[Place]:
    """Claim a place, and put there what is written within.

    Args:
        path: where the result is to be.
        kind: what it is.
        overwrite: whether the user asked to replace one of its kind.
        names: other places, to be taken in order where ``path`` is not free.
        file: whether the result is a file, not a folder.

    Yields:
        The place. At the end its ``path`` is another one where something appeared at the first meanwhile.

    Raises:
        RegraftError: the kind's, where no place is free, or another process is writing there.
    """
    chosen, claim = _first_free(chain([expanded(path)], names), kind, overwrite)
    place = Place(chosen, claim.shelter / _NEW)
    try:
        before = _look(claim.target)
        if not file:
            place.fresh.mkdir()
        yield place
        place.path = claim.put(place.fresh, before, chosen)
    except OSError as error:
        _name_place(error, claim, chosen)
        raise
    finally:
        claim.release()


@contextmanager
def locked(path: str | os.PathLike[str], kind: Kind) -> Iterator[Path]:
    """Claim a place in which files are written where they stay, and yield its path.

    Raises:
        RegraftError: the kind's, where another process is writing there.
    """
    chosen = expanded(path)
    claim = _claim(chosen, kind)
    try:
        yield chosen
    except OSError as error:
        _name_place(error, claim, chosen)
        raise
    finally:
        claim.release()


def _first_free(paths: Iterable[Path], kind: Kind, overwrite: bool) -> tuple[Path, _Claim]:
    """Claim the first of ``paths`` that is free. Raises the kind's error for the last one where none is."""
    refusal: RegraftError | None = None
    for path in paths:
        try:
            require_free(path, kind, overwrite)
            claim = _claim(path, kind)
        except kind.error as error:
            refusal = error
            continue
        try:
            require_free(path, kind, overwrite)  # what was there may have become something else
        except kind.error as error:
            refusal = error
        else:
            return path, claim
        claim.release()
    raise refusal or kind.error("there is no place to write to")


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
class _Claim:
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
        """Rename ``fresh`` to the target if that looks as it did before, else to a free name beside it; return where."""
        if _look(self.target) == before and self._swapped(fresh, before):
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
        _console.warn(f"{shown} appeared or changed meanwhile and was left alone: the result is in {beside}")
        return beside

    def _swapped(self, fresh: Path, before: object) -> bool:
        """Put ``fresh`` in place of what is there; return whether that was possible. What is there is lost last."""
        old = self.shelter / _OLD
        try:
            if before is not None:
                self.target.rename(old)
            if _look(old) == before:
                fresh.rename(self.target)
                return True
        except OSError:
            pass  # it is put beside the target, and if that fails too, then it is told
        _restore(self.shelter, self.target)
        return False

    def release(self) -> None:
        """Remove what tells other processes, and what was not put in its place."""
        with suppress(OSError):
            _restore(self.shelter, self.target)
            shutil.rmtree(self.shelter)
        with suppress(DamagedError, OSError):
            if _Owner.read(self.file).shelter == self.shelter.name:
                self.file.unlink()
        for folder in self.made:
            with suppress(OSError):
                folder.rmdir()


def _restore(shelter: Path, target: Path) -> bool:
    """Put back what was moved aside and is not replaced yet; return whether there was such a thing."""
    wanted = os.path.lexists(shelter / _OLD) and not os.path.lexists(target)
    if wanted:
        (shelter / _OLD).rename(target)
    return wanted


def _claim(path: Path, kind: Kind) -> _Claim:
    """Claim a place for this process. Raises the kind's error where another one has it."""
    try:
        target = path.resolve()
    except RuntimeError as error:  # Python 3.13 says it by an OSError
        raise kind.error(f"{path}: its symbolic links lead in a circle; type another {kind.option}") from error
    file = target.with_name(f".regraft-{digest_bytes(os.fsencode(target.name))[:12]}.claim")
    owner = _Owner(os.getpid(), _beginning(os.getpid()) or "", platform.node(), f".tmp-{secrets.token_hex(8)}")
    claim = _Claim(target, file, target.with_name(owner.shelter), tuple(_missing(target.parent)))
    try:
        while not _created(file, owner):
            with suppress(FileNotFoundError):  # another process has just given it back
                _take_over(file, target, kind)
        claim.shelter.mkdir(0o700)
    except BaseException as error:
        claim.release()
        if isinstance(error, OSError):
            _name_place(error, claim, path)
        raise
    return claim


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


def _take_over(file: Path, target: Path, kind: Kind) -> None:
    """Remove the claim of a process that has ended, and finish or undo what it was doing.

    Raises:
        RegraftError: the kind's, where that process lives.
    """
    try:
        owner: _Owner | None = _Owner.read(file)
    except DamagedError:
        owner = None
    if owner.lives if owner else time.time() - file.lstat().st_mtime < _YOUNG:
        who = f" (process {owner.pid} on {owner.host})" if owner else ""
        raise kind.error(
            f"another regraft{who} is writing to {target}; wait for it, or type another {kind.option}. If there is "
            f"none, delete {file}"
        )
    aside = file.with_name(f".tmp-{secrets.token_hex(8)}")
    file.rename(aside)  # of several processes that want to take it over, one succeeds
    if owner:
        shelter = target.with_name(owner.shelter)
        if _restore(shelter, target):
            _console.warn(f"{target} is again what it was before a process was killed while it replaced it")
        shutil.rmtree(shelter, ignore_errors=True)
    with suppress(OSError):
        aside.unlink()


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


def _look(path: Path) -> object:
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


def _name_place(error: OSError, claim: _Claim, shown: Path) -> None:
    """Have an error speak of the place that the user typed, not of hidden files beside it."""
    if isinstance(error.filename, str | bytes):
        named = os.fsdecode(error.filename)
        for hidden in (claim.shelter / _NEW, claim.shelter, claim.file):
            named = named.replace(str(hidden), str(shown))
        error.filename = named
