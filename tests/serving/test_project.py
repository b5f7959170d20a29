"""A project on the disk: names that stay in their folder, photos that are never lost."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
import unicodedata
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from regraft.errors import ConfigError, ImageError
from regraft.label_tools.correction_table import append
from regraft.label_tools.corrections import Correction, beside
from regraft.local_page.project import Project, ProjectError
from regraft.local_page.project_training import ProjectTraining
from regraft.serving.models import Models
from tests.conftest import SHAPES, draw_photo
from tests.serving.asking import ask


def jpeg(seed: int) -> bytes:
    with io.BytesIO() as file:
        draw_photo(SHAPES["circle"], seed).save(file, "JPEG")
        return file.getvalue()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


@pytest.mark.parametrize(
    "name",
    [
        *("", "  ", ".", "..", "../x", "a/b", "a\\b", "/etc", ".hidden", "a\0b", "a\nb", "nul", "a:b", "x.", "é" * 81),
        *("__MACOSX", "thumbs.db", "\u2028", "a*"),
    ],
)
def test_a_name_that_no_class_can_have(project: Project, name: str) -> None:
    project.add_class("x")
    with pytest.raises(ProjectError):
        project.add_class(name)
    with pytest.raises(ProjectError):
        project.rename_class("x", name)
    assert [one.name for one in project.classes()] == ["x"]
    assert sorted(path.name for path in project.photos.parent.iterdir()) == ["photos", "runs"]


@pytest.mark.parametrize("name", ["..", "../photos", "y", "", "x/../x", "/"])
def test_what_is_no_class_cannot_be_changed(project: Project, name: str) -> None:
    project.add_class("x")
    with pytest.raises(ProjectError, match="no class"):
        project.remove_class(name)
    with pytest.raises(ProjectError, match="no class"):
        project.rename_class(name, "z")
    with pytest.raises(ProjectError, match="no class"):
        project.add_photo(name, jpeg(1), "a.jpg")


def test_names_are_compared_as_people_read_them(project: Project) -> None:
    assert project.add_class(unicodedata.normalize("NFD", " 장미 ")) == "장미"
    for same in ("장미", unicodedata.normalize("NFD", "장미")):
        with pytest.raises(ProjectError) as error:
            project.add_class(same)
        assert error.value.code == "name_taken"
    project.add_class("Cat")
    with pytest.raises(ProjectError):
        project.add_class("cat")
    assert project.rename_class("Cat", "cat") == "cat"
    assert [one.name for one in project.classes()] == ["cat", "장미"]


def test_a_photo_is_kept_once_under_its_digest(project: Project) -> None:
    project.add_class("a")
    project.add_class("b")
    first, before = project.add_photo("a", jpeg(1), "../../photo.PNG")
    assert before == ""
    assert [path.name for path in (project.photos / "a").iterdir()] == [f"{first}.png"]
    assert project.add_photo("a", jpeg(1), "other.jpg") == (first, "a")
    assert project.add_photo("b", jpeg(1), "other.jpg") == (first, "a"), "a photo with two labels is refused"
    second, _ = project.add_photo("b", jpeg(2), "evil.sh")
    assert [path.name for path in (project.photos / "b").iterdir()] == [f"{second}.jpg"]
    assert Project(project.photos.parent).photo(second) == project.photos / "b" / f"{second}.jpg"
    assert project.photo("0" * 64) is None


def test_only_photos_are_added(project: Project) -> None:
    project.add_class("a")
    for data in (b"", b"text", jpeg(1)[:300], b"<svg xmlns='http://www.w3.org/2000/svg'/>"):
        with pytest.raises(ImageError):
            project.add_photo("a", data, "a.jpg")
    assert not list((project.photos / "a").iterdir())


def test_what_is_removed_is_not_lost(project: Project) -> None:
    for seed in (1, 2):
        project.add_class("a")
        photo, _ = project.add_photo("a", jpeg(seed), "a.jpg")
        other, _ = project.add_photo("a", jpeg(10 + seed), "a.jpg")
        project.remove_photo(photo)
        with pytest.raises(ProjectError):
            project.remove_photo(photo)
        project.remove_class("a")
        assert not project.classes()
        found = {path.stem for path in (project.photos.parent / "removed").rglob("*.jpg")}
        assert {photo, other} <= found
    assert len(found) == 4, "two classes of the same name lie side by side"


def test_photos_that_the_user_put_there_count(project: Project) -> None:
    project.add_class("a")
    (project.photos / "a" / "mine.jpg").write_bytes(jpeg(1))
    (project.photos / "a" / "notes.txt").write_text("x")
    [found] = project.classes()
    [(identity, path)] = found.photos.items()
    assert path.name == "mine.jpg"
    project.remove_photo(identity)
    assert (project.photos.parent / "removed" / "a" / "mine.jpg").is_file()


def test_many_at_once_lose_nothing(project: Project) -> None:
    for label in ("a", "b"):
        project.add_class(label)
    photos = [jpeg(i) for i in range(12)]
    work = [
        Thread(target=lambda part=part, label=label: [project.add_photo(label, data, "x.jpg") for data in part])
        for part, label in ((photos[:8], "a"), (photos[4:], "b"), (photos, "a"))
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert sum(len(one.photos) for one in project.classes()) == 12


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is no project"):
        Project(tmp_path)
    with pytest.raises(ConfigError, match="cannot be a project"):
        Project(tmp_path / "letter.txt" / "x")
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_server_has_lost_no_photo_that_it_confirmed(tmp_path: Path, cache: Path) -> None:
    pytest.importorskip("starlette", reason="needs pip install 'regraft[serve]'")
    confirmed: set[str] = set()
    for attempt in range(2):
        url, process = started(tmp_path, cache)
        post(url, "classes", {"name": f"class {attempt}"})
        for seed in range(5):
            reply = ask(
                f"{url}/page/project/photos?class=class%20{attempt}&file=x.jpg",
                jpeg(100 * attempt + seed),
                {"X-Regraft": "1"},
            )
            confirmed.add(reply.json["photo"])
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    url, process = started(tmp_path, cache)
    shown = ask(f"{url}/page/project").json["classes"]
    assert {photo for one in shown for photo in one["photos"]} == confirmed
    assert len(confirmed) == 10
    assert ask(f"{url}/page/project/photos/{min(confirmed)}").headers["content-type"] == "image/webp"
    process.terminate()
    process.communicate()
    assert process.returncode == 0


def test_a_second_training_takes_over_the_corrections(project: Project, cache: Path) -> None:
    for label, shape in (("round", "circle"), ("striped", "줄무늬")):
        project.add_class(label)
        for seed in range(8):
            with io.BytesIO() as file:
                draw_photo(SHAPES[shape], seed).save(file, "JPEG")
                project.add_photo(label, file.getvalue(), "x.jpg")
    training = ProjectTraining(project, Models({}))
    assert trained(training)["version"] == 1
    wrong = next(iter(project.classes()[0].photos))
    append(beside(project.runs / "1"), Correction("exclude", wrong, "round"))
    assert trained(training)["version"] == 2
    metrics = json.loads((project.runs / "2" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["grown"]["excluded"] == 1
    assert metrics["before"]["n"] == 15


def trained(training: ProjectTraining) -> dict[str, Any]:
    """Train a project, and return the result."""
    training.start()
    while training.progress.state == "running":
        time.sleep(0.05)
    assert training.progress.result, training.progress.error
    return training.progress.result


def started(folder: Path, cache: Path) -> tuple[str, subprocess.Popen[str]]:
    command = [sys.executable, "-m", "regraft", "serve", "--new", "project", "--port", "0"]
    environment = {**os.environ, "REGRAFT_CACHE": str(cache)}
    process = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, encoding="utf-8")
    assert process.stderr is not None
    line = process.stderr.readline()
    assert line.startswith("project: http://"), "the page has an address before anything is trained"
    url = line.split()[1].rstrip("/")
    assert ask(f"{url}/livez").status == 200
    return url, process


def post(url: str, path: str, document: dict[str, str]) -> None:
    assert ask(f"{url}/page/project/{path}", json.dumps(document).encode(), {"X-Regraft": "1"}).status == 200
