"""WebDataset shards: tar files whose members ``key.jpg``, ``key.cls``, ``key.json`` belong together by their key."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

from regraft._unpack import ends_early
from regraft.images import Part, Problem
from regraft.sources import Entry, Listing, Side, label_of, origin_of, read_labels
from regraft.sources._shards import label_by_number, listing_of, shard_files, sides_of

_IMAGE = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "heic", "ppm")
_LABEL = ("cls", "json", "txt")
_SNIFFED = 16
_MAX_LABEL = 2**20


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


def _read_shard(file: Path, side: Side | None, names: list[str]) -> Iterator[Entry | Problem]:
    photos: dict[str, tuple[Path, Part]] = {}
    texts: dict[str, dict[str, bytes]] = {}
    try:
        yield from _read_members(file, photos, texts)
    except (tarfile.TarError, OSError) as error:
        yield Problem(file, f"damaged: {error}; what comes after it is lost")
    size = file.stat().st_size
    for key, (path, part) in photos.items():
        facts = _facts(texts.get(key, {}))
        label = _label(facts, texts.get(key, {}), names)
        if part.offset + part.length > size:
            yield Problem(path, "cut off with its shard")
        elif label:
            ours = facts.get("regraft")  # what `regraft shard` tells of the photo beyond its label
            group, origin = (
                str(ours.get(name) or "") if isinstance(ours, dict) else "" for name in ("group", "digest")
            )
            yield Entry(path, label, side, group or None, part, origin_of(origin))
        else:
            yield Problem(path, "no .cls, .json or .txt beside it gives a label")


def _read_members(
    file: Path, photos: dict[str, tuple[Path, Part]], texts: dict[str, dict[str, bytes]]
) -> Iterator[Problem]:
    """Collect the members by key. Yields what is wrong."""
    with tarfile.open(file, "r:") as shard:
        for member in shard:
            key, kind = _key(member.name)
            if not member.isreg():
                if not member.isdir():
                    yield Problem(Path(f"{file}#{member.name}"), "a link within a shard")
            elif kind in _IMAGE:
                photos[key] = (Path(f"{file}#{member.name}"), Part(file, member.offset_data, member.size))
            elif kind in _LABEL and member.size <= _MAX_LABEL and (opened := shard.extractfile(member)):
                texts.setdefault(key, {})[kind] = opened.read()
        if ends_early(shard):
            yield Problem(file, "cut off: what came after is lost")


def _key(name: str) -> tuple[str, str]:
    """The key up to the first dot of the file's name, and what follows, in lower case."""
    folder, slash, base = name.rpartition("/")
    stem, _, kind = base.partition(".")
    return folder + slash + stem, kind.lower()


def _facts(texts: Mapping[str, bytes]) -> Mapping[str, object]:
    """What the .json tells; nothing where it is damaged, as the .cls beside it may still give a label."""
    try:
        document = json.loads(texts.get("json", b"null"))
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _label(facts: Mapping[str, object], texts: Mapping[str, bytes], names: list[str]) -> str:
    found = facts.get("label")
    if found is None:
        found = texts.get("cls", texts.get("txt", b"")).decode("utf-8", "replace")
    text = label_of(str(found))
    return label_by_number(int(text), names) if text.isdecimal() else text


def _is_shard(file: Path) -> bool:
    try:
        with tarfile.open(file, "r:") as shard:
            found = [_key(member.name) for member in islice(shard, _SNIFFED)]
    except (tarfile.TarError, OSError):
        return False
    labelled = {key for key, kind in found if kind in ("cls", "json")}
    return any(key in labelled and kind in _IMAGE for key, kind in found)
