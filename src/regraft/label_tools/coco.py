"""The sources ``coco:FILE[:FOLDER]`` and ``coco-boxes:FILE[:FOLDER]``: the JSON of COCO, and of COCO Camera Traps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from regraft.foundation import console
from regraft.foundation.documents import Fields
from regraft.label_tools.label_files import Found, LabelFile, cropped, refused, require_few
from regraft.photos.boxes import Box
from regraft.photos.images import Problem
from regraft.photos.sources.base import Listing
from regraft.photos.sources.shards import listing_of

_PREFIX, _BOXES = "coco:", "coco-boxes:"


class Coco:
    """A JSON file with the lists ``images``, ``annotations`` and ``categories``.

    A photo's label is the category of its annotations; with ``coco-boxes:``, each box of an annotation is cropped and
    is a photo of its own. Of COCO Camera Traps, ``location`` is the group, or ``seq_id`` if there are no two locations.
    """

    def accepts(self, spec: str) -> bool:
        """Return whether ``spec`` begins with ``coco:`` or ``coco-boxes:``."""
        return spec.startswith((_PREFIX, _BOXES))

    def list(self, spec: str) -> Listing:
        """List the photos. A photo with several categories or with none, or without a box, becomes a problem.

        Raises:
            DataError: there is no such file, it is no COCO file, or no photo in it has one category.
        """
        file = LabelFile.of(spec, spec.partition(":")[2])
        with refused("wanted the JSON of COCO: images, annotations and categories"):
            document = _Document(Fields(file.read_json(), file.path), file)
            found = list(document.crops() if spec.startswith(_BOXES) else document.photos())
        return listing_of(list(dict.fromkeys(found)), f"{file.path} names no photo with one category")


class _Document:
    """A COCO file: its images with their groups, and the annotations of each image with their categories.

    Args:
        document: the values of the file.
        file: the file.

    Raises:
        DamagedError: the file is no COCO file.
    """

    def __init__(self, document: Fields, file: LabelFile) -> None:
        self._file = file
        images = document.each("images")
        require_few(len(images), file.path)
        categories = document.each("categories")
        _require_different_ids(images)
        _require_different_ids(categories)
        names = {key_of(one, "id"): one.text("name") for one in categories}
        self._of_image: dict[str, list[tuple[str, Fields]]] = defaultdict(list)
        for annotation in document.each("annotations"):
            label = names.get(key_of(annotation, "category_id"))
            if label is None:
                raise annotation.wrong("category_id", "the id of a category")
            self._of_image[key_of(annotation, "image_id")].append((label, annotation))
        self._images = list(zip(images, groups_of(images), strict=True))

    def photos(self) -> Iterator[Found]:
        """Yield each photo, or its problem."""
        labels: dict[str, set[str]] = defaultdict(set)  # two images may be the same file
        groups: dict[str, str | None] = {}
        for image, group in self._images:
            name = image.text("file_name")
            labels[name] |= {label for label, _ in self._of_image.get(key_of(image, "id"), ())}
            groups.setdefault(name, group)
        for name, found in labels.items():
            yield self._file.photo(name, found, group=groups[name])

    def crops(self) -> Iterator[Found]:
        """Yield each box as a photo, or its problem; a photo without a box is a problem, too."""
        for image, group in self._images:
            name, annotations = image.text("file_name"), self._of_image.get(key_of(image, "id"), [])
            boxed = [(label, one) for label, one in annotations if one.has("bbox") and one.values.get("iscrowd") != 1]
            if not boxed:
                yield Problem(self._file.folder / name, f"{self._file.path.name} gives it no box around one object")
            for label, annotation in boxed:
                photo = self._file.photo(name, [label], group=group)
                yield photo if isinstance(photo, Problem) else cropped(photo, _box(annotation, image))


def _box(annotation: Fields, image: Fields) -> Box | None:
    """Return the box of an annotation, which is in pixels of an image whose size the file names."""
    width, height = image.whole("width", 1, 10**6), image.whole("height", 1, 10**6)
    left, top, across, down = annotation.numbers("bbox", 4, -1e6, 1e6)
    return Box.of(left / width, top / height, across / width, down / height, width / height)


def key_of(fields: Fields, key: str) -> str:
    """Return an id, which may be a whole number or a text, as text. Raises DamagedError if it is missing or another."""
    value = fields.values.get(key)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise fields.wrong(key, "an id")
    return str(value)


def _require_different_ids(all_fields: list[Fields]) -> None:
    """Raise DamagedError if two images or two categories have the same id: files that were joined give wrong labels."""
    seen: set[str] = set()
    for fields in all_fields:
        key = key_of(fields, "id")
        if key in seen:
            raise fields.wrong("id", "an id of its own")
        seen.add(key)


def groups_of(images: list[Fields]) -> list[str | None]:
    """Return the group of each image of COCO Camera Traps: its location, or its sequence if there are no two locations.

    All photos of one camera show the same background, so that photos of one camera on both sides of the split would
    make the accuracy look higher than it will be at a new place.
    """
    locations = [_text(image.values, "location") for image in images]
    several = len(set(locations) - {""}) > 1
    if not several and any(locations):
        console.note(
            "all photos are of one location, so their sequences are the groups: the accuracy holds for this location"
        )
    sequences = [_text(image.values, "seq_id") for image in images]
    return [
        f"location {place}" if several and place else f"sequence {sequence}" if sequence else None
        for place, sequence in zip(locations, sequences, strict=True)
    ]


def _text(values: Mapping[str, object], key: str) -> str:
    """Return a value that is a text or a number as text; empty if it is another or missing."""
    value = values.get(key)
    return "" if isinstance(value, bool) or not isinstance(value, int | float | str) else str(value).strip()
