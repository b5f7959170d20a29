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
