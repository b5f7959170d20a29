"""Servers and URLs by people who wish us ill: one line at once, or the right file in the end."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from regraft.downloads import fetching, http
from regraft.downloads.address import parse
from regraft.errors import DataError
from regraft.photos.dataset import Dataset
from tests.conftest import sampled
from tests.hostile.conftest import Hostile
from tests.hostile.making import END, member, photo, tgz
from tests.hostile.server import Request, Say, Server, body, cut, dripping, flooding, raw
from tests.hostile.test_archives import FULL, LIST

DATA = tgz(b"".join(member(f"{c}/{i}.jpg", photo(i)) for c in "ab" for i in range(4)) + END)
OTHER = tgz(b"".join(member(f"{c}/{i}.jpg", photo(i + 7)) for c in "cd" for i in range(5)) + END)
SAID = {"ETag": '"one"', "Last_Modified": "Mon, 02 Nov 2026 10:00:00 GMT"}
HALF = len(DATA) // 2
SOON = """
import sys
from regraft.downloads import fetching as _fetch, http as _http
from regraft.cli import verbs as cli
_fetch._PAUSE, _http.WINDOW = 0.01, 1
sys.exit(cli.main())
"""


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """No graphs are needed here: nothing gets as far as that."""
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this process downloads is tried again at once, and is slow after half a second."""
    monkeypatch.setattr(fetching, "_PAUSE", 0.001)
    monkeypatch.setattr(http, "WINDOW", 0.5)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


MALFORMED = {
    "http://[::1/x": r"no URL that can be downloaded: Invalid IPv6 URL",
    "http://[zz]/x.tgz": r"no URL that can be downloaded: .*zz",
    "http://": "it has no host",
    "http:///x.tgz": "it has no host",
    "https://:80/x.tgz": "it has no host",
    "http://localhost:99999/x.tgz": "Port out of range",
    "http://localhost:-1/x.tgz": "Port",
    "http://localhost:abc/x.tgz": "Port could not be cast",
    "http://a..b/x.tgz": "label empty or too long",
    "http://" + "a" * 300 + "/x.tgz": "label (empty or )?too long",
    "http://%zz/x.tgz": "is no name of a host",
    "http://a b/x.tgz": "is no name of a host",
    "http://a\\b/x.tgz": "is no name of a host",
    "http://" + "꽃" * 63 + ".example/x.tgz": "label (empty or )?too long",
    "http://user:secret@localhost/x.tgz": "it holds a user name",
    "http://localhost/x\ny.tgz": "a line break, a tab or a control character",
    "http://localhost/\x1b[2J.tgz": "a line break, a tab or a control character",
    "http://localhost/x.tgz#sha256=abc": "a SHA-256 of 3 characters; wanted 64 hexadecimal digits",
    "http://localhost/x.tgz#sha256=" + "g" * 64: "wanted 64 hexadecimal digits",
    "HTTP://[": "no URL that can be downloaded",
    "ftp://localhost/x.tgz": "there is no ftp://localhost/x.tgz",
    "file:///etc/passwd": "there is no file:///etc/passwd",
}


@pytest.mark.parametrize("url", MALFORMED)
def test_a_malformed_url_is_told_at_once(url: str, hostile: Hostile) -> None:
    hostile("check", url, says=MALFORMED[url], limit=6.0)


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("http://h.example/꽃 사진.tgz", "http://h.example/%EA%BD%83%20%EC%82%AC%EC%A7%84.tgz"),
        ("http://한국.example:8080/x.tgz", "http://xn--3e0b707e.example:8080/x.tgz"),
        ("http://h.example/x.tgz?name=꽃&a=%20", "http://h.example/x.tgz?name=%EA%BD%83&a=%20"),
        ("http://h.example/\udcff.tgz", "http://h.example/%FF.tgz"),
        ("HTTPS://H.Example", "https://h.example/"),
        ("http://[2001:DB8::1]:80/x", "http://[2001:db8::1]:80/x"),
    ],
)
def test_what_people_write_is_put_into_ascii(url: str, asked: str) -> None:
    assert parse(url).url == asked


@pytest.mark.parametrize("path", ["/..", "/.", "/", "", "/.json", "/" + "꽃" * 300, "/a/" + "x" * 300, "/%2e%2e"])
def test_any_last_part_of_a_path_names_a_file_in_the_cache(path: str, tmp_path: Path) -> None:
    with Server(body(DATA)).running() as server:
        file = fetching.fetch(server.url(path))
    assert file.read_bytes() == DATA
    assert file.parent.parent == tmp_path / "cache" / "downloads"


def test_letters_of_any_language_in_path_and_host(hostile: Hostile) -> None:
    """Through a proxy, so that any host is here."""
    with Server(body(DATA)).running() as server:
        proxy = {"http_proxy": server.url(""), "no_proxy": ""}
        done = hostile("http://한국.example/꽃 사진.tgz", program=("-c", LIST), code=0, environment=proxy)
    assert len(json.loads(done.stdout)[0]) == 8
    assert server.asked[0].line == "GET http://xn--3e0b707e.example/%EA%BD%83%20%EC%82%AC%EC%A7%84.tgz HTTP/1.1"


def test_a_host_that_is_not_there_is_told_in_time(hostile: Hostile) -> None:
    hostile("check", "http://nowhere.invalid/x.tgz", says=r"http://nowhere.invalid/x.tgz cannot be downloaded: ")


def test_a_port_where_nobody_is_is_told_in_time(hostile: Hostile) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    hostile("check", f"http://127.0.0.1:{port}/x.tgz", says="cannot be downloaded: connection refused")


HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
REFUSED: dict[str, tuple[Say, str, int]] = {
    "length that is no number": (body(DATA, Content_Length="abc"), "states a length of 'abc' bytes", 1),
    "negative length": (body(DATA, Content_Length="-5"), "states a length of '-5' bytes", 1),
    "two lengths": (body(DATA, Content_Length="5, 6"), "cannot be downloaded: .*5, 6", 4),
    "length of 10^30": (body(DATA, Content_Length="1" + "0" * 30), "states a length of '10+' bytes", 1),
    "length with controls": (body(DATA, Content_Length="1\x1b[2J"), r"states a length of '1\\x1b\[2J' bytes", 1),
    "more than the disk has": (body(b"", Content_Length="1" + "0" * 16), "more than is free in", 1),
    "304 that nobody asked for": (body(b"", "304 Not Modified"), "the server answers 304 Not Modified", 1),
    "206 that nobody asked for": (
        body(DATA, "206 Partial", Content_Range=f"bytes 0-9/{len(DATA)}"),
        "the server answers 206 Partial",
        1,
    ),
    "204": (body(b"", "204 No Content", Content_Length=None), "the server answers 204", 1),
    "404": (body(b"", "404 Not Found"), "the server answers 404 Not Found", 1),
    "403 of controls": (body(b"", "403 \x1b]0;x\x07"), r"the server answers 403 \\x1b\]0;x\\x07", 1),
    "416 that nobody asked for": (body(b"", "416 Range"), "the server answers 416", 1),
    "500, always": (body(b"", "500 Oops"), "the server answers 500 Oops", 4),
    "429, for a year": (body(b"", "429 Slow", Retry_After="31536000"), "the server answers 429 Slow", 4),
    "redirect to ftp": (
        body(b"", "302 F", Location="ftp://localhost/x"),
        "redirects to ftp://localhost/x; only http",
        1,
    ),
    "redirect to a file": (body(b"", "301 M", Location="file:///etc/passwd"), "redirects to file:///etc/passwd", 1),
    "redirect to data": (body(b"", "307 T", Location="data:,x"), "redirects to data:,x; only http and https", 1),
    "redirect to a script": (body(b"", "303 S", Location="javascript:alert(1)"), "redirects to javascript:", 1),
    "redirect to no URL": (body(b"", "302 F", Location="http://[::1/x"), "which is no URL|no URL that can", 1),
    "redirect to a user": (body(b"", "302 F", Location="http://a:b@localhost/x"), "it holds a user name", 1),
    "redirect to nowhere": (body(b"", "302 F"), "the server answers 302 F", 1),
    "redirect to itself": (body(b"", "302 F", Location="/x.tgz"), "redirects more than 10 times", 11),
    "no answer": (raw(b""), "cannot be downloaded: ", 4),
    "no HTTP": (raw(b"SSH-2.0-OpenSSH_9.6\r\n"), "cannot be downloaded: ", 4),
    "a line of a megabyte": (raw(b"HTTP/1.1 200 " + b"a" * 2**20 + b"\r\n\r\n"), "cannot be downloaded: ", 4),
    "1,000 headers": (raw(HEAD + b"a: b\r\n" * 1000 + b"\r\n"), "cannot be downloaded: ", 4),
    "chunks that are no numbers": (raw(CHUNKED + b"zzz\r\nabc"), "cannot be downloaded: ", 4),
    "chunks cut off": (raw(CHUNKED + b"ffff\r\nabc"), "the connection ended .*too early", 4),
    "negative chunks": (raw(CHUNKED + b"-5\r\nabc\r\n0\r\n\r\n"), "cannot be downloaded: |is no archive", 4),
    "less than was promised": (cut(DATA, 100), "the connection ended .* too early", 4),
    "a page": (body(b"<html>Please log in</html>"), "is no archive.*the download was thrown away", 1),
    "an empty file": (body(b""), "is no archive.*the download was thrown away", 1),
    "a damaged archive": (body(DATA[:-40]), "damaged or cut off.*the download was thrown away", 1),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_answer_that_cannot_be_is_told_in_one_line(case: str, hostile: Hostile) -> None:
    say, says, times = REFUSED[case]
    with Server(say).running() as server:
        hostile("check", server.url(), says=says, program=("-c", SOON))
    assert len(server.asked) == times


def test_a_server_that_always_fails_is_given_up_in_time(hostile: Hostile) -> None:
    with Server(body(b"", "503 Wait")).running() as server:
        hostile("check", server.url(), says="the server answers 503 Wait")


ENDLESS: dict[str, Say] = {
    "body, a byte at a time": dripping(HEAD + b"Content-Length: 99999\r\n\r\n"),
    "body of no length, a byte at a time": dripping(HEAD + b"\r\n"),
    "header, a byte at a time": dripping(HEAD + b"X: "),
    "first line, a byte at a time": dripping(b"HTTP/1.1 200 "),
    "length of a chunk, a byte at a time": dripping(CHUNKED, b"0"),
    "chunk, a byte at a time": dripping(CHUNKED, b"1\r\na\r\n"),
    "silence": dripping(b"", b""),
    "silence after the headers": dripping(HEAD + b"Content-Length: 99999\r\n\r\n", b""),
    "100 Continue without end": flooding(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "trailers without end": flooding(CHUNKED + b"0\r\n", b"a: b\r\n"),
}


@pytest.mark.parametrize("case", sampled(ENDLESS, 3))
def test_what_does_not_end_is_ended(case: str) -> None:
    with (
        Server(ENDLESS[case]).running() as server,
        pytest.raises(DataError, match=r"less than 1,024 bytes a second came|timed out"),
    ):
        fetching.fetch(server.url())
    assert len(server.asked) == 4


def test_a_slow_server_ends_a_whole_command(hostile: Hostile) -> None:
    with Server(ENDLESS["header, a byte at a time"]).running() as server:
        says = "less than 1,024 bytes a second came for 1 seconds"
        hostile("check", server.url(), program=("-c", SOON), says=says)


def test_a_flood_without_a_length_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "MAX_UNSTATED", 2**22)
    with (
        Server(flooding(HEAD + b"\r\n" + DATA, bytes(2**16))).running() as server,
        pytest.raises(DataError, match=r"does not end after 0.0 GB, and its server states no length"),
    ):
        fetching.fetch(server.url())
    assert len(server.asked) == 1


@pytest.mark.parametrize("case", ["header, a byte at a time", "silence after the headers"])
def test_a_file_downloaded_before_serves_where_the_server_is_slow(case: str) -> None:
    with Server(body(DATA, **SAID), ENDLESS[case]).running() as server:
        assert fetching.fetch(server.url()) == fetching.fetch(server.url())


def rest(request: Request, data: bytes = DATA, **other: Any) -> None:
    """The part that was asked for, as it should be, save ``other``."""
    start = int(request.headers["Range"].removeprefix("bytes=").removesuffix("-"))
    headers = {**SAID, "Content_Range": f"bytes {start}-{len(data) - 1}/{len(data)}", **other}
    request.answer(data[start:], "206 Partial Content", **headers)


WRONG_PARTS: dict[str, Say] = {
    "of another place": lambda r: rest(r, Content_Range=f"bytes 0-{len(DATA) - 1}/{len(DATA)}"),
    "one byte off": lambda r: rest(r, Content_Range=f"bytes {HALF + 1}-{len(DATA) - 1}/{len(DATA)}"),
    "of a longer file": lambda r: rest(r, DATA + b"more"),
    "of a shorter file": lambda r: rest(r, DATA[:-10]),
    "of another ETag": lambda r: rest(r, ETag='"two"'),
    "of another date": lambda r: rest(r, ETag=None, Last_Modified="Tue, 03 Nov 2026 10:00:00 GMT"),
    "of no place": lambda r: rest(r, Content_Range=None),
    "of no numbers": lambda r: rest(r, Content_Range="bytes a-b/c"),
    "in other units": lambda r: rest(r, Content_Range=f"words {HALF}-{len(DATA) - 1}/{len(DATA)}"),
    "of less than the rest": lambda r: r.answer(
        DATA[HALF : HALF + 9], "206 P", Content_Range=f"bytes {HALF}-{HALF + 8}/{len(DATA)}", **SAID
    ),
    "in several parts": lambda r: rest(r, Content_Range=None, Content_Type="multipart/byteranges; boundary=x"),
    "that is not there": body(b"", "416 Range Not Satisfiable"),
    "with two places": lambda r: rest(r, Content_Range=f"bytes {HALF}-1/{len(DATA)}\r\nContent-Range: bytes 0-1/2"),
}


@pytest.mark.parametrize("case", WRONG_PARTS)
def test_a_part_that_does_not_fit_is_never_added(case: str) -> None:
    with Server(cut(DATA, HALF, **SAID), WRONG_PARTS[case], body(DATA, **SAID)).running() as server:
        assert fetching.fetch(server.url()).read_bytes() == DATA
        assert "Range" in server.asked[1].headers
        assert "Range" not in server.asked[2].headers


def test_a_part_that_fits_is_added() -> None:
    with Server(cut(DATA, HALF, **SAID), rest).running() as server:
        assert fetching.fetch(server.url()).read_bytes() == DATA
    assert server.asked[1].headers["If-Range"] == '"one"'


def test_what_comes_in_many_large_pieces_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that hangs up after each piece: more often than there are tries."""
    monkeypatch.setattr(fetching, "_PROGRESS_BYTES", len(DATA) // 20)
    step = len(DATA) // 12

    def piece(request: Request) -> None:
        start = int(request.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        headers = {**SAID, "Content_Range": f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"}
        request.answer(DATA[start : start + step], "206 P", Content_Length=str(len(DATA) - start), **headers)

    with Server(cut(DATA, step, **SAID), piece).running() as server:
        assert fetching.fetch(server.url()).read_bytes() == DATA
    assert len(server.asked) > 10


@pytest.mark.parametrize("validator", [{"ETag": 'W/"one"'}, {}, {"ETag": '"\x80"'}, {"ETag": "a" * 999}])
def test_without_a_sure_sign_nothing_is_resumed(validator: dict[str, str]) -> None:
    with Server(cut(DATA, HALF, **validator), body(DATA, **validator)).running() as server:
        assert fetching.fetch(server.url()).read_bytes() == DATA
        assert "Range" not in server.asked[1].headers
        assert fetching.fetch(server.url()).read_bytes() == DATA


@pytest.mark.parametrize("text", ["[]", "{", '{"etag": 5, "modified": [], "total": "x"}', "[" * 100_000, "", "\0"])
def test_facts_that_are_damaged_are_not_believed(text: str) -> None:
    with Server(body(DATA, **SAID), body(OTHER, **SAID)).running() as server:
        file = fetching.fetch(server.url())
        file.with_name(file.name + ".json").write_text(text)
        assert fetching.fetch(server.url()).read_bytes() == OTHER
        assert "If-None-Match" not in server.asked[1].headers


@pytest.mark.parametrize("bad", [b"<html></html>", DATA[:-100], DATA[:200], bytes(9000), DATA + b"more"])
def test_what_cannot_be_unpacked_is_dropped_from_the_cache(bad: bytes, tmp_path: Path) -> None:
    """The server's ETag stays as it is: it must not be asked whether anything changed."""

    def after(request: Request) -> None:
        request.answer(b"", "304 Not Modified") if "If-None-Match" in request.headers else request.answer(DATA, **SAID)

    with Server(body(bad, **SAID), after).running() as server:
        with pytest.raises(DataError, match="the download was thrown away"):
            Dataset.open(server.url())
        assert not [p for p in (tmp_path / "cache" / "downloads").rglob("*") if p.is_file() and p.name != ".lock"]
        assert len(Dataset.open(server.url()).records) == 8
        assert len(Dataset.open(server.url()).records) == 8
    assert "If-None-Match" in server.asked[2].headers


def test_a_local_archive_that_cannot_be_unpacked_stays(tmp_path: Path) -> None:
    (tmp_path / "x.tgz").write_bytes(DATA[:-100])
    with pytest.raises(DataError, match=r"damaged or cut off.*get it again$"):
        Dataset.open(tmp_path / "x.tgz")
    assert (tmp_path / "x.tgz").read_bytes() == DATA[:-100]


def test_a_wrong_checksum_is_dropped_with_all_that_is_known_of_it(tmp_path: Path) -> None:
    with Server(body(OTHER, **SAID), body(OTHER, **SAID)).running() as server:
        for _ in range(2):
            with pytest.raises(DataError, match="it was thrown away"):
                fetching.fetch(f"{server.url()}#sha256={'0' * 64}")
    assert "If-None-Match" not in server.asked[1].headers
    assert not [p for p in (tmp_path / "cache" / "downloads").rglob("*") if p.is_file() and p.name != ".lock"]


def test_redirects_within_http_are_followed() -> None:
    with Server(body(DATA)).running() as last:
        hops = (body(b"", "302 F", Location="/next.tgz"), body(b"", "308 P", Location=last.url("/꽃.tgz")))
        with Server(*hops).running() as first:
            assert fetching.fetch(first.url()).read_bytes() == DATA
        assert [r.line.split()[1] for r in first.asked] == ["/x.tgz", "/next.tgz"]
    assert last.asked[0].line.split()[1].startswith("/%")


def test_a_server_that_recovers_is_not_lost() -> None:
    with Server(body(b"", "503 Wait"), raw(b""), cut(DATA, 10), body(DATA)).running() as server:
        assert fetching.fetch(server.url()).read_bytes() == DATA


def test_more_than_was_promised_is_not_read() -> None:
    with Server(body(DATA + b"more", Content_Length=str(len(DATA)))).running() as server:
        assert fetching.fetch(server.url()).read_bytes() == DATA


def test_a_body_in_chunks_comes() -> None:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(DATA[i : i + 700]), DATA[i : i + 700]) for i in range(0, len(DATA), 700))
    with Server(raw(CHUNKED + chunks + b"0\r\n\r\n")).running() as server:
        assert fetching.fetch(server.url()).read_bytes() == DATA


def test_four_at_once_download_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slowly(request: Request) -> None:
        if "If-None-Match" in request.headers:
            return request.answer(b"", "304 Not Modified")
        request.gone.wait(0.5)
        return request.answer(DATA, **SAID)

    with Server(slowly).running() as server:
        command = [sys.executable, "-c", LIST, server.url()]
        running = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE) for _ in range(4)]
        outputs = {process.communicate()[0] for process in running}
    assert len(outputs) == 1
    assert sum("If-None-Match" not in r.headers for r in server.asked) == 1


def test_a_disk_that_takes_no_more_ends_a_download_at_once(hostile: Hostile) -> None:
    with Server(body(DATA * 9)).running() as server:
        hostile(server.url(), program=("-c", FULL), says="x.tgz cannot be kept in .*: file too large")
    assert len(server.asked) == 1


def test_a_download_goes_elsewhere_where_the_cache_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGRAFT_CACHE", str(tmp_path / "file" / "cache"))
    (tmp_path / "file").write_text("not a folder")
    with Server(body(DATA)).running() as server:
        assert fetching.fetch(server.url()).read_bytes() == DATA
