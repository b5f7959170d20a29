"""Where results go: places that are taken, odd, full or read-only, and two processes that want the same one."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from regraft import Classifier, TrainConfig, train
from regraft.errors import ConfigError, RunError
from regraft.foundation import claims
from regraft.foundation.claims import TakenError, claim
from regraft.foundation.places import Product, claimed, locked, require_free
from tests.hostile.conftest import Hostile

THING = Product("a thing", lambda path: (path / "thing").is_file())


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, photos: Path, warm_cache: Path) -> Path:
    """A run, and a cache that has its features. Not to be changed: copy it first."""
    folder = tmp_path_factory.mktemp("trained")
    shutil.copytree(warm_cache, folder / "cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGRAFT_CACHE", str(folder / "cache"))
        train(photos, folder / "run", TrainConfig(effort="quick"))
    return folder / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path, cache: Path) -> Path:
    """A copy that may be changed; all that training computes of its photos is in the test's cache."""
    shutil.copytree(trained.parent / "cache", cache, dirs_exist_ok=True)
    return Path(shutil.copytree(trained, tmp_path / "run"))


def started(*arguments: str | Path, cwd: Path) -> subprocess.Popen[str]:
    """Start the command line, and go on without waiting for it."""
    command = [sys.executable, "-m", "regraft", *map(str, arguments)]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")


def wait_until(happened: Callable[[], bool], process: subprocess.Popen[str], limit: float = 60.0) -> None:
    """Wait for something that a process does, as long as it runs."""
    end = time.monotonic() + limit
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.002)


def claim_files(folder: Path) -> list[Path]:
    return list(folder.glob(".regraft-*.claim"))


def under_way(folder: Path) -> list[Path]:
    """The hidden folders in which results are being written; their places are claimed, and were looked at."""
    return list(folder.glob(".tmp-*/new"))


def left(folder: Path) -> set[str]:
    """What is in a folder, but for what the tests themselves put there."""
    return {path.name for path in folder.iterdir()} - {"cache", "run", "photos"}


# -- two processes, one place ------------------------------------------------------------------------------------------


def test_the_second_training_to_one_place_is_told_at_once(
    photos: Path, tmp_path: Path, run: Path, hostile: Hostile
) -> None:
    first = started("train", photos, "--effort", "quick", "--salt", "2", "--out", "new", cwd=tmp_path)
    wait_until(lambda: bool(under_way(tmp_path)), first)
    first.send_signal(signal.SIGSTOP)  # or it would be done before the second one has begun
    hostile(
        "train",
        photos,
        "--out",
        "new",
        "--overwrite",
        says=rf"another regraft \(process {first.pid} on .*is writing to",
    )
    first.send_signal(signal.SIGCONT)
    _, told = first.communicate()
    assert first.returncode == 0, told
    assert Classifier.load(tmp_path / "new").config.salt == "2"
    assert left(tmp_path) == {"new"}


def test_a_folder_that_appears_meanwhile_is_left_alone(photos: Path, tmp_path: Path, run: Path) -> None:
    training = started("train", photos, "--effort", "quick", "--out", "new", "--json", cwd=tmp_path)
    wait_until(lambda: bool(under_way(tmp_path)), training)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "thesis.txt").write_text("precious")
    out, told = training.communicate()
    assert training.returncode == 0
    assert "new appeared or changed meanwhile and was left alone: the result is in" in told
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["thesis.txt"]
    assert json.loads(out)["run"] == "new-2"
    assert Classifier.load(tmp_path / "new-2").classes
    assert left(tmp_path) == {"new", "new-2"}


def test_a_run_that_changes_while_it_is_to_be_replaced_is_left_alone(photos: Path, tmp_path: Path, run: Path) -> None:
    training = started("train", photos, "--effort", "quick", "--out", "run", "--overwrite", cwd=tmp_path)
    wait_until(lambda: bool(under_way(tmp_path)), training)
    (tmp_path / "run" / "notes.txt").write_text("precious")
    _, told = training.communicate()
    assert training.returncode == 0
    assert "left alone" in told
    assert (tmp_path / "run" / "notes.txt").read_text() == "precious"
    assert Classifier.load(tmp_path / "run-2").classes


def test_names_that_nobody_typed_never_collide(photos: Path, tmp_path: Path, run: Path) -> None:
    trainings = [started("train", photos, "--effort", "quick", "--json", cwd=tmp_path) for _ in range(4)]
    found = [json.loads(training.communicate()[0])["run"] for training in trainings]
    assert sorted(found) == ["runs/photos", "runs/photos-2", "runs/photos-3", "runs/photos-4"]
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {Path(name).name for name in found}


VERBS: dict[str, tuple[str, ...]] = {
    "train": ("train", "PHOTOS", "--out", "OUT"),
    "sweep": ("sweep", "PHOTOS", "--out", "OUT"),
    "shard": ("shard", "PHOTOS", "--out", "OUT"),
    "export": ("export", "RUN", "--format", "openvino", "--out", "OUT"),
    "finetune": ("finetune", "RUN", "--out", "OUT"),
    "check": ("check", "PHOTOS", "--write", "OUT"),
}


def typed(verb: str, photos: Path, out: str | Path) -> list[str | Path]:
    meant: dict[str, str | Path] = {"PHOTOS": photos, "RUN": "run", "OUT": out}
    return [meant.get(word, word) for word in VERBS[verb]]


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "check"])
def test_every_verb_is_told_who_else_writes(
    verb: str, photos: Path, tmp_path: Path, run: Path, hostile: Hostile
) -> None:
    with locked(tmp_path / "new", THING):
        hostile(*typed(verb, photos, "new"), says=rf"another regraft \(process {os.getpid()} .*type another --out")
        assert not (tmp_path / "new").exists()
    assert left(tmp_path) == set()


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_leaves_what_is_not_its_own(
    verb: str, photos: Path, tmp_path: Path, run: Path, hostile: Hostile
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    overwrite = ["--overwrite"] if verb in ("train", "export", "finetune") else []
    if verb == "sweep":  # trials may join other things; what is called like one of its own is not replaced
        (tmp_path / "mine").rename(tmp_path / "best")
        (tmp_path / "mine").mkdir()
        (tmp_path / "best").rename(tmp_path / "mine" / "best")
    hostile(*typed(verb, photos, "mine"), *overwrite, says=r"is there already.*type another --(out|write)")
    assert next((tmp_path / "mine").rglob("thesis.txt")).read_text() == "precious"


ODD: dict[str, tuple[str, str]] = {
    "here": (".", r"'\.' cannot be replaced|type another --(out|write)"),
    "the folder above": ("..", r"'\.\.' cannot be replaced|type another --(out|write)"),
    "the root": ("/", r"'/' cannot be replaced|type another --(out|write)"),
    "a file": ("file", r"file is there already"),
    "in a file": ("file/new", r"file is no folder, so file/new cannot be in it"),
    "deep in a file": ("file/a/b/new", r"file is no folder, so file/a/b/new cannot be in it"),
    "a name too long": ("x" * 300, r"the name is too long"),
    "a path too long": ("x/" * 3000 + "x", r"the name is too long"),
    "a user who is not known": ("~nosuchuser/new", r"~nosuchuser"),
    "in a circle of links": ("loop/new", r"links lead in a circle|is no folder"),
    "a device": ("/dev/full", r"is there already"),
    "in a device": ("/dev/null/new", r"/dev/null is no folder"),
    "where nobody writes": ("/proc/new", r"/proc/new: (there is no such|permission denied|the disk is read-only)"),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", ODD)
def test_odd_places_are_told_before_the_work(
    verb: str, name: str, photos: Path, tmp_path: Path, run: Path, hostile: Hostile
) -> None:
    (tmp_path / "file").write_text("precious")
    (tmp_path / "loop").symlink_to("loop")
    out, says = ODD[name]
    hostile(*typed(verb, photos, out), says=says)
    assert (tmp_path / "file").read_text() == "precious"
    assert left(tmp_path) == {"file", "loop"}


@pytest.mark.parametrize("verb", VERBS)
def test_an_empty_place_is_wrong_usage(verb: str, photos: Path, tmp_path: Path, run: Path, hostile: Hostile) -> None:
    hostile(*typed(verb, photos, ""), code=2, says=r"argument --(out|write): an empty text; wanted")
    assert left(tmp_path) == set()


def test_folders_made_above_a_failed_result_are_gone(tmp_path: Path, hostile: Hostile) -> None:
    hostile("train", "nothing", "--out", "a/b/c", says="there is no nothing")
    assert not (tmp_path / "a").exists()


# -- what a killed process leaves --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_training_that_is_killed_blocks_nobody(
    number: signal.Signals, photos: Path, tmp_path: Path, run: Path, hostile: Hostile
) -> None:
    training = started("train", photos, "--effort", "quick", "--out", "new", cwd=tmp_path)
    # A kill in the microseconds before the claim is written leaves an empty file, which the next command names.
    wait_until(lambda: any(file.stat().st_size for file in claim_files(tmp_path)), training)
    training.send_signal(number)
    training.communicate()
    assert not (tmp_path / "new").exists()
    if number == signal.SIGINT:
        assert left(tmp_path) == set()
    hostile("train", photos, "--effort", "quick", "--out", "new", code=0, limit=60)
    assert left(tmp_path) == {"new"}


def test_a_kill_between_two_renames_loses_nothing(photos: Path, tmp_path: Path, run: Path, hostile: Hostile) -> None:
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    ours = claim(run)
    run.rename(ours.shelter / "replaced")  # as `claimed` does it, a moment before the new one takes its place
    written = json.loads(ours.file.read_text())
    ours.file.write_text(json.dumps({**written, "pid": dead.pid}))
    told = hostile("train", photos, "--out", "run", says="run is there already; type --overwrite to replace it")
    assert "again what it was before a process was killed" in told.stderr
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before
    assert left(tmp_path) == set()


def _as(ours: Path, **changes: object) -> None:
    ours.write_text(json.dumps({**json.loads(ours.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "taken"),
    [
        ({}, True),
        ({"began": "1"}, False),  # another process has the number now
        ({"host": "elsewhere"}, True),  # of another machine's nothing can be known
        ({"pid": 2**22 + 1}, False),
        ({"pid": 0}, None),
        ({"shelter": "../../home"}, None),
        ({"shelter": ".tmp-0"}, None),
        ({"pid": "1"}, None),
    ],
)
def test_whose_claim_it_is_decides(changes: dict[str, object], taken: bool | None, tmp_path: Path) -> None:
    """A claim that says nothing counts as one that is just being written, for ten seconds."""
    held = claim(tmp_path / "place")
    _as(held.file, **changes)
    if taken is None:
        with pytest.raises(TakenError, match="another regraft is writing"):
            claim(tmp_path / "place")
        os.utime(held.file, (time.time() - 60, time.time() - 60))
    if taken:
        with pytest.raises(TakenError, match=r"another regraft \(process .*if there is none, delete"):
            claim(tmp_path / "place")
    else:
        claim(tmp_path / "place").release()
        assert not claim_files(tmp_path)


def test_of_two_that_find_a_dead_claim_one_gets_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one reads the dead claim, and the first one takes it over before the second one goes on."""
    _as(claim(tmp_path / "place").file, began="1")
    has_read, read = threading.Event(), claims._Owner.read

    def slowly(file: Path) -> object:
        found = read(file)
        if threading.current_thread() is second and not has_read.is_set():
            has_read.set()
            time.sleep(0.5)  # long enough for the first one, if nothing makes it wait
        return found

    monkeypatch.setattr(claims._Owner, "read", slowly)
    held: list[claims.Claim] = []

    def take() -> None:
        with suppress(TakenError):
            held.append(claim(tmp_path / "place"))

    second = threading.Thread(target=take)
    second.start()
    has_read.wait(10)
    take()
    second.join()
    assert len(held) == 1


def test_a_claim_of_a_stranger_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("precious")
    (tmp_path / "in").mkdir()
    held = claim(tmp_path / "in" / "place")
    shutil.rmtree(held.shelter)
    held.shelter.symlink_to(tmp_path / "home")
    _as(held.file, began="1")
    claim(tmp_path / "in" / "place").release()
    assert (tmp_path / "home" / "thesis.txt").read_text() == "precious"


def test_a_claim_that_is_a_pipe_does_not_wait(tmp_path: Path) -> None:
    held = claim(tmp_path / "place")
    held.file.unlink()
    os.mkfifo(held.file)
    with pytest.raises(TakenError):
        claim(tmp_path / "place")


RACE = """
import sys, pathlib
from regraft.foundation.places import Product, claimed
from regraft.errors import RunError
done = 0
for number in range(60):
    try:
        with claimed("place", Product("a thing", lambda p: (p / "thing").is_file(), overwrite="")) as place:
            (place.fresh / "thing").write_text(sys.argv[1] + " " * 100)
            (place.fresh / "whole").write_text(sys.argv[1] + " " * 100)
        done += place.path == pathlib.Path("place")
    except RunError as error:
        assert "another regraft" in str(error), error
print(done)
"""


def test_eight_processes_that_want_one_place_leave_one_whole_result(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(n)], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for n in range(8)
    ]
    found = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0] * 8, found
    assert sum(int(out) for out, _ in found) >= 8
    assert (tmp_path / "place" / "thing").read_text() == (tmp_path / "place" / "whole").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"place"}


def test_a_place_that_is_replaced_while_it_is_looked_at_is_looked_at_again(tmp_path: Path) -> None:
    for name in ("place", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thing").touch()
    seen: list[bool] = []

    def is_ours(path: Path) -> bool:
        if not seen:  # another process moves the old content away and puts the new one there
            path.rename(tmp_path / "old")
            seen.append((path / "thing").exists())
            (tmp_path / "new").rename(path)
        else:
            seen.append((path / "thing").exists())
        return seen[-1]

    require_free(tmp_path / "place", Product("a thing", is_ours, overwrite=""))
    assert seen == [False, True]


# -- one place, in Python ----------------------------------------------------------------------------------------------


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    with claimed(tmp_path / "place", THING) as place:
        (place.fresh / "thing").write_text("old")
    with pytest.raises(FileExistsError), claimed(tmp_path / "place", THING, overwrite=True) as place:
        place.fresh.mkdir()  # it is there
    assert (tmp_path / "place" / "thing").read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"place"}


def test_an_empty_folder_and_a_link_to_one_are_free(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to("far")
    (tmp_path / "dangling").symlink_to("nearby")
    for name in ("link", "dangling"):
        with claimed(tmp_path / name, THING) as place:
            (place.fresh / "thing").write_text("new")
        assert place.path == tmp_path / name
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / name / "thing").read_text() == "new"


def test_a_file_that_appears_is_left_alone(tmp_path: Path) -> None:
    table = Product("a table", None, option="--write", error=ConfigError)
    with claimed(tmp_path / "a.csv", table, file=True) as place:
        place.fresh.write_text("ours")
        (tmp_path / "a.csv").write_text("theirs")
    assert place.path == tmp_path / "a-2.csv"
    assert ((tmp_path / "a.csv").read_text(), place.path.read_text()) == ("theirs", "ours")
    with (
        pytest.raises(ConfigError, match=r"a\.csv is there already; type another --write, or delete it"),
        claimed(tmp_path / "a.csv", table, file=True),
    ):
        pass


def half(fresh: Path) -> None:
    (fresh / "half").write_text("new")


def test_work_in_place_keeps_what_it_replaces_until_it_is_done(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    (place / "thing").write_text("old")
    with locked(place, THING) as site:
        site.begin(half)
        assert {path.name for path in place.iterdir()} == {"half", "replaced"}
        assert (place / "replaced" / "thing").read_text() == "old"
        site.put_back()
        assert {path.name for path in place.iterdir()} == {"thing"}
    assert {path.name for path in tmp_path.iterdir()} == {"place"}
    with locked(tmp_path / "other", THING) as site:
        site.begin(half)
    assert (tmp_path / "other").stat().st_mode == place.stat().st_mode


# -- full and read-only disks ------------------------------------------------------------------------------------------

LIMITED = (
    "-c",
    "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2); del sys.argv[1]; "
    "from regraft.cli.verbs import main; sys.exit(main())",
)


@pytest.mark.parametrize("most", [600, 2000, 5000, 11000, 13000])
def test_a_disk_that_takes_no_more_is_told(
    most: int, photos: Path, tmp_path: Path, run: Path, hostile: Hostile
) -> None:
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    words = (str(most), "train", photos, "--effort", "quick", "--out", "run", "--overwrite")
    hostile(*words, program=LIMITED, says=r"run(/[^:]*)?: the file would be larger than this system allows")
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before
    assert left(tmp_path) == set()


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a small disk in memory, with options of ``mount``; skips, saying so, where that is not allowed."""
    points: list[Path] = []

    def mount(options: str) -> Path:
        point = tmp_path / f"disk-{len(points)}"
        point.mkdir()
        if shutil.which("mount") is None or os.geteuid() != 0:
            pytest.skip("only the superuser may mount a small disk")
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", point], capture_output=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"no small disk can be mounted here: {done.stderr.decode().strip()}")
        points.append(point)
        return point

    yield mount
    for point in points:
        subprocess.run(["umount", "-l", point], check=True)


@pytest.mark.parametrize("kibibytes", [4, 8, 16, 24, 32, 48, 64, 128])
def test_a_full_disk_is_told(
    kibibytes: int, photos: Path, run: Path, hostile: Hostile, mounted: Callable[[str], Path]
) -> None:
    disk = mounted(f"size={kibibytes}k")
    out = disk / "new"
    words = ("train", photos, "--effort", "quick", "--out", out)
    whole = kibibytes >= 128
    outcome = hostile(
        *words, code=0 if whole else 1, says=None if whole else rf"{disk}/new.*: no space is left on the disk"
    )
    assert outcome.code in (0, 1)
    if whole:
        Classifier.load(out)
    assert {path.name for path in disk.iterdir()} == ({"new"} if whole else set())


@pytest.mark.parametrize("kibibytes", [32, 4096])
def test_an_export_to_a_full_disk_is_told(
    kibibytes: int, run: Path, hostile: Hostile, mounted: Callable[[str], Path]
) -> None:
    disk = mounted(f"size={kibibytes}k")
    says = "cannot write model.xml .*free space on the disk|no space is left on the disk"
    hostile("export", run, "--format", "openvino", "--out", disk / "new", says=says)
    assert list(disk.iterdir()) == []


@pytest.mark.parametrize("verb", VERBS)
def test_a_read_only_disk_is_told_before_the_work(
    verb: str, photos: Path, run: Path, hostile: Hostile, mounted: Callable[[str], Path]
) -> None:
    out = mounted("ro,size=1m") / "new"
    hostile(*typed(verb, photos, out), says=rf"{out}: the disk is read-only; choose another place")


def test_a_disk_is_not_replaced(photos: Path, run: Path, hostile: Hostile, mounted: Callable[[str], Path]) -> None:
    disk = mounted("size=8m")
    hostile("train", photos, "--out", disk, says=r"a disk is mounted at .*type --out with a new folder in it")
    hostile("train", photos, "--effort", "quick", "--out", disk / "new", code=0, limit=60)


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_all_files_of_a_run_have_the_modes_that_the_user_wants(
    umask: int, photos: Path, tmp_path: Path, run: Path, hostile: Hostile
) -> None:
    program = (
        "-c",
        f"import os, sys; os.umask({umask}); from regraft.cli.verbs import main; sys.exit(main())",
    )
    hostile("train", photos, "--effort", "quick", "--out", "new", program=program, code=0, limit=60)
    for path in (tmp_path / "new", *(tmp_path / "new").rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o777 if path.is_dir() else 0o666) & ~umask, path


# -- streams that are closed or full -----------------------------------------------------------------------------------

TALKING: tuple[tuple[str, ...], ...] = (
    ("--help",),
    ("train", "--help"),
    ("info",),
    ("info", "run"),
    ("info", "cache"),
    ("predict", "run", "PHOTOS/circle/000.jpg"),
    ("predict", "run", "PHOTOS/circle/000.jpg", "--json"),
    ("evaluate", "run", "PHOTOS", "--json"),
    ("train", "PHOTOS", "--effort", "quick", "--out", "new"),
    ("shard", "PHOTOS", "--out", "new"),
)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", TALKING, ids=" ".join)
def test_a_full_stdout_is_told(
    words: tuple[str, ...], unbuffered: str, photos: Path, run: Path, hostile: Hostile
) -> None:
    typed = [word.replace("PHOTOS", str(photos)) for word in words]
    with Path("/dev/full").open("wb") as full:
        outcome = hostile(
            *typed,
            stdout=full.fileno(),
            environment={"PYTHONUNBUFFERED": unbuffered},
            says="no space is left on the disk",
        )
    assert outcome.stdout == ""


@pytest.mark.parametrize("words", [*TALKING, ("nonsense",)], ids=" ".join)
def test_a_closed_stdout_is_told_before_the_work(
    words: tuple[str, ...], photos: Path, tmp_path: Path, run: Path, hostile: Hostile
) -> None:
    typed = [word.replace("PHOTOS", str(photos)) for word in words]
    program = (
        "-c",
        "import os, sys; os.close(1); os.execv(sys.executable, [sys.executable, '-m', 'regraft', *sys.argv[1:]])",
    )
    hostile(*typed, program=program, says="stdout is closed")
    assert left(tmp_path) == set()


def test_a_closed_or_full_stderr_changes_no_answer(photos: Path, run: Path, hostile: Hostile) -> None:
    for how in ("os.close(2)", "os.dup2(os.open('/dev/full', os.O_WRONLY), 2)", "os.close(0)"):
        program = (
            "-c",
            f"import os, sys; {how}; os.execv(sys.executable, [sys.executable, '-m', 'regraft', *sys.argv[1:]])",
        )
        outcome = hostile("predict", "run", photos / "circle" / "000.jpg", program=program, code=0)
        assert "circle" in outcome.stdout
        hostile("predict", "none", photos, program=program, code=1)


def test_a_reader_that_has_had_enough_is_no_error(photos: Path, tmp_path: Path, run: Path) -> None:
    command = f"{sys.executable} -m regraft info run | head -1"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("run: run\n", "")


# -- the classic commands ----------------------------------------------------------------------------------------------


def test_the_classic_commands_ask_the_same_question(photos: Path, tmp_path: Path, run: Path, hostile: Hostile) -> None:
    retrain = ("-m", "regraft.compat.retrain")
    words = ["--image_dir", photos, "--architecture", "efficientnet_lite0", "--output_graph", "graph.xml"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    hostile(
        *words,
        "--checkpoint_path",
        "mine",
        program=retrain,
        says="is not a run of regraft-retrain.*another --checkpoint_path",
    )
    hostile(*words, "--checkpoint_path", run, program=retrain, says="is not a run of regraft-retrain")
    with locked(tmp_path / "claimed", THING):
        hostile(
            *words, "--checkpoint_path", "claimed", program=retrain, says="another regraft .*another --checkpoint_path"
        )
    hostile(
        *("--train_directory", photos, "--validation_directory", "none", "--output_directory", "mine"),
        program=("-m", "regraft.compat.build_image_data"),
        says="there is no none|is not a folder of shards",
    )
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"


def test_labels_are_never_written_over_a_photo(photos: Path, tmp_path: Path) -> None:
    from regraft.compat._outputs import write_labels
    from regraft.errors import ExportError

    photo = Path(shutil.copy(photos / "circle" / "000.jpg", tmp_path / "photo.jpg"))
    before = photo.read_bytes()
    with pytest.raises(ExportError, match="is not a text file"):
        write_labels(["a", "b"], photo)
    assert photo.read_bytes() == before
    for classes in (["a", "b"], ["c", "d"]):
        write_labels(classes, tmp_path / "labels.txt")
    assert (tmp_path / "labels.txt").read_text() == "c\nd\n"


def test_a_plot_is_never_drawn_over_a_photo(photos: Path, tmp_path: Path, run: Path, hostile: Hostile) -> None:
    pytest.importorskip("matplotlib")
    photo = shutil.copy(photos / "circle" / "000.jpg", tmp_path / "photo.jpg")
    before = Path(photo).read_bytes()
    hostile("predict", "run", photo, "--plot", photo, says="photo.jpg is there already and is not a plot of ours")
    assert Path(photo).read_bytes() == before
    for _ in range(2):
        hostile("predict", "run", photo, "--plot", "plot.png", code=0, limit=60)


def test_a_machine_without_a_name_is_a_machine_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "node", lambda: "")
    with claimed(tmp_path / "place", THING) as place:
        (place.fresh / "thing").write_text("x")
        with pytest.raises(RunError, match="another regraft"), claimed(tmp_path / "place", THING):
            pass
