"""A backbone, compiled for this machine by OpenVINO.

In: uint8 photos ``(size, size, 3)``. Out: float32 features ``(D,)``.
Why: layout, fusion, bf16 and parallel requests make the difference between minutes and seconds on a CPU.
Surprise: nothing is compiled, nor OpenVINO imported, before the first photo that is not in the cache.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft import _console
from regraft._compiled import compile_graph
from regraft._files import digest_file, digest_json, thread_limit, threads
from regraft.backbones import Backbone
from regraft.backbones._graphs import checked_graph, graph_path, graph_place, is_quantised
from regraft.images import DECODING_VERSION, Pixels
from regraft.probe import Choice, Precision, choose, choose_bf16, is_known, limit_for_int8, limit_openvino

PRECISIONS: dict[str, Precision | None] = {"auto": None, "fp32": "f32", "bf16": "bf16", "int8": None}
"""What users type, and what OpenVINO calls it."""


class Engine:
    """Computes features. One engine serves many threads.

    Args:
        backbone: what to compute.
        precision: ``bf16`` or ``f32``; None takes the one that is fastest on this processor (`regraft.probe`).
        many: tune for many photos at once, or (False) for the fewest milliseconds on one.
        int8: the backbone's quantised graph; what is not quantised in it runs in ``precision``.
        trained: what a run that is asked again was computed in, ``bf16`` or ``f32``. It is used where ``precision`` is
            None and this processor can, so that the run answers as it did. Empty for a new run.
    """

    def __init__(
        self,
        backbone: Backbone,
        precision: Precision | None = None,
        many: bool = True,
        int8: Path | None = None,
        trained: str = "",
    ) -> None:
        self.backbone = backbone
        self.int8 = int8
        self._wanted = precision
        self._trained = trained
        self._many = many
        self._lock = Lock()
        self._requests: SimpleQueue[Any] | None = None

    @property
    def workers(self) -> int:
        """How many threads keep it busy: two more than compute, since each also reads and decodes."""
        return threads() + 2

    @cached_property
    def choice(self) -> Choice:
        """In what the backbone is computed here, and why. Builds and times its graph where that is not known yet."""
        backbone, graph = self.backbone, partial(graph_path, self.backbone)
        if "f32" in (self._wanted, self._trained if self._wanted is None else "") and not self.int8:
            return Choice("f32")
        if self._wanted == "bf16":
            return _usable(choose_bf16(backbone.name, backbone.fingerprint, graph))
        if self._wanted is None and self._trained == "bf16":
            found = _usable(choose(backbone.name, backbone.fingerprint, None, bool(self.int8)))
            if found.precision != "bf16":
                _console.warn("the run was trained in bf16, which this processor does not run: it is asked in f32")
            return found
        found = _usable(choose(backbone.name, backbone.fingerprint, None if self.int8 else graph, bool(self.int8)))
        return replace(found, precision="f32") if self._wanted == "f32" else found

    @property
    def is_new(self) -> bool:
        """Whether its graph must first be timed on this processor, which takes seconds."""
        return not (self._wanted or self._trained or self.int8 or is_known(self.backbone.fingerprint))

    @property
    def precision(self) -> str:
        """What the numbers are computed in on this machine."""
        return "int8" if self.int8 else self.choice.precision

    @cached_property
    def fingerprint(self) -> str:
        """Digest of backbone, precision and decoding: the second half of every feature's key.

        bf16 without some of the processor's instructions has a key of its own: it may round otherwise.
        """
        graph = [digest_file(self.int8), digest_file(self.int8.with_suffix(".bin"))] if self.int8 else []
        isa = [self.choice.isa] if self.choice.isa and self.choice.precision == "bf16" else []
        facts = [self.backbone.fingerprint, "openvino", self.choice.precision, DECODING_VERSION, *graph, *isa]
        return digest_json(facts)

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

    @property
    def started(self) -> bool:
        """Whether it is compiled, so that `run` does not wait for that."""
        return self._requests is not None

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
        choice = self.choice
        limit_openvino(choice.isa)
        options = {
            "INFERENCE_PRECISION_HINT": choice.precision,
            "PERFORMANCE_HINT": "THROUGHPUT" if self._many else "LATENCY",
            **({"INFERENCE_NUM_THREADS": str(limit)} if (limit := thread_limit()) else {}),
        }
        if self.int8:
            return compile_graph(self.int8, options, partial(checked_graph, self.int8))
        place = graph_place(self.backbone)
        if not choice.photos_per_s and is_quantised(place if place.is_file() else graph_path(self.backbone)):
            limit_for_int8()
        return compile_graph(place, options, partial(graph_path, self.backbone))


def _usable(choice: Choice) -> Choice:
    """``choice``, or f32 where this process can no longer keep oneDNN from the instructions that ``choice`` avoids."""
    if not limit_openvino(choice.isa):
        _console.note("OpenVINO was loaded before regraft in this process, so that f32 is used in place of bf16")
        return Choice("f32", failed=choice.failed)
    return choice
