"""Which folder above a photo names its class, and which one its group.

In: options, and the names of the folders from below the root down to a photo. Out: the place of a name among them.
Why: people keep photos as ``class/photo.jpg``, ``camera/class/photo.jpg`` or ``class/patient/photo.jpg``.
Surprise: it stands below the configuration, so that every command has the same two options.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from regraft.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """Which folders name a photo's class and group, where photos come from a folder or an archive."""

    label_from: str = "first"
    """Folder that names a photo's class: first below PHOTOS (or below its train/), last (that holds the photo), or a
    number of levels below PHOTOS. For folders and archives."""

    group_from: str = ""
    """Folder that names a photo's group, which stays on one side of the split: first, last or a number; by default
    none. For folders and archives."""

    def __post_init__(self) -> None:
        """Check what no type can say."""
        for name in ("label_from", "group_from"):
            value = str(getattr(self, name))  # a TOML file may hold a number
            object.__setattr__(self, name, value)
            if not re.fullmatch(r"first|last|[1-9]\d{0,3}", value) and (value or name == "label_from"):
                raise ConfigError(f"{name} {value!r} is no level of folders; wanted first, last, or a number from 1")
        if _number(self.label_from) == _number(self.group_from):
            raise ConfigError(f"label_from and group_from are both {self.label_from}: each class would be one group")

    def label_place(self, depth: int) -> int | None:
        """Return which of ``depth`` nested folders names the class, from 0 for the outermost; None for none."""
        return _place(self.label_from, depth)

    def group_place(self, depth: int) -> int | None:
        """Return which of ``depth`` nested folders names the group; None for none, or where it names the class."""
        place = _place(self.group_from, depth) if self.group_from else None
        return None if place == self.label_place(depth) else place


def _number(level: str) -> str:
    return "1" if level == "first" else level


def _place(level: str, depth: int) -> int | None:
    place = depth - 1 if level == "last" else int(_number(level)) - 1
    return place if 0 <= place < depth else None
