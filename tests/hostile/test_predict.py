"""What `predict` may be pointed at and have its output sent to: photos that are none, streams, files, kills."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import SHAPES, draw_folder, draw_photo, sampled
from tests.hostile.conftest import Hostile, Outcome, run_hostile
from tests.hostile.test_command_line import after, has_ended, in_so_long, interrupt

Ask = Callable[..., Outcome]

MANY = 300
"""Photos for what is stopped on the way: five chunks."""


@pytest.fixture(scope="module")
def place(photos: Path, warm_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``run``, ``many`` photos and a ``cache`` in which everything is compiled. Not to be changed."""
    root = tmp_path_factory.mktemp("predict")
    shutil.copytree(warm_cache, root / "cache", ignore=shutil.ignore_patterns("features"))
    (root / "many").mkdir()
    shapes = list(SHAPES.values())
    for number in range(MANY):
        draw_photo(shapes[number % 3], number).save(root / "many" / f"{number:03}.jpg", quality=80)
    (root / "many" / "123.jpg").write_bytes(b"\xff\xd8\xff no photo")
    environment = {"REGRAFT_CACHE": str(root / "cache")}
    for tokens in (
        ("train", str(photos), "--effort", "quick", "--val", "0.3", "--out", "run"),
        ("predict", "run", str(photos)),
        ("predict", "run", str(photos / "circle" / "000.jpg")),
    ):
        outcome = run_hostile(*tokens, cwd=root, environment=environment, limit=120)
        assert outcome.code == 0, outcome
    return root


@pytest.fixture
def ask(place: Path, hostile: Hostile) -> Ask:
    """`regraft predict run …` in the test's own folder."""

    def run(*tokens: str | Path, **more: object) -> Outcome:
        return hostile("predict", place / "run", *tokens, **{"environment": environment(place), "limit": 30, **more})

    return run


def environment(place: Path) -> dict[str, str]:
    return {"REGRAFT_CACHE": str(place / "cache")}


def rows(outcome: Outcome) -> list[list[str]]:
    return [line.split("\t") for line in outcome.stdout.splitlines()]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A good photo, ``good.jpg`` in the test's folder."""
    path = tmp_path / "good.jpg"
    draw_photo(SHAPES["circle"], 1).save(path)
    return path


# What a photo may be


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


ONE = [
    ("none.jpg", None, "there is no such file"),
    ("fifo.jpg", _fifo, "not a regular file"),
    ("fifo", _fifo, "not a regular file"),
    ("/dev/zero", None, "not a regular file"),
    ("/dev/null", None, "not a regular file"),
    ("loop.jpg", _loop, "a broken link"),
    ("broken.jpg", lambda path: path.symlink_to("nowhere"), "a broken link"),
    ("empty.jpg", lambda path: path.touch(), "empty file (0 bytes)"),
    ("text.jpg", lambda path: path.write_text("text"), "not an image that can be read"),
    ("large.jpg", _sparse, "MiB, more than the 256 MiB a photo may have"),
    ("/proc/self/mem", None, "cannot be read: input/output error"),
    ("x" * 300 + ".jpg", None, "file name too long"),
    ("good.jpg/x.jpg", None, "there is no such file"),
    ("~nosuchuser/x.jpg", None, "there is no such file"),
    ("a\nb\tc.jpg", None, "there is no such file"),
    ("\x1b[2J.jpg", None, "there is no such file"),
    (os.fsdecode(b"\xff\xfe.jpg"), None, "there is no such file"),
]


@pytest.mark.skipif(os.name == "nt", reason="needs special files")
@pytest.mark.parametrize(
    ("name", "make", "says"), sampled(ONE, 3), ids=lambda value: getattr(value, "__name__", repr(value))[:24]
)
def test_what_is_no_photo_is_answered_with_its_error(
    name: str, make: Callable[[Path], None] | None, says: str, ask: Ask, photo: Path
) -> None:
    if make is not None:
        make(photo.parent / name)
    outcome = ask(photo, name, photo)
    assert says in outcome.error
    assert [row[0] for row in rows(outcome)] == [str(photo)] * 2
    (first, failed, last) = json.loads(ask(photo, name, photo, "--json").stdout)
    assert first == last
    assert failed == {"path": name, "error": failed["error"]}
    assert says in failed["error"]


@pytest.mark.parametrize("name", ["-", "--", " .jpg", "a'\"b.jpg", "x" * 200 + ".jpg", "#1.jpg", "a=b.jpg"])
def test_odd_names_are_names(name: str, ask: Ask, photo: Path) -> None:
    photo.rename(photo.parent / name)
    assert rows(ask(f"./{name}", code=0))[0][0] == name


@pytest.mark.parametrize("name", ["-x.jpg", "-5.jpg", "--top.jpg", "-q.jpg"])
def test_names_that_begin_as_flags_do_are_typed_otherwise(name: str, ask: Ask, photo: Path) -> None:
    photo.rename(photo.parent / name)
    assert rows(ask("--", name, f"./{name}", ".", code=0)) == [rows(ask(f"./{name}", code=0))[0]] * 3
    ask(name, code=2, says=rf"unknown flag {name}; the file of that name is typed \./{name}; type: regraft predict")


@pytest.mark.skipif(os.name == "nt", reason="Windows has other names")
def test_control_characters_stay_in_their_cell(ask: Ask, photo: Path) -> None:
    name = "a\tb\nc\x1b[2J\x07" + os.fsdecode(b"\xff") + ".jpg"
    photo.rename(photo.parent / name)
    ((path, *_),) = rows(ask(".", code=0))
    assert path == r"a\tb\nc\x1b[2J\x07\udcff.jpg"
    (answer,) = json.loads(ask(".", "--json", code=0).stdout)
    assert answer["path"] == name


# Folders


@pytest.mark.skipif(os.name == "nt", reason="needs links")
def test_links_are_followed_once(ask: Ask, photo: Path, tmp_path: Path) -> None:
    deep = tmp_path / "deep" / "er"
    deep.mkdir(parents=True)
    photo.rename(deep / "good.jpg")
    (deep / "back").symlink_to(tmp_path / "deep")
    (deep / "self").symlink_to("self")
    (tmp_path / "deep" / "link").symlink_to(deep)
    assert [row[0] for row in rows(ask("deep", code=0))] == ["deep/er/good.jpg"]


def test_ten_thousand_empty_folders_take_no_time(ask: Ask, photo: Path, tmp_path: Path) -> None:
    for number in range(10_000):
        (tmp_path / "wide" / f"{number}").mkdir(parents=True)
    photo.rename(tmp_path / "wide" / "9999" / "good.jpg")
    assert [row[0] for row in rows(ask("wide", code=0))] == ["wide/9999/good.jpg"]


def test_a_thousand_folders_in_each_other_are_walked(ask: Ask, photo: Path, tmp_path: Path) -> None:
    folder = tmp_path / "d"
    for _ in range(1000):
        folder.mkdir()
        folder /= "d"
    photo.rename(folder.parent / "good.jpg")
    assert len(rows(ask("d", code=0))) == 1
    subprocess.run(["rm", "-r", tmp_path / "d"], check=True)  # pytest's own way goes too deep


def test_an_empty_folder_is_told(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    outcome = ask("empty", code=0)
    assert outcome.stdout == ""
    assert outcome.stderr == "warning: no photo was found in empty\n"


DROP = "import ctypes\n[ctypes.CDLL(None).prctl(24, right, 0, 0, 0) for right in (1, 2)]"
"""Takes from root, for what is started next, the right to read what modes forbid (PR_CAPBSET_DROP)."""


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs Linux")
def test_a_folder_that_may_not_be_read_is_answered_with_its_error(ask: Ask, photo: Path, tmp_path: Path) -> None:
    for name, mode in (("shut", 0o000), ("blind", 0o600)):
        (tmp_path / "all" / name).mkdir(parents=True)
        shutil.copy(photo, tmp_path / "all" / name / "x.jpg")
        (tmp_path / "all" / name).chmod(mode)
    shutil.copy(photo, tmp_path / "all" / "good.jpg")
    locked = tmp_path / "all" / "locked"
    shutil.copy(photo, locked)
    locked.chmod(0o000)
    try:
        outcome = ask("all", "--json", program=after(DROP))
    finally:
        for name in ("shut", "blind"):
            (tmp_path / "all" / name).chmod(0o700)
    found = {answer["path"]: answer.get("error") for answer in json.loads(outcome.stdout)}
    assert found == {
        "all/blind/x.jpg": "cannot be read: permission denied",
        "all/good.jpg": None,
        "all/locked": "cannot be read: permission denied",
        "all/shut": "cannot be listed: permission denied",
    }


# What is printed


def test_a_program_always_gets_the_best_label(ask: Ask, photo: Path, tmp_path: Path) -> None:
    strange = tmp_path / "noise.png"
    Image.effect_noise((200, 160), 200).save(strange)
    answers = json.loads(ask(photo, strange, "--json", "--top", "3", code=0).stdout)
    for row, answer in zip(rows(ask(photo, strange, "--top", "3", code=0)), answers, strict=True):
        path, label, probability, rejected, *others = row
        assert path == answer["path"]
        assert rejected == ("true" if answer["none_of_these"] else "false")
        told = [label, probability, *others]
        assert told == [part for pair in answer["top"] for part in (pair["label"], f"{pair['probability']:.4f}")]
        assert len(others) == 4


@pytest.mark.parametrize("top", ["3", "4", "1000000", "9" * 30])
def test_a_huge_top_is_all_classes(top: str, ask: Ask, photo: Path) -> None:
    assert len(rows(ask(photo, "--top", top, code=0))[0]) == 8


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_full_stdout_is_an_error(more: tuple[str, ...], ask: Ask, place: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        ask(place / "many", *more, stdout=full.fileno(), says="stdout cannot be written: no space is left")


@pytest.mark.skipif(os.name == "nt", reason="Windows has other pipes")
@pytest.mark.parametrize("lines", [0, 1, 70])
def test_a_reader_that_has_enough_stops_the_work(lines: int, ask: Ask, place: Path) -> None:
    reading, writing = os.pipe()

    def read(process: subprocess.Popen[bytes]) -> None:
        os.close(writing)
        with os.fdopen(reading, "rb", buffering=0) as pipe:
            left = lines
            while left > 0:
                left -= pipe.read(1) == b"\n"

    outcome = ask(*[place / "many"] * 20, code=0, stdout=writing, while_running=read)
    assert outcome.stderr == ""  # not one of the twenty errors: it ended before


def test_answers_come_as_soon_as_they_are_known(ask: Ask, place: Path) -> None:
    reading, writing = os.pipe()
    ended: list[bool] = []

    def read(process: subprocess.Popen[bytes]) -> None:
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            for _ in pipe:
                ended.append(has_ended(process))

    ask(place / "many", stdout=writing, while_running=read)
    assert len(ended) == MANY - 1
    assert not any(ended[: MANY // 2])


def test_the_json_of_a_stream_is_one_document(ask: Ask, place: Path) -> None:
    found = json.loads(ask(place / "many", "--json").stdout)
    assert [answer["path"] for answer in found] == [str(place / "many" / f"{i:03}.jpg") for i in range(MANY)]
    assert [bool(answer.get("error")) for answer in found].count(True) == 1
    assert ask(place / "run" / "logs", "--json", code=0).stdout == "[]\n"


# Paths on stdin


STDIN = [
    (b"good.jpg\n", ["good.jpg"], 0),
    (b"good.jpg", ["good.jpg"], 0),
    (b"\n\n\ngood.jpg\n\n", ["good.jpg"], 0),
    (b"good.jpg\r\ngood.jpg\r\n", ["good.jpg", "good.jpg"], 0),
    (b"good.jpg\0a\nb.jpg\0", ["good.jpg", "a\nb.jpg"], 1),
    (b"\0\0good.jpg\0\0", ["good.jpg"], 0),
    (b"none.jpg\ngood.jpg\n", ["none.jpg", "good.jpg"], 1),
    (b"\xff\xfe\n", [os.fsdecode(b"\xff\xfe")], 1),
    (b"\x1b[2J\n", ["\x1b[2J"], 1),
    (b"demo:elpv\nhttps://example.com/x.zip\nhf:beans\n", ["demo:elpv", "https:/example.com/x.zip", "hf:beans"], 1),
    (b"-\n--top\n", ["-", "--top"], 1),
    (b" good.jpg\n", [" good.jpg"], 1),
    (b"", [], 0),
    (b"\n" * 100_000, [], 0),
    (b"photos\n", ["photos/000.jpg", "photos/001.jpg"], 0),
    (b"good.jpg\na\0b.jpg\n", ["good.jpg\na", "b.jpg\n"], 1),
]


@pytest.mark.parametrize(
    ("given", "paths", "code"), STDIN, ids=lambda value: getattr(value, "__name__", repr(value))[:30]
)
def test_paths_come_on_stdin(given: bytes, paths: list[str], code: int, ask: Ask, photo: Path, tmp_path: Path) -> None:
    draw_folder(tmp_path, {"photos": 2})
    outcome = ask("-", "--json", stdin=given, code=code)
    assert [answer["path"] for answer in json.loads(outcome.stdout)] == paths
    assert outcome.stderr == ("" if paths else "warning: no path came on stdin\n")


@pytest.mark.parametrize("given", [b"x" * 2_000_000, os.urandom(1) + b"\x01" * 300_000])
def test_what_is_no_list_of_paths_is_refused(given: bytes, ask: Ask) -> None:
    ask("-", stdin=given, says="there is no end of a path in 65536 bytes of stdin; wanted one path a line")


def test_each_line_is_answered_before_the_next_one_comes(ask: Ask, photo: Path, place: Path, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    given = tmp_path / "given"
    os.mkfifo(given)
    told: list[bytes] = []

    def talk(process: subprocess.Popen[bytes]) -> None:
        os.close(writing)
        with given.open("wb", buffering=0) as lines, os.fdopen(reading, "rb") as answers:
            for _ in range(3):
                lines.write(b"good.jpg\n")
                told.append(answers.readline())

    program = after(f"os.dup2(os.open({str(given)!r}, os.O_RDONLY), 0)")
    ask("-", code=0, stdout=writing, while_running=talk, program=program)
    assert len(told) == 3
    assert all(line.startswith(b"good.jpg\t") for line in told)


def test_a_closed_stdin_has_no_paths(ask: Ask) -> None:
    assert "no path came on stdin" in ask("-", code=0, program=after("os.close(0)")).stderr


# Answers in a file


@pytest.fixture(scope="module")
def whole(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the undisturbed answers to the many photos, in each format."""
    root = tmp_path_factory.mktemp("whole")
    for suffix in ("csv", "jsonl", "parquet"):
        tokens = ("predict", place / "run", place / "many", "--out", f"out.{suffix}", "-q")
        outcome = run_hostile(*tokens, cwd=root, environment=environment(place), limit=60)
        assert (outcome.code, outcome.stdout, outcome.stderr) == (1, "", "")  # one of the photos is none
    return root


KILLS = [
    *[("csv", count, signal.SIGKILL) for count in range(5)],
    ("csv", 1, signal.SIGINT),
    ("csv", 3, signal.SIGINT),
    ("jsonl", 2, signal.SIGKILL),
    ("parquet", 3, signal.SIGKILL),
]


@pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")
@pytest.mark.parametrize(("suffix", "chunks", "sign"), sampled(KILLS, 3))
def test_a_command_that_was_stopped_goes_on(
    suffix: str, chunks: int, sign: signal.Signals, ask: Ask, place: Path, whole: Path, tmp_path: Path
) -> None:
    log = tmp_path / f"out.{suffix}.partial"

    def stop(process: subprocess.Popen[bytes]) -> None:
        while not log.exists() or log.read_bytes().count(b"\n") <= chunks:
            time.sleep(0.001)
        process.send_signal(sign)

    command = (place / "many", "--out", f"out.{suffix}")
    ask(*command, code=-9 if sign is signal.SIGKILL else 130, while_running=stop)
    assert not (tmp_path / f"out.{suffix}").exists()
    done = json.loads(ask(*command, "--json").stdout)
    assert done["before"] >= 64 * chunks
    assert (done["photos"], done["unreadable"]) == (MANY, 1)
    assert (tmp_path / f"out.{suffix}").read_bytes() == (whole / f"out.{suffix}").read_bytes()
    assert [path.name for path in tmp_path.iterdir() if ".tmp" in path.name or ".partial" in path.name] == []


OUT = [
    ("answers", "has no known suffix; wanted a file that ends in .csv, .jsonl, .parquet"),
    ("answers.txt", "has no known suffix"),
    ("/dev/full", "has no known suffix"),
    ("/dev/stdout", "has no known suffix"),
    ("folder.csv", "--out folder.csv is a folder; wanted a file"),
    ("there.csv", "there.csv is there already; delete it, or type another --out"),
    ("link.csv", "link.csv is there already"),
    ("fifo.csv", "fifo.csv is there already"),
    ("good.jpg/answers.csv", "cannot be written: not a directory"),
    ("x" * 300 + ".csv", "cannot be written: file name too long"),
    ("/proc/answers.csv", "cannot be written"),
    ("theirs.csv", "theirs.csv.partial is there and was not written by regraft predict; delete it"),
    ("shut/answers.csv", "shut/answers.csv cannot be written: permission denied"),
    ("locked.csv", "locked.csv.partial cannot be written: permission denied"),
]


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs Linux")
@pytest.mark.parametrize(("name", "says"), OUT, ids=lambda value: str(value)[:30])
def test_where_answers_cannot_go_is_one_line(name: str, says: str, ask: Ask, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "there.csv").write_text("somebody's")
    (tmp_path / "link.csv").symlink_to("there.csv")
    os.mkfifo(tmp_path / "fifo.csv")
    (tmp_path / "theirs.csv.partial").write_text("somebody's")
    (tmp_path / "shut").mkdir(mode=0o000)
    (tmp_path / "locked.csv.partial").touch(mode=0o000)
    try:
        ask(photo, "--out", name, says=says.replace(".", r"\."), program=after(DROP))
    finally:
        (tmp_path / "shut").chmod(0o700)
    assert (tmp_path / "there.csv").read_text() == "somebody's"
    assert (tmp_path / "theirs.csv.partial").read_text() == "somebody's"


def test_answers_of_another_run_are_not_mixed(ask: Ask, place: Path, hostile: Hostile, tmp_path: Path) -> None:
    log = tmp_path / "out.csv.partial"

    def stop(process: subprocess.Popen[bytes]) -> None:
        while not log.exists() or log.read_bytes().count(b"\n") < 2:
            time.sleep(0.001)
        process.kill()

    ask(place / "many", "--out", "out.csv", code=-9, while_running=stop)
    shutil.copytree(place / "run", tmp_path / "other")
    manifest = tmp_path / "other" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"regraft": "', '"regraft": "0.'))
    again = ("predict", "other", place / "many", "--out", "out.csv")
    hostile(*again, environment=environment(place), says="was begun with another run; delete it")
    ask(place / "many", "--out", "out.csv", "--top", "2", says="was begun with another --top; delete it")
    (tmp_path / "few").mkdir()
    shutil.copy(place / "many" / "000.jpg", tmp_path / "few")
    ask("few", "--out", "out.csv", says=r"was begun with other photos \(.*000.jpg was number 1\); delete it")
    assert log.exists()


def test_stdin_and_a_folder_give_the_same_file(ask: Ask, place: Path, whole: Path, tmp_path: Path) -> None:
    listed = "\n".join(str(path) for path in sorted((place / "many").iterdir()))
    ask("-", "--out", "out.csv", stdin=listed.encode())
    assert (tmp_path / "out.csv").read_bytes() == (whole / "out.csv").read_bytes()
    ask("-", "--out", "out.csv", stdin=listed.encode(), says="out.csv is there already; delete it")


LIMIT = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}))"


@pytest.mark.skipif(os.name == "nt", reason="needs limits of POSIX")
@pytest.mark.parametrize("size", [200, 5_000, 20_000, 40_000])
def test_a_disk_that_is_full_keeps_what_was_answered(
    size: int, ask: Ask, place: Path, whole: Path, tmp_path: Path
) -> None:
    command = (place / "many", "--out", "out.csv")
    ask(*command, program=after(LIMIT.format(size)), says="cannot be written: file too large")
    assert not (tmp_path / "out.csv").exists()
    assert ask(*command, "-q").stderr == ""
    assert (tmp_path / "out.csv").read_bytes() == (whole / "out.csv").read_bytes()


def test_what_is_in_the_file_is_said_once(ask: Ask, place: Path) -> None:
    outcome = ask(place / "many", "--out", "new/out.csv")
    assert outcome.stdout == ""
    assert outcome.stderr.startswith(f"{MANY} answers are in new/out.csv: ")
    assert outcome.stderr.endswith("none of these, 1 could not be read\n")


# Ctrl-C


@pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")
@pytest.mark.parametrize("seconds", [0.1, 0.3, 0.5, 0.7, 1.0])
def test_ctrl_c_is_answered_at_any_time(seconds: float, hostile: Hostile, place: Path, tmp_path: Path) -> None:
    many = [place / "many"] * 5
    interrupt(
        hostile, tmp_path, "predict", place / "run", *many, when=in_so_long(seconds), environment=environment(place)
    )


@pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")
@pytest.mark.parametrize("seconds", [0.4, 0.8, 1.6])
def test_ctrl_c_ends_what_builds_the_network(seconds: float, hostile: Hostile, place: Path, tmp_path: Path) -> None:
    cold = {"REGRAFT_CACHE": str(tmp_path / "cold")}
    command = ("predict", place / "run", place / "many")
    interrupt(hostile, tmp_path, *command, when=in_so_long(seconds), environment=cold)


@pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")
def test_ctrl_c_is_answered_while_stdin_is_waited_for(hostile: Hostile, place: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    reads = "os.dup2(os.open('fifo', os.O_RDWR), 0)"
    command = ("predict", place / "run", "-")
    interrupt(hostile, tmp_path, *command, when=in_so_long(1.0), environment=environment(place), code=reads)
