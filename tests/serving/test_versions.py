"""Models and their versions: which are served, and how they come and go while clients ask."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from regraft.errors import ConfigError, RunError
from regraft.serving.loading import places_of
from regraft.serving.models import KEPT, Models, UnknownModelError
from tests.serving.servers import EXPORT, RUN, served


@pytest.fixture
def folder(cache: Path, tmp_path: Path) -> Path:
    """A folder of one version."""
    shutil.copytree(RUN, tmp_path / "models" / "shapes" / "1")
    return tmp_path / "models" / "shapes"


def test_places_have_the_names_of_their_folders(tmp_path: Path) -> None:
    assert places_of([tmp_path / "a", tmp_path / "b.onnx"], ["c=d=e"]) == {
        "a": tmp_path / "a",
        "b.onnx": tmp_path / "b.onnx",
        "c": Path("d=e"),
    }
    for paths, named in (
        ([], []),
        ([tmp_path / "a"], ["a=b"]),
        ([], ["=x"]),
        ([], ["a="]),
        ([], ["..=x"]),
        ([], ["a?=x"]),
    ):
        with pytest.raises(ConfigError):
            places_of(paths, named)


def test_the_newest_version_is_served_and_older_ones_by_number(folder: Path) -> None:
    shutil.copytree(EXPORT, folder / "10")
    shutil.copytree(RUN, folder / "9")
    (folder / "11").mkdir()  # not complete
    (folder / "012").mkdir()  # no version
    (folder / "notes").mkdir()
    models = Models({"shapes": folder})
    assert models.versions("shapes") == (1, 9, 10)
    assert models.get().path == folder / "10"
    assert models.get("shapes", 9).path == folder / "9"
    for name, version in (("shapes", 2), ("rose", None)):
        with pytest.raises(UnknownModelError):
            models.get(name, version)


def test_versions_on_one_backbone_share_its_network(folder: Path) -> None:
    shutil.copytree(RUN, folder / "2")
    models = Models({"shapes": folder, "again": RUN})
    engines = [models.get(*which).answerer.engines for which in (("shapes", 1), ("shapes", 2), ("again", 1))]  # type: ignore[attr-defined]
    assert engines[0] is engines[1] is engines[2]


def test_a_folder_without_a_version_that_can_be_served_is_an_error(folder: Path) -> None:
    (folder / "1" / "manifest.json").write_text("{", encoding="utf-8")
    with pytest.raises(RunError):
        Models({"shapes": folder})


def test_a_run_is_added_as_the_next_version(folder: Path, tmp_path: Path) -> None:
    models = Models({})
    with pytest.raises(UnknownModelError, match="none yet"):
        models.get()
    first = models.add("pets", RUN)
    assert (first.version, models.get(), models.add("pets", RUN)) == (1, first, first)
    shutil.copytree(RUN, tmp_path / "runs" / "7")
    assert models.add("pets", tmp_path / "runs" / "7").version == 7
    shutil.copytree(RUN, tmp_path / "run-2")
    assert models.add("pets", tmp_path / "run-2").version == 8
    assert models.add("pets", folder / "1").version == 9
    models.refresh()
    assert models.versions("pets") == (1, 7, 8, 9)


def test_versions_come_and_go(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    models = Models({"shapes": folder})
    staging = folder / "2"
    shutil.copytree(RUN, staging, ignore=shutil.ignore_patterns("manifest.json"))
    models.refresh()
    assert models.versions("shapes") == (1,)
    shutil.copy(RUN / "manifest.json", staging)
    for _ in range(3):
        models.refresh()
    assert models.versions("shapes") == (1, 2)
    before = models.get("shapes", 2)
    models.refresh()
    assert models.get("shapes", 2) is before
    (staging / "manifest.json").touch()  # as if another run were there now
    models.refresh()
    assert models.get("shapes", 2) is not before
    shutil.rmtree(folder / "1")
    models.refresh()
    assert models.versions("shapes") == (2,)
    shutil.rmtree(staging)
    models.refresh()
    assert models.versions("shapes") == (2,)  # the last one goes on
    assert capfd.readouterr().out == ""


def test_a_damaged_version_is_reported_once_and_tried_again_when_it_changes(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    models = Models({"shapes": folder})
    shutil.copytree(RUN, folder / "2")
    head = (folder / "2" / "manifest.json").read_bytes()
    (folder / "2" / "manifest.json").write_bytes(head[:50])
    for _ in range(4):
        models.refresh()
    assert sum("version 2 of shapes is not served" in text for text in caplog.messages) == 1
    assert models.versions("shapes") == (1,)
    (folder / "2" / "manifest.json").write_bytes(head)
    models.refresh()
    assert models.versions("shapes") == (1, 2)


def test_only_the_newest_versions_are_served(folder: Path) -> None:
    models = Models({"shapes": folder})
    for number in range(2, KEPT + 3):
        shutil.copytree(RUN, folder / str(number))
    models.refresh()
    assert models.versions("shapes") == tuple(range(3, KEPT + 3))


def until(condition: Callable[[], bool]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it did not happen")


def test_no_request_is_lost_while_versions_come_and_go(folder: Path, cache: Path, photos: Path) -> None:
    photo = (photos / "circle" / "000.jpg").read_bytes()
    with served(cache, folder) as server:
        statuses: list[int] = []
        stopped = threading.Event()

        def ask() -> None:
            while not stopped.is_set():
                statuses.append(server.ask("POST", "/predict/shapes", photo)[0])

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            shutil.copytree(RUN, folder / "3")
            until(lambda: server.ask("POST", "/predict/shapes?version=3", photo)[0] == 200)
            shutil.rmtree(folder / "1")
            until(lambda: server.ask("POST", "/predict/shapes?version=1", photo)[0] == 404)
            (folder / "4").mkdir()
            (folder / "4" / "manifest.json").write_text(json.dumps({"schema": 1}), encoding="utf-8")
            until(lambda: any("version 4 of shapes is not served" in line for line in server.lines))
        finally:
            stopped.set()
            for thread in threads:
                thread.join()
        assert len(statuses) > 10
        assert set(statuses) == {200}
