"""MLServer: python mlserver_peer.py EXPORT PORT CORES BATCH; the photo goes to /v2/models/flowers/infer in base64.

As its documentation says: a custom runtime, as many parallel workers as cores, each with one thread; where photos are
batched, they wait at most 5 ms for others.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from _network import Network
from mlserver import MLModel
from mlserver.codecs import Base64Codec, NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Flowers(MLModel):  # type: ignore[misc]
    async def load(self) -> bool:
        self.network = Network(Path(self.settings.parameters.uri), threads=1)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        photos = Base64Codec.decode_input(payload.inputs[0])
        answers = self.network.answers([self.network.pixels(photo) for photo in photos])
        import numpy as np

        probabilities = np.array([[answer["probability"]] for answer in answers], np.float32)
        return InferenceResponse(
            model_name=self.name,
            outputs=[
                StringCodec.encode_output("label", [answer["label"] for answer in answers]),
                NumpyCodec.encode_output("probability", probabilities),
            ],
        )


if __name__ == "__main__":
    port, cores, batch = map(int, sys.argv[2:])
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "debug": False,
            "host": "127.0.0.1",
            "http_port": port,
            "grpc_port": port + 1,
            "metrics_port": port + 2,
            "parallel_workers": cores,
        }
        model = {
            "name": "flowers",
            "implementation": "mlserver_peer.Flowers",
            "parameters": {"uri": str(Path(sys.argv[1]).resolve())},
            **({"max_batch_size": batch, "max_batch_time": 0.005} if batch > 1 else {}),
        }
        (Path(folder) / "settings.json").write_text(json.dumps(settings))
        (Path(folder) / "model-settings.json").write_text(json.dumps(model))
        os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parent)
        os.execv(Path(sys.executable).parent / "mlserver", ["mlserver", "start", folder])
