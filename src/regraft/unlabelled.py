"""What somebody asks about → photos, whatever their labels.

In: a path, a folder, a source of photos, pixels, bytes, or many of these. Out: the photos, one by one, in that order.
Why: whoever asks a classifier has photos in many shapes, and labels in none of them.
Surprise: a folder is walked while it is asked about, so that the first photo of a million comes at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from regraft import _console
from regraft._files import kind_of
from regraft.dataset import Dataset, ImageRecord, looks_like_an_image
from regraft.errors import DataError, ImageError
from regraft.images import Pixels, Problem, Transform, read, upright_rgb
from regraft.sources import Entry, Source, registry
from regraft.sources.folder import IMAGE_SUFFIXES, Folder

Photo = ImageRecord | Entry | str | os.PathLike[str] | bytes | Image.Image | NDArray[np.uint8]
"""A dataset's record, what a source lists, a path, a file's bytes, a Pillow image, or RGB pixels (H, W, 3)."""

Found = ImageRecord | Entry | bytes | Image.Image | NDArray[np.uint8] | Problem
"""A photo that was found, or what stands in the place of photos that cannot be."""

WANTED = (
    "wanted a path, a folder, or whatever else lists photos, a file's bytes, a Pillow image, RGB pixels (H, W, 3) of "
    "uint8, or several of these"
)

LONGEST = 2**16
"""Bytes of a path on stdin; what is longer is no list of paths."""


def photos_in(asked: Any) -> Iterator[Found]:
    """Yield the photos that somebody asks about.

    Args:
        asked: one `Photo`; a folder, of which what looks like an image counts, hidden files passed over; anything else
            that `Dataset.open` takes, of which the photos it lists count; pixels (N, H, W, 3); a `Dataset`; or
            several of these, also from a generator.

    Yields:
        Photos, none of which is a path any more, so that what is found is not looked into again; and a `Problem` for a
        folder that cannot be listed.

    Raises:
        DataError: something in it is none of these; or a source cannot be listed.
    """
    if _is_one(asked) or (isinstance(asked, np.ndarray) and asked.ndim == 3):
        yield from _photos_of(asked)
    elif isinstance(asked, Iterable) and not isinstance(asked, dict) and getattr(asked, "ndim", 1) in (1, 4):
        for item in asked:
            if not _is_one(item) and not isinstance(item, np.ndarray):
                raise DataError(f"there is {kind_of(item)} among the photos; {WANTED}")
            yield from _photos_of(item)
    else:
        shape = f" of shape {asked.shape}" if isinstance(asked, np.ndarray) else ""
        raise DataError(f"photos are {kind_of(asked)}{shape}; {WANTED}")


def _is_one(asked: Any) -> bool:
    return isinstance(asked, str | os.PathLike | bytes | Image.Image | ImageRecord | Entry | Problem | Dataset)


def _photos_of(one: Any) -> Iterator[Found]:
    if isinstance(one, str | os.PathLike):
        yield from _named(os.fsdecode(one))
    elif isinstance(one, Dataset):
        yield from one.records
    else:
        yield one


def paths_from(stream: BinaryIO) -> Iterator[str | None]:
    """Yield the paths that come on a stream, as they come.

    Args:
        stream: bytes, with one path a line, or with a NUL after each where the first of them ends in one.

    Yields:
        Paths, and None wherever the next one may be long in coming.

    Raises:
        DataError: what comes is no list of paths.
    """
    rest, mark = b"", b""
    while block := os.read(stream.fileno(), LONGEST):
        rest += block
        mark = mark or (b"\0" if b"\0" in rest else b"\n" if b"\n" in rest else b"")
        *whole, rest = rest.split(mark) if mark else [rest]
        for line in whole:
            yield from _path_of_line(line, mark)
        if len(rest) > LONGEST:
            raise DataError(f"there is no end of a path in {LONGEST} bytes of stdin; wanted one path a line")
        yield None
    yield from _path_of_line(rest, mark)


def _path_of_line(line: bytes, mark: bytes) -> Iterator[str]:
    name = line if mark == b"\0" else line.removesuffix(b"\r")
    if name:
        yield os.fsdecode(name)


def loader(photo: Found, transform: Transform) -> Callable[[], Pixels]:
    """Return what makes the pixels (size, size, 3) of a photo, or raises ImageError."""
    if isinstance(photo, Problem):
        return lambda: _fail(photo.reason)
    if isinstance(photo, Image.Image):
        return lambda: transform.pixels(upright_rgb(photo))
    if isinstance(photo, np.ndarray):
        return lambda: _pixels_of_array(photo, transform)
    if isinstance(photo, bytes):
        return lambda: transform.load(photo)
    return lambda: transform.load(read(photo.path, photo.part))


def path_of(photo: Found, index: int) -> Path:
    """Return what to call a photo in a message."""
    return photo.path if isinstance(photo, ImageRecord | Entry | Problem) else Path(f"<photo {index}>")


def _fail(reason: str) -> Pixels:
    raise ImageError(reason)


def _pixels_of_array(array: NDArray[np.uint8], transform: Transform) -> Pixels:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise ImageError(f"an array of {array.dtype} {array.shape}; wanted RGB pixels, uint8 (H, W, 3)")
    return transform.pixels(Image.fromarray(array))


def _named(spec: str) -> Iterator[Entry | Problem]:
    """Yield a file, the photos in a folder, or those that any other source lists, whatever their labels."""
    if not spec:
        raise DataError(f"an empty text names no photo; {WANTED}")
    source = _source_of(spec)
    if source is None:
        yield from files_in(spec)
        return
    listing = source.list(spec)
    for problem in listing.problems:
        _console.warn(f"left out {problem.path}: {problem.reason}")
    yield from listing.entries


def files_in(spec: str) -> Iterator[Entry | Problem]:
    """Yield a file, or the photos in a folder, each under the name of its own folder.

    What is not there is yielded too: reading it tells.
    """
    try:
        path = Path(spec).expanduser()
    except RuntimeError:  # there is no such user, so that it is the name of a file, or of nothing
        path = Path(spec)
    if _is_folder(path):
        yield from _walk(path)
    else:
        yield Entry(path, path.parent.name)


def _source_of(spec: str) -> Source | None:
    """Return what lists the photos of ``spec``; None for what is a photo, or a folder of photos, itself."""
    try:
        path = Path(spec).expanduser()
        if path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES:
            return None
        if path.exists() and not path.is_file() and not path.is_dir():  # to look into a pipe would keep us waiting
            return None
        found = next((s for name in registry.lookup_order() if (s := registry.load(name)()).accepts(spec)), None)
    # No such user after ~, a name that is too long, a folder that may not be entered, a file that cannot be read.
    except (RuntimeError, OSError, DataError):
        return None
    return None if isinstance(found, Folder) else found


def _walk(root: Path) -> Iterator[Entry | Problem]:
    """Yield what looks like a photo under ``root``, or is called like one, by name; links are followed, loops not."""
    found = False
    seen: set[tuple[int, int]] = set()
    open_folders: list[Iterator[Path]] = [iter([root])]
    while open_folders:
        path = next(open_folders[-1], None)
        if path is None:
            open_folders.pop()
        elif _is_folder(path):
            try:
                status = path.stat()
                if (status.st_dev, status.st_ino) not in seen:
                    seen.add((status.st_dev, status.st_ino))
                    open_folders.append(_children(path))
            except OSError as error:
                found = True
                yield Problem(path, f"cannot be listed: {(error.strerror or str(error)).lower()}")
        elif path.suffix.lower() in IMAGE_SUFFIXES or _is_photo(path):
            found = True
            yield Entry(path, path.parent.name)
    if not found:
        _console.warn(f"no photo was found in {root}")


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that is too long, a folder above it that may not be entered
        return False


def _children(folder: Path) -> Iterator[Path]:
    """Return what is in a folder, by name, without hidden files. Names are kept, not the million paths they make."""
    names = sorted(name for name in os.listdir(folder) if not name.startswith("."))  # noqa: PTH208
    return (folder / name for name in names)


def _is_photo(file: Path) -> bool:
    """Return whether the first bytes are a photo's; a file that cannot be opened counts, and reading it will tell."""
    try:
        if not file.is_file():  # a pipe would keep us waiting
            return False
        with file.open("rb") as opened:
            return looks_like_an_image(opened.read(16))
    except OSError:
        return True
