"""Print how new photos differ from those of a run: tables for a person, and lines of cells for a program."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from regraft.cli.columns import print_columns
from regraft.exploring.drift_record import ClassDrift, Drift, NewPhoto, ShareChange
from regraft.foundation.console import printable, say
from regraft.foundation.console import printed as print  # noqa: A004 (nothing here reaches a terminal unescaped)

_MOST_NAMED = 10
"""The largest number of classes, and of photos, that a person sees."""


def show(found: Drift, table: bool) -> None:
    """Print how new photos differ from those of a run.

    Args:
        found: the comparison.
        table: True to print the verdict and tables for a person. False to print a line of cells separated by tabs for
            each new photo on stdout, the most different first: path, score, novelty (both empty where they are not
            known), label, predicted class, and ``true`` or ``false`` for *none of these*; the verdict is on stderr.
    """
    if not table:
        for photo in found.photos:
            print("\t".join(map(printable, (str(photo.path), *_cells(photo)))))
        sys.stdout.flush()
        for line in _summary(found):
            say(line)
        return
    for line in _summary(found):
        print(printable(line))
    print()
    _classes(found)
    if found.verdict != "no difference seen":
        _photos(found)


def _summary(found: Drift) -> Iterator[str]:
    """Yield the verdict, and what it is of, in lines."""
    auc = found.auc
    figures = f": AUC {auc.value:.3f} (95 % interval {auc.interval[0]:.3f} to {auc.interval[1]:.3f})" if auc else ""
    yield f"{found.verdict}{figures}"
    yield (
        f"{_of(found.new_photos, found.new_total, 'new photos')} beside "
        f"{_of(found.run_photos, found.run_total, 'photos')} of {found.run}"
    )
    if found.known:
        yield f"left out: {found.known} photos that are photos of the run"
    if changed := [one.label for one in found.classes if one.share.changed]:
        yield f"classes whose share changed: {', '.join(changed)}"
    if found.none_of_these:
        yield f"none of these: {_change(found.none_of_these)}"


def _of(count: int, total: int, what: str) -> str:
    return f"{count} {what}" if count == total else f"a sample of {count} of {total} {what}"


def _change(share: ShareChange) -> str:
    """Return a share before and after, and its change with the interval, in words."""
    low, high = share.interval
    points = f"{share.change * 100:+.1f} points, 95 % interval {low * 100:+.1f} to {high * 100:+.1f}"
    return f"{share.run:.1%} → {share.new:.1%} ({points})"


def _classes(found: Drift) -> None:
    """Print the classes whose shares changed most."""
    if not found.classes:
        return
    rows = [("label" if found.by == "label" else "predicted", "run", "new", "points", "95 % interval", "AUC", "")]
    print_columns([*rows, *(_class(one) for one in found.classes[:_MOST_NAMED])])
    if len(found.classes) > _MOST_NAMED:
        print(f"… and {len(found.classes) - _MOST_NAMED} more; --json names all")


def _class(one: ClassDrift) -> tuple[str, ...]:
    """Return the cells of a class."""
    share, auc = one.share, one.auc
    low, high = (end * 100 for end in share.interval)
    figures = (f"{auc.value:.3f}", f"{auc.interval[0]:.3f} to {auc.interval[1]:.3f}") if auc else ("–", "")
    points = f"{share.change * 100:+.1f}"
    return (one.label, f"{share.run:.1%}", f"{share.new:.1%}", points, f"{low:+.1f} to {high:+.1f}", *figures)


def _photos(found: Drift) -> None:
    """Print the photos that differ most."""
    print()
    rows = [("score", "novelty", "label", "predicted", "", "photo")]
    for photo in found.photos[:_MOST_NAMED]:
        score, novelty, label, predicted, none = _cells(photo)
        rows.append((score, novelty, label, predicted, "none of these" if none == "true" else "", str(photo.path)))
    print_columns(rows)
    if len(found.photos) > _MOST_NAMED:
        print(f"… and {len(found.photos) - _MOST_NAMED} more; --json names all")


def _cells(photo: NewPhoto) -> tuple[str, str, str, str, str]:
    """Return the cells of a photo, without its path."""
    score, novelty = ("" if number is None else f"{number:.4f}" for number in (photo.score, photo.novelty))
    return score, novelty, photo.label or "", photo.predicted, "true" if photo.none_of_these else "false"
