"""The OpenVINO engine: a backbone compiled by OpenVINO for the CPU of this machine.

In: uint8 photos ``(size, size, 3)``. Out: float32 features ``(D,)``.
Why: with the right layout, fused layers, bf16 and parallel requests a CPU needs seconds instead of minutes.
Surprise: OpenVINO is imported, and the backbone compiled, only for the first photo that is not in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from regraft.backbones.base import Backbone
from regraft.backbones.graphs import checked_graph, graph_path, graph_place, is_quantised
from regraft.engines.base import EngineOptions, Loader, Row
from regraft.engines.compiled import compile_graph
from regraft.engines.probe import (
    PRECISIONS,
    Choice,
    Precision,
    choose,
    choose_bf16,
    is_known,
    limit_for_int8,
    limit_openvino,
)
from regraft.engines.workers import compute_in_threads
from regraft.foundation import console
from regraft.foundation.files import digest_file, digest_json, thread_limit, threads
from regraft.photos.images import DECODING_VERSION, Pixels


class OpenVinoEngine:
    """Computes features with OpenVINO. Many threads may use one engine at the same time.

    Args:
        backbone: the backbone to compute.
        precision: ``bf16`` or ``f32``; None selects the faster one on this processor (`regraft.engines.probe`).
        many: whether to optimise for many photos at a time (throughput), or for a single photo (latency).
        int8: the quantised graph of the backbone. Its layers that are not quantised run in ``precision``.
        trained: the precision in which an existing run was trained, ``bf16`` or ``f32``; empty for a new run. If
            ``precision`` is None, and this processor supports it, the engine uses this precision, so that the run gives
            the same results as before.
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

    @classmethod
    def of(cls, backbone: Backbone, options: EngineOptions) -> Self:
        """Return an engine for a backbone."""
        return cls(backbone, PRECISIONS[options.precision], options.many, options.int8, options.trained)

    @classmethod
    def refusal(cls, backbone: Backbone) -> str:  # noqa: ARG003
        """Return an empty string: OpenVINO can compute every backbone."""
        return ""

    @classmethod
    def accelerator(cls) -> str:
        """Return an empty string: this engine computes on the CPU."""
        return ""

    @property
    def record(self) -> Mapping[str, str]:
        """The facts about the engine for the manifest of a run.

        They are the precision, and the limit on the processor's instructions if the precision needs one.
        """
        isa = self.choice.isa if self.choice.precision == "bf16" else ""
        return {"precision": self.precision, **({"onednn_isa": isa} if isa else {})}

    def compute(self, loaders: Sequence[Loader]) -> Iterator[tuple[int, Row | str]]:
        """Decode photos and compute their features; see `Engine.compute`. Each thread does both for a photo."""
        return compute_in_threads(loaders, self)

    @property
    def workers(self) -> int:
        """The number of threads that keep the processor busy: two more than it runs, since each also reads files."""
        return threads() + 2

    @cached_property
    def choice(self) -> Choice:
        """The precision on this processor, with the reason. If it is not known yet, the graph is built and timed."""
        backbone, graph = self.backbone, partial(graph_path, self.backbone)
        if "f32" in (self._wanted, self._trained if self._wanted is None else "") and not self.int8:
            return Choice("f32")
        if self._wanted == "bf16":
            return _usable(choose_bf16(backbone.name, backbone.fingerprint, graph))
        if self._wanted is None and self._trained == "bf16":
            choice = _usable(choose(backbone.name, backbone.fingerprint, None, bool(self.int8)))
            if choice.precision != "bf16":
                console.warn("the run was trained in bf16, which this processor does not run: f32 is used")
            return choice
        choice = _usable(choose(backbone.name, backbone.fingerprint, None if self.int8 else graph, bool(self.int8)))
        return replace(choice, precision="f32") if self._wanted == "f32" else choice

    @property
    def is_new(self) -> bool:
        """Whether the graph of the backbone must first be timed on this processor, which takes seconds."""
        return not (self._wanted or self._trained or self.int8 or is_known(self.backbone.fingerprint))

    @property
    def precision(self) -> str:
        """The precision in which the engine computes on this machine: ``bf16``, ``f32`` or ``int8``."""
        return "int8" if self.int8 else self.choice.precision

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the backbone, the engine, the precision and the decoding: the key of the features in the cache.

        bf16 with a limit on the processor's instructions has a key of its own, because it may round differently.
        """
        graph = [digest_file(self.int8), digest_file(self.int8.with_suffix(".bin"))] if self.int8 else []
        isa = [self.choice.isa] if self.choice.isa and self.choice.precision == "bf16" else []
        facts = [self.backbone.fingerprint, "openvino", self.choice.precision, DECODING_VERSION, *graph, *isa]
        return digest_json(facts)

    def run(self, pixels: Pixels) -> NDArray[np.float32]:
        """Return the features of one photo. Several threads may call this method at the same time.

        Args:
            pixels: the transformed photo, (size, size, 3) uint8.

        Returns:
            The features (D,) float32; for a `Trunk` the activations (H, W, C) float16.

        Raises:
            BackboneError: the backbone cannot be built or compiled.
        """
        requests = self._requests or self._start()
        request = requests.get()
        try:
            row: NDArray[np.float32] = request.infer({0: pixels[np.newaxis]}, share_inputs=True)[0][0]
        finally:
            requests.put(request)
        return row

    @property
    def starting(self) -> bool:
        """Whether another thread is building or compiling the network now, so that `run` would have to wait."""
        return self._requests is None and self._lock.locked()

    @property
    def started(self) -> bool:
        """Whether the network is compiled, so that `run` does not have to wait."""
        return self._requests is not None

    def features(self, photos: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the features ``(N, D)`` of transformed photos ``(N, size, size, 3)``, computed one after another."""
        rows = [self.run(photo) for photo in photos]
        return np.stack(rows) if rows else np.empty((0, self.backbone.num_features), np.float32)

    def _start(self) -> SimpleQueue[Any]:
        """Compile the network and return its inference requests, all created before the first of them runs.

        OpenVINO's Python layer can deadlock if one thread creates a request while another creates its first tensor.
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
        """Return the compiled network, from the cache if it is there. Raises BackboneError."""
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
    """Return ``choice``, or f32 if it is too late in this process to set the instruction limit that it needs."""
    if not limit_openvino(choice.isa):
        console.note("OpenVINO was loaded before regraft in this process, so f32 is used instead of bf16")
        return Choice("f32", failed=choice.failed)
    return choice
