"""BentoML: python bentoml_peer.py EXPORT PORT CORES BATCH; a form with the photo goes to /predict.

As its documentation says: as many workers as cores, each with one thread; batching is adaptive.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import bentoml
from _network import Network

if __name__ == "__main__":
    export, port, cores, batch = sys.argv[1:]
    os.environ |= {"PEER_EXPORT": export, "PEER_CORES": cores, "PEER_BATCH": batch, "BENTOML_DO_NOT_TRACK": "True"}
    os.chdir(Path(__file__).resolve().parent)
    program = Path(sys.executable).parent / "bentoml"
    service = "bentoml_peer:Batched" if int(batch) > 1 else "bentoml_peer:Single"
    os.execv(program, ["bentoml", "serve", service, "--host", "127.0.0.1", "--port", port])

WORKERS, BATCH = int(os.environ["PEER_CORES"]), int(os.environ["PEER_BATCH"])


class Flowers:
    def __init__(self) -> None:
        self.network = Network(Path(os.environ["PEER_EXPORT"]), threads=1)


if BATCH > 1:

    @bentoml.service(workers=WORKERS)
    class Batched(Flowers):
        @bentoml.api(batchable=True, max_batch_size=BATCH, max_latency_ms=60_000)  # type: ignore[untyped-decorator]
        def predict(self, photos: list[Path]) -> list[dict[str, Any]]:
            return self.network.answers([self.network.pixels(photo.read_bytes()) for photo in photos])

else:

    @bentoml.service(workers=WORKERS)
    class Single(Flowers):
        @bentoml.api  # type: ignore[untyped-decorator]
        def predict(self, photo: Path, /) -> dict[str, Any]:
            return self.network.answers([self.network.pixels(photo.read_bytes())])[0]
