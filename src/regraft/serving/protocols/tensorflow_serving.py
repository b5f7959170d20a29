"""The REST API of TensorFlow Serving: predict, classify, metadata and status.

In: photos as files in base64 or as pixels in JSON, by row (``instances``) or by column (``inputs``). Out: what a
SavedModel that `regraft export` writes gives behind TensorFlow Serving: ``probabilities`` and, where it is known,
``novelty``.
Why: a client of TensorFlow Serving works without a change.
Surprise: pixels of the size that the network sees are not cropped and scaled again: a client of a SavedModel has done
that. All other pixels and all files go through the transform of the classifier.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from regraft.serving.answering import Scaled
from regraft.serving.batching import Answer
from regraft.serving.models import Model
from regraft.serving.openapi import JSON, Described, Operation
from regraft.serving.protocols.bodies import (
    NONE_OF_THESE,
    answer_of,
    answered,
    body_of,
    bytes_of,
    model_of,
    parsed,
    pixels_of,
    wrong,
)
from regraft.serving.service import Service, require_room

TAG = "TensorFlow Serving"
SIGNATURE = "serving_default"
_BASE64 = "b64"


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """Photos to answer, as ``instances`` or as ``inputs``.

    A photo is ``{"b64": FILE}`` with the file in base64, or pixels as nested lists of the shape (H, W, 3). It may have
    any name, such as ``{"image": PHOTO}``.

    Attributes:
        instances: a list of photos.
        inputs: a list of photos, or an object that has the list under a name.
        signature_name: is not looked at.
    """

    instances: list[Any] | None = None
    inputs: Any = None
    signature_name: str | None = None


@dataclass(frozen=True, slots=True)
class ClassifyRequest:
    """Photos to answer.

    Attributes:
        examples: objects with a photo under any name, such as ``{"image": {"b64": FILE}}``.
        signature_name: is not looked at.
    """

    examples: list[Any]
    signature_name: str | None = None


@dataclass(frozen=True, slots=True)
class Predictions:
    """The answers, in the form of the request.

    Attributes:
        predictions: for ``instances``, an object with ``probabilities`` and ``novelty`` for each photo; where novelty
            is not known, the list of probabilities alone.
        outputs: for ``inputs``, an object with the lists ``probabilities`` and ``novelty``; where novelty is not known,
            the list of probabilities alone.
    """

    predictions: list[Any] = ()  # type: ignore[assignment]
    outputs: Any = None


@dataclass(frozen=True, slots=True)
class Classifications:
    """The answers: for each photo pairs of a label and its probability, the most probable first.

    A photo that is unlike all photos of the training has ``["none of these", 1]`` as its first pair.
    """

    result: tuple[tuple[tuple[str | float, ...], ...], ...]


@dataclass(frozen=True, slots=True)
class Status:
    """A code of gRPC, ``OK``, and no message."""

    error_code: str = "OK"
    error_message: str = ""


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """A version of a model, its state, ``AVAILABLE``, and its status."""

    version: str
    state: str
    status: Status


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """The versions of a model, the newest first."""

    model_version_status: tuple[VersionStatus, ...]


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The name and version of a model."""

    name: str
    signature_name: str
    version: str


@dataclass(frozen=True, slots=True)
class Metadata:
    """The metadata of a model: ``signature_def``, with the inputs and outputs."""

    model_spec: ModelSpec
    metadata: Mapping[str, Any]


_PREDICT = Operation(
    "Answer photos with probabilities.",
    TAG,
    takes={JSON: PredictRequest},
    gives={JSON: Predictions},
    example={"instances": [{"image": [[[200, 40, 40]]]}]},
)
_CLASSIFY = Operation(
    "Answer photos with labels.",
    TAG,
    takes={JSON: ClassifyRequest},
    gives={JSON: Classifications},
    example={"examples": [{"image": [[[200, 40, 40]]]}]},
)
_STATUS = Operation("Tell the versions of a model.", TAG, gives={JSON: ModelStatus})
_METADATA = Operation("Tell the inputs and outputs of a model.", TAG, gives={JSON: Metadata})


def routes(service: Service) -> list[Route]:
    """Return the routes of the protocol."""

    async def status(request: Request) -> Response:
        model = model_of(service, request)
        asked = request.path_params.get("version")
        versions = (model.version,) if asked else reversed(service.models.versions(model.name))
        return answer_of(ModelStatus(tuple(VersionStatus(str(number), "AVAILABLE", Status()) for number in versions)))

    async def metadata(request: Request) -> Response:
        return answer_of(_metadata(model_of(service, request)))

    async def predict(request: Request) -> Response:
        model = model_of(service, request)
        asked = parsed(PredictRequest, await body_of(request))
        if (asked.instances is None) == (asked.inputs is None):
            raise wrong("wanted either instances or inputs")
        if asked.instances is not None:
            answers = await answered(service, model, _photos(model, asked.instances))
            return answer_of({"predictions": _rows(model, answers)})
        answers = await answered(service, model, _photos(model, _column(asked.inputs)))
        return answer_of({"outputs": _columns(model, answers)})

    async def classify(request: Request) -> Response:
        model = model_of(service, request)
        asked = parsed(ClassifyRequest, await body_of(request))
        answers = await answered(service, model, _photos(model, asked.examples))
        return answer_of({"result": [_pairs(model, answer) for answer in answers]})

    async def regress(request: Request) -> Response:
        model = model_of(service, request)
        raise wrong(f"{model.name} is a classifier; wanted :predict or :classify")

    found: list[Route] = []
    for place in ("/v1/models/{name}", "/v1/models/{name}/versions/{version}"):
        found += [
            *_of(place, {":predict": (predict, _PREDICT), ":classify": (classify, _CLASSIFY)}),
            Route(f"{place}:regress", regress, methods=["POST"]),
            Described("GET", f"{place}/metadata", metadata, _METADATA),
            Described("GET", place, status, _STATUS),
        ]
    return found


def _of(place: str, verbs: Mapping[str, tuple[Callable[..., Any], Operation]]) -> list[Route]:
    return [Described("POST", f"{place}{verb}", endpoint, about) for verb, (endpoint, about) in verbs.items()]


def _photos(model: Model, values: Sequence[Any]) -> list[Any]:
    """Return the photos of a request. Raises HTTPException 400, and 413 for too many."""
    require_room(len(values))
    return [_photo(model, one) for one in values]


def _photo(model: Model, value: Any) -> Any:
    """Return the photo in one instance, example or element: a file or pixels. Raises HTTPException 400."""
    if isinstance(value, dict) and len(value) == 1 and _BASE64 not in value:
        [value] = value.values()
        if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):  # a feature of an example
            [value] = value
    if isinstance(value, dict):
        if tuple(value) != (_BASE64,):
            raise wrong(f"a photo has {_named(value)}; wanted one value: {{'b64': FILE}}, or pixels")
        return bytes_of(value[_BASE64])
    if not isinstance(value, list):
        raise wrong("a photo is neither {'b64': FILE} nor nested lists of pixels")
    pixels = pixels_of(value)
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise wrong(f"pixels of a photo have the shape {list(pixels.shape)}; wanted [height, width, 3]")
    return Scaled(pixels) if pixels.shape[:2] == (model.size, model.size) else pixels


def _column(inputs: Any) -> Sequence[Any]:
    """Return the photos of a request by column. Raises HTTPException 400."""
    if isinstance(inputs, dict) and len(inputs) == 1 and _BASE64 not in inputs:
        [inputs] = inputs.values()
    if isinstance(inputs, dict):  # a file alone
        return [inputs]
    if not isinstance(inputs, list):
        raise wrong("inputs is neither a list of photos nor an object with one such list")
    return inputs


def _named(value: Mapping[str, Any]) -> str:
    return ", ".join(map(repr, list(value)[:3])) or "nothing"


def _rows(model: Model, answers: Sequence[Answer]) -> list[Any]:
    rows = [answer.probabilities.tolist() for answer in answers]
    if not model.knows_novelty:
        return rows  # TensorFlow Serving leaves out the name of an only output
    pairs = zip(rows, answers, strict=True)
    return [{"probabilities": row, "novelty": answer.novelty} for row, answer in pairs]


def _columns(model: Model, answers: Sequence[Answer]) -> Any:
    rows = [answer.probabilities.tolist() for answer in answers]
    return {"probabilities": rows, "novelty": [a.novelty for a in answers]} if model.knows_novelty else rows


def _pairs(model: Model, answer: Answer) -> list[tuple[str, float]]:
    """Return pairs of label and probability. Whoever takes the first or the largest learns that a photo is rejected."""
    best = np.argsort(-answer.probabilities, kind="stable").tolist()
    pairs = [(model.predictor.classes[index], float(answer.probabilities[index])) for index in best]
    return [(NONE_OF_THESE, 1.0), *pairs] if model.is_novel(answer.novelty) else pairs


def _metadata(model: Model) -> Metadata:
    """Return the signature of the SavedModel that `regraft export` would write."""
    side = model.size or -1
    outputs = {"probabilities": _tensor("DT_FLOAT", -1, len(model.predictor.classes))}
    if model.knows_novelty:
        outputs["novelty"] = _tensor("DT_FLOAT", -1)
    signature = {
        "inputs": {"image": _tensor("DT_UINT8", -1, side, side, 3)},
        "outputs": outputs,
        "method_name": "tensorflow/serving/predict",
    }
    return Metadata(
        ModelSpec(model.name, "", str(model.version)), {"signature_def": {"signature_def": {SIGNATURE: signature}}}
    )


def _tensor(kind: str, *shape: int) -> dict[str, Any]:
    sizes = [{"size": str(length), "name": ""} for length in shape]
    return {"dtype": kind, "tensor_shape": {"dim": sizes, "unknown_rank": False}, "name": ""}
