"""Photos that the tests draw, a cache of their own, and the way to the bench data where it is."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

# For the tests that build networks in this process, which has one backend of Keras for its life.
os.environ["KERAS_BACKEND"] = os.environ.get("REGRAFT_TESTS_KERAS", "openvino")

Shape = Callable[[ImageDraw.ImageDraw, random.Random], None]


def pytest_configure() -> None:
    """Tests load OpenVINO in their own process in any order: what this processor cannot run is found out before."""
    from regraft.engines.probe import limit_tensorflow
    from regraft.foundation.files import scratch_cache

    with scratch_cache():
        limit_tensorflow()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run what is marked slow")
    parser.addoption("--only-extras", action="store_true", help="run only tests that are skipped without an extra")
    parser.addoption("--bench-data", type=Path, help="folder with photos/ and reference/, for the tests that use them")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "bench_data" in getattr(item, "fixturenames", ()):
            item.add_marker("bench")
    if config.getoption("--only-extras"):
        config.hook.pytest_deselected(items=[item for item in items if not _needs_an_extra(item)])
        items[:] = [item for item in items if _needs_an_extra(item)]
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="slow: run scripts/test --slow"))


def _needs_an_extra(item: pytest.Item) -> bool:
    return any("needs the extra" in str(mark.kwargs.get("reason")) for mark in item.iter_markers("skipif"))


def sampled(cases: Iterable[Any], every: int) -> list[Any]:
    """Return the parameters of a test of many cases that differ little: all but each n-th are marked slow."""
    return [
        case
        if number % every == 0
        else pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow)
        for number, case in enumerate(cases)
    ]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Bytes that are no UTF-8 are shown as escapes: a failure that holds them would end pytest-xdist."""
    report = yield
    if report.failed:
        told = str(report.longrepr)
        shown = told.encode("utf-8", "backslashreplace").decode()
        if shown != told:
            report.longrepr = shown
    return report


@pytest.fixture(scope="session")
def bench_data(request: pytest.FixtureRequest) -> Path:
    """The bench data, or a skip that says so."""
    folder = request.config.getoption("--bench-data")
    if folder is None:
        pytest.skip("needs photos that are not part of the project: give their folder with --bench-data=FOLDER")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def warm_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder that holds Lite0's graphs and what this processor computes them in, found once a session."""
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("REGRAFT_CACHE")
    os.environ["REGRAFT_CACHE"] = str(folder)
    try:
        from regraft.backbones.base import load_backbone
        from regraft.engines.openvino import OpenVinoEngine

        for size in (224, 288):
            assert OpenVinoEngine(load_backbone("efficientnet_lite0", size)).choice.precision in ("bf16", "f32")
    finally:
        if before is None:
            del os.environ["REGRAFT_CACHE"]
        else:
            os.environ["REGRAFT_CACHE"] = before
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test writes to the user's cache."""
    monkeypatch.setenv("REGRAFT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def cache(warm_cache: Path, tmp_path: Path) -> Path:
    """A cache folder of the test's own: graphs, but no features."""
    folder = tmp_path / "cache"
    shutil.copytree(warm_cache, folder, ignore=shutil.ignore_patterns("features"))
    return folder


def _circle(draw: ImageDraw.ImageDraw, dice: random.Random) -> None:
    x, y, r = dice.randint(20, 60), dice.randint(20, 60), dice.randint(15, 30)
    draw.ellipse((x, y, x + 2 * r, y + 2 * r), fill=(200, 40, dice.randint(0, 80)))


def _square(draw: ImageDraw.ImageDraw, dice: random.Random) -> None:
    x, y, r = dice.randint(10, 60), dice.randint(10, 60), dice.randint(30, 50)
    draw.rectangle((x, y, x + r, y + r), fill=(30, dice.randint(80, 140), 200))


def _stripes(draw: ImageDraw.ImageDraw, dice: random.Random) -> None:
    step = dice.randint(8, 20)
    for x in range(dice.randint(0, step), 160, step):
        draw.line((x, 0, x, 120), fill=(20, 20, dice.randint(0, 60)), width=3)


SHAPES: dict[str, Shape] = {"Square": _square, "줄무늬": _stripes, "circle": _circle}


def draw_photo(shape: Shape, seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """One drawn photo, the same for the same seed."""
    dice = random.Random(seed)
    shade = dice.randint(150, 250)
    image = Image.new("RGB", size, (shade, shade, dice.randint(150, 250)))
    shape(ImageDraw.Draw(image), dice)
    return image


def draw_folder(root: Path, counts: dict[str, int], seed: int = 0) -> Path:
    """``root/<class>/<number>.jpg`` for each class of `SHAPES` in ``counts``."""
    for number, (label, count) in enumerate(counts.items()):
        (root / label).mkdir(parents=True, exist_ok=True)
        shape = SHAPES.get(label) or list(SHAPES.values())[number % len(SHAPES)]
        for i in range(count):
            draw_photo(shape, seed + 1000 * number + i).save(root / label / f"{i:03}.jpg", quality=90)
    return root


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 drawn photos of three classes, one with a Korean name. Not to be changed: copy it first."""
    return draw_folder(tmp_path_factory.mktemp("drawn") / "photos", dict.fromkeys(SHAPES, 20))


Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def regraft(tmp_path: Path, cache: Path) -> Command:
    """Run the command line as a process, in the test's folder."""

    def run(*arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "regraft", *map(str, arguments)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=300, check=False)
        assert done.returncode == code, f"{' '.join(command)} gave {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run
