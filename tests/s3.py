"""An S3 server on this machine, for tests of object stores."""

from __future__ import annotations

import os
from functools import cache
from itertools import count
from urllib.parse import quote

import pytest

_NUMBERS = count()


@cache
def _running() -> str:
    """Start the server of this process, and return its host and port."""
    server = pytest.importorskip("moto.server", reason="needs moto: pip install 'moto[s3,server]'")
    pytest.importorskip("boto3")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        os.environ[name] = "testing"
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    running.start()
    host, port = running.get_host_and_port()
    return f"{host}:{port}"


def s3_server(folder: str = "photos") -> str:
    """Return the address of a folder in a new bucket. The test is skipped where there is no server for it."""
    endpoint, name = _running(), f"bucket-{next(_NUMBERS)}"
    import boto3

    boto3.client("s3", endpoint_url=f"http://{endpoint}", region_name="us-east-1").create_bucket(Bucket=name)
    return f"s3://{name}/{folder}?scheme=http&region=us-east-1&endpoint_override={quote(endpoint, safe='')}"
