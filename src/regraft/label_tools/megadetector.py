"""The source ``megadetector:FILE:PHOTOS``: the animals that MegaDetector found in labelled photos, each cropped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from regraft.errors import DataError
from regraft.foundation.documents import Fields
from regraft.label_tools.label_files import Found, LabelFile, cropped, refused, require_few
from regraft.photos.boxes import Box
from regraft.photos.images import Problem
from regraft.photos.sources.base import Entry, Listing, find_source
from regraft.photos.sources.shards import listing_of

_PREFIX = "megadetector:"
_ANIMAL = "animal"
_THRESHOLD, _THRESHOLD_OF_V4 = 0.2, 0.8  # typical thresholds of MegaDetector 5 and of the versions before it


class MegaDetector:
    """The JSON file that MegaDetector writes for many photos, beside any source that gives these photos labels.

    Each animal becomes a photo with the label of the whole photo. If a label is itself a category of the detector, such
    as ``person``, the boxes of this category are taken instead.
    """

    def accepts(self, spec: str) -> bool:
        """Return whether ``spec`` begins with ``megadetector:``."""
        return spec.startswith(_PREFIX)

    def list(self, spec: str) -> Listing:
        """List the cropped photos. A photo without a box that is sure enough becomes a problem.

        Raises:
            DataError: there is no such file or it is not MegaDetector's, the photos cannot be listed, the file names
                two photos alike, or no photo has a box.
        """
        rest = spec.removeprefix(_PREFIX)
        pieces = rest.split(":")
        count = next((i for i in range(1, len(pieces)) if Path(":".join(pieces[:i])).expanduser().is_file()), 0)
        photos = ":".join(pieces[count:])
        if not count or not photos:
            what = f"there is no file {pieces[0]}" if photos and len(pieces) > 1 else "no photos are named"
            raise DataError(f"{spec}: {what}; wanted megadetector:FILE:PHOTOS, where PHOTOS are the labelled photos")
        file = LabelFile.of(spec, ":".join(pieces[:count]))
        listing = find_source(photos).list(photos)
        with refused("wanted the JSON that MegaDetector writes for many photos"):
            found = list(_Detections(file).crops(listing))
        return listing_of([*found, *listing.problems], f"{file.path} has no box for any photo of {photos}")


class _Detections:
    """The boxes of each photo, by the parts of its path as the detector was given it.

    Args:
        file: the file of the detector.

    Raises:
        DamagedError: it is not MegaDetector's.
    """

    def __init__(self, file: LabelFile) -> None:
        self._file = file
        document = Fields(file.read_json(), file.path)
        images = document.each("images")
        require_few(len(images), file.path)
        self._images = {PurePosixPath(one.text("file").replace("\\", "/")).parts: one for one in images}
        self._longest = max(map(len, self._images), default=0)
        names = document.fields("detection_categories")
        self._categories = {key: names.text(key).casefold() for key in names.values}
        self._threshold = _threshold(document)

    def crops(self, listing: Listing) -> Iterator[Found]:
        """Yield each box of the listed photos as a photo, or its problem."""
        photo_of: dict[tuple[str, ...], Path] = {}
        for photo in listing.entries:
            key = None if photo.part else self._key(photo.path)  # nothing is cropped from shards
            if key is None:
                yield Problem(photo.path, f"{self._file.path.name} does not name it")
                continue
            if photo_of.setdefault(key, photo.path) != photo.path:
                raise DataError(
                    f"{self._file.path} calls {photo_of[key]} and {photo.path} alike: {'/'.join(key)}; "
                    "run the detector on the folder above both"
                )
            yield from self._crops_of(photo, self._images[key])

    def _key(self, path: Path) -> tuple[str, ...] | None:
        """Return the longest end of a path that the file names; None if it names none."""
        parts = path.absolute().parts
        ends = (parts[-count:] for count in range(min(self._longest, len(parts)), 0, -1))
        return next((end for end in ends if end in self._images), None)

    def _crops_of(self, photo: Entry, image: Fields) -> Iterator[Found]:
        """Yield the boxes of one photo, or the problem that it has none."""
        wanted = photo.label.casefold() if photo.label.casefold() in self._categories.values() else _ANIMAL
        found = 0
        for detection in image.each("detections") if image.has("detections") else ():
            sure = detection.number("conf", 0, 1) >= self._threshold
            if sure and self._categories.get(detection.text("category")) == wanted:
                found += 1
                left, top, width, height = detection.numbers("bbox", 4, -1, 2)
                yield cropped(photo, Box.of(left, top, width, height))
        if not found:
            yield Problem(photo.path, f"{self._file.path.name} has no {wanted} in it with at least {self._threshold:g}")


def _threshold(document: Fields) -> float:
    """Return the confidence from which on a box counts: that of the file, or the typical one of the detector."""
    info = document.fields("info") if document.has("info") else Fields({}, "info")
    facts = info.fields("detector_metadata") if info.has("detector_metadata") else info
    if facts.has("typical_detection_threshold"):
        return facts.number("typical_detection_threshold", 0, 1)
    detector = str(info.values.get("detector") or "v4")  # version 4 did not write its name
    return _THRESHOLD_OF_V4 if "v4" in detector else _THRESHOLD
