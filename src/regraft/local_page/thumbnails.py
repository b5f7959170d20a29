"""Thumbnails of photos on this machine's disk, which the server chose and never a request.

In: a photo that a run or a project has. Out: a WebP image of a few KB.
Why: the page shows many photos, which are large.
Surprise: the newest thumbnails are kept in memory, and nothing is written to the disk.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.responses import Response

from regraft.errors import ImageError
from regraft.local_page.side_work import SideWork
from regraft.photos.images import Part, read
from regraft.reporting.pictures import whole_thumbnail

MOST = 512
"""The most thumbnails in memory, which take at most 6 KB each."""


async def thumbnail_response(work: SideWork, path: Path, part: Part | None = None) -> Response:
    """Return the answer to a request for the thumbnail of a photo.

    Args:
        work: the threads in which the thumbnail is made.
        path: the file of the photo.
        part: the position of the photo in the file; None for the whole file.

    Raises:
        HTTPException: 404 where the photo cannot be read any more; 429 where too much work waits.
    """
    try:
        data = await work.run(_thumbnail, path, part)
    except ImageError as error:
        raise HTTPException(404, str(error)) from error
    return Response(data, media_type="image/webp", headers={"Cache-Control": "private, max-age=86400"})


@lru_cache(maxsize=MOST)
def _thumbnail(path: Path, part: Part | None) -> bytes:
    return whole_thumbnail(read(path, part))
