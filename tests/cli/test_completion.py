"""The completion scripts, asked in real shells; a shell that is not installed is skipped."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from regraft.cli.verbs import main

ASKED_IN_BASH = """
source ./regraft.bash
ask() {
    COMP_WORDS=(regraft "$@") COMP_CWORD=$# COMPREPLY=()
    _shtab_regraft regraft "${@: -1}"
    printf '%s\\n' "${COMPREPLY[*]}"
}
complete -p regraft > /dev/null || exit 1
"""

# zsh completes in its line editor alone, so it runs in a terminal of its own: the module zsh/zpty makes one.
ASKED_IN_ZSH = """
zmodload zsh/zpty
zpty terminal zsh -f -i
zpty -w terminal "PS1=; fpath=($PWD \\$fpath); autoload -Uz compinit; compinit -u -d $PWD/dump; print READY"
zpty -r terminal seen '*READY*READY*'
zpty -w -n terminal "$1"$'\\t\\t'
sleep 1
while zpty -r -t terminal seen; do print -r -- $seen; done
zpty -d terminal
"""

CASES = [
    (["t"], {"train"}),
    (
        [""],
        {
            "check",
            "train",
            "finetune",
            "sweep",
            "evaluate",
            "predict",
            "export",
            "shard",
            "embed",
            "similar",
            "next",
            "info",
        },
    ),
    (["train", "--eff"], {"--effort"}),
    (["train", "photos", "--effort", ""], {"quick", "balanced", "thorough"}),
    (["train", "--head", "l"], {"logistic"}),
    (["train", "--backbone", "resnet50"], {"resnet50", "resnet50_v2"}),
    (["export", "run", "--format", ""], {"onnx", "litert", "openvino", "keras"}),
    (["completion", ""], {"bash", "zsh", "fish"}),
    (["train", "pho"], {"photos"}),
    (["train", "photos", "--config", "a.t"], {"a.toml"}),
]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    (tmp_path / "a.toml").touch()
    return tmp_path


def shell(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def printed(name: str) -> str:
    """What `regraft completion` prints for a shell."""
    command = [sys.executable, "-m", "regraft", "completion", name]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout


def test_bash_completes_commands_flags_values_and_paths(place: Path) -> None:
    bash = shell("bash")
    (place / "regraft.bash").write_text(printed("bash"))
    asked = "".join("ask " + " ".join(f"'{word}'" for word in words) + "\n" for words, _ in CASES)
    done = subprocess.run(
        [bash, "--norc", "-c", ASKED_IN_BASH + asked], cwd=place, capture_output=True, encoding="utf-8", check=True
    )
    assert done.stderr == ""
    for (words, wanted), line in zip(CASES, done.stdout.splitlines(), strict=True):
        assert wanted <= set(line.split()), (words, line)
    assert set(done.stdout.splitlines()[0].split()) == {"train"}


def test_fish_completes_commands_flags_and_values(place: Path) -> None:
    fish = shell("fish")
    (place / "regraft.fish").write_text(printed("fish"))
    for words, wanted in CASES:
        typed = " ".join(("regraft", *words))
        command = [fish, "--no-config", "-c", f"source ./regraft.fish; complete -C '{typed}'"]
        done = subprocess.run(command, cwd=place, capture_output=True, encoding="utf-8", check=True)
        found = {line.split("\t")[0].rstrip("/") for line in done.stdout.splitlines()}
        assert wanted <= found, typed


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("regraft ", ["train", "Train a classifier", "export"]),
        ("regraft train --effort ", ["quick", "balanced", "thorough"]),
    ],
)
def test_zsh_completes_commands_and_values(place: Path, typed: str, wanted: list[str]) -> None:
    zsh = shell("zsh")
    (place / "_regraft").write_text(printed("zsh"))
    command = [zsh, "-f", "-c", ASKED_IN_ZSH, "zsh", typed]
    done = subprocess.run(command, cwd=place, capture_output=True, encoding="utf-8", timeout=60, check=True)
    for word in wanted:
        assert word in done.stdout, done.stdout


def test_another_shell_is_a_usage_error(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "tcsh"]) == 2
    assert "unknown SHELL 'tcsh': there is bash, zsh, fish" in capfd.readouterr().err


def test_other_commands_do_not_load_what_writes_the_scripts() -> None:
    script = "import sys; from regraft.cli.verbs import main; main(['--help']); print('shtab' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.splitlines()[-1] == "False"
