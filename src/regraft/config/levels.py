"""The options that say which folder above a photo names the class of the photo, and which folder names its group.

In: the options, and the number of folders between the root and a photo. Out: the index of a folder among these.
Why: people keep photos as ``class/photo.jpg``, ``camera/class/photo.jpg`` or ``class/patient/photo.jpg``.
Surprise: these two options have a class of their own, so that several commands share them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from regraft.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """The options for the folders that name class and group of a photo, for photos in a folder or an archive.

    Raises:
        ConfigError: an option is no level of folders, or both options name the same level.
    """

    heading: ClassVar[str] = "labels from folders"

    label_from: str = "first"
    """For folders and archives: the folder that names the class of a photo: first (directly below PHOTOS, or below its
    train/), last (the folder that holds the photo), or a number of levels below PHOTOS."""

    group_from: str = ""
    """For folders and archives: the folder that names the group of a photo: first, last, or a number of levels below
    PHOTOS; by default none. A group stays on one side of the split."""

    def __post_init__(self) -> None:
        """Check the options, whose type alone allows any text. Raises ConfigError."""
        for name in ("label_from", "group_from"):
            value = str(getattr(self, name))  # a TOML file may hold a number
            object.__setattr__(self, name, value)
            if not re.fullmatch(r"first|last|[1-9]\d{0,3}", value) and (value or name == "label_from"):
                raise ConfigError(f"{name} {value!r} is no level of folders; wanted first, last, or a number from 1")
        if _number(self.label_from) == _number(self.group_from):
            raise ConfigError(f"label_from and group_from are both {self.label_from}: each class would be one group")

    def label_place(self, depth: int) -> int | None:
        """Return the index, from 0 for the outermost, of the one among ``depth`` nested folders that names the class.

        The result is None where there are too few folders.
        """
        return _place(self.label_from, depth)

    def group_place(self, depth: int) -> int | None:
        """Return the index, from 0 for the outermost, of the one among ``depth`` nested folders that names the group.

        The result is None where there are too few folders, where there are no groups, or where the same folder names
        the class.
        """
        place = _place(self.group_from, depth) if self.group_from else None
        return None if place == self.label_place(depth) else place


def _number(level: str) -> str:
    """Return a level with ``first`` written as its number, so that equal levels are equal texts."""
    return "1" if level == "first" else level


def _place(level: str, depth: int) -> int | None:
    """Return the index of a level among ``depth`` nested folders; None where there are too few folders."""
    place = depth - 1 if level == "last" else int(_number(level)) - 1
    return place if 0 <= place < depth else None
