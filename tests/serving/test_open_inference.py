"""The Open Inference Protocol V2: its JSON and binary data, and Triton's own client."""

from __future__ import annotations

import base64
import gzip
import json
import re
import struct
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from regraft import load_predictor
from tests.serving.asking import Reply, ask
from tests.serving.servers import EXPORT as COLOURS
from tests.serving.servers import RUN

HEADER = "Inference-Header-Content-Length"
needs_triton = pytest.mark.skipif(find_spec("tritonclient") is None, reason="needs tritonclient[http]")


@pytest.fixture(scope="module")
def expected(warm_cache: Path, photo: Path, stranger: Path) -> Any:
    """Probabilities and novelty of the photo and of the stranger."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGRAFT_CACHE", str(warm_cache))
        return load_predictor(RUN).answers([photo, stranger])


def pixels_of(photo: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.asarray(Image.open(photo).convert("RGB"))


def encoded(photo: Path) -> str:
    return base64.b64encode(photo.read_bytes()).decode()


def files(*photos: Path, **more: Any) -> dict[str, Any]:
    data = [encoded(photo) for photo in photos]
    return {"inputs": [{"name": "image_bytes", "datatype": "BYTES", "shape": [len(data)], "data": data}], **more}


def outputs_of(reply: Reply) -> dict[str, Any]:
    assert reply.status == 200, reply.body
    return {output["name"]: output for output in reply.json["outputs"]}


def infer(server: str, body: Any, model: str = "shapes", **headers: str) -> Reply:
    return ask(f"{server}/v2/models/{model}/infer", body, headers)


def test_what_the_server_and_its_models_are(shapes_server: str) -> None:
    about = ask(f"{shapes_server}/v2").json
    assert about["name"] == "regraft"
    assert "binary_tensor_data" in about["extensions"]
    shapes = ask(f"{shapes_server}/v2/models/shapes").json
    assert (shapes["name"], shapes["versions"]) == ("shapes", ["1", "2"])
    assert shapes["inputs"] == [
        {"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, 3]},
        {"name": "image_bytes", "datatype": "BYTES", "shape": [-1]},
    ]
    assert {each["name"]: each["shape"] for each in shapes["outputs"]} == {
        "probabilities": [-1, 3],
        "label": [-1],
        "rejected": [-1],
        "novelty": [-1],
    }
    assert shapes["parameters"]["classes"] == ["Square", "circle", "줄무늬"]
    colours = ask(f"{shapes_server}/v2/models/%EC%83%89").json
    assert [each["name"] for each in colours["outputs"]] == ["probabilities", "label", "rejected"]


def test_a_model_is_ready_in_the_versions_that_there_are(shapes_server: str) -> None:
    models = f"{shapes_server}/v2/models"
    assert ask(f"{models}/shapes/ready").status == 200
    assert ask(f"{models}/shapes/versions/1/ready").status == 200
    for missing in (
        "other/ready",
        "shapes/versions/7/ready",
        "shapes/versions/0/ready",
        f"shapes/versions/{'9' * 5000}",
    ):
        assert ask(f"{models}/{missing}").status == 404


def test_the_repository_lists_every_version(shapes_server: str) -> None:
    found = ask(f"{shapes_server}/v2/repository/index", b"").json
    assert [(each["name"], each["version"], each["state"]) for each in found] == [
        ("shapes", "1", "READY"),
        ("shapes", "2", "READY"),
        ("색", "1", "READY"),
    ]


def test_files_in_json(shapes_server: str, photo: Path, stranger: Path, expected: Any) -> None:
    reply = infer(shapes_server, files(photo, stranger, id="abc"))
    assert (reply.json["id"], reply.json["model_name"], reply.json["model_version"]) == ("abc", "shapes", "2")
    found = outputs_of(reply)
    assert found["probabilities"]["shape"] == [2, 3]
    assert found["probabilities"]["data"] == pytest.approx(expected.probabilities.ravel().tolist(), abs=1e-3)
    assert found["novelty"]["data"] == pytest.approx(expected.novelty.tolist(), abs=1e-2)
    assert found["label"]["data"] == ["circle", "none of these"]
    assert found["rejected"]["data"] == [False, True]


def test_pixels_in_json_nested_and_flat(shapes_server: str, photo: Path, expected: Any) -> None:
    pixels = pixels_of(photo)
    for data in ([pixels.tolist()], pixels.ravel().tolist()):
        tensor = {"name": "image", "datatype": "UINT8", "shape": [1, *pixels.shape], "data": data}
        found = outputs_of(infer(shapes_server, {"inputs": [tensor]}))
        assert found["probabilities"]["data"] == pytest.approx(expected.probabilities[0].tolist(), abs=1e-3)


def test_binary_data_in_and_out(shapes_server: str, photo: Path, stranger: Path, expected: Any) -> None:
    data = b"".join(struct.pack("<I", len(one)) + one for one in (photo.read_bytes(), stranger.read_bytes()))
    tensor = {"name": "image", "datatype": "BYTES", "shape": [2, 1], "parameters": {"binary_data_size": len(data)}}
    wanted = [{"name": "label", "parameters": {"binary_data": True}}, {"name": "rejected"}, {"name": "probabilities"}]
    head = json.dumps({"inputs": [tensor], "outputs": wanted, "parameters": {"binary_data_output": True}}).encode()
    reply = infer(shapes_server, head + data, **{HEADER: str(len(head))})
    size = int(reply.headers[HEADER.lower()])
    described = json.loads(reply.body[:size])["outputs"]
    assert [(each["name"], each["datatype"], each["shape"]) for each in described] == [
        ("label", "BYTES", [2]),
        ("rejected", "BOOL", [2]),
        ("probabilities", "FP32", [2, 3]),
    ]
    label, rejected, probabilities = (each["parameters"]["binary_data_size"] for each in described)
    rest = reply.body[size:]
    assert rest[:label] == b"\x06\0\0\0circle\x0d\0\0\0none of these"
    assert rest[label : label + rejected] == b"\0\1"
    found = np.frombuffer(rest[label + rejected :], "<f4").reshape(2, 3)
    assert probabilities == found.nbytes
    np.testing.assert_allclose(found, expected.probabilities, atol=1e-3)


def test_one_file_without_its_length_as_openvino_model_server_takes_it(shapes_server: str, photo: Path) -> None:
    head = json.dumps({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1]}]}).encode()
    found = outputs_of(infer(shapes_server, head + photo.read_bytes(), **{HEADER: str(len(head))}))
    assert found["label"]["data"] == ["circle"]


def test_the_most_probable_classes_as_texts(shapes_server: str, photo: Path) -> None:
    wanted = [{"name": "probabilities", "parameters": {"classification": 2}}]
    [output] = infer(shapes_server, files(photo, outputs=wanted)).json["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [1, 2])
    value, index, label = output["data"][0].split(":")
    assert (index, label) == ("1", "circle")
    assert float(value) > 0.9


def test_null_stands_for_what_is_missing(shapes_server: str, photo: Path) -> None:
    """As MLServer's client writes it."""
    body = files(photo, id=None, outputs=None, parameters=None)
    body["inputs"][0]["parameters"] = None
    reply = infer(shapes_server, body)
    assert outputs_of(reply)["label"]["data"] == ["circle"]
    assert "id" not in reply.json


def test_an_export_without_novelty(shapes_server: str, photo: Path, warm_cache: Path) -> None:
    found = outputs_of(infer(shapes_server, files(photo), "%EC%83%89"))
    assert set(found) == {"probabilities", "label", "rejected"}
    assert found["rejected"]["data"] == [False]
    answers = load_predictor(COLOURS).predict_proba([photo])
    assert found["probabilities"]["data"] == pytest.approx(answers[0].tolist(), abs=1e-3)


def tensor(**changes: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 1, 1, 3], "data": [1, 2, 3], **changes}]}


WRONG: dict[str, tuple[Any, str]] = {
    "no JSON": (b"{", "truncated"),
    "not UTF-8": (b'{"id": "\xff", "inputs": []}', "."),
    "nested deeply": (b"[" * 100_000, "`"),
    "a lone surrogate": (b'{"id": "\\ud800", "inputs": []}', "surrogate"),
    "no input": ({"inputs": []}, "0 inputs"),
    "two inputs": ({"inputs": tensor()["inputs"] * 2}, "2 inputs"),
    "an unknown input": (tensor(name="x"), "no input x"),
    "an unknown output": ({**tensor(), "outputs": [{"name": "y"}]}, "no output y"),
    "an output twice": ({**tensor(), "outputs": [{"name": "label"}, {"name": "label"}]}, "named twice"),
    "an unknown type": (tensor(datatype="FP32"), "FP32"),
    "another shape": (tensor(shape=[1, 3]), "wanted \\[N, height, width, 3\\]"),
    "a negative length": (tensor(shape=[1, -1, -1, 3]), "wanted lengths from 1 to"),
    "no photo": (tensor(shape=[0, 1, 1, 3], data=[]), "wanted lengths from 1 to"),
    "a huge shape": (tensor(shape=[10**30, 1, 1, 3]), "."),
    "a shape whose product overflows": (tensor(shape=[1, 2**40, 2**40, 3]), "wanted lengths from 1 to"),
    "too few values": (tensor(data=[1, 2]), "2 values"),
    "too large a value": (tensor(data=[1, 2, 256]), "0 to 255"),
    "a negative value": (tensor(data=[1, 2, -1]), "0 to 255"),
    "a fraction": (tensor(data=[1, 2, 0.5]), "int"),
    "a truth value": (tensor(data=[True, True, True]), "int"),
    "long texts as values": (tensor(data=["x" * 10_000, *[""] * 10_000]), "int"),
    "lists of different lengths": (tensor(data=[[[[1, 2, 3], [1]]]]), "equally long"),
    "lists and numbers": (tensor(data=[[1], 2]), "int"),
    "an empty list": (tensor(data=[[], []]), "."),
    "no data": (tensor(data=None), "neither data"),
    "no base64": (tensor(datatype="BYTES", shape=[1], data=["!"]), "base64"),
    "a number as file": (tensor(datatype="BYTES", shape=[1], data=[1]), "base64"),
    "not as many files": (tensor(datatype="BYTES", shape=[2], data=["aGk="]), "1 files"),
    "a file that is no photo": (tensor(datatype="BYTES", shape=[1], data=["aGk="]), "photo 0: not an image"),
    "a classification of 0": (
        {**tensor(), "outputs": [{"name": "probabilities", "parameters": {"classification": 0}}]},
        "1 to 3",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_request_is_answered_with_what_is_wrong(name: str, shapes_server: str) -> None:
    body, reason = WRONG[name]
    reply = infer(shapes_server, body)
    assert reply.status == 400, reply.body
    assert re.search(reason, reply.json["error"]), reply.json
    assert len(reply.body) < 500


BINARY: dict[str, Callable[[bytes], tuple[bytes, str]]] = {
    "no number": lambda head: (head, "x"),
    "a negative length": lambda head: (head, "-1"),
    "more digits than a number has": lambda head: (head, "9" * 5000),
    "a file that is cut off": lambda head: (head + b"\xff\0\0\0ab", str(len(head))),
    "a length that is cut off": lambda head: (head + b"\xff\0abcd", str(len(head))),
}


@pytest.mark.parametrize("name", BINARY)
def test_wrong_binary_data(name: str, shapes_server: str) -> None:
    parameters = {"binary_data_size": 6}
    head = json.dumps(tensor(datatype="BYTES", shape=[1], data=None, parameters=parameters)).encode()
    body, length = BINARY[name](head)
    assert infer(shapes_server, body, **{HEADER: length}).status == 400


def test_a_million_empty_files_are_refused_at_once(shapes_server: str) -> None:
    head = json.dumps(
        tensor(datatype="BYTES", shape=[1], data=None, parameters={"binary_data_size": 4_000_000})
    ).encode()
    began = time.monotonic()
    assert infer(shapes_server, head + bytes(4_000_000), **{HEADER: str(len(head))}).status == 400
    assert infer(shapes_server, tensor(shape=[257, 1, 1, 3], data=[1] * 771)).status == 413
    assert time.monotonic() - began < 3


def test_a_compressed_body_is_refused(shapes_server: str) -> None:
    reply = infer(shapes_server, gzip.compress(json.dumps(tensor()).encode()), **{"Content-Encoding": "gzip"})
    assert reply.status == 415
    assert "compressed" in reply.json["error"]


@needs_triton
class TestTritonsClient:
    """The client of Triton Inference Server, which knows nothing of regraft."""

    @pytest.fixture
    def client(self, shapes_server: str) -> Any:
        from tritonclient.http import InferenceServerClient

        with InferenceServerClient(shapes_server.removeprefix("http://"), concurrency=4) as client:
            yield client

    def input_of(self, array: Any, name: str, datatype: str, binary: bool = True) -> Any:
        from tritonclient.http import InferInput

        found = InferInput(name, list(array.shape), datatype)
        found.set_data_from_numpy(array, binary_data=binary)
        return found

    def test_metadata(self, client: Any) -> None:
        assert client.is_server_ready()
        assert client.is_model_ready("shapes", "1")
        assert not client.is_model_ready("shapes", "9")
        assert client.get_server_metadata()["name"] == "regraft"
        assert client.get_model_metadata("shapes", "2")["platform"] == "regraft"
        assert len(client.get_model_repository_index()) == 3

    def test_files_and_pixels(self, client: Any, photo: Path, expected: Any) -> None:
        files = self.input_of(np.array([photo.read_bytes()], object), "image_bytes", "BYTES")
        pixels = self.input_of(pixels_of(photo)[np.newaxis], "image", "UINT8")
        in_json = self.input_of(pixels_of(photo)[np.newaxis], "image", "UINT8", binary=False)
        for given in (files, pixels, in_json):
            found = client.infer("shapes", [given], model_version="1", request_id="r")
            np.testing.assert_allclose(found.as_numpy("probabilities"), expected.probabilities[:1], atol=1e-3)
            assert found.as_numpy("label").tolist() == [b"circle"]
            assert found.as_numpy("rejected").tolist() == [False]
            assert (found.get_response()["id"], found.get_response()["model_version"]) == ("r", "1")

    def test_outputs_in_json_and_in_binary(self, client: Any, photo: Path) -> None:
        from tritonclient.http import InferRequestedOutput

        given = self.input_of(pixels_of(photo)[np.newaxis], "image", "UINT8")
        wanted = [InferRequestedOutput("label", binary_data=False), InferRequestedOutput("novelty", binary_data=True)]
        found = client.infer("shapes", [given], outputs=wanted)
        assert found.as_numpy("label").tolist() == ["circle"]
        assert found.as_numpy("novelty").shape == (1,)
        assert found.as_numpy("probabilities") is None
        top = [InferRequestedOutput("probabilities", class_count=2)]
        assert b":1:circle" in client.infer("shapes", [given], outputs=top).as_numpy("probabilities")[0, 0]

    def test_many_requests_at_once(self, client: Any, photo: Path) -> None:
        given = self.input_of(np.array([photo.read_bytes()] * 3, object), "image_bytes", "BYTES")
        waiting = [client.async_infer("shapes", [given]) for _ in range(8)]
        assert [one.get_result().as_numpy("label").tolist() for one in waiting] == [[b"circle"] * 3] * 8

    def test_errors(self, client: Any, photo: Path) -> None:
        from tritonclient.utils import InferenceServerException

        given = self.input_of(np.array([b"no photo"], object), "image_bytes", "BYTES")
        with pytest.raises(InferenceServerException, match="photo 0: not an image"):
            client.infer("shapes", [given])
        with pytest.raises(InferenceServerException, match="no model other"):
            client.infer("other", [given])
