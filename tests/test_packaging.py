"""What is built from the project: the wheel, the source distribution, and the page that PyPI shows."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from email import message_from_bytes
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("hatchling", reason="builds the package; part of the extra test")

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SOURCE = PROJECT["project"]["urls"]["Source"]
LARGEST = 750_000_000
"""The most bytes of the site-packages of an environment that holds the base install."""

TESTS = [
    "test_docs.py",
    "test_architecture.py",
    "test_public_api.py",
    "test_errors.py",
    "foundation",
    "config",
    "heads",
]


def outside() -> dict[str, str]:
    """The environment without what leads Python to this tree."""
    return {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    }


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**outside(), **environment},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source distribution."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-d", folder, cwd=ROOT)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    return next(built.glob("*.whl"))


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Any:
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return message_from_bytes(archive.read(name))


def environment_in(folder: Path) -> Path:
    """A new environment without pip. Returns the folder of its commands."""
    venv.create(folder, with_pip=False, symlinks=True)
    return folder / "bin"


def install(commands: Path, *what: str) -> None:
    run(sys.executable, "-m", "pip", "--python", commands / "python", "install", "--quiet", *what, cwd=commands)


def test_the_page_on_pypi_renders_and_its_links_work_there(metadata: Any) -> None:
    markdown = pytest.importorskip("readme_renderer.markdown", reason="part of the extra test")
    assert metadata["Description-Content-Type"] == "text/markdown"
    page = markdown.render(metadata.get_payload(decode=True).decode("utf-8"))
    assert page is not None
    targets = re.findall(r"(?:href|src)=\"([^\"]+)\"", page)
    assert len(targets) >= 5
    for target in targets:
        assert re.match(r"https?://|#", target), target
        if target.startswith(f"{SOURCE}/"):
            path = re.sub(r"^/(blob|raw|tree)/HEAD/|#.*$", "", target.removeprefix(SOURCE))
            assert (ROOT / path).exists(), target


def test_the_wheel_has_all_files_of_the_pages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if "/page/" in name}
    folder = ROOT / "src"
    pages = {path.relative_to(folder).as_posix() for path in folder.rglob("page/*") if path.is_file()}
    assert {"regraft/local_page/page/index.html", "regraft/reporting/page/elements.js"} <= pages
    assert packed == pages


def test_links_become_absolute_and_code_stays() -> None:
    spec = spec_from_file_location("pypi_readme", ROOT / "scripts" / "pypi_readme.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    cases = {
        "[a](docs/a.md#part)": "[a](https://s.org/blob/HEAD/docs/a.md#part)",
        '[e [f]](./e.md "title")': '[e [f]](https://s.org/blob/HEAD/e.md "title")',
        "![d](docs/d.png)": "![d](https://s.org/raw/HEAD/docs/d.png)",
        "[![g](g.svg)](docs/g.md)": "[![g](https://s.org/raw/HEAD/g.svg)](https://s.org/blob/HEAD/docs/g.md)",
        "[k]: docs/k.md": "[k]: https://s.org/blob/HEAD/docs/k.md",
        '<img alt="i" src="i.png">': '<img alt="i" src="https://s.org/raw/HEAD/i.png">',
        '<a href="docs/j.md">j</a>': '<a href="https://s.org/blob/HEAD/docs/j.md">j</a>',
    }
    same = ["[b](https://b.org/x.md)", "[c](#results)", "[m](mailto:a@b.org)", "`[h](h.md)`", "```sh\n[l](l.md)\n```"]
    for text, wanted in {**cases, **dict(zip(same, same, strict=True))}.items():
        assert module.absolute_links(f"{text}\n", "https://s.org") == f"{wanted}\n"


def test_the_address_of_the_repository_is_told_once(metadata: Any) -> None:
    urls = dict(line.split(", ", 1) for line in metadata.get_all("Project-URL"))
    assert {"Source", "Documentation", "Changelog", "Issues"} <= set(urls)
    assert all(url.startswith(SOURCE) for url in urls.values())
    owner = SOURCE.removeprefix("https://")
    for folder in ("src", "docs", "scripts", "examples", "tests"):
        for page in (ROOT / folder).rglob("*"):
            if page.suffix in (".py", ".md"):
                assert owner not in page.read_text(encoding="utf-8"), page


def test_each_requirement_of_a_group_stands_once() -> None:
    """`pip install -e ".[demo,test]"` and `uv sync` install the same."""
    groups = PROJECT["dependency-groups"]
    assert groups["test"] == ["regraft[demo,test]"]
    assert {"include-group": "test"} in groups["dev"]
    named = [line for group in groups.values() for line in group if isinstance(line, str)]
    extras = [line for extra in PROJECT["project"]["optional-dependencies"].values() for line in extra]
    assert not set(named) & {*extras, *PROJECT["project"]["dependencies"]}


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.partition("/")[0] for name in names} == {
        "regraft",
        f"regraft-{PROJECT['project']['version']}.dist-info",
    }
    assert "regraft/py.typed" in names
    code = {p.relative_to(ROOT / "src").as_posix() for p in (ROOT / "src").rglob("*.py")}
    assert code <= set(names)


def test_the_source_distribution_holds_every_file_of_the_project(built: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("needs git's list of files, which a source distribution does not hold")
    files = set(
        run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).rstrip("\0").split("\0")
    )
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert held - {"PKG-INFO"} == {name for name in files if (ROOT / name).exists()}


def test_the_wheel_works_outside_the_project(wheel: Path, photos: Path, cache: Path, tmp_path: Path) -> None:
    """With the packages of this environment, and without this tree: what the wheel lacks is missed here."""
    commands = environment_in(tmp_path / "environment")
    install(commands, "--no-deps", "--no-index", str(wheel))
    packages = next((tmp_path / "environment" / "lib").glob("python*/site-packages"))
    ours = dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
    (packages / "dependencies.pth").write_text("\n".join(ours) + "\n")
    where = "import regraft; print(regraft.__file__)"
    assert run(commands / "python", "-I", "-c", where, cwd=tmp_path).startswith(str(packages))
    settings = {"REGRAFT_CACHE": str(cache)}
    version = run(commands / "regraft", "--version", cwd=tmp_path, **settings)
    assert version.strip() == PROJECT["project"]["version"]
    run(commands / "regraft", "train", photos, "--effort", "quick", "--out", "run", "-q", cwd=tmp_path, **settings)
    command = (commands / "python", "-I", "-m", "regraft", "predict", "run", photos / "circle" / "000.jpg")
    assert run(*command, cwd=tmp_path, **settings).split("\t")[1] == "circle"
    for script in PROJECT["project"]["scripts"]:
        assert run(commands / script, "--help", cwd=tmp_path).startswith("usage: ")


@pytest.mark.slow
def test_the_wheel_does_the_demo_in_a_bare_environment(wheel: Path, tmp_path: Path) -> None:
    """Takes a minute or two, and the network: all that the base install needs is downloaded."""
    commands = environment_in(tmp_path / "environment")
    install(commands, str(wheel))
    packages = next((tmp_path / "environment" / "lib").glob("python*/site-packages"))
    size = sum(p.lstat().st_size for p in packages.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    assert size <= LARGEST, f"the base install takes {size / 1e6:.0f} MB"
    assert not (packages / "scipy").exists()
    install(commands, f"{wheel}[demo]")
    told = run(
        commands / "regraft", "demo", "--effort", "quick", "--json", cwd=tmp_path, REGRAFT_CACHE=str(tmp_path / "c")
    )
    assert json.loads(told)["test"]["accuracy"] > 0.75


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [("uvx", "--from"), ("uv", "tool", "run", "--from"), ("pipx", "run", "--spec")], ids=" ".join
)
def test_tools_run_the_wheel_without_installing_it(command: tuple[str, ...], wheel: Path, tmp_path: Path) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    assert run(*command, wheel, "regraft", "--version", cwd=tmp_path).strip() == PROJECT["project"]["version"]


@pytest.mark.slow
def test_the_source_distribution_passes_its_own_tests(built: Path, tmp_path: Path) -> None:
    """Installed with its extra test into a new environment; of the tests those in `TESTS`."""
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        archive.extractall(tmp_path, filter="data")
    source = next(tmp_path.glob("regraft-*"))
    commands = environment_in(tmp_path / "environment")
    install(commands, f"{source}[demo,test]")
    tests = [f"tests/{name}" for name in TESTS]
    told = run(
        commands / "python", "-m", "pytest", "-q", "-n0", *tests, cwd=source, PATH=f"{commands}:{os.environ['PATH']}"
    )
    assert re.search(r"\d{3} passed", told), told
