"""The training of a project: one at a time, in a thread, with its progress.

In: a project. Out: a new run of the project, which the server then serves.
Why: the page shows how far a training is, and goes on to work meanwhile.
Surprise: the same photos give the same features, so that only new photos take time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from threading import Lock, Thread
from typing import Any, Literal, Self

from regraft.classifiers.classifier import Classifier, run_path
from regraft.classifiers.metrics import Metrics
from regraft.classifiers.run_folder import read_split
from regraft.errors import RegraftError
from regraft.foundation import console
from regraft.local_page.project import Project, ProjectError
from regraft.serving.models import Models
from regraft.training.training import train, update

LEAST_PHOTOS = 2
"""The fewest photos of a class with which a training begins: one to learn from and one to measure."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the training of a project is.

    Attributes:
        state: ``idle`` before the first training, ``running``, ``done`` or ``failed``.
        step: what is done at the moment, such as ``extracting features``.
        done, total: the number of finished items of the step, and of all; None where the total is not known.
        error: why the training failed; empty where it did not.
        result: the new version and its measured accuracy; None before it is done.
    """

    state: Literal["idle", "running", "done", "failed"] = "idle"
    step: str = ""
    done: int = 0
    total: int | None = None
    error: str = ""
    result: dict[str, Any] | None = None


class ProjectTraining:
    """Trains a project. Any thread may call its methods.

    Args:
        project: the project.
        models: the models of the server, to which new runs are added.
    """

    def __init__(self, project: Project, models: Models) -> None:
        self._project, self._models = project, models
        self._lock = Lock()
        self.progress: Progress = Progress()

    def start(self) -> None:
        """Begin a training. Raises ProjectError where one is running, or where there are too few photos."""
        with self._lock:
            if self.progress.state == "running":
                raise ProjectError("training", "a training is running already")
            enough = [one for one in self._project.classes() if len(one.photos) >= LEAST_PHOTOS]
            if len(enough) < 2:
                raise ProjectError(
                    "few_photos", f"wanted two classes with at least {LEAST_PHOTOS} photos each", least=LEAST_PHOTOS
                )
            self.progress = Progress("running")
        Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        """Train, and serve the new run: the work of the thread."""
        try:
            console.shown_by.set(_Bar(self._show))
            classifier = self._trained()
            model = self._models.add(self._project.name, run_path(classifier))
            self.progress = Progress("done", result={"version": model.version, **_measured(classifier)})
        except RegraftError as error:
            self.progress = Progress("failed", error=str(error))
        except Exception as error:  # the page must not wait for ever
            console.warn(f"the training failed: {type(error).__name__}: {error}")
            self.progress = Progress("failed", error="the training failed; the reason is in the terminal of the server")

    def _trained(self) -> Classifier:
        """Train from the newest run, with its corrections; without a run, or without its photos, from nothing."""
        project, place = self._project, self._project.next_run()
        there = {photo for one in project.classes() for photo in one.photos}
        for version in sorted(project.trained(), reverse=True)[:1]:
            newest = project.runs / str(version)
            if there & {digest for side in asdict(read_split(newest)).values() for digest in side}:
                return update(newest, place, project.photos)
        return train(project.photos, place)

    def _show(self, step: str, done: int, total: int | None) -> None:
        self.progress = replace(self.progress, step=step, done=done, total=total)


def _measured(classifier: Classifier) -> dict[str, Any]:
    """Return the measured accuracy of a classifier as JSON values; None where nothing was measured."""
    _, found = Metrics.from_dict(classifier.metrics).measured
    return {"accuracy": found.accuracy, "interval": found.interval, "photos": found.n}


class _Bar:
    """A progress bar of `console.progress` that tells a function how far the work is."""

    task_ids = (0,)

    def __init__(self, show: Callable[[str, int, int | None], None]) -> None:
        self._show = show
        self._step, self._done = "", 0
        self._total: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._show(self._step, self._done, self._total)

    def add_task(self, label: str, total: int | None, waits_for: str) -> int:  # noqa: ARG002
        """Begin a step of ``total`` items."""
        self._step, self._done, self._total = label, 0, total
        self._show(label, 0, total)
        return 0

    def update(
        self, _task: int, advance: int = 0, description: str | None = None, waits_for: str | None = None
    ) -> None:
        """Add finished items, or tell what the step waits for."""
        self._step, self._done = description or self._step, self._done + advance
        self._show(waits_for or self._step, self._done, None if waits_for else self._total)
