"""The Open Inference Protocol V2 over REST, which KServe, Triton and OpenVINO Model Server speak too.

In: tensors of photos: pixels (``image``) or files (``image_bytes``), in JSON or as binary data behind the JSON.
Out: the tensors ``probabilities``, ``label``, ``rejected`` and, where it is known, ``novelty``.
Why: clients in many languages exist, such as tritonclient.
Surprise: pixels are photos of any size, which go through the transform of the classifier. In Triton they would have
the size that the network wants.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from regraft.foundation.records import encoded
from regraft.serving.batching import QUEUE, Answer
from regraft.serving.models import Model
from regraft.serving.openapi import BYTES, JSON, Described, Operation
from regraft.serving.protocols.bodies import (
    NONE_OF_THESE,
    answer_of,
    answered,
    body_of,
    bytes_of,
    model_of,
    parsed,
    pixels_of,
    reshaped,
    wrong,
)
from regraft.serving.service import Service, require_room

TAG = "Open Inference Protocol V2"
HEADER = "Inference-Header-Content-Length"
"""The header with the number of bytes of the JSON, where binary data follow."""

EXTENSIONS = ("binary_tensor_data", "classification", "model_repository")
INPUTS = ("image", "image_bytes")
_CHANNELS = 3
_DIGITS = 12  # of a number of bytes
_LENGTH = struct.Struct("<I")  # before each element of a BYTES tensor in binary data

Parameters = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Tensor:
    """The name, type and shape of a tensor; -1 in a shape is any number."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ServerMetadata:
    """The name and version of the server, and the extensions of the protocol that it has."""

    name: str
    version: str
    extensions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """A model. A request has one of the inputs; ``image`` may be of type BYTES too.

    Attributes:
        name: the name of the model.
        versions: the numbers of its versions.
        platform: ``regraft``.
        inputs: the inputs, of which a request has one.
        outputs: the outputs.
        parameters: ``classes``, the labels in the order of the probabilities, and ``threshold``, the novelty above
            which the answer is "none of these".
    """

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IndexedModel:
    """A version of a model in the index of the repository."""

    name: str
    version: str
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class InputTensor:
    """Photos: UINT8 (N, H, W, 3), which is RGB pixels, or BYTES (N), which is files.

    Attributes:
        name: ``image`` or ``image_bytes``.
        datatype: ``UINT8`` or ``BYTES``.
        shape: the shape.
        data: whole numbers from 0 to 255, or files in base64; missing where binary data follow the JSON.
        parameters: ``binary_data_size``, the number of bytes of the binary data.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: list[Any] | None = None
    parameters: Parameters | None = None


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """An output that is wanted.

    Attributes:
        name: the name of the output.
        parameters: ``binary_data``, whether binary data are wanted; and for ``probabilities`` ``classification``, the
            number of the most probable classes that are wanted as texts ``PROBABILITY:INDEX:LABEL``.
    """

    name: str
    parameters: Parameters | None = None


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """Photos to answer.

    Attributes:
        inputs: one input.
        outputs: the outputs that are wanted; missing or empty for all.
        id: a text that comes back in the answer.
        parameters: ``binary_data_output``, whether binary data are wanted for all outputs.
    """

    inputs: tuple[InputTensor, ...]
    outputs: tuple[RequestedOutput, ...] | None = None
    id: str | None = None
    parameters: Parameters | None = None


@dataclass(frozen=True, slots=True)
class OutputTensor:
    """An output.

    Attributes:
        name: ``probabilities`` (N, C), ``label`` (N), ``rejected`` (N) or ``novelty`` (N).
        datatype: ``FP32``, ``BYTES`` or ``BOOL``.
        shape: the shape.
        data: the values in one list; missing where binary data follow the JSON.
        parameters: ``binary_data_size``, the number of bytes of the binary data.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: tuple[Any, ...] = ()
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InferenceResponse:
    """The answers. ``id`` is that of the request, and missing where it had none."""

    model_name: str
    model_version: str
    outputs: tuple[OutputTensor, ...]
    id: str = ""


@dataclass(frozen=True, slots=True)
class _Values:
    """An output before it is written: numbers, or texts as bytes."""

    tensor: Tensor
    values: NDArray[Any] | list[bytes]

    def listed(self) -> list[Any]:
        """Return the values as JSON values in one list."""
        if isinstance(self.values, list):
            return [text.decode() for text in self.values]
        found: list[Any] = self.values.ravel().tolist()
        return found

    def packed(self) -> bytes:
        """Return the values as binary data."""
        if isinstance(self.values, list):
            return b"".join(_LENGTH.pack(len(text)) + text for text in self.values)
        return self.values.astype(self.values.dtype.newbyteorder("<"), copy=False).tobytes()


_EXAMPLE = {"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 1, 1, 3], "data": [200, 40, 40]}]}
_METADATA = Operation("Tell the inputs and outputs of a model.", TAG, gives={JSON: ModelMetadata})
_READY = Operation("Answer 200 where the model is ready.", TAG)
_INFER = Operation(
    "Answer photos.",
    TAG,
    takes={JSON: InferenceRequest, BYTES: None},
    gives={JSON: InferenceResponse, BYTES: None},
    example=_EXAMPLE,
    headers={HEADER: "The number of bytes of the JSON at the beginning of the body, where binary data follow."},
)


def routes(service: Service) -> list[Route]:
    """Return the routes of the protocol, without those on the health of the server."""

    async def server(_: Request) -> Response:
        return answer_of(ServerMetadata("regraft", version("regraft"), EXTENSIONS))

    async def index(_: Request) -> Response:
        pairs = [(name, number) for name in service.models.names for number in service.models.versions(name)]
        return answer_of([IndexedModel(name, str(number), "READY", "") for name, number in pairs])

    async def metadata(request: Request) -> Response:
        model = model_of(service, request)
        return answer_of(_metadata(model, service.models.versions(model.name)))

    async def ready(request: Request) -> Response:
        model_of(service, request)
        return Response()

    async def infer(request: Request) -> Response:
        model = model_of(service, request)
        asked, photos = _photos(await body_of(request), request.headers.get(HEADER))
        names = [one.name for one in asked.outputs or ()]
        if unknown := [name for name in names if name not in (known := [one.name for one in _outputs(model)])]:
            raise wrong(f"there is no output {unknown[0]}; wanted {', '.join(known)}")
        if len(set(names)) < len(names):  # an answer could be a million times as long as the request
            raise wrong("an output is named twice")
        return _response(model, asked, await answered(service, model, photos))

    repository = Operation("List the models and their versions.", TAG, gives={JSON: tuple[IndexedModel, ...]})
    found: list[Route] = [
        Described("GET", "/v2", server, Operation("Tell the server's name.", TAG, gives={JSON: ServerMetadata})),
        Described("POST", "/v2/repository/index", index, repository),
    ]
    for place in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        found += [
            Described("GET", place, metadata, _METADATA),
            Described("GET", f"{place}/ready", ready, _READY),
            Described("POST", f"{place}/infer", infer, _INFER),
        ]
    return found


def _metadata(model: Model, versions: Sequence[int]) -> ModelMetadata:
    inputs = (Tensor("image", "UINT8", (-1, -1, -1, _CHANNELS)), Tensor("image_bytes", "BYTES", (-1,)))
    parameters = {"classes": model.predictor.classes, "threshold": model.predictor.threshold}
    return ModelMetadata(model.name, tuple(map(str, versions)), "regraft", inputs, _outputs(model), parameters)


def _outputs(model: Model) -> tuple[Tensor, ...]:
    """Return the outputs of a model."""
    found = (
        Tensor("probabilities", "FP32", (-1, len(model.predictor.classes))),
        Tensor("label", "BYTES", (-1,)),
        Tensor("rejected", "BOOL", (-1,)),
    )
    return (*found, Tensor("novelty", "FP32", (-1,))) if model.knows_novelty else found


def _photos(body: bytes, header: str | None) -> tuple[InferenceRequest, list[Any]]:
    """Return the request in a body, and its photos as files or as pixels (H, W, 3). Raises HTTPException 400, 413."""
    if header is not None and not (header.isdecimal() and header.isascii() and len(header) < _DIGITS):
        raise wrong(f"{HEADER} is no number of bytes")
    size = len(body) if header is None else int(header)
    asked, rest = parsed(InferenceRequest, body[:size]), memoryview(body)[size:]
    if len(asked.inputs) != 1:
        raise wrong(f"there are {len(asked.inputs)} inputs; wanted one: image or image_bytes")
    [tensor] = asked.inputs
    if tensor.name not in INPUTS:
        raise wrong(f"there is no input {tensor.name}; wanted image or image_bytes")
    if any(not 0 < length < 2**31 for length in tensor.shape):
        raise wrong(f"{tensor.name} has the shape {list(tensor.shape)[:9]}; wanted lengths from 1 to 2,147,483,647")
    require_room(tensor.shape[0] if tensor.shape else 0)
    if tensor.data is None:
        wanted = (tensor.parameters or {}).get("binary_data_size", len(rest))
        if wanted != len(rest) or not rest:
            raise wrong(f"{tensor.name} has neither data nor as much binary data as its binary_data_size says")
    elif rest:
        raise wrong(f"{tensor.name} has data in the JSON, and binary data too")
    if tensor.datatype == "UINT8":
        return asked, list(_pixels(tensor, rest))
    if tensor.datatype == "BYTES":
        return asked, _files(tensor, rest)
    raise wrong(f"{tensor.name} is {tensor.datatype}; wanted UINT8 pixels or BYTES of files")


def _pixels(tensor: InputTensor, data: memoryview) -> NDArray[np.uint8]:
    """Return the pixels (N, H, W, 3) of a tensor. Raises HTTPException 400."""
    if len(tensor.shape) != 4 or tensor.shape[3] != _CHANNELS:
        raise wrong(f"{tensor.name} has the shape {list(tensor.shape)[:9]}; wanted [N, height, width, 3]")
    if tensor.data is not None:
        return pixels_of(tensor.data, tensor.shape)
    return reshaped(np.frombuffer(data, np.uint8), tensor.shape)


def _files(tensor: InputTensor, data: memoryview) -> list[bytes]:
    """Return the files of a tensor, at most one more than may be. Raises HTTPException 400."""
    if tensor.data is not None:
        found = [bytes_of(one[0] if isinstance(one, list) and one else one) for one in tensor.data[: QUEUE + 1]]
    elif "binary_data_size" in (tensor.parameters or {}):
        found = list(islice(_elements(data), QUEUE + 1))
    else:  # OpenVINO Model Server takes a file that is not preceded by its length
        found = [bytes(data)]
    if tensor.shape[:1] != (len(found),) or any(length != 1 for length in tensor.shape[1:]):
        raise wrong(f"{tensor.name} has {len(found)} files and the shape {list(tensor.shape)[:9]}")
    return found


def _elements(data: memoryview) -> Iterator[bytes]:
    """Yield the elements of a BYTES tensor in binary data. Raises HTTPException 400."""
    at = 0
    while at < len(data):
        end = at + _LENGTH.size + (_LENGTH.unpack_from(data, at)[0] if at + _LENGTH.size <= len(data) else len(data))
        if end > len(data):
            raise wrong("the binary data end within a file; wanted the length of each file in 4 bytes before it")
        yield bytes(data[at + _LENGTH.size : end])
        at = end


def _response(model: Model, asked: InferenceRequest, answers: Sequence[Answer]) -> Response:
    """Return the answers as the request wants them: JSON, with binary data behind it where it asks for them."""
    wanted = asked.outputs or tuple(RequestedOutput(tensor.name) for tensor in _outputs(model))
    in_binary = bool((asked.parameters or {}).get("binary_data_output"))
    outputs, data = [], []
    for output in wanted:
        parameters = output.parameters or {}
        found = _values(model, output.name, answers, parameters.get("classification"))
        described = {"name": output.name, "datatype": found.tensor.datatype, "shape": found.tensor.shape}
        if parameters.get("binary_data", in_binary):
            data.append(found.packed())
            outputs.append({**described, "parameters": {"binary_data_size": len(data[-1])}})
        else:
            outputs.append({**described, "data": found.listed()})
    document = {"model_name": model.name, "model_version": str(model.version), "outputs": outputs}
    head = encoded(document if asked.id is None else {**document, "id": asked.id})
    if not data:
        return Response(head, media_type=JSON)
    return Response(b"".join([head, *data]), headers={HEADER: str(len(head))}, media_type=BYTES)


def _values(model: Model, name: str, answers: Sequence[Answer], count: Any) -> _Values:
    """Return an output; with ``count`` the most probable classes as texts. Raises HTTPException 400."""
    n = (len(answers),)
    if name == "rejected":
        return _Values(Tensor(name, "BOOL", n), np.array([model.is_novel(answer.novelty) for answer in answers]))
    if name == "novelty":
        return _Values(Tensor(name, "FP32", n), np.array([answer.novelty for answer in answers], np.float32))
    found = np.stack([answer.probabilities for answer in answers])
    classes = model.predictor.classes
    if name == "label":
        indices = zip(found.argmax(axis=1).tolist(), answers, strict=True)
        labels = [NONE_OF_THESE if model.is_novel(answer.novelty) else classes[index] for index, answer in indices]
        return _Values(Tensor(name, "BYTES", n), [label.encode() for label in labels])
    if count is None:
        return _Values(Tensor(name, "FP32", found.shape), found)
    if not isinstance(count, int) or not 0 < count <= len(classes):
        raise wrong(f"classification is {json.dumps(count)[:20]}; wanted 1 to {len(classes)}")
    best = np.argsort(-found, axis=1, kind="stable")[:, :count]
    pairs = [(row, index) for row, indices in zip(found, best.tolist(), strict=True) for index in indices]
    texts = [f"{row[index]:f}:{index}:{classes[index]}".encode() for row, index in pairs]
    return _Values(Tensor(name, "BYTES", best.shape), texts)
