"""What the protocols with JSON have in common: to read the body of a request, photos in it, and versions in a path.

In: a request. Out: records and photos, or an HTTP error whose text says what was found and what was wanted.
Why: every protocol must refuse the same bad bodies in the same way.
Surprise: pixels in JSON take about four times the bytes and a hundred times the work of pixels as they are. The
parsing runs in the event loop, one body at a time, so that only one body is held as Python objects.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, TypeVar

import numpy as np
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from regraft.errors import TooLargeError
from regraft.foundation.records import as_record, decoded, encoded
from regraft.photos.images import Pixels
from regraft.serving.batching import Answer
from regraft.serving.models import Model
from regraft.serving.openapi import JSON
from regraft.serving.service import Service, version_of

T = TypeVar("T")

NONE_OF_THESE = "none of these"
"""The label of a photo that is unlike all training photos."""


def wrong(reason: str) -> HTTPException:
    """Return the error 400 with a reason for the client."""
    return HTTPException(HTTPStatus.BAD_REQUEST, reason)


async def body_of(request: Request) -> bytes:
    """Return the body of a request. Raises HTTPException 415 where it is compressed."""
    if request.headers.get("content-encoding", "identity") != "identity":
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the body is compressed; send it as it is")
    return await request.body()


def parsed(kind: type[T], data: bytes) -> T:
    """Return a JSON text as a record. Raises HTTPException 400."""
    try:
        return decoded(kind, data)
    except ValueError as error:
        raise wrong(str(error)) from error


def answer_of(document: Any, headers: dict[str, str] | None = None) -> Response:
    """Return a JSON answer."""
    return Response(encoded(document), headers=headers, media_type=JSON)


def model_of(service: Service, request: Request) -> Model:
    """Return the model that the path of a request names. Raises HTTPException 404."""
    model = service.model(request.path_params["name"], version_of(request.path_params.get("version")))
    request.scope["model"] = f"{model.name}/{model.version}"  # for the log and the metrics
    return model


def bytes_of(text: Any) -> bytes:
    """Return the bytes of a base64 text. Raises HTTPException 400."""
    if not isinstance(text, str):
        raise wrong("a photo is no text; wanted its file in base64")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise wrong(f"a photo is no base64: {error}; wanted its file in base64") from error


def pixels_of(values: Any, shape: Sequence[int] | None = None) -> Pixels:
    """Return pixels in JSON, as nested lists or one flat list, as an array.

    Args:
        values: lists of whole numbers from 0 to 255.
        shape: the shape that the array shall have; None for that of the lists.

    Raises:
        HTTPException: 400, the values are something else, or too few or too many.
    """
    kind, first = int, values
    while isinstance(first, list) and first:
        kind, first = list[kind], first[0]  # type: ignore[valid-type,assignment]
    try:  # checked before, since NumPy would make any text and any object an array
        found = np.asarray(as_record(kind, values))
    except ValueError as error:
        raise wrong(f"the pixels are not equally long lists of whole numbers: {error}") from error
    if found.ndim == 0 or found.size == 0 or found.min() < 0 or found.max() > np.iinfo(np.uint8).max:
        raise wrong("the pixels are not whole numbers from 0 to 255")
    return reshaped(found.astype(np.uint8), shape or found.shape)


def reshaped(pixels: Pixels, shape: Sequence[int]) -> Pixels:
    """Return pixels in another shape. Raises HTTPException 400 where the numbers of values differ."""
    try:
        return pixels.reshape(tuple(shape))
    except (ValueError, OverflowError) as error:
        raise wrong(f"there are {pixels.size} values; wanted those of the shape {list(shape)[:9]}") from error


async def answered(service: Service, model: Model, photos: Sequence[Any]) -> list[Answer]:
    """Return the answers to the photos of a request, all of which must be readable.

    Raises:
        HTTPException: 400, there is no photo, or one cannot be read; 413, one is too large; and as `Service.answers`.
    """
    if not photos:
        raise wrong("there is no photo in the request")
    answers = await service.answers(model, photos)
    for i, answer in enumerate(answers):
        if isinstance(answer.error, TooLargeError):
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"photo {i}: {answer.error}")
        if answer.error is not None:
            raise wrong(f"photo {i}: {answer.error}")
    return answers
