"""LitServe: python litserve_peer.py EXPORT PORT CORES BATCH; a form with the photo goes to /predict.

As its documentation says for a CPU: as many workers as cores, each with one thread; where photos are batched, they
wait at most 5 ms for others.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import litserve
from _network import Network


class Flowers(litserve.LitAPI):  # type: ignore[misc]
    def setup(self, device: str) -> None:  # noqa: ARG002
        self.network = Network(Path(sys.argv[1]), threads=1)

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # LitServe reads the annotations
        return self.network.pixels(request["photo"].file.read())

    def batch(self, inputs: list[Any]) -> list[Any]:
        return inputs

    def unbatch(self, output: list[Any]) -> list[Any]:
        return output

    def predict(self, x: Any) -> Any:
        return self.network.answers(x) if isinstance(x, list) else self.network.answers([x])[0]

    def encode_response(self, output: Any):  # type: ignore[no-untyped-def]
        return output


if __name__ == "__main__":
    port, cores, batch = map(int, sys.argv[2:])
    api = Flowers(max_batch_size=batch, batch_timeout=0.005) if batch > 1 else Flowers()
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=cores)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning")
