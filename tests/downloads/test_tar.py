"""Our reading of tars beside `tarfile`'s."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regraft.downloads.tar import Tar

NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=300)
KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.DIRTYPE: "folder",
    tarfile.SYMTYPE: "symbolic link",
    tarfile.LNKTYPE: "hard link",
    tarfile.FIFOTYPE: "neither a file nor a folder",
}


def theirs(data: bytes) -> Iterator[tuple[str, str, str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(data), encoding="utf-8", errors="surrogateescape") as opened:
        for member in opened:
            content = opened.extractfile(member) if member.isreg() else None
            yield member.name.rstrip("/"), KINDS[member.type], member.linkname, content.read() if content else b""


class Stream(io.BytesIO):
    """What cannot go back, as bytes that are being decompressed."""

    def seekable(self) -> bool:
        return False


def ours(data: bytes, file: type[io.BytesIO]) -> Iterator[tuple[str, str, str, bytes]]:
    tar = Tar(file(data))
    for member in tar:
        content = b"".join(tar.data(member)) if member.kind == "file" else b""
        if content:
            assert data[member.offset : member.offset + member.size] == content
        yield member.name.rstrip("/"), member.kind, member.target, content
    assert tar.whole


@pytest.mark.parametrize("dialect", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@settings(max_examples=60, deadline=None)
@given(members=st.lists(st.tuples(NAMES, st.sampled_from(sorted(KINDS)), NAMES, st.binary(max_size=1100)), max_size=6))
def test_members_are_those_that_the_library_finds(dialect: int, members: list[tuple[str, bytes, str, bytes]]) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=dialect, encoding="utf-8") as opened:
        for name, kind, target, data in members:
            if dialect == tarfile.USTAR_FORMAT:  # has no place for longer ones
                name, target = name[:20], target[:20]
            member = tarfile.TarInfo(name.rstrip("/") or "x")  # with a slash a file of the oldest kind is a folder
            member.type, member.linkname = kind, target if "link" in KINDS[kind] else ""
            member.size = len(data) if KINDS[kind] == "file" else 0
            opened.addfile(member, io.BytesIO(data))
    for kind_of_file in (io.BytesIO, Stream):
        assert list(ours(file.getvalue(), kind_of_file)) == list(theirs(file.getvalue()))


@pytest.mark.parametrize("dialect", ["v7", "oldgnu", "gnu", "ustar", "posix"])
def test_what_gnu_tar_writes_is_read(dialect: str, tmp_path: Path) -> None:
    if not shutil.which("tar"):
        pytest.skip("needs the program tar")
    long = "꽃" * 20 + "/" + "x" * 90 + ".jpg"
    names = ["a/b.jpg", "a/한.jpg"] if dialect in ("v7", "ustar") else ["a/b.jpg", long]
    for name in names:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(name.encode() * 99)
    command = ["tar", f"--format={dialect}", "-cf", str(tmp_path / "x.tar"), "-C", str(tmp_path / "in"), *names]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this tar knows no --format")
    found = {name: data for name, _, _, data in ours((tmp_path / "x.tar").read_bytes(), io.BytesIO)}
    assert found == {name: name.encode() * 99 for name in names}
