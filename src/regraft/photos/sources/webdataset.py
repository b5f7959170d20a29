"""The source for WebDataset shards: tar files in which ``key.jpg``, ``key.cls`` and ``key.json`` belong together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from regraft.downloads.tar import DamagedTarError, Member, Tar
from regraft.photos.images import Part, Problem
from regraft.photos.sources.base import Entry, Listing, Side, label_of, origin_of, read_labels
from regraft.photos.sources.shards import certainty_of, label_by_text, listing_of, shard_files, sides_of

_IMAGE = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "heic", "ppm")
_LABEL = ("json", "cls", "txt")  # the first of these that gives a label is used
_SNIFFED = 16  # members that are examined to recognise a shard
_MAX_TEXT = 2**20  # bytes of a member that gives a label
_MAX_LABEL = 1000  # characters


class WebDataset:
    """A folder of shards, a pattern such as ``train-{000..012}.tar``, or one file.

    Photos are read from the shard without unpacking. The label of a photo is ``label`` in its ``.json``, or else its
    ``.cls``, or else its ``.txt``. If the label is a class index, ``labels.txt`` beside the shards gives the class
    names, line 1 for class 0.
    """

    def accepts(self, spec: str) -> bool:
        """Return whether ``spec`` names tar files that begin with photos and their labels.

        A tar of class folders is an archive, not a shard.
        """
        return bool(shard_files(spec, _is_shard))

    def list(self, spec: str) -> Listing:
        """List the photos. A damaged shard is read up to the damage, and becomes a problem.

        Raises:
            DataError: no photo has a label.
        """
        found: list[Entry | Problem] = []
        for file, side in sides_of(shard_files(spec, _is_shard)).items():
            found += _read_shard(file, side, read_labels(file.parent))
        return listing_of(found, f"{spec} holds no photo with a .cls, .json or .txt that gives its label")


class _Told(NamedTuple):
    """The label of a photo, read from a .json, .cls or .txt member of the shard.

    Attributes:
        label: the name or index of the class; empty if the member gives none.
        group: the name of the photo's group, which stays on one side of the split; or None.
        origin: the digest of the photo from which this photo was made; or None.
        probability: the probability that the label is right.
    """

    label: str
    group: str | None = None
    origin: str | None = None
    probability: float = 1.0


def _read_shard(file: Path, side: Side | None, names: list[str]) -> Iterator[Entry | Problem]:
    """Yield the photos of a shard, and what is wrong with its members."""
    photos: dict[str, tuple[Path, Part]] = {}
    labels: dict[tuple[str, str], _Told] = {}
    try:
        yield from _read_members(file, photos, labels)
    except (DamagedTarError, EOFError, OSError) as error:
        yield Problem(file, f"damaged: {error}; what comes after it is lost")
    size = file.stat().st_size
    for key, (path, part) in photos.items():
        told = next((found for kind in _LABEL if (found := labels.get((key, kind))) and found.label), None)
        if part.offset + part.length > size:
            yield Problem(path, "cut off with its shard")
        elif told:
            label = label_by_text(told.label, names)
            yield Entry(path, label, side, told.group, part, told.origin, told.probability)
        else:
            yield Problem(path, "no .cls, .json or .txt beside it gives a label")


def _read_members(
    file: Path, photos: dict[str, tuple[Path, Part]], labels: dict[tuple[str, str], _Told]
) -> Iterator[Problem]:
    """Read the members of a shard into ``photos`` (by key) and ``labels`` (by key and kind). Yield the problems."""
    with file.open("rb") as opened:
        shard = Tar(opened)
        for member in shard:
            key, kind = _key(member.name)
            if member.kind != "file":
                if member.kind != "folder":
                    yield Problem(Path(f"{file}#{member.name[:_MAX_LABEL]}"), f"a {member.kind} within a shard")
            elif kind in _IMAGE:
                photos[key] = (Path(f"{file}#{member.name}"), Part(file, member.offset, member.size))
            elif kind in _LABEL and member.size <= _MAX_TEXT:
                labels[key, kind] = _told(shard, member, kind)
        if not shard.whole:
            yield Problem(file, "cut off: what came after is lost")


def _key(name: str) -> tuple[str, str]:
    """Split a member's name into the key, up to the first dot of the file name, and the suffix in lower case."""
    folder, slash, base = name.rpartition("/")
    stem, _, kind = base.partition(".")
    return folder + slash + stem, kind.lower()


def _told(shard: Tar, member: Member, kind: str) -> _Told:
    """Return the label in a member. The label is empty if it is missing or too long, or if the JSON is damaged."""
    data = b"".join(shard.data(member))
    found: object = data.decode("utf-8", "replace")
    ours: object = None
    if kind == "json":
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            return _Told("")  # the .cls member may still give the label
        found, ours = (document.get(key) if isinstance(document, dict) else None for key in ("label", "regraft"))
    label = label_of(str(found)) if isinstance(found, str | int | float) else ""
    names = ("group", "digest", "probability")
    group, origin, probability = (str(ours.get(key) or "") if isinstance(ours, dict) else "" for key in names)
    label = label if len(label) <= _MAX_LABEL else ""
    return _Told(label, group or None, origin_of(origin), certainty_of(probability))


def _is_shard(file: Path) -> bool:
    """Return whether a file is a tar that begins with a photo and its .cls or .json member."""
    found: list[tuple[str, str]] = []
    with suppress(DamagedTarError, OSError), file.open("rb") as opened:
        for member in islice(Tar(opened), _SNIFFED):
            found.append(_key(member.name))  # in a loop, so that members before any damage count
    labelled = {key for key, kind in found if kind in ("cls", "json")}
    return any(key in labelled and kind in _IMAGE for key, kind in found)
