"""The pages on plug-ins: each one's package is made and installed, and its commands are typed; the page on groups."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from regraft import TrainConfig, train
from tests.conftest import SHAPES, Command, draw_folder
from tests.test_tutorial import commands

HOW_TO = Path(__file__).parents[1] / "docs" / "how-to"
PAGES = ("add-a-data-source", "add-a-backbone-source", "add-a-head", "add-an-export-format")


def install(page: str, folder: Path) -> dict[str, str]:
    """Make the package that a page shows importable, as pip would; return the environment in which it is."""
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (settings,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    module, project = code.partition("\n")[0].removeprefix("# "), tomllib.loads(settings)["project"]
    (folder / module).write_text(code, encoding="utf-8")
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    ((group, points),) = project["entry-points"].items()
    lines = "".join(f"{name} = {target}\n" for name, target in points.items())
    (info / "entry_points.txt").write_text(f"[{group}]\n{lines}", encoding="utf-8")
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *others])}


@pytest.mark.parametrize("name", [*PAGES[:2], *(pytest.param(name, marks=pytest.mark.slow) for name in PAGES[2:])])
def test_the_package_of_a_page_works(name: str, photos: Path, tmp_path: Path, cache: Path) -> None:
    page = (HOW_TO / f"{name}.md").read_text(encoding="utf-8")
    packages = tmp_path / "site"
    packages.mkdir()
    environment = install(page, packages)
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "album").mkdir()
    for photo in photos.rglob("*.jpg"):
        shutil.copy(photo, tmp_path / "album" / f"{photo.parent.name}_{photo.name}")
    if name == "add-an-export-format":
        train(tmp_path / "photos", tmp_path / "runs" / "shapes", TrainConfig(val=0.2))
    typed = [command for command, _ in commands(page)]
    assert len(typed) >= 2
    for command in typed:
        verb = shlex.split(command)
        assert verb[0] == "regraft"
        done = subprocess.run(
            [sys.executable, "-m", *verb],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"


def test_the_page_on_groups(regraft: Command, tmp_path: Path) -> None:
    rows = ["path,label,group"]
    for camera in range(6):
        folder = draw_folder(tmp_path / "traps" / f"camera-{camera}", dict.fromkeys(SHAPES, 3), seed=5000 * camera)
        for photo in sorted(folder.rglob("*.jpg")):
            rows.append(f"{photo.relative_to(tmp_path)},{photo.parent.name},{folder.name}")
    (tmp_path / "scans.csv").write_text("\n".join(rows), encoding="utf-8")
    typed = re.findall(r"^regraft (.*)$", (HOW_TO / "groups.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(typed) == 2
    for arguments in typed:
        printed = regraft(*shlex.split(arguments)).stdout
        assert "54 photos of 3 classes" in printed
        assert "groups stay whole" in printed
