"""Ray Serve: python ray_peer.py EXPORT PORT CORES BATCH; the photo itself goes to /predict.

As its documentation says: a replica for each core, each with one thread; where photos are batched, they wait at most
5 ms for others.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from _network import Network
from ray import serve
from starlette.requests import Request

BATCH = int(sys.argv[4]) if len(sys.argv) > 4 else 1


class Flowers:
    def __init__(self, export: str) -> None:
        self.network = Network(Path(export), threads=1)

    async def one(self, photo: bytes) -> Any:
        return (await asyncio.to_thread(self.compute, [photo]))[0]

    async def many(self, photos: list[bytes]) -> Any:
        return await asyncio.to_thread(self.compute, photos)

    def compute(self, photos: list[bytes]) -> list[dict[str, Any]]:
        return self.network.answers([self.network.pixels(photo) for photo in photos])

    async def __call__(self, request: Request) -> Any:
        return await self.one(await request.body())


class Batched(Flowers):
    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.005)  # type: ignore[untyped-decorator]
    async def many(self, photos: list[bytes]) -> Any:
        return await asyncio.to_thread(self.compute, photos)

    async def one(self, photo: bytes) -> Any:
        return await self.many(photo)  # the decorator takes one photo and hands over many


if __name__ == "__main__":
    port, cores = map(int, sys.argv[2:4])
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parent)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    deployment = serve.deployment(Batched if BATCH > 1 else Flowers, num_replicas=cores, max_ongoing_requests=64)
    serve.run(deployment.bind(str(Path(sys.argv[1]).resolve())), route_prefix="/predict")
    signal.sigwait({signal.SIGTERM})
    serve.shutdown()
