"""docs/tutorial.md, typed command by command, and what it shows compared with what comes out.

A command runs at a pseudo-terminal, so that it prints what a reader sees. Figures that depend on how a processor
rounds are not compared, and neither are the photos that are classified wrongly.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {"README.md": "README.ko.md", "docs/tutorial.md": "docs/tutorial.ko.md"}
"""English pages and the same in Korean."""

Typed = tuple[str, list[str]]
"""A command, and the lines that the page shows below it."""


def commands(page: str) -> list[Typed]:
    """The commands of the ``console`` blocks of a page, in order."""
    found: list[Typed] = []
    for block in re.findall(r"```console\n(.*?)```", page, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            found.append((command, shown.splitlines()))
    return found


TYPED = commands((DOCS / "tutorial.md").read_text(encoding="utf-8"))
FINETUNING = next(number for number, (command, _) in enumerate(TYPED) if " finetune " in command)


def settled(lines: list[str]) -> list[str]:
    """The lines of an output without what may differ from one machine to the next."""
    kept = []
    for line in lines:
        if not line.strip() or re.match(r"\d+%\s|surest of|the one mistake", line):
            continue
        if re.search(r"answers|became right|none of these:", line):
            line = re.sub(r"[+-]?\d+", "#", line)  # which end of an interval is above 0 may differ, too
        line = re.sub(r"[+-]?\d+(\.\d+)?(e-\d+)?%|[+-]?\d+\.\d+|\(\d+\)|\d+e-\d+|[\d,]{7,}|\b\d+$", "#", line)
        line = re.sub(r"differ by at most .*|^warning: .*", "", line)
        kept.append(re.sub(r" +", " ", line).strip())
    return [line for line in kept if line]


def typed(command: str, folder: Path) -> tuple[list[str], list[str]]:
    """Type a command as the page has it; return the lines it prints on stdout and on stderr."""
    words = shlex.split(command.partition(" > ")[0])
    if words[:2] == ["python", "examples/draw_flowers.py"]:
        words[1] = str(ROOT / words[1])
    if words[0] == "mv":
        shutil.move(folder / words[1], folder / words[2])
        return [], []
    words = [sys.executable, "-m", *words] if words[0] == "regraft" else [sys.executable, *words[1:]]
    terminal, ours = os.openpty()
    if " > " in command:
        os.close(terminal)
        os.close(ours)
        done = subprocess.run(words, cwd=folder, capture_output=True, encoding="utf-8", check=True)
        return [], done.stderr.splitlines()
    with (folder.parent / "stderr.txt").open("w+", encoding="utf-8") as errors:
        process = subprocess.Popen(words, cwd=folder, stdout=ours, stderr=errors)
        os.close(ours)
        printed = b""
        while chunk := _read(terminal):
            printed += chunk
        os.close(terminal)
        code = process.wait()
        errors.seek(0)
        told = errors.read()
    assert code == 0, f"{command} gave {code}\n{printed.decode()}\n{told}"
    return printed.decode().splitlines(), told.splitlines()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says so where the other end is closed
        return b""


def follow(steps: list[Typed], folder: Path) -> None:
    """Type some commands of the page; each must print what the page shows."""
    for command, shown in steps:
        printed, told = typed(command, folder)
        also = settled(told)  # the page may show lines of stderr, too
        assert [line for line in settled(shown) if line not in also] == settled(printed), command


@pytest.fixture(scope="module")
def tutorial(warm_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the tutorial, after all that needs no extra was typed."""
    if not hasattr(os, "openpty"):
        pytest.skip("needs pseudo-terminals, which Windows has not")
    place = tmp_path_factory.mktemp("tutorial")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGRAFT_CACHE", str(warm_cache))
        follow(TYPED[:1], place)
        for command, shown in TYPED[1:FINETUNING]:
            if find_spec("matplotlib") is None:
                command = command.replace(" --plot answers.png", "")
            follow([(command, shown)], place / "tutorial")
    return place / "tutorial"


def test_the_tutorial_up_to_the_mistakes(tutorial: Path) -> None:
    assert (tutorial / "runs" / "flowers" / "metrics.json").is_file()
    assert (tutorial / "answers.png").is_file() or find_spec("matplotlib") is None


@pytest.mark.skipif(
    any(find_spec(module) is None for module in ("tensorflow", "ai_edge_litert", "matplotlib")),
    reason="needs pip install 'regraft[litert,plot]'",
)
def test_the_tutorial_from_fine_tuning_to_the_phone(
    tutorial: Path, warm_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGRAFT_CACHE", str(warm_cache))
    follow(TYPED[FINETUNING:], tutorial)
    assert (tutorial / "phone" / "model.tflite").is_file()


@pytest.mark.parametrize("name", PAGES)
def test_the_korean_page_has_the_same_commands_headings_and_figures(name: str) -> None:
    english, korean = ((ROOT / page).read_text(encoding="utf-8") for page in (name, PAGES[name]))
    blocks = r"```(\w*)\n(.*?)```"
    assert _without_comments(re.findall(blocks, english, re.DOTALL)) == _without_comments(
        re.findall(blocks, korean, re.DOTALL)
    )
    prose = [re.sub(r"```.*?```", "", text, flags=re.DOTALL) for text in (english, korean)]
    levels = [[len(marks) for marks in re.findall(r"^(#+) ", text, re.MULTILINE)] for text in prose]
    assert levels[0] == levels[1]
    ours, theirs = (sorted(re.findall(r"\d+(?:[.,]\d+)*", _figures(text))) for text in prose)
    assert ours == theirs
    images = [re.findall(r"!\[[^]]*\]\(([^)]+)\)", text) for text in prose]
    assert images[0] == images[1]
    rows = [re.findall(r"`(\w+)`\s*\|$", text, re.MULTILINE) for text in prose]
    assert rows[0] == rows[1]


def _without_comments(blocks: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Blocks of code with the comments, which are translated, left out."""
    return [(kind, re.sub(r" *# .*", "", code)) for kind, code in blocks]


def _figures(text: str) -> str:
    """The prose without the targets of links, whose names have digits of their own."""
    return re.sub(r"\]\([^)]*\)", "]", text)
