"""An audit → a page in one HTML file, which shows what was found with the photos side by side.

In: an `Audit`, and the path of a file. Out: an HTML file that needs no network.
Why: copies, conflicts of labels and suspected labels are decided by looking at the photos, not by reading their names.
Surprise: the pictures are of whole photos, unlike those of a report: an extreme shape is one of the findings. Kinds of
problems take turns, so that ten thousand copies leave room for the pictures of the other kinds.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from regraft.errors import ConfigError
from regraft.exploring.auditing import DROPPED, LEARNABLE, Audit, Finding, Kind
from regraft.foundation.files import as_path, write_text
from regraft.foundation.places import Product, claimed, require_writable
from regraft.reporting.html_pages import LIMIT_MB, base64_text, html_page, is_page, picture_budget
from regraft.reporting.page_data import MOST_PHOTOS, short_paths
from regraft.reporting.pictures import whole_thumbnails
from regraft.reporting.verdict import Sentence

MOST_BESIDE = 12
"""The largest number of photos that a group shows side by side; further photos of the group are counted."""

_GENERATOR = "regraft check"
_PAGE = Product(
    "a page of a check", lambda path: is_page(path, _GENERATOR), option="html", error=ConfigError, overwrite=""
)
_GROUPED: tuple[Kind, ...] = ("two-labels", "shared-by-splits", "exact-duplicate", "near-duplicate")
Item = dict[str, Any]  # what is shown together: one photo, or photos of the same image


def require_page(path: str | os.PathLike[str]) -> None:
    """Raise ConfigError where `write_check_page` would, so that mistakes show before the work of an audit."""
    require_writable(path, _PAGE)


def write_check_page(audit: Audit, path: str | os.PathLike[str]) -> Path:
    """Write the page of an audit, and return the path of the file.

    An older page of a check at the same place is replaced.

    Args:
        audit: the audit.
        path: the HTML file.

    Raises:
        ConfigError: ``path`` is taken by another file, or cannot be written.
    """
    require_page(path)
    page = _page(audit)
    with claimed(as_path(path, "path"), _PAGE, file=True) as place:
        write_text(place.fresh, page)
    return place.path


def _page(audit: Audit) -> str:
    """Return the HTML of the page."""
    items: dict[Kind, list[Item]] = {
        found.kind: list(_items(found)) for found in audit.findings if found.kind != "unreadable"
    }
    chosen = _chosen(list(items.values()))
    position = {photo: i for i, photo in enumerate(chosen)}
    wanted = sum(map(len, items.values()))
    for kind, found in items.items():
        shown = [item for item in found if all(photo in position for photo in item["photos"])]
        items[kind] = [{**item, "photos": [position[photo] for photo in item["photos"]]} for item in shown]
    verdict = _verdict(audit)
    data = {
        **_facts(audit),
        "verdict": {"key": verdict.key, "values": dict(verdict.values)},
        "findings": [_finding(audit, found, items.get(found.kind, [])) for found in audit.findings],
        "absent": wanted - sum(map(len, items.values())),
        "photos": _columns(audit, chosen),
        "thumbs": [],
    }
    records = {record.path: record for record in audit.dataset.records}
    thumbnails = whole_thumbnails([records[photo] for photo in chosen], picture_budget(data))
    number = {index: i for i, index in enumerate(thumbnails)}
    data["photos"]["thumb"] = [number.get(i, -1) for i in range(len(chosen))]
    data["thumbs"] = [base64_text(picture) for picture in thumbnails.values()]
    summary = [verdict.text(language) for language in ("en", "ko")]
    return html_page(data, f"regraft check: {data['name']}", summary, "check.js", _GENERATOR)


def _items(found: Finding) -> Iterator[Item]:
    """Yield what a finding shows, the worst first: photos of the same image as one item, and other photos alone."""
    if found.kind in _GROUPED:
        for photos in _groups(found):
            yield {"photos": photos[:MOST_BESIDE], "more": max(0, len(photos) - MOST_BESIDE)}
        return
    for suspect in found.photos:
        yield {
            "photos": [suspect.path],
            "suggested": suspect.suggested,
            "probability": suspect.probability,
            "score": suspect.score,
        }


def _groups(found: Finding) -> list[list[Path]]:
    """Return the photos of the same image. Of copies, the photo to keep comes first."""
    groups = defaultdict[Hashable, dict[Path, None]](dict)
    for suspect in found.photos:
        whole = found.kind == "two-labels"  # where each photo of a group is a suspect, whose others are all the others
        key: Hashable = frozenset((suspect.path, *suspect.others)) if whole else suspect.others
        first: Sequence[Path] = () if whole else suspect.others
        groups[key].update(dict.fromkeys((*first, suspect.path)))
    return [list(photos) for photos in groups.values()]


def _chosen(kinds: Sequence[Sequence[Item]]) -> list[Path]:
    """Return the photos of the page, the most important first: the first item of each kind, then the second ones."""
    turns = (item for turn in zip_longest(*kinds) for item in turn if item)
    return list(dict.fromkeys(photo for item in turns for photo in item["photos"]))[:MOST_PHOTOS]


def _verdict(audit: Audit) -> Sentence:
    """Return the first sentence of the page."""
    suspects = {suspect.path for found in audit.findings for suspect in found.photos}
    unreadable = sum(len(found.photos) for found in audit.findings if found.kind == "unreadable")
    if suspects:
        return Sentence("check_verdict", {"count": len(suspects), "all": len(audit.dataset.records) + unreadable})
    return Sentence("check_classes" if audit.findings else "check_nothing")


def _facts(audit: Audit) -> dict[str, Any]:
    """Return what the page tells of all photos, except the findings."""
    return {
        "name": short_paths([Path(_common(audit).name or "photos")])[0],
        "total": len(audit.dataset.records),
        "classes": list(audit.dataset.classes),
        "counts": list(audit.dataset.counts().values()),
        "trainable": audit.impossible is None,
        "hint": audit.dataset.hint,
        "limit": LIMIT_MB,
    }


def _columns(audit: Audit, chosen: Sequence[Path]) -> dict[str, Any]:
    """Return the columns of the photos of the page, without that of their pictures."""
    index = {record.path: i for i, record in enumerate(audit.dataset.records)}
    classes = {label: i for i, label in enumerate(audit.dataset.classes)}
    records = [audit.dataset.records[index[photo]] for photo in chosen]
    return {
        "path": _named(audit, chosen),
        "label": [classes[record.label] for record in records],
        "side": [record.split or "" for record in records],
        "size": [audit.sizes[index[photo]].tolist() for photo in chosen],
        "tile": [-1] * len(chosen),
    }


def _named(audit: Audit, paths: Sequence[Path]) -> list[str]:
    """Return paths without the folders that all photos of the audit share, as text in which no byte is invalid."""
    return short_paths([*paths, _common(audit) / "photo"])[:-1]


def _common(audit: Audit) -> Path:
    """Return the folder that all files of the audit share; an empty path if they share none."""
    files = [record.path for record in audit.dataset.records]
    files += [suspect.path for found in audit.findings if found.kind == "unreadable" for suspect in found.photos]
    if len({path.is_absolute() for path in files}) != 1:
        return Path()
    return Path(os.path.commonpath([path.parent for path in files]))


def _finding(audit: Audit, found: Finding, items: Sequence[Item]) -> dict[str, Any]:
    """Return a finding as JSON values."""
    files = found.photos[:MOST_PHOTOS] if found.kind == "unreadable" else ()
    paths = _named(audit, [file.path for file in files])
    return {
        "kind": found.kind.replace("-", "_"),
        "count": len(found.photos) or len(found.classes),
        "left_out": found.kind in DROPPED,
        "grouped": found.kind in _GROUPED,
        "items": list(items),
        "files": list(zip(paths, (file.reason for file in files), strict=True)),
        "names": list(found.classes) if found.kind == "class-names" else [],
        "sizes": _sizes(audit, found.kind),
    }


def _sizes(audit: Audit, kind: Kind) -> list[tuple[str, int]]:
    """Return the classes that a finding is about with their numbers of photos, the smallest class first."""
    counts = sorted(audit.dataset.counts().items(), key=lambda item: item[1])
    if kind == "imbalance":
        return [counts[0], counts[-1]]
    return [(label, count) for label, count in counts if count < LEARNABLE] if kind == "small-class" else []
