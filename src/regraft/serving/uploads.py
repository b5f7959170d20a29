"""The photos in a request: its body, or the files of a form, always in memory.

In: a request. Out: the name and the bytes of each photo.
Why: a photo that somebody sends is never kept.
Surprise: Starlette writes the files of a form to the disk above 1 MiB, which is why its parser is told otherwise here.
"""

from __future__ import annotations

import logging
from http import HTTPStatus

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from regraft.serving.batching import QUEUE
from regraft.serving.limits import BODY

Upload = tuple[str, bytes]
"""The name of a photo, and the bytes of its file."""


# It would write to stderr about damaged forms, in the event loop, which stands still where nobody reads stderr.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


class _InMemory(MultiPartParser):
    spool_max_size = BODY + 1


def is_form(request: Request) -> bool:
    """Return whether the body of a request is a form with files."""
    return request.headers.get("content-type", "").lower().startswith("multipart/form-data")


async def uploads_of(request: Request) -> list[Upload]:
    """Return the photos in a request: all files of a form, or else its body.

    Raises:
        HTTPException: 400 where a form is damaged or has no file, or the body is empty; 408, 413 and 429, where the
            body exceeds a limit.
    """
    if not is_form(request):
        body = await request.body()
        if not body:
            raise HTTPException(HTTPStatus.BAD_REQUEST, "the body is empty; wanted a photo")
        return [("photo", body)]
    parser = _InMemory(request.headers, request.stream(), max_files=QUEUE, max_fields=QUEUE)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise HTTPException(HTTPStatus.BAD_REQUEST, f"the form is damaged: {error.message}") from error
    files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    if not files:
        raise HTTPException(HTTPStatus.BAD_REQUEST, "there is no file in the form; wanted a photo")
    return [(file.filename or "photo", await file.read()) for file in files]
