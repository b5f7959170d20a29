"""Decide whether a command may write its result to a path, and claim the path against other processes.

Nearly all commands use this module. A result is usually first written to a hidden folder beside its path. At the end
it is renamed to the path, if the path is unchanged since the start. Otherwise the result gets another name, so that
nothing is lost that the user or another process put there in the meantime.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from regraft.errors import RegraftError, RunError, option
from regraft.foundation.claims import NEW, REPLACED, Claim, TakenError, claim, look, restore
from regraft.foundation.files import as_path


@dataclass(frozen=True, slots=True)
class Product:
    """A kind of result that a command writes, and the rule for what it may replace.

    Attributes:
        name: the name of the product for messages, with its article.
        is_ours: returns whether the content of a path is such a product, so that it may be replaced if the user wants;
            None if nothing may ever be replaced.
        option: the name of the option that sets the output path.
        error: the type of the error raised if the path cannot be used.
        overwrite: what the user types to replace an older product; empty if an older product is replaced without
            asking; None for the usual option ``overwrite``.
    """

    name: str
    is_ours: Callable[[Path], bool] | None
    option: str = "out"
    error: type[RegraftError] = RunError
    overwrite: str | None = None

    @property
    def place(self) -> str:
        """The option that sets the output path, as the user types it."""
        return option(self.option)


@dataclass(slots=True)
class Place:
    """A claimed output path, for a result that is renamed to the path at the end.

    Attributes:
        path: the path of the result. It may change when the claim ends, since the result may get another name.
        fresh: an empty folder to write the result into, or the path of a file that does not exist yet.
    """

    path: Path
    fresh: Path


@dataclass(frozen=True, slots=True)
class Site:
    """A claimed output folder in which files are written directly, without a rename at the end.

    Attributes:
        path: the output folder.
    """

    path: Path
    _claim: Claim

    def begin(self, fill: Callable[[Path], None]) -> None:
        """Put a new folder at the path, with the old content of the path inside it, under the name ``replaced``.

        If the process is killed, either the old folder or the new one remains. While nothing is at the path, the old
        folder lies in the claim's hidden folder, from which the next claim restores it.

        Args:
            fill: writes the first files into the new folder.
        """
        shelter, target = self._claim.shelter, self._claim.target
        (shelter / NEW).mkdir()
        shelter.chmod(stat.S_IMODE((shelter / NEW).stat().st_mode))  # the hidden folder had mode 0700
        (shelter / NEW).rmdir()
        fill(shelter)
        if os.path.lexists(target):
            target.rename(shelter / REPLACED)
        shelter.rename(target)

    def put_back(self) -> None:
        """Undo `begin`: restore the old content of the path, and delete all files that were written since.

        If there was no old content, nothing is done.
        """
        shelter, target = self._claim.shelter, self._claim.target
        if (target / REPLACED).is_dir():
            with suppress(OSError):
                shelter.rmdir()
            target.rename(shelter)
            restore(shelter, target)


def require_free(path: Path, product: Product, overwrite: bool = False) -> None:
    """Raise an error unless a product may be written to ``path``.

    It may be written if nothing is at the path, if an empty folder is there, or if an older product is there that the
    user wants to replace. The check is repeated if another process replaces the path during it.

    Args:
        path: the output path.
        product: the kind of result.
        overwrite: whether the user asked to replace an older product.

    Raises:
        RegraftError: of the type ``product.error``; the path cannot be used.
    """
    while True:
        before = _identity(path)
        try:
            _require_free_now(path, product, overwrite)
        except (product.error, OSError):
            if _identity(path) == before:
                raise
        else:
            return


def _identity(path: Path) -> tuple[int, ...] | None:
    """Return numbers that change when another file or folder comes to a path; None if nothing can be found there."""
    with suppress(OSError):
        status = path.lstat()
        return status.st_dev, status.st_ino, status.st_ctime_ns
    return None


def _require_free_now(path: Path, product: Product, overwrite: bool) -> None:
    """Check like `require_free`, but once. The caller ignores the error if ``path`` was replaced meanwhile."""
    another = f"type another {product.place}"
    _require_possible(path, product)
    if not os.path.lexists(path) or (path.is_symlink() and not path.exists()):
        return
    if path.is_dir() and not any(path.iterdir()):
        return
    if product.is_ours is None:
        raise product.error(f"{path} is there already; {another}, or delete it")
    if not product.is_ours(path):
        raise product.error(f"{path} is there already and is not {product.name}, so it is not overwritten; {another}")
    how = option("overwrite", True) if product.overwrite is None else product.overwrite
    if how and not overwrite:
        raise product.error(f"{path} is there already; type {how} to replace it, or another {product.place}")


def require_writable(path: str | os.PathLike[str], product: Product, overwrite: bool = False) -> None:
    """Check like `require_free`, and also check that the disk can be written, before the work begins.

    Args:
        path: the output path.
        product: the kind of result.
        overwrite: whether the user asked to replace an older product.

    Raises:
        RegraftError: of the type ``product.error``; the path cannot be used, or another process is writing to it.
        OSError: the disk cannot be written.
    """
    chosen = as_path(path, product.place)
    require_free(chosen, product, overwrite)
    _claim(chosen, product).release()


def _require_possible(path: Path, product: Product) -> None:
    """Raise the product's error, or OSError, if nothing new can ever be made at ``path``."""
    another = f"type another {product.place}"
    if path.name in ("", ".."):
        raise product.error(f"{str(path)!r} cannot be {product.name}; {another}, the path of a new one")
    above = next((folder for folder in path.parents if os.path.lexists(folder)), None)
    if above is not None and not above.is_dir():
        raise product.error(f"{above} is no folder, so {path} cannot be in it; {another}")
    with suppress(FileNotFoundError):
        path.lstat()  # raises OSError if, for example, the name is too long


@contextmanager
def claimed(
    path: str | os.PathLike[str],
    product: Product,
    overwrite: bool = False,
    names: Iterable[Path] = (),
    file: bool = False,
) -> Iterator[Place]:
    """Claim an output path for the ``with`` block, and rename the result to that path at the end.

    Args:
        path: the wanted path of the result.
        product: the kind of result.
        overwrite: whether the user asked to replace an older product.
        names: other paths, which are tried in order if ``path`` is not free.
        file: whether the result is a file; otherwise it is a folder.

    Yields:
        The claimed place. If something else appeared at the path meanwhile, then ``place.path`` is another path
        afterwards.

    Raises:
        RegraftError: of the type ``product.error``; no path is free, or another process is writing there.
    """
    chosen, ours = _first_free(chain([as_path(path, product.place)], names), product, overwrite)
    place = Place(chosen, ours.shelter / NEW)
    with _held(ours, chosen):
        before = look(ours.target)
        if not file:
            place.fresh.mkdir()
        yield place
        place.path = ours.put(place.fresh, before, chosen)


@contextmanager
def locked(path: str | os.PathLike[str], product: Product) -> Iterator[Site]:
    """Claim an output folder in which files are written directly. The caller must call `require_free` itself.

    Args:
        path: the output folder.
        product: the kind of result.

    Yields:
        The claimed folder.

    Raises:
        RegraftError: of the type ``product.error``; another process is writing there.
    """
    chosen = as_path(path, product.place)
    ours = _claim(chosen, product)
    with _held(ours, chosen):
        yield Site(chosen, ours)


@contextmanager
def _held(ours: Claim, shown: Path) -> Iterator[None]:
    """Release a claim after the ``with`` block. Errors in the block name the path as the user typed it."""
    try:
        yield
    except OSError as error:
        ours.name(error, shown)
        raise
    finally:
        ours.release()


def _claim(path: Path, product: Product) -> Claim:
    """Claim a path. Raises the product's error if another process has claimed it, or nothing can be made there."""
    _require_possible(path, product)
    try:
        return claim(path)
    except TakenError as error:
        raise product.error(f"{error}, or type another {product.place}") from error


def _first_free(paths: Iterable[Path], product: Product, overwrite: bool) -> tuple[Path, Claim]:
    """Claim the first of ``paths`` that is free. If none is free, raise the product's error for the last one."""
    refusal: RegraftError | None = None
    for path in paths:
        try:
            require_free(path, product, overwrite)
            if os.path.ismount(path):
                raise product.error(f"a disk is mounted at {path}; type {product.place} with a new folder in it")
            ours = _claim(path, product)
        except product.error as error:
            refusal = error
            continue
        try:
            require_free(path, product, overwrite)  # again, since the content may have changed before the claim
        except product.error as error:
            ours.release()
            refusal = error
        except BaseException:
            ours.release()
            raise
        else:
            return path, ours
    raise refusal or product.error("there is no place to write to")
