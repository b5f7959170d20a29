"""The errors that regraft raises, as a small tree.

RegraftError
├── ConfigError      an option has a value that is not allowed, or two options contradict each other
├── DataError        the photos cannot be used to train or to evaluate a classifier
│   └── ImageError   one photo cannot be read; the message is the reason, without the path
│       └── TooLargeError   the photo has too many pixels to be decoded
├── BackboneError    the backbone is unknown, or its weights are missing or damaged
│   └── UnknownBackboneError   a source has no backbone of this name
├── RunError         the run folder is missing, damaged, too new, or in the way of a new one
├── ExportError      an export cannot be made or read, or its probabilities differ from those of its run
└── TrainingError    the training cannot go on
    └── AccuracyError   the accuracy may be below the one that the user wants

Every message is one line. It says what was found, what was wanted, and what the user can type. The command line prints
the message after ``regraft:`` and exits with code 1. Messages name options by `option`, which spells them as the user
types them: ``overwrite=True`` in Python, ``--overwrite`` on the command line, another flag in a classic command.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Spelling:
    """The way in which users type options, which depends on the front end.

    Attributes:
        flags: whether options are flags of a command line, such as ``--learning-rate 0.1``; otherwise they are
            arguments in Python, such as ``learning_rate=0.1``.
        names: exceptions, by the option's name in Python; each text stands for the option with its value.
    """

    flags: bool = False
    names: Mapping[str, str] = field(default_factory=dict)

    def of(self, name: str, value: str | bool = "") -> str:
        """Return an option as the user types it, with its value if ``value`` is not empty.

        Args:
            name: the option's name in Python, such as ``learning_rate``.
            value: the value; True for an option that is switched on; empty for no value.
        """
        if name in self.names:
            return self.names[name]
        if not self.flags:
            is_word = isinstance(value, str) and value.islower() and not value.isdecimal()  # FOLDER is no text
            return f"{name}={value!r}" if is_word else f"{name}={value}" if value else name
        flag = f"--{name.replace('_', '-')}"
        return f"{flag} {value}" if isinstance(value, str) and value else flag


_spelling = Spelling()


def spelling() -> Spelling:
    """Return the spelling of options in this process."""
    return _spelling


@contextmanager
def spelled(as_typed: Spelling) -> Iterator[None]:
    """Let `option` use the spelling ``as_typed`` in the ``with`` block, in all threads of this process.

    A process has only one front end, so that its threads need no spellings of their own.
    """
    global _spelling
    before, _spelling = _spelling, as_typed
    try:
        yield
    finally:
        _spelling = before


def option(name: str, value: str | bool = "") -> str:
    """Return an option for a message, spelled as the user of this process types it.

    Args:
        name: the option's name in Python, such as ``learning_rate``.
        value: the value that the user is advised to give; True for an option to switch on; empty for no value.
    """
    return _spelling.of(name, value)


class RegraftError(Exception):
    """The base class of all errors that regraft raises on purpose."""


class ConfigError(RegraftError):
    """An option has a value that is not allowed, or two options contradict each other."""


class DataError(RegraftError):
    """The photos cannot be used to train or to evaluate a classifier."""


class ImageError(DataError):
    """One photo cannot be read. The message is the reason, without the path of the photo."""


class TooLargeError(ImageError):
    """One photo would take too much memory to decode, as a decompression bomb does."""


class BackboneError(RegraftError):
    """The backbone is unknown, or its weights are missing or damaged."""


class UnknownBackboneError(BackboneError):
    """A backbone source has no backbone of this name, although another source may have one."""


class RunError(RegraftError):
    """The run folder is missing, damaged, written by a newer regraft, or in the way of a new one."""


class ExportError(RegraftError):
    """An export cannot be made or read, or its probabilities differ from those of its run."""


class TrainingError(RegraftError):
    """The training cannot go on: it diverged, or there is not enough memory."""


class AccuracyError(TrainingError):
    """The accuracy may be below the one that the user wants, so that nothing is kept."""


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
    """Describe an error of the operating system or of Python in one line, for the user.

    Returns:
        The path if it is known, the reason and, for some errors, advice; None if ``error`` is a fault in regraft.
    """
    if isinstance(error, OSError):
        reason = _BY_NUMBER.get(error.errno or 0) or (error.strerror or str(error) or type(error).__name__).lower()
        if error.filename is None or isinstance(error.filename, int):  # an int is the number of an open file
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
