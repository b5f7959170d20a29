"""Watch the folders of versions: a new version is served as soon as it is complete.

In: the models of a server. Out: the same models, changed.
Why: a client must notice nothing of a new version but better answers.
Surprise: the folders are listed every second. Notifications of the file system do not work on network drives.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from regraft.serving.models import Models

EVERY = 1.0
"""The time between two looks at the folders, in seconds."""


@asynccontextmanager
async def refreshed(models: Models) -> AsyncIterator[None]:
    """Refresh the models every second in the ``async with`` block, in a thread."""

    async def refresh() -> None:
        while True:
            await asyncio.sleep(EVERY)
            await asyncio.to_thread(models.refresh)

    task = asyncio.create_task(refresh())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
