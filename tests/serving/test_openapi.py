"""The OpenAPI document: it is valid, tells every route, and the server does what it tells."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from regraft.serving.openapi import document_of, routes
from tests.serving.asking import ask
from tests.serving.servers import RUN, served

PATHS = {
    "/predict",
    "/predict/{name}",
    "/v2",
    "/v2/repository/index",
    "/v2/models/{name}",
    "/v2/models/{name}/infer",
    "/v2/models/{name}/versions/{version}/infer",
    "/v2/models/{name}/versions/{version}/ready",
    "/v1/models/{name}",
    "/v1/models/{name}:predict",
    "/v1/models/{name}/versions/{version}:classify",
    "/v1/models/{name}/metadata",
    "/metrics",
    "/openapi.json",
}


@pytest.fixture(scope="module")
def document(shapes_server: str) -> dict[str, Any]:
    found: dict[str, Any] = ask(f"{shapes_server}/openapi.json").json
    return found


def test_every_protocol_is_in_it(document: dict[str, Any]) -> None:
    assert set(document["paths"]) >= PATHS
    operations = [operation for methods in document["paths"].values() for operation in methods.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    assert all(operation["summary"].endswith(".") for operation in operations)


def test_it_names_the_models_that_there_are(document: dict[str, Any]) -> None:
    name, version = document["paths"]["/predict/{name}"]["post"]["parameters"]
    assert (version["name"], version["in"]) == ("version", "query")
    assert name["schema"]["enum"] == ["shapes", "색"]


def test_a_server_with_a_token_tells_that_it_wants_one() -> None:
    class Named:
        names = ("shapes",)

    described: Any = routes(Named(), [], with_token=True)  # type: ignore[arg-type]
    document = document_of(described, ["shapes"], with_token=True)
    assert document["security"] == [{"token": []}]
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert "security" not in document_of(described, ["shapes"], with_token=False)


@pytest.mark.skipif(
    find_spec("openapi_spec_validator") is None, reason="needs openapi-spec-validator: pip install --group clients"
)
def test_it_is_valid(document: dict[str, Any]) -> None:
    from openapi_spec_validator import validate

    validate(document)


def test_answers_have_the_form_that_it_tells(document: dict[str, Any], shapes_server: str, photo: Path) -> None:
    import jsonschema

    file = base64.b64encode(photo.read_bytes()).decode()
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [file]}
    for path, method, body in (
        ("/predict", "post", photo.read_bytes()),
        ("/v2", "get", None),
        ("/v2/models/{name}", "get", None),
        ("/v2/repository/index", "post", b""),
        ("/v2/models/{name}/infer", "post", {"inputs": [tensor]}),
        ("/v1/models/{name}", "get", None),
        ("/v1/models/{name}/metadata", "get", None),
        ("/v1/models/{name}:predict", "post", {"instances": [{"b64": file}]}),
        ("/v1/models/{name}:predict", "post", {"inputs": [{"b64": file}]}),
        ("/v1/models/{name}:classify", "post", {"examples": [{"image": {"b64": file}}]}),
    ):
        reply = ask(shapes_server + path.replace("{name}", "shapes"), body)
        assert reply.status == 200, (path, reply.body)
        schema = document["paths"][path][method]["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema.validate(reply.json, {**schema, "components": document["components"]})


def test_the_examples_of_the_document_are_answered(document: dict[str, Any], shapes_server: str) -> None:
    for path, methods in document["paths"].items():
        for media in methods.get("post", {}).get("requestBody", {}).get("content", {}).values():
            if "example" in media:
                url = shapes_server + path.replace("{name}", "shapes").replace("{version}", "1")
                assert ask(url, media["example"]).status == 200


@pytest.mark.skipif(find_spec("schemathesis") is None, reason="needs schemathesis: pip install --group clients")
def test_generated_requests_get_what_the_document_tells(warm_cache: Path, tmp_path: Path) -> None:
    """No 5xx, no status and no body that the document does not tell."""
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    with served(warm_cache, RUN) as server:
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{server.address}openapi.json", "--checks", checks),
            *("--phases", "examples,coverage,fuzzing", "--max-examples", "5", "--generation-deterministic"),
            *("--workers", "2", "--request-timeout", "30", "--no-color"),
        ]
        environment = {**os.environ, "PYTHONUTF8": "1"}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8", check=False
        )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    [generated] = re.findall(r"(\d+) generated", done.stdout)
    assert int(generated) > 100
