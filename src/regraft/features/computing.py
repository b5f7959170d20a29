"""Records to rows of features, without the cache: every row is computed.

In: records, and an engine. Out: the features, thumbnail and size of each record, or the reason why it has none.
Why: this machine and the nodes of a cluster compute the same rows, and keep them in different places.
Surprise: while a new engine times its backbone, the other cores decode photos ahead.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from regraft.engines.base import AHEAD_BYTES, Engine, Loader
from regraft.errors import ImageError
from regraft.features.parts import LOOK, Row
from regraft.foundation.files import threads
from regraft.photos.dataset import ImageRecord
from regraft.photos.images import Look, Pixels, Transform

NOT_FINITE = "the network gives numbers for it that are not finite"
"""The reason why a photo that can be read has no features."""

Load = Callable[[ImageRecord, Transform, NDArray[np.void]], Pixels]
"""A function that returns the pixels of a record, and writes its thumbnail, width and height to the third argument,
an array (1,) of `LOOK`."""


def computed_rows(engine: Engine, loaders: Sequence[Loader]) -> Iterator[tuple[int, NDArray[np.float32] | str]]:
    """Compute features as `Engine.compute` does; a row with a number that is not finite is a reason in place of a row.

    Args:
        engine: computes the features of a backbone.
        loaders: the functions that return the pixels of the photos.

    Yields:
        The number of a photo, and its features (D,) or the reason why it has none, in any order.
    """
    for number, row in engine.compute(loaders):
        whole = isinstance(row, str) or bool(np.isfinite(row).all())
        yield number, row if whole else NOT_FINITE


def computed_records(
    records: Sequence[ImageRecord], engine: Engine, decoded: Mapping[str, Load] = MappingProxyType({})
) -> Iterator[tuple[int, Row | str]]:
    """Compute the features of records, without the cache.

    Args:
        records: the photos.
        engine: computes the features of a backbone.
        decoded: by digest, what returns the pixels of a photo that was decoded before.

    Yields:
        The number of a photo, and its row as the cache keeps it or the reason why it has none, in any order.
    """
    looks = np.zeros(len(records), LOOK)
    loaders = [
        partial(decoded.get(record.digest, _load_unchanged), record, engine.backbone.transform, looks[i : i + 1])
        for i, record in enumerate(records)
    ]
    for number, result in computed_rows(engine, loaders):
        yield number, result if isinstance(result, str) else (result, looks[number])


def _load_unchanged(record: ImageRecord, transform: Transform, look: NDArray[np.void]) -> Pixels:
    """Read and decode a photo and return its pixels: the default `Load`. Raises ImageError."""
    return _keep(record.look(transform), look)


def _keep(source: Look, look: NDArray[np.void]) -> Pixels:
    """Return the pixels of a decoded photo, and write its thumbnail and its size to ``look``, (1,) of `LOOK`."""
    look[0] = (source.thumbnail, source.width, source.height)
    return source.pixels


def _hand_over(source: Look, _record: ImageRecord, _transform: Transform, look: NDArray[np.void]) -> Pixels:
    """Return the pixels of a photo that was decoded before. This function is a `Load` once ``source`` is bound."""
    return _keep(source, look)


def decoded_while_waiting(records: Sequence[ImageRecord], engine: Engine) -> dict[str, Load]:
    """Decode photos on the other cores while a new engine builds and times its backbone.

    A new engine has no features in the cache, so all decoded photos will be needed.

    Args:
        records: photos with distinct digests, in the order in which they will be computed.
        engine: the engine. If it is not new, no photo is decoded.

    Returns:
        For each photo that was decoded meanwhile, by its digest, a function that returns the pixels.
    """
    done: dict[str, Load] = {}
    if not engine.is_new:
        return done
    size, ready = engine.backbone.transform.size, threading.Event()
    waiting = iter(records[: AHEAD_BYTES // (size * size * 3)])

    def work() -> None:
        for record in waiting:
            if ready.is_set():
                return
            with suppress(ImageError):  # the photo is decoded again in its turn, which reports the error
                done[record.digest] = partial(_hand_over, record.look(engine.backbone.transform))

    workers = [threading.Thread(target=work, daemon=True) for _ in range(max(1, threads() - 1))]
    for thread in workers:
        thread.start()
    try:
        engine.fingerprint  # noqa: B018  (computing the fingerprint builds and times the backbone)
    finally:
        ready.set()
        for thread in workers:
            thread.join()
    return done
