"""`regraft serve` as a process: the command, the plain protocol, limits, security and the log."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from regraft.serving.batching import QUEUE
from regraft.serving.limits import BODY
from tests.conftest import Command
from tests.serving.servers import EXPORT, RUN, Served, read_all, served

pytest.importorskip("uvicorn", reason="needs the extra serve")


@pytest.fixture(scope="module")
def server(warm_cache: Path) -> Iterator[Served]:
    """A server with a run and an export."""
    with served(warm_cache, RUN, "--name", f"색={EXPORT}") as found:
        yield found


@pytest.fixture(scope="module")
def photo(photos: Path) -> bytes:
    return (photos / "circle" / "000.jpg").read_bytes()


def form(*files: tuple[str, bytes], boundary: str = "xyz") -> tuple[bytes, str]:
    """A form with files, and its content type."""
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="f"; filename="{name}"\r\n\r\n'.encode() + data + b"\r\n"
        for name, data in files
    ]
    return b"".join(parts) + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def png(width: int, height: int) -> bytes:
    """A PNG that says that it has so many pixels, of which none is there."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    pixels = zlib.compress(bytes(3 * width + 1) * 100)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_a_photo_is_answered_as_predict_answers_it(server: Served, regraft: Command, photos: Path) -> None:
    path = photos / "circle" / "000.jpg"
    [wanted] = json.loads(regraft("predict", RUN, path, "--json", "--top", "5").stdout)
    found = server.predict(path.read_bytes())
    assert found.pop("novelty") == pytest.approx(wanted.pop("novelty"), abs=1e-4)
    assert found.pop("rejected") == wanted["none_of_these"]
    assert {**found, "path": str(path)} == wanted


def test_models_have_names_and_versions(server: Served, photo: bytes) -> None:
    plain, named = server.predict(photo), server.predict(photo, "/predict/run-schema-2?version=1")
    assert plain == named
    other = server.predict(photo, "/predict/%EC%83%89")
    assert {one["label"] for one in other["top"]} != {one["label"] for one in plain["top"]}
    for path in ("/predict/rose", "/predict/run-schema-2?version=2", "/predict/run-schema-2?version=x"):
        status, _, body = server.ask("POST", path, photo)
        assert (status, list(json.loads(body))) == (404, ["error"]), path


def test_a_form_gives_one_answer_or_a_list(server: Served, photo: bytes) -> None:
    big = photo + bytes(3 * 2**20)  # above what Starlette writes to the disk
    body, kind = form(("one.jpg", big))
    status, _, answer = server.ask("POST", "/predict", body, content_type=kind)
    assert (status, json.loads(answer)["path"]) == (200, "one.jpg")
    body, kind = form(("a.jpg", photo), ("../b.jpg", b"broken"))
    status, _, answer = server.ask("POST", "/predict", body, content_type=kind)
    found = json.loads(answer)
    assert status == 200
    assert "top" in found[0]
    assert "error" in found[1]


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", "image/jpeg", 400),
        (b"no photo", "image/jpeg", 422),
        (png(50_000, 50_000), "image/png", 413),
        (form()[0], form()[1], 400),
        (b"--xyz\r\nrubbish", form()[1], 400),
        (b"x", "multipart/form-data", 400),
        (form(*[("a", b"x")] * (QUEUE + 1))[0], form()[1], 400),
    ],
)
def test_bodies_without_an_answer(server: Served, body: bytes, kind: str, status: int) -> None:
    found, _, answer = server.ask("POST", "/predict", body, content_type=kind)
    assert found == status
    assert isinstance(json.loads(answer)["error"], str)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_commands_of_the_page_work(server: Served, photos: Path, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "serve.md").read_text(encoding="utf-8")
    commands = re.findall(r"^curl .*127\.0\.0\.1:8000.*$", page, re.MULTILINE)
    assert len(commands) == 3
    for name in ("photo.jpg", "one.jpg", "two.jpg"):
        shutil.copy(photos / "circle" / "000.jpg", tmp_path / name)
    for command in commands:
        words = command.replace(":8000", f":{server.port}").split()
        done = subprocess.run([*words, "-sS"], cwd=tmp_path, capture_output=True, check=True)
        found = json.loads(done.stdout)
        assert [one["top"][0]["label"] for one in (found if isinstance(found, list) else [found])]


def test_methods_and_paths(server: Served) -> None:
    assert server.ask("GET", "/predict")[0] == 405
    assert server.ask("GET", "/nothing")[0] == 404
    for path in ("/livez", "/readyz", "/v2/health/live", "/v2/health/ready"):
        assert server.ask("GET", path)[0] == 200


def test_a_body_over_the_limit_is_refused_before_it_is_sent(server: Served) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (BODY + 1)
    with socket.create_connection(("127.0.0.1", server.port), 30) as connection:
        connection.sendall(head)
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")
        connection.shutdown(socket.SHUT_WR)
        read_all(connection)
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), 30) as connection:
        connection.sendall(head)
        for _ in range(BODY // 2**20 + 1):
            connection.sendall(b"100000\r\n" + bytes(2**20) + b"\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_every_answer_has_the_security_headers(server: Served) -> None:
    for method, path in (("GET", "/readyz"), ("GET", "/nothing"), ("POST", "/predict"), ("GET", "/predict")):
        _, headers, _ = server.ask(method, path)
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "server" not in headers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 400),
        ({"Host": "evil.example:80"}, 400),
        ({"Host": "127.0.0.1.evil.example"}, 400),
        ({"Host": ""}, 400),
        ({"Host": "localhost:1"}, 200),
        ({"Host": "[::1]:8000"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:9", "Host": "localhost:9"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_pages_of_strangers_get_no_answer(server: Served, photo: bytes, headers: dict[str, str], status: int) -> None:
    assert server.ask("POST", "/predict", photo, **headers)[0] == status


def test_what_the_page_alone_uses_needs_a_header_that_no_form_sends(server: Served) -> None:
    assert server.ask("POST", "/page/anything", b"x")[0] == 403
    assert server.ask("POST", "/page/anything", b"x", X_Regraft="1")[0] in (404, 405)


def test_the_log_has_a_line_of_json_for_each_request(warm_cache: Path, photo: bytes) -> None:
    with served(warm_cache, RUN) as server:
        server.predict(photo, "/predict/run-schema-2")
        server.ask("GET", "/%1b%5b31m")
        assert server.stop() == 0
        lines = [json.loads(line) for line in server.lines if line.startswith("{")]
    assert [(one["method"], one["path"], one["status"]) for one in lines] == [
        ("POST", "/predict/{name}", 200),
        ("GET", None, 404),
    ]
    assert (lines[0]["model"], lines[0]["client"]) == ("run-schema-2/1", "127.0.0.1")
    assert lines[0]["seconds"] > 0
    assert "\x1b" not in "".join(server.lines)


def test_a_server_that_others_reach_wants_a_token(warm_cache: Path, photo: bytes) -> None:
    with served(warm_cache, RUN, "--host", "0.0.0.0", "--token", "s3cret") as server:
        assert server.ask("POST", "/predict", photo)[0] == 401
        assert server.ask("POST", "/predict", photo, Authorization="Bearer wrong")[0] == 401
        assert server.ask("POST", "/predict?token=s3cret", photo)[0] == 401
        assert server.ask("POST", "/predict", photo, Authorization="Bearer s3cret")[0] == 200
        assert server.ask("POST", "/predict", photo, Authorization="Bearer s3cret", Host="photos.example")[0] == 200
        assert server.ask("GET", "/readyz")[0] == 200
        assert not any("s3cret" in line for line in server.lines), "a log holds no secret"


def test_a_port_in_use_and_other_mistakes_are_one_line(regraft: Command, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        told = regraft("serve", RUN, "--port", str(port), code=1).stderr
    assert told.count("\n") == 1
    assert f"--port {port + 1}" in told
    for arguments, word in (
        (["serve"], "regraft serve RUN"),
        (["serve", RUN, RUN], "--name OTHER="),
        (["serve", "--name", "a/b=x"], "NAME="),
        (["serve", "--name", "ab"], "NAME=PATH"),
        (["serve", tmp_path / "none"], "none"),
        (["serve", RUN, "--host", "0.0.0.0"], "--token"),
        (["serve", RUN, "--host", "192.0.2.1", "--no-token"], "--host"),
    ):
        told = regraft(*arguments, code=1).stderr
        assert word in told
        assert told.count("\n") == 1


def test_a_log_that_nobody_reads_stops_nothing(warm_cache: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "regraft", "serve", str(RUN), "--port", str(port)]
    environment = {**os.environ, "REGRAFT_CACHE": str(warm_cache)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as process:
        try:
            assert process.stderr
            while b"http://" not in process.stderr.readline():
                assert process.poll() is None
            with socket.create_connection(("127.0.0.1", port), 60) as connection:
                for _ in range(1500):  # their lines are more than a pipe holds
                    connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        finally:
            process.kill()
