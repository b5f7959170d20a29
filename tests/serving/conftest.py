"""One server for the tests of all protocols, with several models and versions."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import ImageDraw

from tests.conftest import SHAPES, draw_photo
from tests.serving.servers import EXPORT, RUN, served


@pytest.fixture(scope="session")
def shapes_server(warm_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server: ``shapes`` with the versions 1 and 2, and ``색``, which knows no novelty."""
    folder = tmp_path_factory.mktemp("models")
    for version in ("1", "2"):
        shutil.copytree(RUN, folder / "shapes" / version)
    shutil.copytree(EXPORT, folder / "색")
    with served(warm_cache, folder / "shapes", folder / "색") as server:
        yield server.address.rstrip("/")


@pytest.fixture(scope="session")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn circle."""
    path = tmp_path_factory.mktemp("photo") / "circle.jpg"
    draw_photo(SHAPES["circle"], 7).save(path, quality=90)
    return path


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo of none of the classes."""
    path = tmp_path_factory.mktemp("photo") / "stranger.png"
    draw_photo(_noise, 3).save(path)
    return path


def _noise(draw: ImageDraw.ImageDraw, _: random.Random) -> None:
    for x in range(160):
        for y in range(120):
            draw.point((x, y), (x * y % 256, x % 7 * 36, y % 5 * 51))
