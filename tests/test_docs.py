"""Docs that cannot rot: what they name is there, and what they show runs."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), ROOT / "benchmarks" / "README.md"])


def test_the_command_line_reference_is_current() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "reference.py", "--check"], capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr


def test_ci_runs_the_readmes_two_commands() -> None:
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    names = re.findall(r"<!-- command: (\w+) -->\n```sh\n[^\n]+\n```", README)
    assert names == ["demo", "test"]
    for name in names:
        assert f"readme_command {name}" in ci


def test_the_readmes_python_is_the_example(photos: Path, tmp_path: Path, cache: Path) -> None:
    example = (ROOT / "examples" / "walk.py").read_text(encoding="utf-8")
    for line in README.partition("```python\n")[2].partition("```")[0].splitlines():
        line = line.replace('"photos/"', "photos").replace('"runs/pets"', "run").replace('"new/one.jpg"', "photo")
        assert line.strip() in example
    photo = next((photos / "circle").glob("*.jpg"))
    command = [sys.executable, *map(str, (ROOT / "examples" / "walk.py", photos, tmp_path / "run", photo))]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    assert "줄무늬" in done.stdout


def test_the_readme_stays_short() -> None:
    assert README.count("\n") <= 150


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_that_a_page_shows_is_one_there_is(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    shell = "".join(re.findall(r"```(?:sh|console)\n(.*?)```", text, re.DOTALL))
    reference = (DOCS / "reference" / "cli.md").read_text(encoding="utf-8")
    for verb, rest in re.findall(r"^(?:\$ )?regraft (\w+)(.*)$", shell, re.MULTILINE):
        section = reference.partition(f"## regraft {verb}\n")[2].partition("\n## ")[0]
        assert section, f"{page.name} shows `regraft {verb}`"
        for flag in re.findall(r"--[\w-]+", rest):
            assert flag in section, f"{page.name} shows `regraft {verb} {flag}`"


@pytest.mark.parametrize(
    "page", ["README.md", "README.ko.md", "docs/explanation/results.md"], ids=lambda page: Path(page).name
)
def test_every_result_names_a_benchmark_with_a_row(page: str) -> None:
    rows = re.findall(r"^\|.*`\w+`\s*\|$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) >= 5
    table = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    for row in rows:
        (name,) = re.findall(r"`(\w+)`\s*\|$", row)
        assert (ROOT / "benchmarks" / f"{name}.py").is_file()
        assert f"benchmarks/{name}.py" in table or f"bench {name}" in table


def test_the_readmes_results_are_among_all_results() -> None:
    every = (DOCS / "explanation" / "results.md").read_text(encoding="utf-8").splitlines()
    rows = README.partition("| what | measured | benchmark |\n")[2].partition("\n\n")[0].splitlines()
    assert not set(rows) - set(every)


def test_every_benchmark_is_in_the_table() -> None:
    table = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    for script in (ROOT / "benchmarks").glob("[a-z]*.py"):
        assert script.stem in table


def test_every_dependency_is_justified() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    decisions = (ROOT / "docs" / "decisions.md").read_text(encoding="utf-8")
    for requirement in [*project["dependencies"], *groups["docs"]]:
        name = re.split(r"[<>=~ \[]", requirement)[0]
        assert f"**{name}**" in decisions, name


def test_the_base_install_depends_on_neither_tensorflow_nor_torch() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {re.split(r"[<>=~ \[]", requirement)[0] for requirement in project["dependencies"]}
    assert not names & {"tensorflow", "tensorflow-cpu", "torch", "torchvision", "jax", "timm"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.skipif(
    any(find_spec(module) is None for module in ("sphinx", "furo", "myst_parser")),
    reason="needs Sphinx: pip install --group docs",
)
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-b",
        "html",
        "-W",
        "--keep-going",
        "-q",
        str(DOCS),
        str(tmp_path / "site"),
    ]
    done = subprocess.run(
        [*command, "-d", str(tmp_path / "doctrees")], capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "index.html").is_file()
