"""What /metrics tells, read by the parser of prometheus_client; and what the figures on drift are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regraft import load_predictor
from regraft.errors import ImageError
from regraft.exploring.drift import FEWEST, RECENT, drift_of, stability_index
from regraft.serving.answering import answerer_of
from regraft.serving.batching import Answer
from regraft.serving.metrics import LABELS, Metrics
from regraft.serving.models import Model
from tests.serving.asking import ask
from tests.serving.servers import EXPORT as COLOURS
from tests.serving.servers import RUN, served

Figures = dict[tuple[str, frozenset[tuple[str, str]]], float]


def figures(text: bytes) -> Figures:
    from prometheus_client.parser import text_string_to_metric_families

    families = text_string_to_metric_families(text.decode())
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def of(found: Figures, name: str, **labels: str) -> float:
    return found.get((f"regraft_{name}", frozenset(labels.items())), math.nan)


@pytest.fixture
def model(cache: Path) -> Model:
    predictor = load_predictor(RUN)
    return Model("shapes", 1, RUN, predictor, answerer_of(predictor))


@pytest.fixture(scope="module")
def server(warm_cache: Path) -> Iterator[str]:
    with served(warm_cache, RUN) as found:
        yield found.address.rstrip("/")


def test_requests_photos_and_answers_are_counted(server: str, photo: Path, stranger: Path) -> None:
    name, version = RUN.name, "1"
    for _ in range(3):
        assert ask(f"{server}/predict", photo.read_bytes()).status == 200
    assert ask(f"{server}/predict/{name}", stranger.read_bytes()).status == 200
    assert ask(f"{server}/predict", b"no photo").status == 422
    assert ask(f"{server}/predict/other", b"no photo").status == 404
    assert ask(f"{server}/v1/models/{name}:predict", {"instances": [[[[1, 2, 3]]]] * 4}).status == 200
    assert ask(f"{server}/v2/models/{name}/infer", b"").status == 400
    reply = ask(f"{server}/metrics")
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = figures(reply.body)
    assert of(found, "requests_total", protocol="plain", model=name, status="200") == 4
    assert of(found, "requests_total", protocol="plain", model=name, status="422") == 1
    assert of(found, "requests_total", protocol="plain", model="", status="404") == 1
    assert of(found, "requests_total", protocol="open-inference", model=name, status="400") == 1
    assert of(found, "request_seconds_count", protocol="plain") == 6
    assert of(found, "request_seconds_bucket", protocol="plain", le="+Inf") == 6
    assert of(found, "request_seconds_sum", protocol="plain") > 0
    assert of(found, "answers_total", model=name, version=version, label="circle") >= 3
    assert of(found, "none_of_these_total", model=name, version=version) >= 1
    assert of(found, "unreadable_photos_total", model=name, version=version) == 1
    assert of(found, "recent_photos", model=name, version=version) == 8
    assert of(found, "batch_photos_sum") == 9
    assert of(found, "queue_photos") == of(found, "in_flight_photos") == 0


def answer(model: Model, index: int, novelty: float) -> Answer:
    return Answer(np.eye(len(model.predictor.classes), dtype=np.float32)[index], novelty)


def test_photos_like_those_of_the_training_show_no_drift(model: Model) -> None:
    evaluation = load_predictor(RUN).evaluation  # type: ignore[attr-defined]
    counts = np.sum(evaluation.confusion, axis=0)
    recent = [(index, 0.0) for index, count in enumerate(counts) for _ in range(40 * count)]
    found = drift_of(model.predictor, recent)
    assert len(recent) >= FEWEST
    assert found["recent_class_drift"] == pytest.approx(0)
    assert found["recent_novelty"] == 0
    assert found["recent_none_of_these_ratio"] == 0
    assert found["training_none_of_these_ratio"] == evaluation.rejected


def test_other_photos_show_drift(model: Model) -> None:
    threshold = model.predictor.threshold or 0.0
    found = drift_of(model.predictor, [(0, threshold + 1)] * 200)
    assert found["recent_novelty"] == pytest.approx(threshold + 1)
    assert found["recent_none_of_these_ratio"] == 1
    assert found["recent_class_drift"] > 10 * found["chance_class_drift"] > 0
    assert "recent_class_drift" not in drift_of(model.predictor, [(0, 0.0)] * (FEWEST - 1))


def test_the_chance_of_drift_is_what_it_is_on_average() -> None:
    dice, shares = np.random.default_rng(0), np.array([0.5, 0.3, 0.2])
    drawn = [(dice.multinomial(300, shares), dice.multinomial(500, shares)) for _ in range(400)]
    mean = float(np.mean([stability_index(before, now) for before, now in drawn]))
    assert mean == pytest.approx(2 * (1 / 300 + 1 / 500), rel=0.2)


def test_an_export_tells_only_what_it_knows(cache: Path) -> None:
    predictor = load_predictor(COLOURS)
    model = Model("colours", 1, COLOURS, predictor, answerer_of(predictor))
    assert drift_of(model.predictor, [(0, math.nan)] * 200) == {"recent_photos": 200}
    metrics = Metrics()
    metrics.answers(model, [answer(model, 0, math.nan)])
    assert of(figures(metrics.text()), "answers_total", model="colours", version="1", label="blue") == 1


def test_only_so_many_classes_are_counted_by_name() -> None:
    class Many:
        classes = tuple(f"class {i}" for i in range(LABELS + 50))
        threshold = None

    many: Any = Many()
    model = Model("many", 3, Path(), many, None)  # type: ignore[arg-type]
    metrics = Metrics()
    metrics.answers(model, [answer(model, index, math.nan) for index in range(LABELS + 50)])
    found = figures(metrics.text())
    assert sum(name == "regraft_answers_total" for name, _ in found) == LABELS + 1
    assert of(found, "answers_total", model="many", version="3", label="other") == 50


def test_memory_does_not_grow_with_photos(model: Model) -> None:
    metrics = Metrics()
    for _ in range(3):
        metrics.answers(model, [answer(model, 1, 0.0)] * RECENT)
    metrics.answers(model, [Answer(np.empty(0, np.float32), math.nan, ImageError("damaged"))])
    found = figures(metrics.text())
    assert of(found, "recent_photos", model="shapes", version="1") == RECENT
    assert of(found, "answers_total", model="shapes", version="1", label="circle") == 3 * RECENT
    assert of(found, "unreadable_photos_total", model="shapes", version="1") == 1


def test_labels_with_quotes_and_newlines_are_escaped() -> None:
    class Odd:
        classes = ('a"b', "c\\d", "줄무늬")
        threshold = None

    odd: Any = Odd()
    model = Model("odd", 1, Path(), odd, None)  # type: ignore[arg-type]
    metrics = Metrics()
    metrics.answers(model, [answer(model, index, math.nan) for index in range(3)])
    found = figures(metrics.text())
    for label in Odd.classes:
        assert of(found, "answers_total", model="odd", version="1", label=label) == 1
