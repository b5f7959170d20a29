from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from regraft.cli import verbs
from tests.conftest import Command


def run_main(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = verbs.main(arguments)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["trian"], 2, "did you mean 'train'?"),
        (["train"], 2, "PHOTOS"),
        (["train", "x", "--nope"], 2, "--nope"),
        (["train", "x", "--effort", "lazy"], 2, "quick"),
        (["train", "/no/such/folder"], 1, "there is no /no/such/folder"),
        (["train", "x", "--backbone", "efficientnet_lite9"], 1, "did you mean"),
        (["train", "x", "--head", "logistc"], 1, "did you mean 'logistic'?"),
        (["train", "x", "--val", "0.7", "--test", "0.7"], 1, "leave something to train on"),
        (["train", "x", "--config", "none.toml"], 1, "none.toml is missing"),
        (["predict", "no/run", "x.jpg"], 1, "there is no run folder"),
        (["info", "--clear"], 1, "info cache"),
        (["info", "--measure"], 1, "info backbones"),
        (["check", "x", "--write", "/", "--drop", "blank"], 1, "type another --write"),
        (["check", "x", "--write", "y.csv", "--drop", "blnk"], 1, "unknown kind 'blnk'"),
    ],
)
def test_wrong_usage_gets_one_line_and_the_mend(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found, out, err = run_main(capsys, *arguments)
    assert found == code
    assert out == ""
    assert message in err
    assert err.startswith("regraft: ")
    assert err.count("\n") == 1


def test_flags_win_over_the_config_file(tmp_path: Path, photos: Path, regraft: Command) -> None:
    (tmp_path / "run.toml").write_text('effort = "quick"\nsalt = "file"\n')
    regraft("train", photos, "--config", "run.toml", "--salt", "flag", "--out", "run")
    text = (tmp_path / "run" / "config.toml").read_text(encoding="utf-8")
    assert 'effort = "quick"' in text
    assert 'salt = "flag"' in text


def test_a_name_that_is_no_option_in_the_config_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.toml").write_text("efort = 1\n")
    code, _, err = run_main(capsys, "train", "x", f"--config={tmp_path / 'run.toml'}")
    assert code == 1
    assert "unknown option 'efort'" in err


def test_help_and_version_load_nothing_heavy() -> None:
    script = (
        "import sys; from regraft.cli.verbs import main; main(sys.argv[1:]);"
        "heavy = {'numpy', 'keras', 'openvino', 'pyarrow', 'PIL', 'tensorboard', 'scipy', 'tensorflow'};"
        "sys.exit(','.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    for arguments in (["--help"], ["train", "--help"], ["--version"]):
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments], capture_output=True, encoding="utf-8", check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_info_tells_what_there_is(photos: Path, regraft: Command, cache: Path) -> None:
    assert "cache" in regraft("info").stdout
    names = [b["name"] for b in json.loads(regraft("info", "backbones", "--json").stdout)["backbones"]]
    assert "embedded:efficientnet_lite0" in names
    regraft("train", photos, "--effort", "quick", "--out", "run")
    told = json.loads(regraft("info", "run", "--json").stdout)
    assert told["classes"] == ["Square", "circle", "줄무늬"]
    before = json.loads(regraft("info", "cache", "--json").stdout)
    assert before["photos"] == 60
    assert before["bytes"]["features"] > 60 * 1704 * 4
    freed = json.loads(regraft("info", "cache", "--clear", "--json").stdout)
    assert freed["freed_bytes"] == sum(before["bytes"].values())
    assert not (cache / "features").exists()


def test_a_reader_that_stops_early_is_no_error(photos: Path, regraft: Command, tmp_path: Path) -> None:
    regraft("train", photos, "--effort", "quick", "--out", "run")
    command = f"{sys.executable} -m regraft predict run {photos} | head -n 1"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, encoding="utf-8", check=False)
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


def test_stopping_half_way_keeps_what_was_computed(photos: Path, tmp_path: Path, cache: Path) -> None:
    root = tmp_path / "many"
    for i in range(12):  # photos that differ in their bytes
        shutil.copytree(photos, root / "a" / str(i))
        for path in (root / "a" / str(i)).rglob("*.jpg"):
            path.write_bytes(path.read_bytes() + bytes([i]))
    shutil.copytree(photos / "circle", root / "b")
    process = subprocess.Popen(
        [sys.executable, "-m", "regraft", "train", root, "--out", tmp_path / "run", "--effort", "quick"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        encoding="utf-8",
    )
    deadline = time.monotonic() + 60
    while not list((cache / "features").rglob("part-*")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "what was computed is kept" in err
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()
    assert [p for p in tmp_path.iterdir() if p.name.startswith(".tmp")] == []


def at_terminal(*arguments: str | Path, cwd: Path, cache: Path) -> tuple[str, str]:
    """Run a command whose stdout and stderr are a terminal each; return what they got."""
    import pty

    texts = []
    out, err = pty.openpty(), pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "regraft", *map(str, arguments)],
        cwd=cwd,
        stdout=out[1],
        stderr=err[1],
        env={**os.environ, "REGRAFT_CACHE": str(cache), "COLUMNS": "120"},
    )
    for ours, theirs in (err, out):  # what a short test prints on stdout waits in the terminal
        os.close(theirs)
        text = b""
        with suppress(OSError):  # Linux has no end of file here
            while block := os.read(ours, 4096):
                text += block
        os.close(ours)
        texts.append(text.decode("utf-8", "replace").replace("\r\n", "\n"))
    assert process.wait(60) == 0, texts
    return texts[1], texts[0]


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
def test_a_terminal_is_told_what_is_prepared_and_only_options_that_were_given(photos: Path, tmp_path: Path) -> None:
    cold = tmp_path / "cold"
    command = ("train", photos, "--effort", "quick", "--val", "0.3", "--out", "run")
    _, told = at_terminal(*command, cwd=tmp_path, cache=cold)
    assert told.startswith("options: effort quick, val 0.3\n")
    assert "preparing the network (once)" in told
    frames = [frame for frame in re.split(r"\x1b\[2K|\r", told) if "preparing" in frame]
    assert not [frame for frame in frames if "/60" in frame or "-:--" in frame]
    shutil.rmtree(tmp_path / "run")
    assert at_terminal(*command, "-q", cwd=tmp_path, cache=cold)[1] == ""
    printed, told = at_terminal("predict", "run", photos / "circle", photos / "Square", cwd=tmp_path, cache=cold)
    assert told == ""
    columns = [line.split() for line in printed.splitlines()]
    assert len(columns) == 40
    labels = {" ".join(cells[1:-1]) for cells in columns}
    assert labels <= {"circle", "Square", "줄무늬", "none of these"}


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
def test_a_terminal_sees_progress_and_a_pipe_does_not(photos: Path, tmp_path: Path, cache: Path) -> None:
    import pty

    def stderr_of(terminal: bool) -> str:
        shutil.rmtree(cache / "features", ignore_errors=True)
        ours, theirs = pty.openpty() if terminal else os.pipe()
        command = [sys.executable, "-m", "regraft", "train", str(photos), "--effort", "quick", "--json"]
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=theirs)
        os.close(theirs)
        text = b""
        while True:
            try:
                chunk = os.read(ours, 4096)
            except OSError:
                break
            if not chunk:
                break
            text += chunk
        out, _ = process.communicate(timeout=60)
        os.close(ours)
        assert json.loads(out)["counts"]
        return text.decode("utf-8", "replace")

    seen = stderr_of(terminal=True)
    assert "extracting features" in seen
    assert "backbone embedded:efficientnet_lite0 at 224 px" in seen
    assert stderr_of(terminal=False) == ""


def test_backbones_are_a_table_and_can_be_measured(regraft: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = regraft("info", "backbones").stdout.splitlines()
    assert lines[0].split()[:5] == ["name", "size", "parameters", "top1", "licence"]
    assert sum(line.startswith("keras:") for line in lines) == 40
    from regraft.engines.measuring import measure

    found = measure("embedded:efficientnet_lite0")
    assert found["photos_per_s"] > 0
    assert found["features"] == 1704
