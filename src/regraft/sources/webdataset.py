"""WebDataset shards: tar files whose members ``key.jpg``, ``key.cls``, ``key.json`` belong together by their key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from regraft._tar import DamagedTarError, Member, Tar
from regraft.images import Part, Problem
from regraft.sources import Entry, Listing, Side, label_of, origin_of, read_labels
from regraft.sources._shards import label_by_text, listing_of, shard_files, sides_of

_IMAGE = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "heic", "ppm")
_LABEL = ("json", "cls", "txt")  # in the order in which they are believed
_SNIFFED = 16
_MAX_TEXT = 2**20  # bytes of a member that gives a label
_MAX_LABEL = 1000  # characters


class WebDataset:
    """``shards/``, ``train-{000..012}.tar`` or one file. Photos are read where they lie; nothing is unpacked.

    A photo's label is ``label`` in its ``.json``, or else its ``.cls``, or else its ``.txt``. ``labels.txt`` beside
    the shards names classes that are given by number, line 1 being class 0.
    """

    def accepts(self, spec: str) -> bool:
        """Plain tar files that begin with members of a WebDataset: a tar of class folders is an archive."""
        return bool(shard_files(spec, _is_shard))

    def list(self, spec: str) -> Listing:
        """List the photos. A damaged shard is read as far as it goes, and told."""
        found: list[Entry | Problem] = []
        for file, side in sides_of(shard_files(spec, _is_shard)).items():
            found += _read_shard(file, side, read_labels(file.parent))
        return listing_of(found, f"{spec} holds no photo with a .cls, .json or .txt that gives its label")


class _Told(NamedTuple):
    """What a member of a shard tells of the photo beside it.

    Attributes:
        label: the class's name or number; empty where it tells none.
        group: what must stay on one side of the split with the photo.
        origin: the digest of the photo that this one was made from.
    """

    label: str
    group: str | None
    origin: str | None


def _read_shard(file: Path, side: Side | None, names: list[str]) -> Iterator[Entry | Problem]:
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
            yield Entry(path, label_by_text(told.label, names), side, told.group, part, told.origin)
        else:
            yield Problem(path, "no .cls, .json or .txt beside it gives a label")


def _read_members(
    file: Path, photos: dict[str, tuple[Path, Part]], labels: dict[tuple[str, str], _Told]
) -> Iterator[Problem]:
    """Collect photos by key, and labels by key and kind. Yields what is wrong."""
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
    """The key up to the first dot of the file's name, and what follows, in lower case."""
    folder, slash, base = name.rpartition("/")
    stem, _, kind = base.partition(".")
    return folder + slash + stem, kind.lower()


def _told(shard: Tar, member: Member, kind: str) -> _Told:
    """What a member tells of its photo; no label where it is no JSON, has none, or one too long to be a name."""
    data = b"".join(shard.data(member))
    found: object = data.decode("utf-8", "replace")
    ours: object = None
    if kind == "json":
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            return _Told("", None, None)  # the .cls beside it may still tell
        found, ours = (document.get(key) if isinstance(document, dict) else None for key in ("label", "regraft"))
    label = label_of(str(found)) if isinstance(found, str | int | float) else ""
    group, origin = (str(ours.get(key) or "") if isinstance(ours, dict) else "" for key in ("group", "digest"))
    return _Told(label if len(label) <= _MAX_LABEL else "", group or None, origin_of(origin))


def _is_shard(file: Path) -> bool:
    found: list[tuple[str, str]] = []
    with suppress(DamagedTarError, OSError), file.open("rb") as opened:
        for member in islice(Tar(opened), _SNIFFED):
            found.append(_key(member.name))  # what comes before damage counts
    labelled = {key for key, kind in found if kind in ("cls", "json")}
    return any(key in labelled and kind in _IMAGE for key, kind in found)
