from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest

from regraft.engines.workers import Network, compute_in_threads
from regraft.errors import BackboneError, ImageError


class Slow:
    """A double of an engine that is built by the first photo."""

    workers = 4
    starting = False

    def __init__(self, fails: bool) -> None:
        self.fails, self.started, self.tried = fails, False, 0
        self.at_once, self.most = 0, 0
        self._lock = threading.Lock()

    def run(self, pixels: Any) -> Any:
        with self._lock:
            self.tried += 1
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        time.sleep(0.02)
        with self._lock:
            self.at_once -= 1
        if self.fails:
            raise BackboneError("its weights are missing")
        return pixels.mean(axis=(0, 1))


def loaders(count: int) -> list[Callable[[], Any]]:
    return [lambda i=i: np.full((2, 2, 3), i, np.uint8) for i in range(count)]  # type: ignore[misc]


def test_a_network_that_cannot_be_built_is_tried_once() -> None:
    engine = Slow(fails=True)
    with pytest.raises(BackboneError, match="weights are missing"):
        list(compute_in_threads(loaders(20), cast("Network", engine)))
    assert engine.tried == 1


def test_the_first_photo_goes_alone_and_all_are_computed() -> None:
    engine = Slow(fails=False)
    found = dict(compute_in_threads(loaders(20), cast("Network", engine)))
    assert {i: int(cast("Any", row)[0]) for i, row in found.items()} == {i: i for i in range(20)}
    assert engine.most > 1  # all others side by side


def test_photos_that_cannot_be_read_are_told_and_stop_nothing() -> None:
    def bad() -> Any:
        raise ImageError("damaged")

    found = dict(compute_in_threads([*loaders(2), bad, *loaders(1)], cast("Network", Slow(fails=False))))
    assert found[2] == "damaged"
    assert len(found) == 4
