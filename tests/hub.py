"""A server that speaks as much of the Hugging Face Hub's protocol as a download needs, and networks to be served."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np

Files = dict[str, bytes]


@dataclass
class Hub:
    """The repositories of the server, each with its commits, the newest last; and what was asked of it."""

    address: str = ""
    repositories: dict[str, dict[str, Files]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def commit(self, repository: str, files: Files) -> str:
        """Add a commit, which ``main`` means from now on, and return its hash."""
        commits = self.repositories.setdefault(repository, {})
        name = hashlib.sha1(f"{repository} {len(commits)}".encode()).hexdigest()
        commits[name] = files
        return name


class _Handler(BaseHTTPRequestHandler):
    """Answers for the `Hub` that a subclass has."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.hub.asked.append(f"{self.command} {self.path}")
        parts = self.path.partition("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self._send_listing("/".join(parts[2:4]), parts[5])
        elif parts[0] == "api":
            self._send(404, b"", {})
        else:
            self._send_file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))

    def _send_file(self, repository: str, revision: str, name: str) -> None:
        if repository in self.hub.gated:
            return self._send(403, b"", {"X-Error-Code": "GatedRepo"})
        if repository not in self.hub.repositories:
            return self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
        commits = self.hub.repositories[repository]
        commit = list(commits)[-1] if revision == "main" else revision
        if commit not in commits:
            return self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        told = {"X-Repo-Commit": commit}
        if name not in commits[commit]:
            return self._send(404, b"", {**told, "X-Error-Code": "EntryNotFound"})
        data = commits[commit][name]  # large files have their SHA-256 as etag, others the SHA-1 of git
        etag = hashlib.sha256(data).hexdigest() if ".onnx" in name else hashlib.sha1(data).hexdigest()
        return self._send(200, data, {**told, "ETag": f'"{etag}"'})

    def _send_listing(self, repository: str, revision: str) -> None:
        files = self.hub.repositories[repository][revision]
        found = [{"type": "file", "path": name, "size": len(data), "oid": "0"} for name, data in files.items()]
        self._send(200, json.dumps(found).encode(), {"Content-Type": "application/json"})

    def _send(self, code: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)


@contextmanager
def serving() -> Iterator[Hub]:
    """Serve an empty hub on this machine."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


CLASSES = 7
WIDTH = 12


class Nodes:
    """The nodes and weights of an ONNX graph that is being made; each method returns the name of its output."""

    def __init__(self, seed: int) -> None:
        self.nodes: list[Any] = []
        self.weights: dict[str, np.ndarray[Any, Any]] = {}
        self._dice = np.random.default_rng(seed)

    def add(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        from onnx import helper

        output = output or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=f"node_{output}", **attributes))
        return output

    def weight(self, *shape: int) -> str:
        name = f"weight_{len(self.weights)}"
        scale = np.prod(shape[1:] if len(shape) == 4 else shape[:1]) ** -0.5
        self.weights[name] = (self._dice.standard_normal(shape) * scale).astype(np.float32)
        return name

    def numbers(self, *values: int) -> str:
        name = f"weight_{len(self.weights)}"
        self.weights[name] = np.array(values, np.int64)
        return name

    def conv(self, x: str, inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> str:
        pads = [(kernel - stride + 1) // 2 if kernel > stride else 0] * 4
        weight = self.weight(outputs, inputs, kernel, kernel)
        return self.add("Conv", x, weight, strides=[stride] * 2, kernel_shape=[kernel] * 2, pads=pads)

    def file(self, size: int | str, outputs: dict[str, list[int | str]]) -> bytes:
        """Return the ONNX file of the graph. ``size`` is the side of the photos, or a name for any."""
        from onnx import TensorProto, helper, numpy_helper

        kind = TensorProto.FLOAT
        sides: list[int | str] = [size, size] if isinstance(size, int) else ["height", "width"]
        shape = ["batch_size", 3 if isinstance(size, int) else "num_channels", *sides]
        graph = helper.make_graph(
            self.nodes,
            "network",
            [helper.make_tensor_value_info("pixel_values", kind, shape)],
            [helper.make_tensor_value_info(name, kind, shape) for name, shape in outputs.items()],
            [numpy_helper.from_array(array, name) for name, array in self.weights.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return bytes(model.SerializeToString())


def convolutional(size: int | str = "any", seed: int = 0) -> bytes:
    """Return a network of residual blocks at strides 4, 8, 16 and 32, with WIDTH features before class scores."""
    nodes = Nodes(seed)
    x = nodes.conv("pixel_values", 3, 4, 4, 5)
    for inputs, outputs in ((4, 6), (6, 8), (8, WIDTH)):
        x = nodes.add("Relu", nodes.conv(x, inputs, outputs, 2))
        inner = nodes.add("Relu", nodes.conv(x, outputs, outputs))
        gate = nodes.add("Sigmoid", nodes.conv(nodes.add("GlobalAveragePool", inner), outputs, outputs, 1, 1))
        x = nodes.add("Add", x, nodes.add("Mul", inner, gate))
    features = nodes.add("Flatten", nodes.add("GlobalAveragePool", x), output="features", axis=1)
    nodes.add("Gemm", features, nodes.weight(CLASSES, WIDTH), nodes.weight(CLASSES), output="logits", transB=1)
    return nodes.file(size, {"logits": ["batch_size", CLASSES]})


def transformer(registers: int = 0, size: int = 32, patch: int = 8, pooled: bool = False) -> bytes:
    """Return a network of one block of attention over patches, a class token and register tokens.

    Args:
        registers: the number of register tokens; -1 for no class token either.
        size, patch: the sides of the photos and the patches in pixels.
        pooled: whether there is an output pooler_output as well.
    """
    nodes = Nodes(1)
    patches = nodes.conv("pixel_values", 3, WIDTH, patch, patch)
    flat = nodes.add("Reshape", patches, nodes.numbers(0, WIDTH, -1))
    tokens = nodes.add("Transpose", flat, perm=[0, 2, 1])
    before = registers + 1
    if before:
        tokens = nodes.add("Concat", nodes.weight(1, before, WIDTH), tokens, axis=1)
    tokens = nodes.add("Add", tokens, nodes.weight(1, before + (size // patch) ** 2, WIDTH))
    query, key, value = (nodes.add("MatMul", tokens, nodes.weight(WIDTH, WIDTH)) for _ in range(3))
    scores = nodes.add("Softmax", nodes.add("MatMul", query, nodes.add("Transpose", key, perm=[0, 2, 1])))
    nodes.add("Add", tokens, nodes.add("MatMul", scores, value), output="last_hidden_state")
    outputs: dict[str, list[int | str]] = {"last_hidden_state": ["batch_size", "tokens", WIDTH]}
    if pooled:
        nodes.add("ReduceMax", "last_hidden_state", output="pooler_output", axes=[1], keepdims=0)
        outputs["pooler_output"] = ["batch_size", WIDTH]
    return nodes.file("any", outputs)


def with_weights_beside(network: bytes, folder: Path) -> Files:
    """Return an ONNX file and the file of its weights, as large networks have them, by their names in a repository."""
    import onnx

    model = onnx.load_from_string(network)
    folder.mkdir()
    onnx.save_model(
        model, folder / "model.onnx", save_as_external_data=True, location="model.onnx_data", size_threshold=0
    )
    return {f"onnx/{path.name}": path.read_bytes() for path in folder.iterdir()}
