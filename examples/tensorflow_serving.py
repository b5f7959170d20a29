"""Ask TensorFlow Serving about a photo.

python examples/tensorflow_serving.py EXPORT http://localhost:8501/v1/models/pets photo.jpg …

EXPORT is what `regraft export RUN --format saved-model` wrote: its example.py scales the photo. Needs: numpy, pillow
"""

import json
import runpy
import sys
import urllib.request
from pathlib import Path


def main(export: str, model: str, *photos: str) -> None:
    pixels = runpy.run_path(str(Path(export) / "example.py"))["pixels"]
    facts = json.loads((Path(export) / "1" / "assets" / "regraft.json").read_text(encoding="utf-8"))
    for name in photos:
        body = json.dumps({"inputs": {"image": [pixels(name, facts["transform"]).tolist()]}}).encode()
        request = urllib.request.Request(f"{model}:predict", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as response:
            outputs = json.loads(response.read())["outputs"]
        probabilities, novelty = outputs["probabilities"][0], outputs["novelty"][0]
        best = max(range(len(probabilities)), key=probabilities.__getitem__)
        label = "none of these" if novelty > facts["threshold"] else facts["classes"][best]
        print(name, label, f"{probabilities[best]:.4f}", sep="\t")


if __name__ == "__main__":
    main(*sys.argv[1:])
