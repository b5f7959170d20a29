"""A new run from a served run and its corrections, which the server then serves as the next version of the model.

In: a model. Out: a new run beside its run, and what changed from the one to the other.
Why: whoever corrects labels wants to see at once whether the classifier became better.
Surprise: one run is trained at a time in a server. Corrections that are made meanwhile are those of the next one.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from threading import Lock, Thread
from time import monotonic
from typing import Any

from regraft.classifiers.classifier import Classifier, run_path
from regraft.classifiers.evaluation import Evaluation
from regraft.classifiers.metrics import Metrics
from regraft.errors import RegraftError
from regraft.foundation import console
from regraft.local_page.correcting import Corrector
from regraft.reporting.changed_photos import ChangedPhoto, changed_photos
from regraft.serving.models import Model, Models
from regraft.training.training import update

UNEXPECTED = "the training failed by an error in regraft; the terminal of the server shows it"


class BusyError(RegraftError):
    """Another run is being trained."""


@dataclass(frozen=True, slots=True)
class Training:
    """What a server trains, or trained last.

    Attributes:
        model: the name of the model; empty before the first training.
        state: ``idle``, ``training``, ``done`` or ``failed``.
        since: when the training began, on the clock `time.monotonic`.
        result: what the page shows of the new run, as JSON values, once it is there.
        error: why the training failed, in one sentence.
    """

    model: str = ""
    state: str = "idle"
    since: float = 0.0
    result: dict[str, Any] | None = None
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        seconds = round(monotonic() - self.since, 1) if self.state == "training" else None
        return {
            "model": self.model,
            "state": self.state,
            "seconds": seconds,
            "result": self.result,
            "error": self.error,
        }


class Retraining:
    """The trainings of a server. Any thread may call its methods."""

    def __init__(self, models: Models, corrector: Corrector) -> None:
        self._models, self._corrector = models, corrector
        self._lock = Lock()
        self._now = Training()

    @property
    def now(self) -> Training:
        """What is trained, or was trained last."""
        return self._now

    def start(self, model: Model, run: Classifier) -> None:
        """Begin to train a new run from the run of a model, in a thread.

        Raises:
            BusyError: another run is being trained.
        """
        with self._lock:
            if self._now.state == "training":
                raise BusyError(f"a new version of {self._now.model} is being trained already; wait until it is there")
            self._now = Training(model.name, "training", monotonic())
        Thread(target=self._train, args=(model, run), daemon=True, name="retraining").start()

    def _train(self, model: Model, run: Classifier) -> None:
        began = self._now.since
        try:
            after = update(run)
            added = self._models.add(model.name, run_path(after))
            self._corrector.forget_photos()
            result = comparison(run, after, model.version, added.version)
            result["seconds"] = round(monotonic() - began, 2)
            done = Training(model.name, "done", began, result)
        except RegraftError as error:
            done = Training(model.name, "failed", began, None, str(error))
        except Exception as error:
            console.warn(f"training a new version of {model.name}: {type(error).__name__}: {error}")
            done = Training(model.name, "failed", began, None, UNEXPECTED)
        self._now = done


def comparison(before: Classifier, after: Classifier, old: int, new: int) -> dict[str, Any]:
    """Return what the page shows of a new run, as JSON values.

    Args:
        before: the run from which the new one was trained.
        after: the new run.
        old: the number of the version of the first run.
        new: the number of the version of the new run.

    Raises:
        DataError, RunError: the photos or a run are not there any more.
    """
    metrics = Metrics.from_dict(after.metrics)
    name, measured = metrics.measured
    changes = changed_photos(before, after)
    return {
        "run": str(after.path),
        "versions": [old, new],
        "classes": list(after.classes),
        "measured_on": name,
        "before": _figures(metrics.before),
        "after": _figures(measured),
        "difference": asdict(metrics.difference) if metrics.difference else None,
        "grown": asdict(metrics.grown) if metrics.grown else None,
        "gained": [_photo(one) for one in changes.gained],
        "lost": [_photo(one) for one in changes.lost],
    }


def _figures(found: Evaluation | None) -> dict[str, Any] | None:
    """Return the figures of an evaluation that the page shows; None without an evaluation."""
    return None if found is None else {"n": found.n, "accuracy": found.accuracy, "interval": found.interval}


def _photo(one: ChangedPhoto) -> dict[str, Any]:
    return {**asdict(one), "path": one.path.name}
