"""Find the photos that a user wants to classify, without their labels.

In: a path, a folder, a source of photos, pixels, bytes, or several of these. Out: the photos one by one, in that order.
Why: users have the photos to classify in many forms, and mostly without labels.
Surprise: a folder is listed during the prediction, so that the first of a million photos is available at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from regraft.errors import DataError, ImageError
from regraft.foundation import console
from regraft.foundation.files import kind_of
from regraft.photos.dataset import Dataset, ImageRecord, looks_like_an_image
from regraft.photos.images import Pixels, Problem, Transform, decode, read, upright_rgb
from regraft.photos.sources.base import Copied, Entry, Source, registry
from regraft.photos.sources.folder import IMAGE_SUFFIXES, Folder

Photo = ImageRecord | Entry | str | os.PathLike[str] | bytes | Image.Image | NDArray[np.uint8]
"""A record of a dataset, an entry of a source, a path, the bytes of a file, a Pillow image, or RGB pixels (H, W, 3)."""

Found = ImageRecord | Entry | bytes | Image.Image | NDArray[np.uint8] | Problem
"""A photo that was found, or a problem in place of photos that cannot be listed."""

WANTED = (
    "wanted a path, a folder, or whatever else lists photos, a file's bytes, a Pillow image, RGB pixels (H, W, 3) of "
    "uint8, or several of these"
)

LONGEST = 2**16
"""The greatest length, in bytes, of a path on stdin. Longer input is not a list of paths."""


def photos_in(asked: Any) -> Iterator[Found]:
    """Yield the photos that a user wants to classify.

    Args:
        asked: one `Photo`; a folder, whose images are found, without hidden files; anything else that `Dataset.open`
            accepts, whose photos are listed; RGB pixels (N, H, W, 3); a `Dataset`; or several of these, also from a
            generator.

    Yields:
        The photos in order, and a `Problem` for each folder that cannot be listed. No photo is yielded as a plain path,
        so that each path is examined only once.

    Raises:
        DataError: ``asked`` has something else in it, or a source cannot be listed.
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
    """Yield the paths on a stream as soon as they arrive.

    Args:
        stream: a stream of bytes, with one path per line. If the first path ends in a zero byte, all paths do.

    Yields:
        The paths, and None each time that the next read may have to wait for input.

    Raises:
        DataError: the stream is not a list of paths.
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
    """Yield the path in a line, without the carriage return of Windows; nothing for an empty line."""
    name = line if mark == b"\0" else line.removesuffix(b"\r")
    if name:
        yield os.fsdecode(name)


def loader(photo: Found, transform: Transform) -> Callable[[], Pixels]:
    """Return a function that loads a photo.

    Returns:
        A function that returns the pixels ``(size, size, 3)`` uint8 RGB, or raises ImageError.
    """
    if isinstance(photo, Problem):
        return lambda: _fail(photo.reason)
    if isinstance(photo, Image.Image):
        return lambda: transform.pixels(upright_rgb(photo))
    if isinstance(photo, np.ndarray):
        return lambda: _pixels_of_array(photo, transform)
    if isinstance(photo, bytes):
        return lambda: transform.load(photo)
    return lambda: transform.load(read(photo.path, photo.part))


def image_of(photo: Found) -> Image.Image:
    """Return a photo as an upright RGB image of its full size. Raises ImageError where it cannot be read."""
    if isinstance(photo, Problem):
        raise ImageError(photo.reason)
    if isinstance(photo, Image.Image):
        return upright_rgb(photo)
    if isinstance(photo, np.ndarray):
        return _image_of_array(photo)
    return decode(photo if isinstance(photo, bytes) else read(photo.path, photo.part))


def path_of(photo: Found, index: int) -> Path:
    """Return the path of a photo for messages; ``<photo INDEX>`` if it has no path."""
    return photo.path if isinstance(photo, ImageRecord | Entry | Problem) else Path(f"<photo {index}>")


def _fail(reason: str) -> Pixels:
    raise ImageError(reason)


def _pixels_of_array(array: NDArray[np.uint8], transform: Transform) -> Pixels:
    return transform.pixels(_image_of_array(array))


def _image_of_array(array: NDArray[np.uint8]) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise ImageError(f"an array of {array.dtype} {array.shape}; wanted RGB pixels, uint8 (H, W, 3)")
    return Image.fromarray(array)


def _named(spec: str) -> Iterator[Entry | Problem]:
    """Yield a file, the photos in a folder, or the photos that another source lists, without regard to their labels."""
    if not spec:
        raise DataError(f"an empty text names no photo; {WANTED}")
    spec = copy_of(spec)
    source = _source_of(spec)
    if source is None:
        yield from files_in(spec)
        return
    listing = source.list(spec)
    for problem in listing.problems:
        console.warn(f"left out {problem.path}: {problem.reason}")
    yield from listing.entries


def copy_of(spec: str) -> str:
    """Return where the photos of ``spec`` are: the copy in the cache for a source that is `Copied`, else ``spec``.

    Raises:
        DataError: the photos cannot be copied.
    """
    for name in registry.lookup_order():
        source = registry.load(name)()
        if isinstance(source, Copied) and source.accepts(spec):
            place, problems = source.copy(spec)
            for problem in problems:
                console.warn(f"left out {problem.path}: {problem.reason}")
            return str(place)
    return spec


def files_in(spec: str) -> Iterator[Entry | Problem]:
    """Yield a file, or the photos in a folder. The label of each entry is the name of the folder it lies in.

    A file that does not exist is yielded too: the error comes when it is read.
    """
    try:
        path = Path(spec).expanduser()
    except RuntimeError:  # no such user after ~, so that this can only be the name of a file
        path = Path(spec)
    if _is_folder(path):
        yield from _walk(path)
    else:
        yield Entry(path, path.parent.name)


def _source_of(spec: str) -> Source | None:
    """Return the source that lists the photos of ``spec``; None if ``spec`` is a photo or a folder of photos."""
    try:
        path = Path(spec).expanduser()
        if path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES:
            return None
        if path.exists() and not path.is_file() and not path.is_dir():  # reading a pipe could wait forever
            return None
        found = next((s for name in registry.lookup_order() if (s := registry.load(name)()).accepts(spec)), None)
    # Such as: no such user after ~, a name that is too long, a folder or a file without permission.
    except (RuntimeError, OSError, DataError):
        return None
    return None if isinstance(found, Folder) else found


def _walk(root: Path) -> Iterator[Entry | Problem]:
    """Yield the files under ``root`` that have the content or the name of an image, sorted by name in each folder.

    Links are followed, but each folder is listed only once.
    """
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
        console.warn(f"no photo was found in {root}")


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # such as a name that is too long, or a parent folder without permission
        return False


def _children(folder: Path) -> Iterator[Path]:
    """Return the entries of a folder, sorted by name, without hidden files.

    Paths are made one by one from the names, since a million paths would take much memory.
    """
    names = sorted(name for name in os.listdir(folder) if not name.startswith("."))  # noqa: PTH208
    return (folder / name for name in names)


def _is_photo(file: Path) -> bool:
    """Return whether a file begins like an image, or cannot be opened: then the error comes when it is read."""
    try:
        if not file.is_file():  # reading a pipe could wait forever
            return False
        with file.open("rb") as opened:
            return looks_like_an_image(opened.read(16))
    except OSError:
        return True
