"""What the server tells Prometheus: requests, photos, batches and answers, and how they differ from the training.

In: each request, each batch and each answer, in the event loop. Out: the text that ``/metrics`` answers with.
Why: an operator must see load, errors, and photos that are no longer like those of the training.
Surprise: the counters are plain numbers, and prometheus_client is imported when ``/metrics`` is first asked for: its
import takes as long as a tenth of the start, and its counters take longer than these.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from regraft.exploring.drift import DRIFT, RECENT, drift_of
from regraft.serving.batching import Answer
from regraft.serving.models import Model
from regraft.serving.openapi import TEXT, Described, Operation

LABELS = 100
"""The most classes of a model that are counted by name; the others are counted together as ``other``."""

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""The upper bounds of the buckets of the latency, in seconds."""

BATCHES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""The upper bounds of the buckets of the size of batches, in photos."""

_PROTOCOLS = (("/v2/health", "health"), ("/v2", "open-inference"), ("/v1", "tensorflow-serving"), ("/predict", "plain"))

Key = tuple[str, str]
"""The name and version of a model."""


@dataclass(slots=True)
class Buckets:
    """A histogram: counts of values by upper bound, and the sum of the values."""

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        if not self.counts:
            self.counts = [0] * (len(self.bounds) + 1)
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[str, float]]:
        """Return the number of values up to each bound, as Prometheus wants them."""
        sums = np.cumsum(self.counts or [0] * (len(self.bounds) + 1)).tolist()
        return list(zip([*map(str, self.bounds), "+Inf"], sums, strict=True))


@dataclass(slots=True)
class Answered:
    """The answers of one version of a model.

    Attributes:
        model: the version.
        classes: the number of photos of each class, without those that are none of these, (C,).
        rejected: the number of photos that are none of these.
        unreadable: the number of photos that cannot be read.
        recent: class index and novelty of the latest photos.
    """

    model: Model
    classes: NDArray[np.int64]
    rejected: int = 0
    unreadable: int = 0
    recent: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=RECENT))

    def add(self, answer: Answer) -> None:
        """Count an answer."""
        if answer.error is not None:
            self.unreadable += 1
            return
        best = int(answer.probabilities.argmax())
        if self.model.is_novel(answer.novelty):
            self.rejected += 1
        else:
            self.classes[best] += 1
        self.recent.append((best, answer.novelty))


class Metrics:
    """The counters of a server. They are changed in the event loop alone.

    Attributes:
        waiting: returns the number of photos in the queue; set when the queue is there.
        in_flight: the number of photos that are in the queue or being answered.
    """

    def __init__(self) -> None:
        self.waiting: Callable[[], int] = lambda: 0
        self.in_flight = 0
        self._requests: Counter[tuple[str, str, str]] = Counter()
        self._seconds: dict[str, Buckets] = {}
        self._batches = Buckets(BATCHES)
        self._answered: dict[Key, Answered] = {}

    def request(self, protocol: str, model: str, status: int, seconds: float | None) -> None:
        """Count a request; ``seconds`` is how long it took, and None where that says nothing."""
        self._requests[protocol, model, str(status)] += 1
        if seconds is not None:
            self._seconds.setdefault(protocol, Buckets(SECONDS)).add(seconds)

    def batch(self, photos: int) -> None:
        """Count a batch of photos that were answered together."""
        self._batches.add(photos)

    def answers(self, model: Model, answers: Sequence[Answer]) -> None:
        """Count the answers to the photos of a request."""
        key = (model.name, str(model.version))
        found = self._answered.get(key)
        if found is None or found.model is not model:
            found = self._answered[key] = Answered(model, np.zeros(len(model.predictor.classes), np.int64))
        for answer in answers:
            found.add(answer)

    def collect(self) -> Iterator[Any]:
        """Yield the metrics for prometheus_client, which calls this method of a collector."""
        yield from self._traffic()
        yield from self._counts()
        yield from self._drift()

    def text(self) -> bytes:
        """Return the metrics in the text format of Prometheus."""
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)

    def _traffic(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        requests = CounterMetricFamily(
            "regraft_requests", "Requests by protocol, model and status.", labels=("protocol", "model", "status")
        )
        for labels, count in self._requests.items():
            requests.add_metric(labels, count)
        seconds = HistogramMetricFamily(
            "regraft_request_seconds",
            "Seconds from a request to its answer, of requests with photos.",
            labels=("protocol",),
        )
        for protocol, found in self._seconds.items():
            seconds.add_metric((protocol,), found.cumulative(), found.total)
        yield requests
        yield seconds
        yield GaugeMetricFamily("regraft_queue_photos", "Photos that wait for a thread.", self.waiting())
        yield GaugeMetricFamily("regraft_in_flight_photos", "Photos that wait or are being answered.", self.in_flight)
        yield HistogramMetricFamily(
            "regraft_batch_photos",
            "Photos that a thread answers together.",
            buckets=self._batches.cumulative(),
            sum_value=self._batches.total,
        )

    def _counts(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily

        names = ("model", "version")
        answers = CounterMetricFamily(
            "regraft_answers", f"Photos by answer; the {LABELS} first classes by name.", labels=(*names, "label")
        )
        rejected = CounterMetricFamily("regraft_none_of_these", 'Photos answered "none of these".', labels=names)
        unreadable = CounterMetricFamily("regraft_unreadable_photos", "Photos that cannot be read.", labels=names)
        for key, found in self._answered.items():
            named = zip(found.model.predictor.classes[:LABELS], found.classes.tolist(), strict=False)
            for label, count in named:
                answers.add_metric((*key, label), count)
            if len(found.classes) > LABELS:
                answers.add_metric((*key, "other"), int(found.classes[LABELS:].sum()))
            rejected.add_metric(key, found.rejected)
            unreadable.add_metric(key, found.unreadable)
        yield from (answers, rejected, unreadable)

    def _drift(self) -> Iterator[Any]:
        from prometheus_client.core import GaugeMetricFamily

        gauges = {
            name: GaugeMetricFamily(f"regraft_{name}", about, labels=("model", "version"))
            for name, about in DRIFT.items()
        }
        for key, found in self._answered.items():
            for name, value in drift_of(found.model.predictor, list(found.recent)).items():
                gauges[name].add_metric(key, value)
        yield from gauges.values()


Scope = MutableMapping[str, Any]


class Measured:
    """An ASGI application that counts the requests to another one.

    Args:
        app: the other application.
        metrics: the counters.
    """

    def __init__(self, app: Any, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Answer a request with the other application, and count it by its protocol, model and status."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, began = 499, perf_counter()  # 499: the client has gone before there was an answer

        async def watched(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            path = scope["path"]
            protocol = next((name for start, name in _PROTOCOLS if path.startswith(start)), "other")
            model = scope.get("model", "").partition("/")[0]  # only names of models that there are
            posted = scope["method"] == "POST" and protocol != "other"
            self._metrics.request(protocol, model, status, perf_counter() - began if posted else None)


def routes(metrics: Metrics) -> list[Route]:
    """Return the route of the metrics."""

    async def text(_: Request) -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return [Described("GET", "/metrics", text, Operation("Metrics for Prometheus.", "server", gives={TEXT: None}))]
