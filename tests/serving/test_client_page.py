"""What docs/how-to/serve-clients.md shows, run as it stands there against a real server."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.serving.servers import RUN, served

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "serve-clients.md").read_text(encoding="utf-8")
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def server(warm_cache: Path) -> Iterator[str]:
    with served(warm_cache, "--name", f"pets={RUN}") as found:
        yield found.address.rstrip("/")


@pytest.fixture
def folder(photo: Path, tmp_path: Path) -> Path:
    """A folder with photo.jpg."""
    shutil.copy(photo, tmp_path / "photo.jpg")
    return tmp_path


def run(command: list[str], text: str, server: str, folder: Path) -> str:
    """Run a program of the page, which it is given as its last argument, and return what it prints."""
    text = text.replace("http://127.0.0.1:8000", server).replace("127.0.0.1:8000", server.removeprefix("http://"))
    done = subprocess.run([*command, text], cwd=folder, capture_output=True, encoding="utf-8", timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("text", blocks("python"), ids=["urllib", "httpx", "triton", "tensorflow"])
def test_programs_in_python(text: str, server: str, folder: Path) -> None:
    for module in ("httpx", "tritonclient"):
        if re.search(rf"^(import|from) {module}\b", text, re.MULTILINE) and find_spec(module) is None:
            pytest.skip(f"needs {module}")
    assert "circle" in run([sys.executable, "-X", "utf8", "-c"], text, server, folder)


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_commands_in_a_shell(server: str, folder: Path) -> None:
    one, two = (run(["sh", "-c"], text, server, folder) for text in blocks("sh") if text.startswith("curl"))
    assert json.loads(one)["top"][0]["label"] == "circle"
    assert [each["top"][0]["label"] for each in json.loads(two)] == ["circle"] * 2


@pytest.mark.skipif(not shutil.which("node"), reason="needs Node")
def test_a_program_in_node(server: str, folder: Path) -> None:
    [text] = blocks("js")
    assert run(["node", "--no-warnings", "--input-type=module", "-e"], text, server, folder).strip() == "circle"


@pytest.mark.skipif(not BROWSER, reason="needs Chromium")
@pytest.mark.skipif(find_spec("playwright") is None, reason="needs playwright: pip install --group browser")
def test_a_function_in_a_browser(server: str, folder: Path) -> None:
    from playwright.sync_api import sync_playwright

    [text] = blocks("javascript")
    data = list((folder / "photo.jpg").read_bytes())
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"{server}/openapi.json")
        found = page.evaluate(f"async (data) => {{ {text}; return classify(new Blob([new Uint8Array(data)])); }}", data)
        browser.close()
    assert found == "circle"
