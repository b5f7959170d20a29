"""What can go wrong, as a small tree.

RegraftError
├── ConfigError      an option, or a pair of options, that cannot be
├── DataError        photos that cannot make, or measure, a classifier
│   └── ImageError   one photo that cannot be read; carries its reason alone
├── BackboneError    a backbone that is unknown, or whose weights are missing or damaged
│   └── UnknownBackboneError   a source has none of this name
├── RunError         a run folder that is missing, damaged, too new, or in the way
├── ExportError      an export that cannot be made or read, or answers differently from its run
└── TrainingError    training that cannot go on

Every message is one line: what was found, what was wanted, what to type. The command line
prints it after ``regraft:`` and exits with 1.
"""

from __future__ import annotations

import errno
import os


class RegraftError(Exception):
    """Base of every error that regraft raises on purpose."""


class ConfigError(RegraftError):
    """An option has a value it cannot have."""


class DataError(RegraftError):
    """The photos cannot make, or measure, a classifier."""


class ImageError(DataError):
    """One photo cannot be read. ``str(error)`` is the reason, without the path."""


class BackboneError(RegraftError):
    """The backbone is unknown, or its weights are missing or damaged."""


class UnknownBackboneError(BackboneError):
    """A source has no backbone of this name; another may."""


class RunError(RegraftError):
    """The run folder is missing, damaged, newer than this regraft, or in the way."""


class ExportError(RegraftError):
    """An export cannot be made or read, or does not answer as its run does."""


class TrainingError(RegraftError):
    """Training cannot go on: it diverged, or memory is too short."""


_REASONS = {
    "EACCES": "permission denied",
    "EDQUOT": "the disk quota is used up; free some space, or choose a place on another disk",
    "EEXIST": "something else is there already",
    "EFBIG": "the file would be larger than this system allows (see ulimit -f)",
    "EIO": "the disk reports a fault",
    "EISDIR": "this is a folder; wanted a file",
    "ELOOP": "its symbolic links lead in a circle",
    "EMFILE": "too many files are open; raise the limit (see ulimit -n)",
    "ENAMETOOLONG": "the name is too long",
    "ENOENT": "there is no such file or folder",
    "ENOSPC": "no space is left on the disk; free some, or choose a place on another disk",
    "ENOTDIR": "a part of the path is a file, not a folder",
    "EPERM": "permission denied",
    "EROFS": "the disk is read-only; choose another place",
    "EXDEV": "the two places are on different disks",
}
_BY_NUMBER = {getattr(errno, name): reason for name, reason in _REASONS.items() if hasattr(errno, name)}


def explain(error: BaseException) -> str | None:
    """Say in one line what the system refused: the path where it is known, the reason, the mend.

    Returns:
        The line; None where ``error`` is no answer of the system but a fault in regraft.
    """
    if isinstance(error, OSError):
        reason = _BY_NUMBER.get(error.errno or 0) or (error.strerror or str(error) or type(error).__name__).lower()
        if error.filename is None or isinstance(error.filename, int):  # the number of an open file
            return reason
        name = os.fsdecode(error.filename)
        return f"{name if len(name) < 1000 else name[:100] + '…'}: {reason}"
    if isinstance(error, MemoryError):
        return "memory ran out; close other programs, or choose a smaller backbone or resolution"
    if isinstance(error, RecursionError):
        return "something that was read is nested too deeply"
    if isinstance(error, UnicodeError):
        return f"a name or text cannot be read or written as Unicode: {error}"
    if isinstance(error, ValueError) and "embedded null" in str(error):
        return "a path has a zero byte in it, which no file system allows"
    if isinstance(error, RuntimeError) and "home directory" in str(error):
        return "a path begins with ~ and the name of a user who is not known here; type the whole path"
    return None
