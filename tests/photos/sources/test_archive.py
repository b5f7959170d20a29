from __future__ import annotations

import gzip
import io
import re
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from regraft.downloads import fetching, unpacking
from regraft.errors import DataError
from regraft.photos.dataset import Dataset
from tests.conftest import Command, draw_folder


@pytest.fixture
def tgz(photos: Path, tmp_path: Path) -> Path:
    """As flower_photos.tgz is: one folder above the class folders, and a licence beside them."""
    path = tmp_path / "flower_photos.tgz"
    with tarfile.open(path, "w:gz") as file:
        file.add(photos, "flower_photos")
        licence = tarfile.TarInfo("flower_photos/LICENSE.txt")
        file.addfile(licence, io.BytesIO())
    return path


class Server(ThreadingHTTPServer):
    """Serves one file, with ranges, and hangs up after so many bytes of each answer."""

    def __init__(self, file: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.file = file
        self.hang_up_after = 10**9
        self.status = 200
        self.asked: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/data/{self.file.name}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(dict(self.headers))
        data = self.server.file.read_bytes()
        tag = f'"{sha256(data).hexdigest()[:8]}"'
        if self.server.status != 200:
            return self.send_error(self.server.status)
        if self.headers.get("If-None-Match") == tag:
            self.send_response(304)
            return self.end_headers()
        start = 0
        if (found := re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))) and self.headers["If-Range"] == tag:
            start = int(found[1])
        self.send_response(206 if start else 200)
        self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(data) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        self.wfile.write(data[start:][: self.server.hang_up_after])
        return None

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tgz: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(fetching, "_PAUSE", 0.001)
    with Server(tgz) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_the_seeds_first_command(server: Server, photos: Path, regraft: Command, tmp_path: Path) -> None:
    regraft("train", server.url, "--effort", "quick", "--out", "run")
    assert (tmp_path / "run" / "labels.txt").read_text(encoding="utf-8").split() == ["Square", "circle", "줄무늬"]
    assert Dataset.open(server.url).digest == Dataset.open(photos).digest
    assert "If-None-Match" in server.asked[-1]


def test_a_download_that_breaks_off_is_resumed(server: Server, tgz: Path) -> None:
    server.hang_up_after = tgz.stat().st_size // 3 + 1
    assert fetching.fetch(server.url).read_bytes() == tgz.read_bytes()
    assert [headers.get("Range") is not None for headers in server.asked] == [False, True, True]


def test_what_came_is_kept_for_the_next_run(server: Server, tgz: Path) -> None:
    server.hang_up_after = 100
    with pytest.raises(DataError, match="MB are kept, the same command goes on"):
        fetching.fetch(server.url)
    server.hang_up_after = 10**9
    assert fetching.fetch(server.url).read_bytes() == tgz.read_bytes()
    assert server.asked[-1]["Range"] == "bytes=400-"


def test_a_file_that_changed_meanwhile_is_begun_again(server: Server, tgz: Path, photos: Path) -> None:
    server.hang_up_after = 100
    with pytest.raises(DataError):
        fetching.fetch(server.url)
    server.hang_up_after = 10**9
    tgz.write_bytes(tgz.read_bytes() + b"\0" * 512)
    assert fetching.fetch(server.url).read_bytes() == tgz.read_bytes()


def test_without_a_connection_the_last_download_serves(server: Server, tgz: Path) -> None:
    file = fetching.fetch(server.url)
    server.shutdown()
    server.server_close()
    assert fetching.fetch(server.url) == file


def test_what_the_server_refuses_is_told_at_once(server: Server) -> None:
    server.status = 404
    with pytest.raises(DataError, match="answers 404"):
        fetching.fetch(server.url)
    assert len(server.asked) == 1


def test_a_checksum_in_the_url_is_checked(server: Server, tgz: Path) -> None:
    right = sha256(tgz.read_bytes()).hexdigest()
    assert fetching.fetch(f"{server.url}#sha256={right}").is_file()
    asked = len(server.asked)
    assert fetching.fetch(f"{server.url}#sha256={right}").is_file()
    assert len(server.asked) == asked
    with pytest.raises(DataError, match="thrown away"):
        fetching.fetch(f"{server.url}#sha256={'0' * 64}")


def test_nothing_is_written_outside_and_no_link_is_made(tmp_path: Path) -> None:
    outside = tmp_path / "secret.txt"
    outside.write_text("secret")
    evil = tmp_path / "evil.tar"
    with tarfile.open(evil, "w") as file:
        for name in ("../out.jpg", "/abs.jpg", "a/../../out.jpg", "C:/x.jpg", "..\\out.jpg", "a/fine.jpg"):
            member = tarfile.TarInfo(name)
            member.size = 4
            file.addfile(member, io.BytesIO(b"data"))
        for name, kind, target in (
            ("a/link.jpg", tarfile.SYMTYPE, "../../secret.txt"),
            ("a/hard.jpg", tarfile.LNKTYPE, str(outside)),
            ("b", tarfile.SYMTYPE, "/"),
            ("a/good.jpg", tarfile.SYMTYPE, "fine.jpg"),
            ("a/pipe", tarfile.FIFOTYPE, ""),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            file.addfile(member)
        member = tarfile.TarInfo("b/through.jpg")
        member.size = 4
        file.addfile(member, io.BytesIO(b"data"))
    before = sorted(tmp_path.iterdir())
    (tmp_path / "to").mkdir()
    problems = unpacking.unpack(evil, tmp_path / "to")
    made = {str(p.relative_to(tmp_path / "to")) for p in (tmp_path / "to").rglob("*") if p.is_file()}
    assert made == {"a/fine.jpg", "a/good.jpg", "b/through.jpg"}
    assert not any(p.is_symlink() for p in (tmp_path / "to").rglob("*"))
    assert len(problems) == 9
    assert sorted(p for p in tmp_path.iterdir() if p.name != "to") == before


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "MIN_TOTAL", 2**20)
    bomb = tmp_path / "bomb.tgz"
    with gzip.open(bomb, "wb") as packed, tarfile.open(fileobj=packed, mode="w") as file:
        member = tarfile.TarInfo("a/zeros.jpg")
        member.size = 2**26
        file.addfile(member, io.BytesIO(bytes(2**26)))
    with pytest.raises(DataError, match="the most for an archive of its size"):
        Dataset.open(bomb)


@pytest.mark.parametrize("kind", ["tgz", "zip"])
def test_a_cut_off_archive_is_refused_whole(kind: str, tgz: Path, tmp_path: Path, photos: Path) -> None:
    path = tgz
    if kind == "zip":
        path = tmp_path / "photos.zip"
        with zipfile.ZipFile(path, "w") as file:
            for photo in photos.rglob("*.jpg"):
                file.write(photo, photo.relative_to(photos))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match="damaged or cut off"):
        Dataset.open(path)


def test_one_damaged_photo_in_a_zip_is_left_out_by_name(tmp_path: Path) -> None:
    draw_folder(tmp_path / "p", {"a": 3, "b": 3})
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as file:
        for photo in sorted((tmp_path / "p").rglob("*.jpg")):
            file.write(photo, photo.relative_to(tmp_path / "p"))
        offset = file.infolist()[1].header_offset
    data = bytearray(path.read_bytes())
    data[offset + 200] ^= 0xFF
    path.write_bytes(data)
    dataset = Dataset.open(path)
    assert len(dataset.records) == 5
    assert [(p.path.name, "cannot be unpacked" in p.reason) for p in dataset.problems] == [("001.jpg", True)]


def test_korean_names_without_the_utf8_flag(tmp_path: Path) -> None:
    class Old(zipfile.ZipInfo):
        def _encodeFilenameFlags(self) -> tuple[bytes, int]:  # noqa: N802  (zipfile's own name)
            return self.filename.encode("cp949"), 0

    path = tmp_path / "windows.zip"
    photo = draw_folder(tmp_path / "p", {"a": 1}) / "a" / "000.jpg"
    with zipfile.ZipFile(path, "w") as file:
        for label in ("고양이", "강아지"):
            file.writestr(Old(f"{label}/사진.jpg"), photo.read_bytes())
    assert Dataset.open(path).classes == ("강아지", "고양이")


def test_what_is_no_archive_says_so(server: Server, tgz: Path) -> None:
    tgz.write_text("<html>404</html>")
    with pytest.raises(DataError, match="is no archive"):
        Dataset.open(server.url)
