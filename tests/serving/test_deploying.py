"""What docs/how-to/deploy.md shows, run: nginx in front of the server, the systemd unit, the container's file."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.servers import RUN, served_at

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "serve"
NGINX = shutil.which("nginx")
BUILDER = shutil.which("docker") or shutil.which("podman")


@pytest.fixture
def behind_nginx(warm_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of nginx, which has the example's configuration, in front of a server with the token ``secret``."""
    if NGINX is None:
        pytest.skip("nginx is not installed")
    monkeypatch.setenv("REGRAFT_TOKEN", "secret")
    with served_at(warm_cache, RUN) as url, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        site = (EXAMPLES / "nginx.conf").read_text(encoding="utf-8")
        for name, value in {
            "http://127.0.0.1:8000": url,
            "listen 443": f"listen 127.0.0.1:{port}",
            "/etc/ssl/photos.example.com.pem": str(tmp_path / "own.pem"),
            "/etc/ssl/photos.example.com.key": str(tmp_path / "own.key"),
        }.items():
            assert name in site
            site = site.replace(name, value)
        make_certificate(tmp_path)
        temporary = "".join(
            f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        whole = f"daemon off; pid {tmp_path}/pid; events {{}} http {{ access_log off; {temporary} {site} }}"
        (tmp_path / "nginx.conf").write_text(whole, encoding="utf-8")
        command = [NGINX, "-e", str(tmp_path / "errors"), "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            wait_for_port(port, process)
            yield f"https://127.0.0.1:{port}"
            process.terminate()


def make_certificate(folder: Path) -> None:
    names = ["-keyout", str(folder / "own.key"), "-out", str(folder / "own.pem"), "-subj", "/CN=photos.example.com"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *names]
    subprocess.run(command, check=True, capture_output=True)


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        assert process.poll() is None, "nginx has ended"
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("nginx does not listen")


def through(url: str, body: bytes, **headers: str) -> tuple[int, dict[str, object]]:
    """Send a photo through nginx under the name of the example; return the status and the document."""
    asked = {"Host": "photos.example.com", **{name.replace("_", "-"): value for name, value in headers.items()}}
    request = urllib.request.Request(f"{url}/predict", body, asked)
    trust = ssl._create_unverified_context()
    try:
        with urllib.request.urlopen(request, timeout=60, context=trust) as found:
            return found.status, json.load(found)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_nginx_passes_photos_and_the_name_of_the_host(behind_nginx: str, photo: Path) -> None:
    data = photo.read_bytes() + bytes(2 * 2**20)  # more than the 1 MB that nginx takes by itself
    status, answer = through(behind_nginx, data, Authorization="Bearer secret", Origin="https://photos.example.com")
    assert status == 200
    assert "top" in answer


def test_nginx_does_not_hide_what_the_server_refuses(behind_nginx: str, photo: Path) -> None:
    data = photo.read_bytes()
    assert through(behind_nginx, data)[0] == 401
    assert through(behind_nginx, data, Authorization="Bearer secret", Origin="https://evil.example")[0] == 403


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_reads_the_unit(tmp_path: Path) -> None:
    text = (EXAMPLES / "regraft.service").read_text(encoding="utf-8")
    assert "/opt/regraft/bin/regraft" in text
    command = tmp_path / "regraft"
    command.write_text("#!/bin/sh\n", encoding="utf-8")
    command.chmod(0o755)
    (tmp_path / "regraft.service").write_text(text.replace("/opt/regraft/bin/regraft", str(command)), encoding="utf-8")
    found = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / "regraft.service"], capture_output=True, encoding="utf-8"
    )
    assert (found.returncode, found.stderr) == (0, "")


def test_the_container_has_a_user_without_rights_and_asks_for_a_token() -> None:
    lines = (EXAMPLES / "Dockerfile").read_text(encoding="utf-8").splitlines()
    user = next(i for i, line in enumerate(lines) if line.startswith("USER "))
    assert lines[user] == "USER regraft"
    assert all(not line.startswith(("RUN", "COPY")) for line in lines[user:])
    assert "--no-token" not in "\n".join(lines)


@pytest.mark.slow
def test_the_container_is_built_and_knows_the_command(tmp_path: Path) -> None:
    if BUILDER is None or subprocess.run([BUILDER, "info"], capture_output=True).returncode:
        pytest.skip("there is neither docker nor podman here")
    name = f"regraft-test-{os.getpid()}"
    subprocess.run([BUILDER, "build", "-f", EXAMPLES / "Dockerfile", "-t", name, ROOT], check=True)
    try:
        told = subprocess.run([BUILDER, "run", "--rm", name, "--help"], capture_output=True, encoding="utf-8")
        assert "regraft serve" in told.stdout
    finally:
        subprocess.run([BUILDER, "rmi", "-f", name], capture_output=True)
