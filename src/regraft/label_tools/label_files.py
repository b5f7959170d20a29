"""What the readers of label tools' files share: which file a spec names, its limits, and one label for each photo.

In: a spec such as ``coco:labels.json:images``. Out: the file of labels, and the folder of its photos.
Why: such files come from strangers, and name photos by paths on the machine where the label tool ran.
Surprise: a photo with several labels or with none becomes a problem, since a guess would end up in the training.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from regraft.errors import DataError
from regraft.foundation.documents import DamagedError, read_json
from regraft.photos.boxes import Box
from regraft.photos.images import Part, Problem
from regraft.photos.sources.base import Entry, Side, label_of, side_of

MAX_BYTES = 2**29
"""The greatest size of a file of labels, in bytes: the annotations of COCO's 118,000 training photos are 448 MiB."""

MAX_PHOTOS = 1_500_000
"""The most photos that a file of labels may name, as for a table."""

_MEMORY = 3 * 2**29  # bytes that parsed JSON may take beyond the usual 512 MiB, for the outlines of COCO's objects
_MAX_NAME, _MAX_LABEL = 4000, 1000  # the most characters of a photo's name and of a label
_SHOWN = 5  # labels that a message names
_MAX_REASON = 300  # characters of a message, which may quote a part of the file
_NAMES = ("coco", "coco-boxes", "cvat", "labelstudio", "megadetector")


@dataclass(frozen=True, slots=True)
class LabelFile:
    """A file of labels that a label tool wrote.

    Attributes:
        path: the file.
        folder: the folder to which the names of the photos are relative.
    """

    path: Path
    folder: Path

    @classmethod
    def of(cls, spec: str, rest: str) -> LabelFile:
        """Return the file and the folder that a spec names.

        Args:
            spec: what the user typed, for error messages, such as ``coco:labels.json:images``.
            rest: the part of it that is ``FILE`` or ``FILE:FOLDER``. Without a folder, it is the one of the file.

        Raises:
            DataError: the file or the folder does not exist.
        """
        pieces = rest.split(":")
        for count in range(len(pieces), 0, -1):  # a name of a file may have colons in it
            file, folder = Path(":".join(pieces[:count])).expanduser(), ":".join(pieces[count:])
            if file.is_file():
                place = Path(folder).expanduser() if folder else file.parent
                if not place.is_dir():
                    raise DataError(f"{spec}: there is no folder {folder}; wanted the folder of the photos")
                return cls(file, place)
        name = spec.partition(":")[0]
        raise DataError(f"{spec}: there is no file {pieces[0]}; wanted {name}:FILE or {name}:FILE:FOLDER")

    def read_json(self) -> Any:
        """Return the values of the file. Raises DamagedError if it is no JSON, or exceeds a limit."""
        return read_json(self.path, MAX_BYTES, _MEMORY)

    def photo(self, name: str, labels: Iterable[str], side: Side | None = None, group: str | None = None) -> Found:
        """Return the photo that the file calls ``name``, or the problem that it has no label or several."""
        path = self.folder / name.replace("\0", "\ufffd")[:_MAX_NAME]
        if not name or "\0" in name or len(name) > _MAX_NAME:
            return Problem(path, f"{self.path.name} gives it a name that no file can have")
        distinct = sorted({label_of(label) for label in labels} - {""})
        if len(distinct) == 1 and len(distinct[0]) <= _MAX_LABEL:
            return Entry(path, distinct[0], side, group)
        shown = ", ".join(label[:40] for label in distinct[:_SHOWN]) + (", …" if len(distinct) > _SHOWN else "")
        what = f"the labels {shown}; wanted one" if len(distinct) > 1 else "no label"
        if len(distinct) == 1:
            what = f"a label of more than {_MAX_LABEL:,} characters"
        return Problem(path, f"{self.path.name} gives it {what}")

    def existing(self, names: Iterable[str]) -> str:
        """Return the first of several names under which a photo lies in the folder; the first name if none does."""
        names = list(names)
        return next((name for name in names if name and "\0" not in name and self._is_file(name)), names[0])

    def _is_file(self, name: str) -> bool:
        try:
            return (self.folder / name).is_file()
        except OSError:  # the name is too long
            return False


Found = Entry | Problem


def absolute_spec(spec: str) -> str:
    """Return a spec of a label tool's file with absolute paths, so that it holds in any folder; others unchanged."""
    name, *pieces = spec.split(":")
    if name not in _NAMES:
        return spec
    return ":".join(
        [name, *(str(Path(piece).resolve()) if piece and Path(piece).exists() else piece for piece in pieces)]
    )


@contextmanager
def refused(wanted: str) -> Iterator[None]:
    """Turn a `DamagedError` of the ``with`` block into a DataError of one short line that says what was wanted."""
    try:
        yield
    except DamagedError as error:
        text = str(error)
        raise DataError(f"{text[:_MAX_REASON]}{'…' if len(text) > _MAX_REASON else ''}; {wanted}") from error


def cropped(photo: Entry, box: Box | None) -> Found:
    """Return the area of a box of a listed photo as a photo of its own, or the problem that this is not possible."""
    if box is None:
        return Problem(photo.path, "a box that has no area in the photo")
    try:
        size = photo.path.stat().st_size
    except (OSError, ValueError):  # missing, or the name is too long
        return Problem(photo.path, "there is no such file")
    return replace(photo, path=Path(f"{photo.path}#{box}"), part=Part(photo.path, 0, size, box))


def sides_of_names(names: Iterable[str]) -> dict[str, Side | None]:
    """Return the side of the split of each subset that a label tool names.

    All sides are None unless train and another side are among them.
    """
    sides = {name: side_of(name) for name in names}
    whole = "train" in sides.values() and len(set(sides.values()) - {None}) > 1
    return sides if whole else dict.fromkeys(sides)


def require_few(count: int, file: Path) -> None:
    """Raise DataError if a file of labels names more than `MAX_PHOTOS` photos or labels."""
    if count > MAX_PHOTOS:
        raise DataError(f"{file} names more than {MAX_PHOTOS:,} photos; split it")
