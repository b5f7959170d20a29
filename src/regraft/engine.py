"""A backbone, compiled for this machine by OpenVINO.

In: uint8 photos ``(size, size, 3)``. Out: float32 features ``(D,)``.
Why: layout, fusion, bf16 and parallel requests make the difference between minutes and seconds on a CPU.
Surprise: nothing is compiled, nor OpenVINO imported, before the first photo that is not in the cache.
"""

from __future__ import annotations

import os
import platform
from functools import cached_property, partial
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from regraft._cache import saving
from regraft._compiled import compile_graph
from regraft._files import cache_folder, digest_file, digest_json
from regraft.backbones import Backbone
from regraft.backbones._graphs import checked_graph, graph_path, graph_place
from regraft.images import DECODING_VERSION, Pixels

Precision = Literal["bf16", "f32"]
PRECISIONS: dict[str, Precision | None] = {"auto": None, "fp32": "f32", "bf16": "bf16", "int8": None}
"""What users type, and what OpenVINO calls it."""


class Engine:
    """Computes features. One engine serves many threads.

    Args:
        backbone: what to compute.
        precision: ``bf16`` or ``f32``; None takes bf16 where the processor multiplies it in hardware.
        many: tune for many photos at once, or (False) for the fewest milliseconds on one.
        int8: the backbone's quantised graph; what is not quantised in it runs in ``precision``.
    """

    def __init__(
        self, backbone: Backbone, precision: Precision | None = None, many: bool = True, int8: Path | None = None
    ) -> None:
        self.backbone = backbone
        self.int8 = int8
        self._wanted = precision
        self._many = many
        self._lock = Lock()
        self._requests: SimpleQueue[Any] | None = None

    @property
    def workers(self) -> int:
        """How many threads keep it busy: two more than cores, since each also reads and decodes."""
        return (getattr(os, "process_cpu_count", os.cpu_count)() or 1) + 2

    @cached_property
    def _floats(self) -> Precision:
        return self._wanted or native_precision()

    @property
    def precision(self) -> str:
        """What the numbers are computed in on this machine."""
        return "int8" if self.int8 else self._floats

    @cached_property
    def fingerprint(self) -> str:
        """Digest of backbone, precision and decoding: the second half of every feature's key."""
        graph = [digest_file(self.int8), digest_file(self.int8.with_suffix(".bin"))] if self.int8 else []
        return digest_json([self.backbone.fingerprint, "openvino", self._floats, DECODING_VERSION, *graph])

    def run(self, pixels: Pixels) -> NDArray[np.float32]:
        """Features (D,) of one transformed photo; threads may call it at once. Raises BackboneError."""
        requests = self._requests or self._start()
        request = requests.get()
        try:
            row: NDArray[np.float32] = request.infer({0: pixels[np.newaxis]}, share_inputs=True)[0][0]
        finally:
            requests.put(request)
        return row

    @property
    def starting(self) -> bool:
        """Whether some thread is building or compiling it just now, so that `run` would wait."""
        return self._requests is None and self._lock.locked()

    def features(self, photos: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Photos ``(N, size, size, 3)``, transformed, to features ``(N, D)``; for few photos, one after the other."""
        rows = [self.run(photo) for photo in photos]
        return np.stack(rows) if rows else np.empty((0, self.backbone.num_features), np.float32)

    def _start(self) -> SimpleQueue[Any]:
        """Compile, and make all requests before the first of them runs.

        OpenVINO's Python layer can deadlock where one thread makes a request while another makes its first tensor.
        """
        with self._lock:
            if self._requests is None:
                compiled = self._compile()
                requests: SimpleQueue[Any] = SimpleQueue()
                for _ in range(self.workers if self._many else 1):
                    requests.put(compiled.create_infer_request())
                if self._many:
                    first = requests.get()
                    size = self.backbone.transform.size
                    first.infer({0: np.zeros((1, size, size, 3), np.uint8)}, share_inputs=True)
                    requests.put(first)
                self._requests = requests
        return self._requests

    def _compile(self) -> Any:
        options = {
            "INFERENCE_PRECISION_HINT": self._floats,
            "PERFORMANCE_HINT": "THROUGHPUT" if self._many else "LATENCY",
        }
        if self.int8:
            return compile_graph(self.int8, options, partial(checked_graph, self.int8))
        return compile_graph(graph_place(self.backbone), options, partial(graph_path, self.backbone))


def native_precision() -> Precision:
    """Ask OpenVINO what this processor has, once: the answer is kept, since asking means importing OpenVINO."""
    memo = cache_folder() / "openvino" / f"precision-{_processor()[:32]}.txt"
    try:
        known = memo.read_text(encoding="ascii")
    except OSError:
        known = ""
    if known == "bf16":
        return "bf16"
    if known == "f32":
        return "f32"
    import openvino

    native: Precision = "bf16" if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"
    with saving():
        memo.parent.mkdir(parents=True, exist_ok=True)
        memo.write_text(native, encoding="ascii")
    return native


def _processor() -> str:
    """Digest of the processor's kind: a cache folder may be shared by machines."""
    facts = [platform.machine(), platform.processor()]
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        first = cpuinfo.read_text(errors="replace").partition("\n\n")[0]
        facts += [line for line in first.splitlines() if line.startswith(("model name", "flags", "Features"))]
    return digest_json(facts)
