"""May I write here? One answer for every verb, and a claim, so that two processes never write to one place.

A result is written in a hidden folder beside its place and renamed into it at the end, if what is there is still what
was there at the start. If not, it is kept under another name: what a user or another process put there is never lost.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from regraft._claims import NEW, REPLACED, Claim, TakenError, claim, look, restore
from regraft._files import as_path
from regraft.errors import RegraftError, RunError


@dataclass(frozen=True, slots=True)
class Product:
    """What is written, and what may be replaced by it.

    Attributes:
        name: what it is called in a message, with its article.
        is_ours: whether what is at a path is such a product, so that the user may have it replaced; None where
            nothing is ever replaced.
        option: the option that names the place.
        error: raised where the place is taken.
        overwrite: what to type to have one replaced; empty where nothing need be typed.
    """

    name: str
    is_ours: Callable[[Path], bool] | None
    option: str = "--out"
    error: type[RegraftError] = RunError
    overwrite: str = "--overwrite"


@dataclass(slots=True)
class Place:
    """A place that is claimed.

    Attributes:
        path: where the result will be; known for certain once the claim has ended.
        fresh: an empty folder to write it into, or the path of a file that is not there yet.
    """

    path: Path
    fresh: Path


@dataclass(frozen=True, slots=True)
class Site:
    """A claimed place in which files are written where they stay.

    Attributes:
        path: the place.
    """

    path: Path
    _claim: Claim

    def begin(self, fill: Callable[[Path], None]) -> None:
        """Put a new folder in the place, which ``fill`` fills; what is there is kept whole in it, as ``replaced``.

        A kill leaves either the old folder or the new one: while the place is empty, the old one lies where the next
        claim looks for it.
        """
        shelter, target = self._claim.shelter, self._claim.target
        (shelter / NEW).mkdir()
        shelter.chmod(stat.S_IMODE((shelter / NEW).stat().st_mode))  # it was for its owner alone
        (shelter / NEW).rmdir()
        fill(shelter)
        if os.path.lexists(target):
            target.rename(shelter / REPLACED)
        shelter.rename(target)

    def put_back(self) -> None:
        """Undo `begin`: what it replaced is in its place again, and all that was written since is gone."""
        shelter, target = self._claim.shelter, self._claim.target
        if (target / REPLACED).is_dir():
            with suppress(OSError):
                shelter.rmdir()
            target.rename(shelter)
            restore(shelter, target)


def require_free(path: Path, product: Product, overwrite: bool = False) -> None:
    """Raise the product's error unless nothing is at ``path``, an empty folder, or what the user wants replaced."""
    another = f"type another {product.option}"
    _require_possible(path, product)
    if not os.path.lexists(path) or (path.is_symlink() and not path.exists()):
        return
    if path.is_dir() and not any(path.iterdir()):
        return
    if product.is_ours is None:
        raise product.error(f"{path} is there already; {another}, or delete it")
    if not product.is_ours(path):
        raise product.error(f"{path} is there already and is not {product.name}, so it is not overwritten; {another}")
    if product.overwrite and not overwrite:
        raise product.error(
            f"{path} is there already; type {product.overwrite} to replace it, or another {product.option}"
        )


def require_writable(path: str | os.PathLike[str], product: Product, overwrite: bool = False) -> None:
    """`require_free`, and try whether the disk lets one write there: to be told before the work, not after.

    Raises:
        RegraftError: the product's, where the place is not free, or another process is writing there.
        OSError: one may not write there.
    """
    chosen = as_path(path, product.option)
    require_free(chosen, product, overwrite)
    _claim(chosen, product).release()


def _require_possible(path: Path, product: Product) -> None:
    """Raise the product's error, or OSError, for what cannot be the path of anything new."""
    another = f"type another {product.option}"
    if path.name in ("", ".."):
        raise product.error(f"{str(path)!r} cannot be {product.name}; {another}, the path of a new one")
    above = next((folder for folder in path.parents if os.path.lexists(folder)), None)
    if above is not None and not above.is_dir():
        raise product.error(f"{above} is no folder, so {path} cannot be in it; {another}")
    with suppress(FileNotFoundError):
        path.lstat()  # a name may be too long


@contextmanager
def claimed(
    path: str | os.PathLike[str],
    product: Product,
    overwrite: bool = False,
    names: Iterable[Path] = (),
    file: bool = False,
) -> Iterator[Place]:
    """Claim a place, and put there what is written within.

    Args:
        path: where the result is to be.
        product: what it is.
        overwrite: whether the user asked to replace one that is there.
        names: other places, to be taken in order where ``path`` is not free.
        file: whether the result is a file, not a folder.

    Yields:
        The place. At the end its ``path`` is another one where something appeared at the first meanwhile.

    Raises:
        RegraftError: the product's, where no place is free, or another process is writing there.
    """
    chosen, ours = _first_free(chain([as_path(path, product.option)], names), product, overwrite)
    place = Place(chosen, ours.shelter / NEW)
    with _held(ours, chosen):
        before = look(ours.target)
        if not file:
            place.fresh.mkdir()
        yield place
        place.path = ours.put(place.fresh, before, chosen)


@contextmanager
def locked(path: str | os.PathLike[str], product: Product) -> Iterator[Site]:
    """Claim a place in which files are written where they stay. `require_free` is left to the caller.

    Raises:
        RegraftError: the product's, where another process is writing there.
    """
    chosen = as_path(path, product.option)
    ours = _claim(chosen, product)
    with _held(ours, chosen):
        yield Site(chosen, ours)


@contextmanager
def _held(ours: Claim, shown: Path) -> Iterator[None]:
    """Give a claim back at the end; errors within name the place as the user typed it."""
    try:
        yield
    except OSError as error:
        ours.name(error, shown)
        raise
    finally:
        ours.release()


def _claim(path: Path, product: Product) -> Claim:
    """Claim a place. Raises the product's error where another process has it, or it can be none."""
    _require_possible(path, product)
    try:
        return claim(path)
    except TakenError as error:
        raise product.error(f"{error}; wait for it, or type another {product.option}") from error


def _first_free(paths: Iterable[Path], product: Product, overwrite: bool) -> tuple[Path, Claim]:
    """Claim the first of ``paths`` that is free. Raises the product's error for the last one where none is."""
    refusal: RegraftError | None = None
    for path in paths:
        try:
            require_free(path, product, overwrite)
            if os.path.ismount(path):
                raise product.error(f"a disk is mounted at {path}; type {product.option} with a new folder in it")
            ours = _claim(path, product)
        except product.error as error:
            refusal = error
            continue
        try:
            require_free(path, product, overwrite)  # what was there may have become something else
        except product.error as error:
            refusal = error
        else:
            return path, ours
        ours.release()
    raise refusal or product.error("there is no place to write to")
