"""What docs/how-to shows, run: MediaPipe, a browser, TensorFlow Serving, two scripts. Skipped where they cannot."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import numpy as np
import pytest

from regraft import ExportConfig, TrainConfig, export, load_predictor, train
from tests.conftest import SHAPES, draw_folder
from tests.serving.asking import ask
from tests.serving.servers import served as serving

ROOT = Path(__file__).parents[1]
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
ORT_WEB = ROOT / "node_modules" / "onnxruntime-web" / "dist"


@pytest.fixture(scope="module")
def run(warm_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGRAFT_CACHE", str(warm_cache))
        folder = tmp_path_factory.mktemp("how-to")
        photos = draw_folder(folder / "photos", dict.fromkeys(SHAPES, 30), seed=5)
        train(photos, folder / "run", TrainConfig(effort="quick", val=0.2))
        yield folder / "run"


@pytest.fixture
def photo(run: Path) -> Path:
    return run.parent / "photos" / "줄무늬" / "000.jpg"


def needs(*modules: str) -> pytest.MarkDecorator:
    missing = [module for module in modules if find_spec(module) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")


@needs("tensorflow", "ai_edge_litert", "mediapipe")
@pytest.mark.parametrize("quantize", ["", "int8"])
def test_mediapipe_reads_labels_and_answers(quantize: str, run: Path, photo: Path, tmp_path: Path) -> None:
    export(run, tmp_path / "out", ExportConfig("litert", quantize, min_agreement=0.8))
    example = ROOT / "examples" / "mediapipe_classify.py"
    done = subprocess.run([sys.executable, example, tmp_path / "out", photo], capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    path, label, probability = done.stdout.strip().splitlines()[-1].split("\t")
    assert (path, label) == (str(photo), "줄무늬")
    ours = load_predictor(tmp_path / "out").predict_proba([photo]).max()
    assert float(probability) == pytest.approx(ours, abs=0.02)


def served(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@needs("tensorflow")
def test_the_client_of_tensorflow_serving(run: Path, photo: Path, tmp_path: Path) -> None:
    """The network edge is a mock; what answers behind it is the exported signature."""
    import tensorflow

    export(run, tmp_path / "pets", ExportConfig("saved-model"))
    signature = tensorflow.saved_model.load(str(tmp_path / "pets" / "1")).signatures["serving_default"]

    class Serving(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            inputs = {key: tensorflow.constant(np.array(rows, np.uint8)) for key, rows in asked["inputs"].items()}
            body = json.dumps({"outputs": {k: v.numpy().tolist() for k, v in signature(**inputs).items()}}).encode()
            self.send_response(200 if self.path == "/v1/models/pets:predict" else 404)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    for address in served(Serving):
        client, model = ROOT / "examples" / "tensorflow_serving.py", f"{address}/v1/models/pets"
        done = subprocess.run(
            [sys.executable, client, tmp_path / "pets", model, photo], capture_output=True, encoding="utf-8"
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split("\t")[1] == "줄무늬"


@needs("tensorflow")
def test_a_client_of_a_saved_model_needs_no_change_for_regraft_serve(
    run: Path, photo: Path, tmp_path: Path, warm_cache: Path
) -> None:
    """The SavedModel and the server give the same for the same pixels, under the same names."""
    import tensorflow

    export(run, tmp_path / "pets", ExportConfig("saved-model"))
    pixels = runpy.run_path(str(tmp_path / "pets" / "example.py"))["pixels"]
    transform = json.loads((tmp_path / "pets" / "1" / "assets" / "regraft.json").read_text("utf-8"))["transform"]
    batch = np.array([pixels(str(photo), transform)], np.uint8)
    model = tensorflow.saved_model.load(str(tmp_path / "pets" / "1"))
    expected = model.signatures["serving_default"](image=tensorflow.constant(batch))
    client = ROOT / "examples" / "tensorflow_serving.py"
    with serving(warm_cache, run) as server:
        url = f"{server.address}v1/models/run"
        found = ask(f"{url}:predict", {"inputs": {"image": batch.tolist()}}).json["outputs"]
        done = subprocess.run(
            [sys.executable, client, tmp_path / "pets", url, photo], capture_output=True, encoding="utf-8"
        )
    assert set(found) == set(expected)
    for name, values in found.items():
        # The server computes in bf16 where that is fast. A novelty is no probability, and may be of any size.
        rtol, atol = (0.1, 0.1) if name == "novelty" else (0.0, 0.02)
        np.testing.assert_allclose(values, expected[name].numpy(), rtol=rtol, atol=atol)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\t")[1] == "줄무늬"


@pytest.mark.skipif(not BROWSER, reason="needs Chromium")
@pytest.mark.skipif(not ORT_WEB.is_dir(), reason="needs ONNX Runtime Web: npm install onnxruntime-web")
@needs("onnx", "onnxruntime")
def test_a_browser_answers_as_the_run_does(run: Path, photo: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    export(run, site, ExportConfig("onnx"))
    shutil.copytree(ORT_WEB, site / "ort", ignore=shutil.ignore_patterns("*.map"))
    for name in ("index.html", "classify.mjs"):
        shutil.copy(ROOT / "examples" / "browser" / name, site)
    shutil.copy(photo, site / "photo.jpg")
    (site / "test.html").write_text(
        '<script type="module">import { load, classify } from "./classify.mjs";'
        "const tell = (what) => fetch('/told', { method: 'POST', body: JSON.stringify(what) });"
        "try { const photo = await (await fetch('photo.jpg')).blob();"
        "await tell(await classify(await load('.'), photo)); }"
        "catch (error) { await tell({ error: String(error) }); }</script>"
    )
    told: Queue[dict[str, Any]] = Queue()

    class Site(SimpleHTTPRequestHandler):
        def guess_type(self, path: Any) -> str:
            return "text/javascript" if str(path).endswith(".mjs") else super().guess_type(path)

        def do_POST(self) -> None:
            told.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    for address in served(partial(Site, directory=str(site))):
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", profile, f"{address}/test.html"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                found = told.get(timeout=120)
            finally:
                process.kill()
    assert found.get("error") is None
    assert found["label"] == "줄무늬"
    ours = load_predictor(site).answers([photo])
    np.testing.assert_allclose(found["probabilities"], ours.probabilities[0], atol=0.1)
    assert found["novelty"] == pytest.approx(float(ours.novelty[0]), abs=1.0)


PAGES = {"keras-resnet50.md": "keras_resnet50.py", "cats-and-dogs.md": "cats_and_dogs.py"}


@pytest.mark.parametrize("page", PAGES)
def test_a_pages_code_is_its_script(page: str) -> None:
    code = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "how-to" / page).read_text(encoding="utf-8"), re.DOTALL)
    script = (ROOT / "examples" / PAGES[page]).read_text(encoding="utf-8")
    assert len(code) >= 5
    for block in code:
        assert textwrap.indent(block, "    ") in script


@needs("tensorflow", "matplotlib")
def test_the_page_on_resnet50(photos: Path, tmp_path: Path, cache: Path) -> None:
    import openvino as ov
    from openvino import opset13

    photo = opset13.parameter([-1, 32, 32, 3], np.float32, name="input")
    means = opset13.reduce_mean(photo, np.array([1, 2]), keep_dims=False)
    ov.save_model(ov.Model([means], [photo], "feature_vector"), tmp_path / "module.xml")
    printed = run_example("keras_resnet50.py", photos, tmp_path, "1", "1", tmp_path / "module.xml")
    assert (tmp_path / "out" / "history-3x2.png").is_file()
    assert (tmp_path / "out" / "grid.png").is_file()
    assert "thaw-" in printed or "stage" in printed


@needs("tensorflow", "matplotlib", "ai_edge_litert")
def test_the_page_on_cats_and_dogs(photos: Path, tmp_path: Path, cache: Path) -> None:
    printed = run_example("cats_and_dogs.py", photos, tmp_path, "1")
    assert (tmp_path / "out" / "grid.png").is_file()
    assert printed.splitlines()[-1].endswith("model.tflite 1.0")


def run_example(name: str, photos: Path, folder: Path, *rest: str | Path) -> str:
    """The script on drawn photos with Lite0, in a process of its own."""
    arguments = (photos, photos / "circle", folder / "out", "efficientnet_lite0", *rest)
    settings = {key: value for key, value in os.environ.items() if key != "KERAS_BACKEND"}
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / name, *arguments],
        capture_output=True,
        encoding="utf-8",
        env=settings,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
