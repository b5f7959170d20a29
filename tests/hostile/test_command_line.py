"""What people type by mistake, and what scripts do to a command's streams: one line, the right exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from regraft.foundation.signals import PATIENCE
from tests.hostile.conftest import Hostile

LONG = "x" * 100_000


def after(code: str) -> tuple[str, ...]:
    """Return arguments of Python that run ``code`` and become the command, as a shell does with redirections."""
    become = "os.execv(sys.executable, [sys.executable, '-m', 'regraft', *sys.argv[1:]])"
    return ("-c", f"import os, sys\n{code}\n{become}")


WRONG_FLAGS = [
    (("train", "x", "--efort", "quick"), "--efort: did you mean --effort? type: regraft train --help"),
    (("train", "--efort", "quick", "x"), "--efort: did you mean --effort? type: regraft train --help"),
    (("train", "x", "--hed=knn"), "--hed: did you mean --head? type: regraft train --help"),
    (("check", "x", "--dropp", "blank"), "--dropp: did you mean --drop? type: regraft check --help"),
    (("finetune", "x", "--epoch", "3"), "--epoch: did you mean --epochs? type: regraft finetune --help"),
    (("sweep", "x", "--trial", "3"), "--trial: did you mean --trials? type: regraft sweep --help"),
    (("evaluate", "x", "--josn"), "--josn: did you mean --json? type: regraft evaluate --help"),
    (("predict", "x", "y", "--tpo", "3"), "--tpo: did you mean --top? type: regraft predict --help"),
    (("export", "x", "--quantise", "int8"), "--quantise: did you mean --quantize? type: regraft export --help"),
    (("shard", "x", "--per_shard", "9"), "--per_shard: did you mean --per-shard? type: regraft shard --help"),
    (("info", "cache", "--clera"), "--clera: did you mean --clear? type: regraft info --help"),
    (("demo", "--ouut", "x"), "--ouut: did you mean --out? type: regraft demo --help"),
    (("train", "x", "--zzzzzz"), "--zzzzzz; type: regraft train --help"),
    (("predict", "x", "-x.jpg"), "-x.jpg; type: regraft predict --help"),
    (("predict", "x", "y", "--", "--top"), None),
    (("-z",), "-z; type: regraft --help"),
    (("--versoin",), "--versoin: did you mean --version? type: regraft --help"),
    (("train", "x", "-Q"), "-Q; type: regraft train --help"),
    (("train", "x", "-" + LONG), "-xxxx"),
    (("train", "x", "--\x1b[2J\n"), r"--\x1b[2J ; type"),
    (("train", "x", os.fsdecode(b"--\xff\xfe")), r"--\udcff\udcfe; type"),
]


@pytest.mark.parametrize(("tokens", "says"), WRONG_FLAGS, ids=lambda value: str(value)[:40])
def test_a_wrong_flag_gets_the_nearest_and_the_help_of_its_verb(
    tokens: tuple[str, ...], says: str | None, hostile: Hostile
) -> None:
    if says is None:  # after -- all are photos, so that the run is what is missing
        assert "there is no run folder x" in hostile(*tokens).error
        return
    outcome = hostile(*tokens, code=2)
    assert outcome.error.startswith("regraft: unknown flag ")
    assert says in outcome.error
    assert len(outcome.error) < 2100
    assert outcome.stdout == ""


WRONG_VERBS = [
    (("trian", "x"), "unknown command 'trian': did you mean 'train'? there is check, train"),
    (("predct", "x"), "unknown command 'predct': did you mean 'predict'?"),
    (("TRAIN", "x"), "unknown command 'TRAIN': there is check, train"),
    (("evalute", "x", "y"), "unknown command 'evalute': did you mean 'evaluate'?"),
    (("frobnicate",), "unknown command 'frobnicate': there is check"),
    (("train x",), "unknown command 'train x': did you mean 'train'?"),
    (("",), "unknown command '': there is check"),
    (("-",), "unknown"),
    (("--",), "COMMAND"),
    ((LONG,), "unknown command 'xxx"),
    (("tr\x1b[2Jain",), r"unknown command 'tr\x1b[2Jain'"),
    (("--json", "train", "x"), "--json stands after train, as in: regraft train … --json"),
    (("--threads", "2", "train", "x"), "unknown flag --threads"),
]


@pytest.mark.parametrize(("tokens", "says"), WRONG_VERBS, ids=lambda value: str(value)[:40])
def test_a_wrong_verb_gets_the_nearest(tokens: tuple[str, ...], says: str, hostile: Hostile) -> None:
    outcome = hostile(*tokens, code=2)
    assert says in outcome.error
    assert len(outcome.error) < 2100


EMPTY = [
    ("check", ""),
    ("train", ""),
    ("finetune", ""),
    ("sweep", ""),
    ("evaluate", "", "x"),
    ("evaluate", "x", ""),
    ("predict", "", "x"),
    ("predict", "x", ""),
    ("predict", "x", "y", "", "z"),
    ("export", ""),
    ("shard", ""),
    ("embed", ""),
    ("similar", "", "x"),
    ("similar", "x", ""),
    ("next", "", "x"),
    ("next", "x", ""),
    ("next", "x", "--out", ""),
    ("info", ""),
    ("train", "x", "--out", ""),
    ("train", "x", "--config="),
    ("finetune", "x", "--photos", ""),
    ("sweep", "x", "--out", ""),
    ("evaluate", "x", "y", "--unknown", ""),
    ("predict", "x", "y", "--out", ""),
    ("predict", "x", "y", "--plot", ""),
    ("check", "x", "--write", ""),
    ("shard", "x", "--out", ""),
    ("shard", "x", "--labels", ""),
    ("embed", "x", "--out", ""),
    ("similar", "x", "y", "--photos", ""),
    ("export", "x", "--out", ""),
]


@pytest.mark.parametrize("tokens", EMPTY, ids=" ".join)
def test_an_empty_text_is_not_the_working_folder(tokens: tuple[str, ...], hostile: Hostile, tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    outcome = hostile(*tokens, code=2, says="an empty text; wanted a path or a name")
    assert f"type: regraft {tokens[0]} --help" in outcome.error
    assert set(tmp_path.iterdir()) == before


VALUES = [
    (("predict", "x", "y", "--top", "nan"), 2, "argument --top: invalid int value: 'nan'"),
    (("predict", "x", "y", "--top", "1.5"), 2, "argument --top: invalid int value: '1.5'"),
    (("predict", "x", "y", "--top", ""), 2, "argument --top: invalid int value: ''"),
    (("predict", "x", "y", "--top", "9" * 5000), 2, "argument --top: invalid int value"),
    (("predict", "x", "y", "--top"), 2, "argument --top: expected one argument"),
    (("predict", "x", "y", "--top", "0"), 1, "--top is 0; wanted at least 1"),
    (("predict", "x", "y", "--top", "-1"), 1, "--top is -1; wanted at least 1"),
    (("predict", "x", "y", "--threads", "0"), 1, "--threads is 0; wanted at least 1"),
    (("train", "x", "--threads", "-3"), 1, "--threads is -3; wanted at least 1"),
    (("check", "x", "--threads", "many"), 2, "argument --threads: invalid int value: 'many'"),
    (("train", "x", "--val", "nan"), 2, "argument --val: nan is no finite number"),
    (("train", "x", "--val", "inf"), 2, "argument --val: inf is no finite number"),
    (("evaluate", "x", "y", "--watch", "nan"), 2, "argument --watch: nan is no finite number"),
    (("train", "x", "--effort", LONG), 2, "unknown --effort 'xxx"),
    (("train", "x", "y"), 2, "unrecognized arguments: y"),
    (("train",), 2, "the following arguments are required: PHOTOS; type: regraft train --help"),
    (("predict", "x"), 2, "the following arguments are required: PHOTOS; type: regraft predict --help"),
    (("train", "x", "--config", "wrong.toml"), 1, "val is '0.1'; wanted a number"),
    (("similar", "x", "y", "--top", "0"), 1, "--top is 0; wanted at least 1"),
    (("next", "x", "-n", "0"), 1, "--count is 0; wanted at least 1"),
    (("next", "x", "--out", "next.txt"), 1, "wanted a name that ends in .csv"),
    (("embed", "x", "--out", "features"), 1, "wanted a name that ends in .parquet"),
    (("predict", "x", "y", "--out", "answers"), 1, "has no known suffix; wanted a file that ends in .csv"),
    (("predict", "x", "y", "--out", "a.csv", "--plot", "b.png"), 1, "leave one of them out"),
]


@pytest.mark.parametrize(("tokens", "code", "says"), VALUES, ids=lambda value: str(value)[:60])
def test_a_wrong_value_is_named(
    tokens: tuple[str, ...], code: int, says: str, hostile: Hostile, tmp_path: Path
) -> None:
    (tmp_path / "wrong.toml").write_text('val = "0.1"\n')
    assert says in hostile(*tokens, code=code).error


@pytest.mark.skipif(os.name == "nt", reason="needs special files")
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("fifo", "fifo is a pipe, a device or a socket"),
        ("/dev/zero", "/dev/zero is a pipe, a device or a socket"),
        ("/dev/null", "/dev/null is a pipe, a device or a socket"),
        (LONG, "file name too long"),
        ("~nosuchuser/photos", "there is no such user"),
        ("\x1b[2J", r"there is no \x1b[2J"),
        (os.fsdecode(b"\xff"), r"there is no \udcff"),
        ("a\nb", "there is no a b"),
        ("loop", "there is no loop"),
    ],
    ids=lambda value: getattr(value, "__name__", repr(value))[:30],
)
@pytest.mark.parametrize("verb", ["train", "check", "shard", "embed"])
def test_photos_that_are_none_are_told(verb: str, name: str, says: str, hostile: Hostile, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    assert says in hostile(verb, name).error


def test_no_arguments_get_the_help(hostile: Hostile) -> None:
    outcome = hostile(code=2)
    assert "regraft train photos/" in " ".join(outcome.stderr.split())
    assert outcome.stdout == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("tokens", [("--help",), ("--version",), ("train", "--help"), ("info",), ("info", "--json")])
def test_a_stdout_that_is_full_is_an_error(tokens: tuple[str, ...], hostile: Hostile) -> None:
    with Path("/dev/full").open("wb") as full:
        hostile(*tokens, stdout=full.fileno(), says="stdout cannot be written: no space is left")


@pytest.mark.skipif(os.name == "nt", reason="Windows has other streams")
@pytest.mark.parametrize("tokens", [("--help",), ("info",), ("train", "photos"), ()])
def test_a_stdout_that_is_closed_is_an_error(tokens: tuple[str, ...], hostile: Hostile, tmp_path: Path) -> None:
    hostile(*tokens, program=after("os.close(1)"), says="stdout is closed; send it somewhere")
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has other streams")
@pytest.mark.parametrize("closed", ["os.close(2)", "os.close(0)", "os.closerange(0, 1)\nos.close(2)"])
def test_other_streams_that_are_closed_change_nothing(closed: str, hostile: Hostile) -> None:
    assert "regraft" in hostile("info", "--json", code=0, program=after(closed)).stdout
    assert hostile("trian", code=2, program=after(closed)).stdout == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_stderr_that_is_full_changes_nothing(hostile: Hostile) -> None:
    full = after("os.dup2(os.open('/dev/full', os.O_WRONLY), 2)")
    hostile("trian", code=2, program=full)
    hostile(code=2, program=full)


@pytest.mark.skipif(os.name == "nt", reason="Windows has other streams")
def test_a_reader_that_has_enough_is_no_error(hostile: Hostile) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        outcome = hostile("info", "backbones", code=0, stdout=writing)
    finally:
        os.close(writing)
    assert outcome.stderr == ""


def test_quiet_leaves_warnings_and_errors(photos: Path, hostile: Hostile, tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / "mixed" / label).mkdir(parents=True)
        (tmp_path / "mixed" / label / "bad.jpg").write_text("text")
        for number in range(2):
            photo = photos / ("circle" if label == "a" else "Square") / f"{number:03}.jpg"
            (tmp_path / "mixed" / label / photo.name).write_bytes(photo.read_bytes())
    loud = hostile("check", "mixed", "--write", "clean.csv", code=0, limit=60).stderr
    assert "4 of 4 photos are in clean.csv" in loud
    assert hostile("check", "mixed", "-q", "--write", "less.csv", code=0, limit=60).stderr == ""
    (tmp_path / "mixed" / "empty").mkdir()
    assert "warning: classes without any photo" in hostile("check", "mixed", "--quiet", code=0, limit=60).stderr
    hostile("check", "nowhere", "-q", says="there is no nowhere")


SOON = 1.5
"""Seconds in which a command ends after Ctrl-C: one, and half a second more on a machine that runs other tests too."""


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Return whether a process has ended, and leave it to others to wait for it.

    `Popen.send_signal` waits for a process that has ended, so the process may be waited for already.
    """
    if process.returncode is not None:
        return True
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def interrupt(
    hostile: Hostile, folder: Path, *tokens: str | Path, when: Callable[[], bool], code: str = "", **more: object
) -> None:
    """Run a command and press Ctrl-C as soon as ``when()``: it ends within `SOON`, with 130, one line, no child.

    Args:
        hostile: the fixture.
        folder: the test's own folder.
        tokens: the command.
        when: asked again and again once the command has begun. Before, it is Python itself that is interrupted.
        code: what to run before.
        more: further arguments of ``hostile``.
    """
    seconds: list[float] = []
    group: list[int] = []
    begun = folder / "begun"
    begin = f"import os, sys, threading\n{code}\nfrom regraft.cli.verbs import main\n"
    # A moment later, so that the signal never comes between the file and `main`, where nothing could answer it.
    begin += f"threading.Timer(0.01, open, ({str(begun)!r}, 'w')).start()\nsys.exit(main())"

    def press(process: subprocess.Popen[bytes]) -> None:
        while not (begun.exists() and when()) and not has_ended(process):
            time.sleep(0.005)
        assert not has_ended(process), "it had ended before"
        start = time.monotonic()
        process.send_signal(signal.SIGINT)  # to it alone, as `kill -INT` does; a terminal tells its children too
        while not has_ended(process):
            time.sleep(0.005)
        seconds.append(time.monotonic() - start)
        group.append(process.pid)

    outcome = hostile(*tokens, code=130, program=("-c", begin), while_running=press, limit=60, **more)
    *before, last = outcome.stderr.splitlines()
    assert last.startswith("regraft: stopped")
    assert all(line.startswith("regraft: ") and ".jpg: " in line for line in before), outcome.stderr
    assert seconds[0] < SOON
    assert running_in(group[0]) == []


def running_in(group: int) -> list[str]:
    """Return the processes of a group that have not ended. One that was killed waits to be asked for its end."""
    listed = subprocess.run(["ps", "-e", "-o", "pgid=,stat=,args="], capture_output=True, encoding="utf-8", check=True)
    found = [line.split(None, 2) for line in listed.stdout.splitlines()]
    return [line[2] for line in found if int(line[0]) == group and not line[1].startswith("Z")]


def in_so_long(seconds: float) -> Callable[[], bool]:
    """Return a function that says whether so many seconds have passed since it was first called."""
    begun: list[float] = []

    def passed() -> bool:
        begun.append(time.monotonic())
        return begun[-1] - begun[0] >= seconds

    return passed


@pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")
@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.9, 1.5])
def test_ctrl_c_is_answered_at_any_time(seconds: float, photos: Path, hostile: Hostile, tmp_path: Path) -> None:
    cold = {"REGRAFT_CACHE": str(tmp_path / "cold")}
    interrupt(hostile, tmp_path, "train", photos, "--out", "run", when=in_so_long(seconds), environment=cold)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")
def test_ctrl_c_ends_the_process_that_builds_the_network(photos: Path, hostile: Hostile, tmp_path: Path) -> None:
    graphs = tmp_path / "cold" / "graphs"
    cold = {"REGRAFT_CACHE": str(tmp_path / "cold")}

    def builds() -> bool:
        return any(graphs.glob(".tmp-*/new"))

    interrupt(hostile, tmp_path, "train", photos, "--out", "run", when=builds, environment=cold)
    assert not list(graphs.glob(".tmp-*"))
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".tmp")] == []


MADE_OF_IT = {
    "an ImportError": "raise ImportError('initialization failed')",
    "nothing": "pass",
    "another error": "raise DataError('no photo')",
    "a thread that is waited for": "threading.Thread(target=time.sleep, args=(60,)).start(); raise",
}
"""What code may do with a KeyboardInterrupt; modules in C do the first two while they are imported."""


def press(hostile: Hostile, folder: Path, made_of_it: str, times: int = 1) -> float:
    """Press Ctrl-C while a command waits that makes something else of it; return the seconds until it ended."""
    program = f"""
import sys, threading, time
from regraft.cli.entry import run_command
from regraft.errors import DataError
def job():
    open("begun", "w").close()
    while True:
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            {made_of_it}
sys.exit(run_command("regraft", job, lambda: "stopped"))
"""
    moments: list[float] = []

    def interrupt(process: subprocess.Popen[bytes]) -> None:
        while not (folder / "begun").exists():
            time.sleep(0.005)
        moments.append(time.monotonic())
        for _ in range(times):
            process.send_signal(signal.SIGINT)
            time.sleep(0.1)
        while not has_ended(process):
            time.sleep(0.005)
        moments.append(time.monotonic())

    assert hostile(code=130, program=("-c", program), while_running=interrupt).stderr == "regraft: stopped\n"
    return moments[1] - moments[0]


@pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")
@pytest.mark.parametrize("name", MADE_OF_IT)
def test_ctrl_c_is_answered_whatever_is_made_of_it(name: str, hostile: Hostile, tmp_path: Path) -> None:
    assert press(hostile, tmp_path, MADE_OF_IT[name]) < SOON


@pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")
def test_ctrl_c_pressed_again_ends_at_once(hostile: Hostile, tmp_path: Path) -> None:
    assert press(hostile, tmp_path, MADE_OF_IT["nothing"], times=2) < PATIENCE
