"""What stands beside an answer on the page: the nearest training photos, and the activation map.

In: a model, and a photo of a request. Out: an `Explained`.
Why: a person believes an answer, or finds out why it is wrong, by the photos that it comes from.
Surprise: the training photos are read in a thread when the page first asks for them, so that the server is ready
without them, and an answer may come before they are there. An export has neither photos nor maps.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from regraft.backbones.side_by_side import stage_widths
from regraft.classifiers.classifier import Classifier, open_photos, sides_of
from regraft.classifiers.predictor import Answers
from regraft.errors import RegraftError
from regraft.exploring.activation_maps import Activation, ActivationMaps
from regraft.features.neighbours import last_stage, nearest
from regraft.foundation.files import digest_bytes
from regraft.photos.dataset import ImageRecord
from regraft.serving.answering import OfClassifier
from regraft.serving.models import Model

NEIGHBOURS = 3
"""The number of nearest training photos beside an answer."""

MOST_PHOTOS = 50_000
"""The most training photos of a model that are searched; of more, as many are taken by chance."""

MOST_MODELS = 3
"""The most models whose training photos are in memory."""

Presence = Literal["ready", "loading", "gone", "export"]
"""Whether the training photos of a model can be searched: they can; they are being read; they cannot be read; or the
model is an export, which has none."""


@dataclass(frozen=True, slots=True)
class Near:
    """A training photo that looks like the photo of a request.

    Attributes:
        record: the training photo.
        similarity: the similarity of both photos, -1..1.
        same: whether both have the same bytes.
    """

    record: ImageRecord
    similarity: float
    same: bool


@dataclass(frozen=True, slots=True, eq=False)
class Explained:
    """An answer of a run's classifier with what stands beside it.

    Attributes:
        probabilities: ``(C,)`` float32.
        novelty: how unlike all training photos the photo is; NaN where the novelty is not known.
        near: the nearest training photos, the most similar first; empty where they cannot be searched.
        activation: the maps of the two most probable classes; None where they were not asked for, or are not there yet.
        presence: whether the training photos can be searched.
        reason: why they cannot be read; empty where they can, or are being read.
    """

    probabilities: NDArray[np.float32]
    novelty: float
    near: tuple[Near, ...] = ()
    activation: Activation | None = None
    presence: Presence = "export"
    reason: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    """The training photos of a run that can be read, and their rows as `last_stage` returns them."""

    records: tuple[ImageRecord, ...]
    rows: NDArray[np.float32]

    @classmethod
    def of(cls, classifier: Classifier) -> _Known:
        """Read the training photos of a run, and their features from the cache.

        Raises:
            DataError: the photos are not there any more.
            RunError, BackboneError: the run is damaged, or its backbone cannot be run.
        """
        dataset = open_photos(classifier)
        records = [dataset.records[i] for i in sides_of(classifier, dataset).train]
        records = sorted(records, key=lambda record: record.digest)[:MOST_PHOTOS]
        x, _ = classifier.features(records)
        good = np.flatnonzero(~np.isnan(x[:, 0]))
        rows = last_stage(x[good], stage_widths(classifier.backbone))
        return cls(tuple(records[i] for i in good.tolist()), rows)

    def nearest(self, row: NDArray[np.float32], digest: str) -> tuple[Near, ...]:
        """Return the photos that are nearest to the photo with the row (1, E) and the digest."""
        indices, similarities = nearest(self.rows, row, NEIGHBOURS)
        found = [
            (self.records[i], value) for i, value in zip(indices[0], similarities[0].tolist(), strict=True) if i >= 0
        ]
        return tuple(Near(record, value, digest in (record.digest, record.identity)) for record, value in found)


@dataclass(slots=True, eq=False)
class _Loading:
    """What a thread reads of one model: the training photos, or why they cannot be read, and what makes maps."""

    known: _Known | None = None
    by_digest: Mapping[str, ImageRecord] = field(default_factory=dict)
    reason: str = ""
    maps: ActivationMaps | None = None

    def read(self, classifier: Classifier) -> None:
        """Read all: the work of a thread."""
        try:
            self.maps = ActivationMaps(classifier)
            known = _Known.of(classifier)
            self.by_digest = {record.digest: record for record in known.records}
            self.known = known
        except (RegraftError, OSError) as error:
            self.reason = str(error)


class Explanations:
    """The training photos of the models that the page asks about. Several threads may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of: OrderedDict[Model, _Loading] = OrderedDict()

    def begin(self, model: Model) -> None:
        """Begin to read the training photos of a model in a thread, unless this was begun before."""
        if isinstance(model.predictor, Classifier):
            self._begun(model, model.predictor)

    def _begun(self, model: Model, classifier: Classifier) -> _Loading:
        with self._lock:
            if model not in self._of:
                self._of[model] = _Loading()
                threading.Thread(target=self._of[model].read, args=(classifier,), daemon=True).start()
                while len(self._of) > MOST_MODELS:
                    self._of.popitem(last=False)
            return self._of[model]

    def photo(self, model: Model, digest: str) -> ImageRecord | None:
        """Return the training photo with this digest; None where the model has no such photo, or not yet."""
        found = self._of.get(model)
        return found.by_digest.get(digest) if found else None

    def explain(self, model: Model, photo: bytes, with_map: bool) -> Explained:
        """Answer a photo by the classifier of a run, with the nearest training photos. Call it in a thread.

        Args:
            model: the model, which is a run.
            photo: the bytes of the photo.
            with_map: whether the activation map is wanted, which takes at least as long as the answer.

        Raises:
            ImageError: the photo cannot be read.
            BackboneError, RunError: the network cannot be run.
        """
        answerer = model.answerer
        assert isinstance(answerer, OfClassifier)  # noqa: S101 (only a run is explained)
        found = self._begun(model, answerer.classifier)
        pixels = answerer.decode(photo)
        x = answerer.features([pixels])
        answers = answerer.classifier.answers_to(x)
        activation = None
        if with_map and found.maps:
            activation = found.maps.of_pixels(pixels, x[0], _best_two(answers))
        presence: Presence = "ready" if found.known else "gone" if found.reason else "loading"
        near: tuple[Near, ...] = ()
        if found.known:
            near = found.known.nearest(last_stage(x, stage_widths(answerer.classifier.backbone)), digest_bytes(photo))
        row, novelty = answers.probabilities[0], float(answers.novelty[0])
        return Explained(row, novelty, near, activation, presence, found.reason)


def _best_two(answers: Answers) -> tuple[int, ...]:
    return tuple(np.argsort(-answers.probabilities[0], kind="stable")[:2].tolist())
