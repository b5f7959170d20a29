"""KServe's Python server: python kserve_peer.py EXPORT PORT CORES 1

The photo goes to /v2/models/flowers/infer in base64. One worker, whose network has a thread for
each core: of two workers it ends the one that has not started within 5 s, again and again. It does not batch by itself.
"""

from __future__ import annotations

import base64
import sys
from pathlib import Path

import numpy as np
from _network import Network
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer


class Flowers(Model):  # type: ignore[misc]
    def __init__(self, export: Path) -> None:
        super().__init__("flowers")
        self.export = export
        self.load()

    def load(self) -> bool:
        self.network = Network(self.export, threads=int(sys.argv[3]))
        self.ready = True
        return True

    def predict(self, payload: InferRequest, headers: dict[str, str] | None = None) -> InferResponse:  # noqa: ARG002
        photos = [base64.b64decode(photo) for photo in payload.inputs[0].data]
        answers = self.network.answers([self.network.pixels(photo) for photo in photos])
        label = InferOutput("label", [len(answers)], "BYTES", [answer["label"] for answer in answers])
        probability = InferOutput("probability", [len(answers)], "FP32")
        probability.set_data_from_numpy(
            np.array([answer["probability"] for answer in answers], np.float32), binary_data=False
        )
        return InferResponse(payload.id or "", "flowers", [label, probability])


if __name__ == "__main__":
    port = int(sys.argv[2])
    server = ModelServer(http_port=port, workers=1, enable_grpc=False)
    server.start([Flowers(Path(sys.argv[1]))])
