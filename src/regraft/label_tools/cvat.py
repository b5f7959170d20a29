"""The source ``cvat:FILE[:FOLDER]``: tags of photos in CVAT's format *CVAT for images 1.1*, an XML file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers import expat

from regraft.errors import DataError
from regraft.label_tools.label_files import MAX_BYTES, LabelFile, require_few, sides_of_names
from regraft.photos.sources.base import Listing
from regraft.photos.sources.shards import listing_of

_PREFIX = "cvat:"
_DEPTH = 32  # the most nested elements; those of CVAT are seven deep
_BLOCK = 2**20  # bytes that are parsed at a time


class Cvat:
    """The file ``annotations.xml`` of an export, whose photos lie beside it or in its folder ``images``.

    A photo's label is its tag. Boxes and other shapes are ignored. Subsets that are called train, validation and test
    are the split.
    """

    def accepts(self, spec: str) -> bool:
        """Return whether ``spec`` begins with ``cvat:``."""
        return spec.startswith(_PREFIX)

    def list(self, spec: str) -> Listing:
        """List the photos. A photo with several tags or with none becomes a problem.

        Raises:
            DataError: there is no such file, it is no XML of CVAT for images, or no photo in it has one tag.
        """
        file = LabelFile.of(spec, spec.removeprefix(_PREFIX))
        images = _Images(file.path).read()
        sides = sides_of_names({image.subset for image in images})
        of_name: dict[str, _Image] = {}  # two images may be the same file
        for image in images:
            known = of_name.setdefault(file.existing(_places(image)), image)
            if known is not image:
                known.tags += image.tags
        found = [file.photo(name, image.tags, sides[image.subset]) for name, image in of_name.items()]
        return listing_of(found, f"{file.path} has no photo with one tag")


@dataclass(slots=True)
class _Image:
    """One element ``image``: the name of a photo, the subset that it belongs to, and the labels of its tags."""

    name: str
    subset: str
    tags: list[str] = field(default_factory=list)


def _places(image: _Image) -> Iterator[str]:
    """Yield the names under which CVAT may have put a photo, relative to the file of labels."""
    yield image.name
    yield f"images/{image.name}"
    if image.subset:
        yield f"images/{image.subset}/{image.name}"


class _Images:
    """A reader of the elements ``image`` and ``tag``, which keeps nothing else of the XML in memory.

    A document type declaration is refused, as CVAT writes none: entities, which could expand without end or name other
    files, can only be declared there.

    Args:
        file: the XML file.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._images: list[_Image] = []
        self._depth = 0
        self._is_inside = False  # an element ``image``
        self._parser = expat.ParserCreate("utf-8")  # whatever the file says: Python has codecs that are no encodings
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end

    def read(self) -> list[_Image]:
        """Return the images in their order. Raises DataError if the file is no XML of CVAT, or exceeds a limit."""
        size = 0
        try:
            with self._file.open("rb") as opened:
                while block := opened.read(_BLOCK):
                    size += len(block)
                    if size > MAX_BYTES:
                        raise DataError(f"{self._file} is larger than {MAX_BYTES >> 20} MiB; split it")
                    self._parser.Parse(block, False)
            self._parser.Parse(b"", True)
        except expat.ExpatError as error:
            raise DataError(f"{self._file} is no XML: {error}") from error
        except OSError as error:
            raise DataError(f"{self._file} cannot be read: {(error.strerror or str(error)).lower()}") from error
        return self._images

    def _refuse(self, *_: Any) -> None:
        raise DataError(f"{self._file} has a document type declaration; CVAT writes none, so the file is not read")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > _DEPTH:
            raise DataError(f"{self._file} has elements that are nested more than {_DEPTH} deep")
        if self._depth == 1 and name != "annotations":
            raise DataError(
                f"{self._file} begins with <{name[:40]}>; wanted <annotations>, as CVAT for images writes it"
            )
        if self._depth == 2:
            self._is_inside = name == "image"
        if name == "image" and self._depth == 2:
            self._images.append(_Image(attributes.get("name", ""), attributes.get("subset", "")))
            require_few(len(self._images), self._file)
        if name == "track" and self._depth == 2:
            raise DataError(f"{self._file} is CVAT for video; export the task as CVAT for images 1.1")
        if name == "tag" and self._depth == 3 and self._is_inside:
            self._images[-1].tags.append(attributes.get("label", ""))

    def _end(self, _name: str) -> None:
        self._depth -= 1
