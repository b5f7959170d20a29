"""The REST API of TensorFlow Serving, asked as its documentation shows it."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from regraft import load_predictor
from tests.serving.asking import ask
from tests.serving.servers import RUN


@pytest.fixture(scope="module")
def expected(warm_cache: Path, photo: Path, stranger: Path) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGRAFT_CACHE", str(warm_cache))
        return load_predictor(RUN).answers([photo, stranger])


def encoded(photo: Path) -> dict[str, str]:
    return {"b64": base64.b64encode(photo.read_bytes()).decode()}


def pixels_of(photo: Path) -> Any:
    return np.asarray(Image.open(photo).convert("RGB")).tolist()


def test_photos_by_row(shapes_server: str, photo: Path, stranger: Path, expected: Any) -> None:
    url = f"{shapes_server}/v1/models/shapes"
    for name in ("", "image", "image_bytes", "bytes", "inputs"):
        instances = [{name: encoded(one)} if name else encoded(one) for one in (photo, stranger)]
        found = ask(f"{url}:predict", {"signature_name": "serving_default", "instances": instances}).json["predictions"]
        for row, (probabilities, novelty) in zip(found, zip(*expected, strict=True), strict=True):
            assert row["probabilities"] == pytest.approx(probabilities.tolist(), abs=1e-3)
            assert row["novelty"] == pytest.approx(float(novelty), abs=1e-2)
    pixels = ask(f"{url}/versions/1:predict", {"instances": [pixels_of(photo)]}).json["predictions"]
    assert pixels[0]["probabilities"] == pytest.approx(expected.probabilities[0].tolist(), abs=1e-3)


def test_photos_by_column(shapes_server: str, photo: Path, expected: Any) -> None:
    url, file = f"{shapes_server}/v1/models/shapes:predict", encoded(photo)
    for inputs in ([file], {"image": [file]}, {"image": file}, file, {"image": [pixels_of(photo)]}):
        found = ask(url, {"inputs": inputs}).json["outputs"]
        assert found["probabilities"][0] == pytest.approx(expected.probabilities[0].tolist(), abs=1e-3)
        assert len(found["novelty"]) == 1


def test_an_only_output_has_no_name(shapes_server: str, photo: Path) -> None:
    """As in TensorFlow Serving, where a model has one output."""
    url = f"{shapes_server}/v1/models/%EC%83%89:predict"
    rows = ask(url, {"instances": [encoded(photo)] * 2}).json["predictions"]
    assert [len(row) for row in rows] == [3, 3]
    assert ask(url, {"inputs": [encoded(photo)] * 2}).json["outputs"] == rows


def test_labels_of_photos(shapes_server: str, photo: Path, stranger: Path) -> None:
    examples = [{"image/encoded": encoded(photo)}, {"image/encoded": [encoded(stranger)]}]
    known, unknown = ask(f"{shapes_server}/v1/models/shapes:classify", {"examples": examples}).json["result"]
    assert [label for label, _ in known] == ["circle", "Square", "줄무늬"]
    assert sum(score for _, score in known) == pytest.approx(1)
    assert unknown[0] == ["none of these", 1]
    assert len(unknown) == 4


def test_status_and_metadata(shapes_server: str) -> None:
    url = f"{shapes_server}/v1/models/shapes"
    versions = ask(url).json["model_version_status"]
    assert [each["version"] for each in versions] == ["2", "1"]
    assert versions[0] == {
        "version": "2",
        "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""},
    }
    assert [each["version"] for each in ask(f"{url}/versions/1").json["model_version_status"]] == ["1"]
    found = ask(f"{url}/versions/1/metadata").json
    assert found["model_spec"] == {"name": "shapes", "signature_name": "", "version": "1"}
    signature = found["metadata"]["signature_def"]["signature_def"]["serving_default"]
    sizes = [each["size"] for each in signature["inputs"]["image"]["tensor_shape"]["dim"]]
    assert (signature["inputs"]["image"]["dtype"], sizes) == ("DT_UINT8", ["-1", "224", "224", "3"])
    assert set(signature["outputs"]) == {"probabilities", "novelty"}


@pytest.mark.parametrize(
    ("place", "status"),
    [
        ("other", 404),
        ("other:predict", 404),
        ("shapes/versions/9", 404),
        ("shapes/versions/x:predict", 404),
        ("shapes:regress", 400),
        ("shapes:classify", 400),
        ("shapes:explain", 405),
    ],
)
def test_what_there_is_not(place: str, status: int, shapes_server: str) -> None:
    body = {"instances": [[[[1, 2, 3]]]]} if ":" in place else None
    reply = ask(f"{shapes_server}/v1/models/{place}", body)
    assert reply.status == status
    assert reply.json["error"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"instances": []},
        {"instances": {}},
        {"instances": [1]},
        {"instances": [None]},
        {"instances": [{}]},
        {"instances": ["aGk="]},
        {"instances": [{"b64": "aGk="}]},
        {"instances": [{"b64": 1}]},
        {"instances": [{"b64": "aGk=", "image": 1}]},
        {"instances": [[1, 2, 3]]},
        {"instances": [[[[0.5, 0.5, 0.5]]]]},
        {"instances": [[[[1, 2, 3, 4]]]]},
        {"instances": [[[[1, 2, 3]]], [[[1, 2]]]]},
        {"instances": [[[[1, 2, 3]]]], "inputs": [[[[1, 2, 3]]]]},
        {"inputs": {"a": [[[[1, 2, 3]]]], "b": [[[[1, 2, 3]]]]}},
        {"inputs": "x"},
        {"instances": [{"image": {"b64": "aGk="}, "key": "1"}]},
    ],
    ids=lambda body: str(body)[:40],
)
def test_a_wrong_request_is_answered_with_what_is_wrong(body: Any, shapes_server: str) -> None:
    reply = ask(f"{shapes_server}/v1/models/shapes:predict", body)
    assert reply.status == 400
    assert reply.json["error"]
