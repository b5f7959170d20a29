"""The source ``coco:FILE[:FOLDER]``: labels in the JSON of COCO, and of COCO Camera Traps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from regraft.errors import DataError
from regraft.foundation import console
from regraft.foundation.documents import Fields, mended
from regraft.label_tools.label_files import Found, LabelFile, require_few
from regraft.photos.sources.base import Listing
from regraft.photos.sources.shards import listing_of

_PREFIX = "coco:"


class Coco:
    """A JSON file with the lists ``images``, ``annotations`` and ``categories``; boxes and outlines are ignored.

    A photo's label is the category of its annotations. Of COCO Camera Traps, ``location`` is the photo's group, or
    ``seq_id`` if there are no two locations.
    """

    def accepts(self, spec: str) -> bool:
        """Return whether ``spec`` begins with ``coco:``."""
        return spec.startswith(_PREFIX)

    def list(self, spec: str) -> Listing:
        """List the photos. A photo with several categories or with none becomes a problem.

        Raises:
            DataError: there is no such file, it is no COCO file, or no photo in it has one category.
        """
        file = LabelFile.of(spec, spec.removeprefix(_PREFIX))
        with mended(DataError, "wanted the JSON of COCO: images, annotations and categories"):
            found = list(_photos(file))
        return listing_of(found, f"{file.path} names no photo with one category")


def _photos(file: LabelFile) -> Iterable[Found]:
    """Yield each photo, or its problem. Raises DamagedError if the file is no COCO file."""
    document = Fields(file.read_json(), file.path)
    images = document.each("images")
    require_few(len(images), file.path)
    names = {key_of(one, "id"): one.text("name") for one in document.each("categories")}
    labels: dict[str, set[str]] = defaultdict(set)
    for annotation in document.each("annotations"):
        label = names.get(key_of(annotation, "category_id"))
        if label is None:
            raise annotation.wrong("category_id", "the id of a category")
        labels[key_of(annotation, "image_id")].add(label)
    groups = groups_of(images)
    of_name: dict[str, set[str]] = defaultdict(set)  # two images may be the same file
    group_of_name: dict[str, str | None] = {}
    for image, group in zip(images, groups, strict=True):
        name = image.text("file_name")
        of_name[name] |= labels.get(key_of(image, "id"), set())
        group_of_name.setdefault(name, group)
    for name, found in of_name.items():
        yield file.photo(name, found, group=group_of_name[name])


def key_of(fields: Fields, key: str) -> str:
    """Return an id, which may be a whole number or a text, as text. Raises DamagedError if it is missing or another."""
    value = fields.values.get(key)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise fields.wrong(key, "an id")
    return str(value)


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
