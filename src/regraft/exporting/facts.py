"""The metadata of an exported artifact: classes, transform, temperature, threshold, origin.

Reading it is strict, because the file may come from anyone.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NoReturn

from regraft.classifiers.classifier import Classifier
from regraft.classifiers.run_folder import read_manifest
from regraft.errors import ExportError
from regraft.photos.images import Transform

FACTS = 1
"""The version of the metadata's layout."""

LONGEST = 16 * 2**20
"""The largest size in bytes of a text in an artifact."""

_LARGEST_SIDE = 4096  # pixels
_MOST_CLASSES = 100_000
_MOST_CHARACTERS = 1000  # of a label or a name
_UNSAFE = ("Cc", "Cs", "Zl", "Zp")
"""Unicode categories that a label must not have: control characters, surrogates, line and paragraph separators."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The metadata of an exported artifact.

    Attributes:
        classes: the labels, in the order of the probabilities.
        transform: the transform of photos. An app does the crop and the scaling; mean, standard deviation and channel
            order are applied inside the artifact.
        temperature: the temperature by which the artifact divides its logits.
        threshold: the novelty above which the answer is "none of these"; None where that is never the answer.
        run: the digest of the run's manifest.
        backbone: the full name of the backbone.
        licence: the licence of the backbone's weights.
        regraft: the version of regraft that trained the run.
    """

    classes: tuple[str, ...]
    transform: Transform
    temperature: float
    threshold: float | None
    run: str
    backbone: str
    licence: str
    regraft: str

    @classmethod
    def of(cls, classifier: Classifier) -> Facts:
        """Return the facts of a run.

        Raises:
            ExportError: the classifier has no run folder, or a label has characters that an artifact cannot hold.
        """
        if classifier.path is None:
            raise ExportError("the classifier has no run folder; save it first")
        manifest = read_manifest(classifier.path)
        try:
            classes = _labels(list(classifier.classes))
        except ValueError as error:
            raise ExportError(
                f"{classifier.path} cannot be exported: {error}; rename the class and train again"
            ) from error
        return cls(
            classes,
            classifier.backbone.transform,
            classifier.temperature,
            classifier.threshold,
            manifest.digest,
            classifier.backbone.name,
            classifier.backbone.licence,
            manifest.made_by,
        )

    def require_labels(self, text: str | None, path: Path) -> None:
        """Raise ExportError where the labels that ``path`` holds for other programs, one a line, differ from these."""
        if text is None or tuple(text.splitlines()) != self.classes:
            raise ExportError(f"{path} has two lists of labels that differ; export it again")

    def to_json(self) -> str:
        """Return the facts as JSON in ASCII: the metadata of some formats takes nothing else."""
        return json.dumps({"facts": FACTS, **asdict(self)})

    @classmethod
    def from_json(cls, text: str | bytes | None, path: Path) -> Facts:
        """Read the facts that `to_json` wrote into the artifact at ``path``.

        Raises:
            ExportError: there are no facts, a newer regraft wrote them, or they are damaged.
        """
        if not text:
            raise ExportError(
                f"{path} does not say which classes it knows or how it wants photos: it was not written by "
                f"`regraft export`; as a backbone it may do: regraft train PHOTOS --backbone file:{path}"
            )
        try:
            values = _parsed(text)
            if _whole_number(values, "facts") > FACTS:
                raise ExportError(f"{path} was written by a newer regraft; type: pip install -U regraft")
            return cls._read(values)
        except (ValueError, RecursionError) as error:
            reason = "its JSON is nested too deeply" if isinstance(error, RecursionError) else error
            raise ExportError(f"{path} has damaged metadata ({reason}); export it again") from error

    @classmethod
    def _read(cls, values: Mapping[str, Any]) -> Facts:
        """Read the facts from JSON values. Raises ValueError where a value is missing, unknown or out of range."""
        _require_names(values, {"facts", *(field.name for field in fields(cls))}, "facts")
        temperature = _number(values, "temperature")
        if temperature <= 0:
            raise ValueError(f"a temperature of {temperature:g}, wanted more than 0")
        return cls(
            classes=_labels(values["classes"]),
            transform=_transform(values["transform"]),
            temperature=temperature,
            threshold=None if values["threshold"] is None else _number(values, "threshold"),
            run=_text(values, "run"),
            backbone=_text(values, "backbone"),
            licence=_text(values, "licence"),
            regraft=_text(values, "regraft"),
        )


def _parsed(text: str | bytes) -> Mapping[str, Any]:
    if len(text) > LONGEST:
        raise ValueError(f"{len(text):,} bytes, more than {LONGEST:,}")
    values = json.loads(text, parse_constant=_refuse_constant)
    if not isinstance(values, dict):
        raise ValueError("it is no JSON object")
    return values


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _require_names(values: Mapping[str, Any], wanted: set[str], what: str) -> None:
    if missing := sorted(wanted - set(values)):
        raise ValueError(f"{what} without {', '.join(missing)}")
    if unknown := sorted(set(values) - wanted):
        raise ValueError(f"{what} with an unknown {unknown[0][:_MOST_CHARACTERS]!r}")


def _number(values: Mapping[str, Any], name: str) -> float:
    value = values[name]
    known = isinstance(value, int | float) and not isinstance(value, bool)
    if not known or not abs(value) <= sys.float_info.max:  # neither NaN nor infinite, nor too large for a float
        raise ValueError(f"{name} is no finite number")
    return float(value)


def _whole_number(values: Mapping[str, Any], name: str) -> int:
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} is no whole number")
    return value


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values[name]
    if not isinstance(value, str) or len(value) > _MOST_CHARACTERS:
        raise ValueError(f"{name} is no text of at most {_MOST_CHARACTERS} characters")
    return value


def _labels(values: Any) -> tuple[str, ...]:
    """Check a list of labels. Raises ValueError where one is empty, too long, repeated or not printable."""
    if not isinstance(values, list) or not 1 <= len(values) <= _MOST_CLASSES:
        count = f"{len(values):,}" if isinstance(values, list) else "no list of"
        raise ValueError(f"{count} classes, wanted 1 to {_MOST_CLASSES:,}")
    for label in values:
        if not isinstance(label, str) or not 1 <= len(label) <= _MOST_CHARACTERS:
            raise ValueError(f"a label that is no text of 1 to {_MOST_CHARACTERS} characters")
        if any(unicodedata.category(character) in _UNSAFE for character in label):
            raise ValueError(f"the label {label!a} has a control character or an end of a line in it")
    if len(set(values)) < len(values):
        raise ValueError("two classes of the same name")
    return tuple(values)


def _transform(values: Any) -> Transform:
    """Check and read the transform of photos. Raises ValueError where a value is unknown or out of range."""
    if not isinstance(values, dict):
        raise ValueError("transform is no JSON object")
    _require_names(values, {field.name for field in fields(Transform)}, "transform")
    size, crop = _whole_number(values, "size"), values["crop"]
    if not 1 <= size <= _LARGEST_SIDE or (crop is not None and not 0 < _number(values, "crop") <= 1):
        raise ValueError(f"photos of {size} pixels, of which {crop} is kept")
    if values["resample"] not in ("bilinear", "bicubic") or values["channel_order"] not in ("RGB", "BGR"):
        raise ValueError("photos are scaled by no filter that is known, or have no RGB and no BGR")
    for name in ("mean", "std"):
        three = values[name]
        if not isinstance(three, list) or len(three) != 3:
            raise ValueError(f"{name} is no list of three numbers")
        for number in three:
            _number({name: number}, name)
    if not all(number > 0 for number in values["std"]):
        raise ValueError("std is not above 0")
    return Transform.from_dict(values)
