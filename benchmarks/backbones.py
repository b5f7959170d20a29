"""Forward passes a second: regraft's engine beside what else runs the same network, family by family, in one run.

`tf.function` is the way of the Keras tutorials (batches of 32, channels last); `predict` is Keras on its OpenVINO
backend; ONNX Runtime runs what Keras exports from TensorFlow. Random weights: they play no part in speed. Each in a
process of its own, one after the other. Needs tensorflow, tf2onnx and onnxruntime.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from typing import Any

from _common import report

FAMILIES = (
    "mobilenet",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "efficientnet_v2_b0",
    "resnet50",
    "resnet50_v2",
    "inception_v3",
    "densenet121",
    "nasnet_mobile",
    "xception",
    "convnext_tiny",
)

OURS = """
import json, sys
from regraft.engines.measuring import measure
print(json.dumps(measure(sys.argv[1])))
"""

OTHER = """
import json, sys, time
import numpy as np
import keras
from regraft.backbones.base import load_backbone
name, what = sys.argv[1:]
backbone = load_backbone("keras:" + name, weights="none", stages="last")
model, size = backbone.keras_model(), backbone.transform.size
count = 1 if what == "onnx" else 32
x = np.random.default_rng(0).random((count, size, size, 3), np.float32)
if what == "tf.function":
    import tensorflow as tf
    call = tf.function(lambda x: model(x, training=False), jit_compile=False)
    x = tf.constant(x)
    run = lambda: call(x).numpy()
elif what == "predict":
    run = lambda: model.predict(x, verbose=0)
else:
    import onnxruntime, tempfile
    path = tempfile.mkdtemp() + "/n.onnx"
    import tensorflow as tf, tf2onnx
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
    spec = tf.TensorSpec((1, size, size, 3), name="photo")
    called = tf.function(lambda photo: model(photo, training=False)).get_concrete_function(spec)
    frozen = convert_variables_to_constants_v2(called)  # Keras' own export leaves out some constants
    names = [[t.name for t in ts] for ts in (frozen.inputs, frozen.outputs)]
    tf2onnx.convert.from_graph_def(
        frozen.graph.as_graph_def(), input_names=names[0], output_names=names[1], opset=18, output_path=path
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    given = {session.get_inputs()[0].name: x}
    run = lambda: session.run(None, given)
run()
done, start = 0, time.perf_counter()
while (seconds := time.perf_counter() - start) < 3:
    run()
    done += count
print(json.dumps({"photos_per_s": round(done / seconds, 1)}))
"""


def measured(command: list[str], backend: str) -> float | str:
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return (done.stderr.strip().splitlines() or ["failed"])[-1][:120]
    return float(json.loads(done.stdout.strip().splitlines()[-1])["photos_per_s"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", nargs="*", default=FAMILIES)
    options = parser.parse_args()
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["REGRAFT_CACHE"] = folder
        for name in options.families:
            row: dict[str, Any] = {
                "regraft": measured([sys.executable, "-c", OURS, f"keras:{name}"], "openvino"),
                "tf.function": measured([sys.executable, "-c", OTHER, name, "tf.function"], "tensorflow"),
                "predict": measured([sys.executable, "-c", OTHER, name, "predict"], "openvino"),
                "onnxruntime": measured([sys.executable, "-c", OTHER, name, "onnx"], "tensorflow"),
            }
            if all(isinstance(row[key], float) for key in ("regraft", "tf.function")):
                row["times tf.function"] = round(row["regraft"] / row["tf.function"], 1)
            rows[name] = row
            print(name, row, file=sys.stderr, flush=True)
    report(families=rows)


if __name__ == "__main__":
    main()
