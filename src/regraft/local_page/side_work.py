"""What the page asks for beside answers: done in threads of its own, so that programs do not wait for it.

In: functions that take a while, such as making a thumbnail. Out: their results, awaited in the event loop.
Why: a page with a thousand photos must not slow down the answers that programs wait for.
Surprise: work is refused where much of it waits already. The page sends such a request again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from starlette.exceptions import HTTPException

from regraft.foundation.files import threads

MOST_WAITING = 64
"""The most requests of the page that are worked on or wait."""

P = ParamSpec("P")
R = TypeVar("R")


class SideWork:
    """Threads for the work of the page: all cores but one, at least one. Use it from one event loop."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max(1, threads() - 1), "page")
        self._waiting = 0

    async def run(self, function: Callable[P, R], *args: P.args, **options: P.kwargs) -> R:
        """Return what the function returns, which runs in one of the threads.

        Raises:
            HTTPException: 429 with Retry-After where too much work waits.
        """
        if self._waiting >= MOST_WAITING:
            raise HTTPException(429, "the server is busy; send the request again", {"Retry-After": "1"})
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: function(*args, **options))
        finally:
            self._waiting -= 1

    def stop(self) -> None:
        """End the threads; what has not begun is not done any more."""
        self._pool.shutdown(wait=False, cancel_futures=True)
