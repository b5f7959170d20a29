"""Damaged files in the cache give what an undamaged cache gives; a cache that cannot be written is done without."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from regraft.foundation.cache_files import write_sealed, write_value
from tests.conftest import draw_folder, sampled
from tests.hostile.conftest import Hostile, Outcome, run_hostile

Damage = Callable[[Path], None]

REBUILT = 120.0
"""Seconds that a command may take which builds a network's graph, on a busy machine."""


@dataclass(frozen=True)
class World:
    """A cache in which everything was computed, and what it gave."""

    photos: Path
    cache: Path
    run: Path
    head: bytes
    answers: str


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("world")
    photos = draw_folder(root / "photos", {"circle": 14, "Square": 14})
    cache = root / "cache"
    given: dict[str, Any] = {"cwd": root, "limit": REBUILT, "environment": {"REGRAFT_CACHE": str(cache)}}
    assert run_hostile("train", photos, "--out", "run", **given).code == 0
    answers = run_hostile("predict", "run", photos / "circle", "--json", **given)
    assert answers.code == 0
    return World(photos, cache, root / "run", (root / "run" / "head.safetensors").read_bytes(), answers.stdout)


@pytest.fixture
def cache(world: World, tmp_path: Path) -> Path:
    """A copy of the world's cache. Its files are the world's own: replace them, never write into them."""
    return shutil.copytree(world.cache, tmp_path / "cache", copy_function=os.link)


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def replaced(path: Path, data: bytes) -> None:
    """Give a file other contents, under a new inode."""
    path.unlink()
    path.write_bytes(data)


def zeroed(path: Path) -> None:
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 64] = bytes(64)
    replaced(path, bytes(data))


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    replaced(path, bytes(data))


def halved(path: Path) -> None:
    data = path.read_bytes()
    replaced(path, data[: len(data) // 2])


def emptied(path: Path) -> None:
    replaced(path, b"")


def lengthened(path: Path) -> None:
    replaced(path, path.read_bytes() + b"more")


def made_text(path: Path) -> None:
    replaced(path, b"<html>502 Bad Gateway</html>\n")


def tail_zeroed(path: Path) -> None:
    data = path.read_bytes()
    replaced(path, data[:-20] + bytes(20))


def removed(path: Path) -> None:
    path.unlink()


def made_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def made_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def made_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


ANY: list[Damage] = [zeroed, flipped, halved, emptied, made_text, tail_zeroed, made_folder, made_pipe, made_loop]


def train(hostile: Hostile, world: World, tmp_path: Path, *more: str) -> Outcome:
    """Train over the cache as it is; the head must be the world's to the bit."""
    outcome = hostile("train", world.photos, "--out", "run", "--json", *more, code=0, limit=REBUILT)
    assert (tmp_path / "run" / "head.safetensors").read_bytes() == world.head
    return outcome


def predict(hostile: Hostile, world: World) -> Outcome:
    """Predict over the cache as it is; the answers must be the world's."""
    outcome = hostile("predict", world.run, world.photos / "circle", "--json", code=0, limit=REBUILT)
    assert outcome.stdout == world.answers
    return outcome


def warnings(outcome: Outcome) -> list[str]:
    return [line for line in outcome.stderr.splitlines() if line.startswith("warning: ")]


# --- features


def rewritten(change: Callable[[pa.Table], pa.Table]) -> Damage:
    """A part that somebody wrote anew, with checksums of pages that fit: only what regraft keeps can tell."""

    def damage(path: Path) -> None:
        table = change(parquet.read_table(path))
        path.unlink()
        parquet.write_table(table, path, compression="none", use_dictionary=False, write_page_checksum=True)

    return damage


def column(name: str, change: Callable[[list[Any]], Any], kind: pa.DataType | None = None) -> Damage:
    def changed(table: pa.Table) -> pa.Table:
        place = table.schema.get_field_index(name)
        values = pa.array(change(table.column(name).to_pylist()), kind or table.schema.field(name).type)
        return table.set_column(place, name, values).replace_schema_metadata(table.schema.metadata)

    return rewritten(changed)


def facts(**changes: str | None) -> Callable[[pa.Table], pa.Table]:
    """Other metadata: None leaves an entry out."""

    def changed(table: pa.Table) -> pa.Table:
        known = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
        known |= {f"regraft.{name}": value for name, value in changes.items() if value is not None}
        return table.replace_schema_metadata(
            {key: value for key, value in known.items() if changes.get(key.removeprefix("regraft."), "") is not None}
        )

    return changed


def as_an_old_part(change: Damage) -> Damage:
    """First made a part of an earlier version, which has no checksum of its own."""

    def damage(path: Path) -> None:
        rewritten(facts(crc32=None))(path)
        change(path)

    return damage


def with_first_feature(value: float) -> Callable[[list[bytes]], list[bytes]]:
    return lambda rows: [np.float32(value).tobytes() + rows[0][4:], *rows[1:]]


def without(name: str) -> Damage:
    return rewritten(lambda table: table.drop_columns([name]))


PARTS: dict[str, tuple[Damage, str]] = {
    "digests shifted": (column("digest", lambda names: names[1:] + names[:1]), "checksum"),
    "rows shifted": (column("features", lambda rows: rows[1:] + rows[:1]), "checksum"),
    "rows reversed": (column("features", lambda rows: rows[::-1]), "checksum"),
    "one feature changed": (column("features", with_first_feature(1.5)), "checksum"),
    "thumbnails swapped": (column("look", lambda rows: rows[::-1]), "checksum"),
    "fewer rows": (rewritten(lambda table: table.slice(0, 5)), "checksum"),
    "every row twice": (rewritten(lambda table: pa.concat_tables([table, table])), "checksum"),
    "no rows": (rewritten(lambda table: table.slice(0, 0)), "0 rows"),
    "a digest missing": (column("digest", lambda names: [None, *names[1:]]), "missing from its columns digest"),
    "features missing": (column("features", lambda rows: [None, *rows[1:]]), "missing from its columns features"),
    "narrower rows": (column("features", lambda rows: [r[4:] for r in rows], pa.binary(4 * 1703)), "its columns are"),
    "wider rows": (column("features", lambda rows: [r + r[:4] for r in rows], pa.binary(4 * 1705)), "its columns are"),
    "lists of numbers": (
        column("features", lambda rows: [np.frombuffer(r, "<f4") for r in rows], pa.list_(pa.float32())),
        "its columns are",
    ),
    "digests as bytes": (column("digest", lambda names: [n.encode() for n in names], pa.binary()), "its columns are"),
    "no looks": (without("look"), "its columns are"),
    "no digests": (without("digest"), "its columns are"),
    "one column more": (
        rewritten(lambda table: table.append_column("more", table.column("digest"))),
        "its columns are",
    ),
    "columns of other names": (
        rewritten(lambda t: t.rename_columns(["d", "f", "l"]).replace_schema_metadata(t.schema.metadata)),
        "its columns are",
    ),
    "of another engine": (rewritten(facts(fingerprint="0" * 64)), "another fingerprint"),
    "of another type": (rewritten(facts(dtype="<f8")), "another dtype"),
    "of no schema": (rewritten(facts(schema=None)), "another schema"),
    "of an unknown schema": (rewritten(facts(schema="two")), "another schema"),
    "no metadata": (rewritten(lambda table: table.replace_schema_metadata(None)), "another schema"),
    "another checksum": (rewritten(facts(crc32="00000000")), "checksum"),
    "old, NaN": (as_an_old_part(column("features", with_first_feature(float("nan")))), "not all finite"),
    "old, infinite": (as_an_old_part(column("features", with_first_feature(float("inf")))), "not all finite"),
    "old, a photo twice": (as_an_old_part(column("digest", lambda n: [n[0], n[0], *n[2:]])), "two rows for one photo"),
    "old, no digests": (as_an_old_part(column("digest", lambda n: [n[0], "x" * 64, *n[2:]])), "no digests"),
    "old, short digests": (as_an_old_part(column("digest", lambda n: [n[0], n[1][:40], *n[2:]])), "no digests"),
    "old, zeros": (as_an_old_part(zeroed), "CRC"),
    **{f"{damage.__name__}": (damage, "") for damage in ANY},
}


@pytest.mark.parametrize("name", sampled(PARTS, 4))
def test_a_damaged_part_gives_the_same_head(
    name: str, world: World, cache: Path, hostile: Hostile, tmp_path: Path
) -> None:
    damage, reason = PARTS[name]
    part = only(cache / "features", "*/part-*.parquet")
    damage(part)
    outcome = train(hostile, world, tmp_path)
    (warning,) = warnings(outcome)
    assert str(part) in warning
    assert reason in warning
    assert json.loads(outcome.stdout)["features"] == {"computed": 28, "cached": 0}
    assert part.with_suffix(".damaged").exists() or part.with_suffix(".damaged").is_symlink()
    assert only(part.parent, "part-*.parquet") != part


PASSED_OVER: dict[str, tuple[Damage, int]] = {
    "an old part": (rewritten(facts(crc32=None)), 28),
    "written anew, and compressed": (
        lambda path: parquet.write_table(parquet.read_table(path), path.with_name("part-new.parquet")),
        28,
    ),
    "of a later version": (rewritten(facts(schema="3")), 0),
}


@pytest.mark.parametrize("name", PASSED_OVER)
def test_a_part_that_is_only_unusual_is_left_alone(
    name: str, world: World, cache: Path, hostile: Hostile, tmp_path: Path
) -> None:
    change, cached = PASSED_OVER[name]
    part = only(cache / "features", "*/part-*.parquet")
    change(part)
    outcome = train(hostile, world, tmp_path)
    assert warnings(outcome) == []
    assert json.loads(outcome.stdout)["features"]["cached"] == cached
    assert part.is_file()


# --- graphs, and what OpenVINO compiled of them

GRAPHS = {
    **{f"xml {d.__name__}": ("graph.xml", d) for d in (zeroed, made_text, removed, made_folder)},
    **{f"bin {d.__name__}": ("graph.bin", d) for d in (zeroed, flipped, halved, removed, made_pipe)},
    **{f"json {d.__name__}": ("graph.json", d) for d in (flipped,)},
    **{f"seal {d.__name__}": ("graph.seal", d) for d in (flipped, made_text, removed)},
    "seal a list": ("graph.seal", lambda path: replaced(path, b"[1]")),
}


@pytest.mark.parametrize("name", sampled(GRAPHS, 4))
def test_a_damaged_graph_is_built_again(name: str, world: World, cache: Path, hostile: Hostile) -> None:
    file, damage = GRAPHS[name]
    graph = only(cache / "graphs", "*")
    for blob in (cache / "openvino").glob("*.blob"):
        blob.unlink()
    damage(graph / file)
    (warning,) = warnings(predict(hostile, world))
    assert str(graph) in warning
    assert file in warning
    assert warnings(predict(hostile, world)) == []


def unreadable(path: Path) -> None:
    """A file with a checksum that fits, and nothing in it that OpenVINO knows."""
    path.unlink()
    write_sealed(path, b"no compiled graph" * 1000)


@pytest.mark.parametrize("damage", sampled([*ANY, lengthened, unreadable], 5), ids=lambda damage: damage.__name__)
def test_a_damaged_compiled_graph_is_compiled_again(
    damage: Damage, world: World, cache: Path, hostile: Hostile
) -> None:
    blobs = list((cache / "openvino").glob("*.blob"))  # in each precision that was tried
    assert blobs
    for blob in blobs:
        damage(blob)
    (warning,) = warnings(predict(hostile, world))
    assert any(str(blob) in warning for blob in blobs)
    assert warnings(predict(hostile, world)) == []


# --- copies


def pairs(change: Callable[[list[Any]], list[Any]]) -> Damage:
    def damage(path: Path) -> None:
        found = json.loads(path.read_bytes())
        replaced(path, json.dumps({**found, "value": change(found["value"])}).encode())

    return damage


COPIES: dict[str, Damage] = {
    "no pairs": pairs(lambda _: []),
    "other pairs": pairs(lambda found: [*found, ["0" * 64, "1" * 64]]),
    "a bare list": lambda path: replaced(path, b"[]"),
    "a number": lambda path: replaced(path, b"7"),
    "no value": lambda path: replaced(path, b'{"crc32": "00000000"}'),
    "deep": lambda path: replaced(path, b"[" * 200_000),
    "not UTF-8": lambda path: replaced(path, b'{"crc32": "\xff"}'),
    **{damage.__name__: damage for damage in (halved, emptied, made_text, made_folder, made_pipe)},
}


@pytest.mark.parametrize("name", COPIES)
def test_damaged_pairs_of_copies_are_found_again(
    name: str, world: World, cache: Path, hostile: Hostile, tmp_path: Path
) -> None:
    file = only(cache / "duplicates", "*.json")
    before = file.read_bytes()
    COPIES[name](file)
    (warning,) = warnings(train(hostile, world, tmp_path))
    assert str(file) in warning
    assert file.read_bytes() == before


# --- places that are no place for a cache

NOWHERE = ["file", "file/below", "~nosuchuser/cache", "/dev/null", "/proc/regraft", "x" * 300, "loop", "dangling/cache"]


@pytest.mark.parametrize("place", sampled(NOWHERE, 3))
def test_a_place_that_cannot_be_a_cache_is_done_without(
    place: str, world: World, hostile: Hostile, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere")
    outcome = hostile(
        "train", world.photos, "--out", "run", code=0, limit=REBUILT, environment={"REGRAFT_CACHE": place}
    )
    (warning,) = warnings(outcome)
    assert place.rstrip("/") in warning
    assert "cache" in warning
    assert (tmp_path / "run" / "head.safetensors").read_bytes() == world.head
    assert (tmp_path / "file").read_text() == "mine"
    assert not (tmp_path / "~nosuchuser").exists()


def unprivileged(*capabilities: str) -> tuple[str, ...]:
    """What runs regraft so that a folder's mode counts, as it does not for root unless it gives up capabilities."""
    if os.geteuid():
        return ("-m", "regraft")
    if not shutil.which("setpriv"):
        pytest.skip("root may write everywhere, and there is no setpriv here to give that up")
    given_up = ",".join(f"-{name}" for name in ("dac_override", *capabilities))
    words = ["setpriv", f"--bounding-set={given_up}", f"--inh-caps={given_up}", sys.executable, "-m", "regraft"]
    return ("-c", f"import os, sys; os.execvp('setpriv', {words!r} + sys.argv[1:])")


@pytest.fixture
def read_only() -> Iterator[Callable[[Path], None]]:
    """Takes the right to write from folders; it comes back when the test is over."""
    changed: list[Path] = []

    def close(folder: Path) -> None:
        for path in [folder, *(p for p in folder.rglob("*") if p.is_dir())]:
            changed.append(path)
            path.chmod(0o555)

    yield close
    for path in changed:
        path.chmod(0o755)


def test_a_cache_that_may_only_be_read_serves(
    world: World, cache: Path, hostile: Hostile, tmp_path: Path, read_only: Callable[[Path], None]
) -> None:
    read_only(cache)
    arguments = ("train", world.photos, "--out", "run", "--json")
    outcome = hostile(*arguments, code=0, program=unprivileged())
    assert warnings(outcome) == []
    assert json.loads(outcome.stdout)["features"] == {"computed": 0, "cached": 28}
    assert (tmp_path / "run" / "head.safetensors").read_bytes() == world.head


@pytest.mark.parametrize("what", ["features", "graphs", "openvino", "duplicates", ""])
def test_what_is_missing_from_a_cache_that_may_only_be_read(
    what: str, world: World, cache: Path, hostile: Hostile, tmp_path: Path, read_only: Callable[[Path], None]
) -> None:
    """With ``""`` all is missing: the graph is then built in a temporary folder."""
    for kind in [what, "features"] if what else [path.name for path in cache.iterdir()]:
        shutil.rmtree(cache / kind, ignore_errors=True)
    read_only(cache)
    outcome = hostile("train", world.photos, "--out", "run", code=0, program=unprivileged(), limit=REBUILT)
    (warning,) = warnings(outcome)
    assert f"{cache} cannot be written (permission denied)" in warning
    assert (tmp_path / "run" / "head.safetensors").read_bytes() == world.head


def test_a_cache_that_may_not_even_be_read(world: World, cache: Path, hostile: Hostile, tmp_path: Path) -> None:
    program = unprivileged("dac_read_search")
    cache.chmod(0o000)
    outcome = hostile("train", world.photos, "--out", "run", code=0, program=program, limit=REBUILT)
    cache.chmod(0o755)
    (warning,) = warnings(outcome)
    assert "permission denied" in warning
    assert (tmp_path / "run" / "head.safetensors").read_bytes() == world.head


@pytest.mark.parametrize("unpacked", [True, False], ids=["unpacked before", "not yet unpacked"])
def test_an_archive_and_a_cache_that_may_only_be_read(
    unpacked: bool, world: World, cache: Path, hostile: Hostile, tmp_path: Path, read_only: Callable[[Path], None]
) -> None:
    archive = shutil.make_archive(str(tmp_path / "photos"), "zip", world.photos.parent, "photos")
    if unpacked:
        hostile("train", archive, "--out", "first", code=0)
    read_only(cache)
    outcome = hostile("train", archive, "--out", "run", code=0, program=unprivileged())
    assert len(warnings(outcome)) == (0 if unpacked else 1)
    assert (tmp_path / "run" / "head.safetensors").read_bytes() == world.head


@pytest.fixture
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of a few kilobytes: the parameter."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={request.param}k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("a small disk can be made by root alone, where it may mount one")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("disk", sampled([400, 4, 13_500, 20_000, 27_000], 3), indirect=True)
def test_a_full_disk_under_the_cache(disk: Path, world: World, hostile: Hostile, tmp_path: Path) -> None:
    outcome = hostile(
        "train", world.photos, "--out", "run", code=0, limit=REBUILT, environment={"REGRAFT_CACHE": str(disk)}
    )
    (warning,) = warnings(outcome)
    assert f"{disk} cannot be written (no space left on device)" in warning
    assert (tmp_path / "run" / "head.safetensors").read_bytes() == world.head
    assert not list(disk.rglob(".tmp-*"))


def limited(size: int) -> tuple[str, ...]:
    """What runs regraft so that no file of its may be larger than ``size`` bytes."""
    script = (
        "import resource, runpy, sys; sys.argv[0] = 'regraft';"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size})); runpy.run_module('regraft', run_name='__main__')"
    )
    return ("-c", script)


def test_neither_cache_nor_temporary_folder_can_hold_the_graph(world: World, hostile: Hostile, tmp_path: Path) -> None:
    outcome = hostile(
        *("predict", world.run, world.photos / "circle"),
        program=limited(1_000_000),
        environment={"REGRAFT_CACHE": str(tmp_path / "new")},
        limit=REBUILT,
        says=r"can be written neither to .*new/graphs nor to a temporary folder",
    )
    assert len(warnings(outcome)) == 1


def test_what_is_compiled_and_cannot_be_kept(world: World, cache: Path, hostile: Hostile) -> None:
    shutil.rmtree(cache / "openvino")
    outcome = hostile(
        *("predict", world.run, world.photos / "circle", "--json"), code=0, program=limited(1_000_000), limit=REBUILT
    )
    assert outcome.stdout == world.answers
    (warning,) = warnings(outcome)
    assert "cannot be written (file too large)" in warning


# --- regraft info cache


def info(hostile: Hostile, *more: str, **how: Any) -> tuple[dict[str, Any], Outcome]:
    outcome = hostile("info", "cache", "--json", *more, code=0, **how)
    return json.loads(outcome.stdout), outcome


def test_clearing_tells_what_was_freed(cache: Path, hostile: Hostile) -> None:
    shutil.copytree(cache, cache.with_name("copy"))  # files of their own: so far each has two names
    shutil.rmtree(cache)
    cache.with_name("copy").rename(cache)
    write_value(cache / "graphs" / "preset-0.json", {})
    for kind in ("activations", "downloads", "unpacked"):
        (cache / kind).mkdir()
        (cache / kind / "some").write_bytes(bytes(1000))
    (cache / "mine.txt").write_text("not regraft's")
    there = sum(p.stat().st_size for p in cache.rglob("*") if p.is_file() and p.name != "mine.txt")
    document, _ = info(hostile)
    assert sum(document["bytes"].values()) == there
    document, _ = info(hostile, "--clear")
    assert document["freed_bytes"] == there
    assert set(document["bytes"].values()) == {0}
    assert document["not_deleted"] == []
    assert [p.name for p in cache.iterdir()] == ["mine.txt"]


def test_clearing_follows_no_link(cache: Path, hostile: Hostile, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(bytes(5000))
    (cache / "unpacked").symlink_to(outside)
    (cache / "duplicates" / "link").symlink_to(outside)
    (cache / "duplicates" / "link to a file").symlink_to(outside / "precious")
    document, outcome = info(hostile, "--clear")
    assert document["not_deleted"] == [str(cache / "unpacked")]
    assert "a link to" in "".join(warnings(outcome))
    assert (outside / "precious").stat().st_size == 5000
    assert not (cache / "duplicates").exists()


def test_clearing_says_what_is_left(cache: Path, hostile: Hostile, read_only: Callable[[Path], None]) -> None:
    kept = only(cache / "features", "*")
    size = sum(p.stat().st_size for p in kept.iterdir())
    read_only(cache / "features")
    document, outcome = info(hostile, "--clear", program=unprivileged())
    assert document["bytes"]["features"] == size
    assert document["photos"] == 28
    assert document["not_deleted"] == [str(p) for p in sorted(kept.iterdir())]
    assert "permission denied" in "".join(warnings(outcome))
    assert set(document["bytes"].values()) == {0, size}


@pytest.mark.parametrize("damage", [made_pipe, emptied, made_folder], ids=lambda damage: damage.__name__)
def test_a_damaged_part_is_not_counted(damage: Damage, cache: Path, hostile: Hostile) -> None:
    damage(only(cache / "features", "*/part-*.parquet"))
    document, _ = info(hostile)
    assert document["photos"] == 0


# --- processes beside each other


def test_processes_that_share_a_cold_cache(world: World, tmp_path: Path) -> None:
    """A small version of benchmarks/cold_starts.py."""
    environment = {**os.environ, "REGRAFT_CACHE": str(tmp_path / "new")}

    def together(commands: Sequence[Sequence[str | Path]]) -> list[str]:
        pipe = subprocess.PIPE
        words = [[sys.executable, "-m", "regraft", *map(str, command)] for command in commands]
        running = [
            subprocess.Popen(w, cwd=tmp_path, env=environment, stdout=pipe, stderr=pipe, encoding="utf-8")
            for w in words
        ]
        ends = [(*process.communicate(timeout=300), process.returncode) for process in running]
        assert [(code, err) for _, err, code in ends] == [(0, "")] * len(ends)
        return [out for out, _, _ in ends]

    together([("train", world.photos, "--out", f"run-{i}") for i in range(4)])
    assert {(tmp_path / f"run-{i}" / "head.safetensors").read_bytes() for i in range(4)} == {world.head}
    for blob in (tmp_path / "new" / "openvino").glob("*.blob"):
        blob.unlink()
    answers = together([("predict", "run-0", world.photos / "circle", "--json")] * 4)
    assert len(set(answers)) == 1
    assert not list((tmp_path / "new").rglob(".tmp-*"))
    assert not list((tmp_path / "new").rglob("*.damaged"))
