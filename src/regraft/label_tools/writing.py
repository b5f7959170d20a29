"""Write photos and what `check` found in them: as a manifest for `train`, or in the formats that label tools import.

In: the photos, each with its findings. Out: one file: CSV, tasks for Label Studio, or labels for FiftyOne.
Why: people look at doubtful labels in the tool that they have, and correct them there.
Surprise: a label tool shows whole files only, so a photo inside a shard is left out of all files but a manifest.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from regraft.errors import ConfigError, DataError, option
from regraft.foundation import console
from regraft.foundation.places import Product, claimed, require_writable
from regraft.photos.dataset import ImageRecord
from regraft.photos.sources.manifest import probability_classes

Format = Literal["manifest", "label-studio", "fiftyone"]
FORMATS: tuple[Format, ...] = get_args(Format)

_PRODUCT = Product("a list of photos", None, option="write", error=ConfigError)
_AUTHOR = "regraft check"  # the version of the model, as Label Studio calls the origin of a prediction
_CONTROL, _OBJECT = "choice", "image"  # the names of the two tags in Label Studio's own templates


@dataclass(frozen=True, slots=True)
class Reviewed:
    """A photo, and what was found in it.

    Attributes:
        record: the photo.
        findings: the kinds of the findings, the worst first; empty if nothing was found.
        reason: what was found, in words.
        suggested: the label that is more probable than the photo's own; empty if its own label is not doubtful.
        probability: the probability of the suggested label, 0 to 1; None if there is none.
    """

    record: ImageRecord
    findings: tuple[str, ...] = ()
    reason: str = ""
    suggested: str = ""
    probability: float | None = None


def require_format(path: Path, name: str) -> None:
    """Raise ConfigError if ``name`` is no format, or if `write_photos` could not write to ``path``."""
    if name not in FORMATS:
        raise ConfigError(f"unknown format {name!r}; choose from {', '.join(FORMATS)}")
    require_writable(path, _PRODUCT)


def write_photos(path: Path, photos: Sequence[Reviewed], name: Format = "manifest") -> int:
    """Write photos to a file, and return their number. Those that the format cannot name are left out with a warning.

    Args:
        path: the file, which must not exist.
        photos: the photos.
        name: the format.

    Raises:
        ConfigError: ``path`` exists already.
        DataError: there is no photo that can be written.
    """
    written = [photo for photo in photos if _fits(photo.record, path, name)]
    if not written and not photos:
        raise DataError(f"{path} would have no photo; type fewer kinds after {option('drop')}")
    if missing := len(photos) - len(written):
        why = "their names are not Unicode" if name == "manifest" else "a label tool can only show files of their own"
        console.warn(f"{missing} photos are not in {path}: {why}")
    if not written:
        raise DataError(f"{path} would have no photo")
    make = {"manifest": _manifest, "label-studio": _label_studio, "fiftyone": _fiftyone}[name]
    text = make(path, written)
    with claimed(path, _PRODUCT, file=True) as place:
        place.fresh.write_text(text, encoding="utf-8", newline="")
    return len(written)


def _manifest(path: Path, photos: Sequence[Reviewed]) -> str:
    """Return the text of a CSV table that `train` takes, with paths relative to its folder."""
    text = io.StringIO()
    records = [photo.record for photo in photos]
    labels = _labels(path, records)
    rows = [
        (_relative(r.path, path), label, r.split or "", r.group or "") for r, label in zip(records, labels, strict=True)
    ]
    csv.writer(text, lineterminator="\n").writerows([("path", "label", "split", "group"), *rows])
    return text.getvalue()


def _labels(path: Path, records: Sequence[ImageRecord]) -> list[str]:
    """Return the labels of photos as a manifest at ``path`` has them: probabilities where that is what they are.

    The names of the two classes are not in such a manifest. Where they would not be found beside it, the labels are the
    more probable classes.
    """
    labels = [r.label for r in records]
    if all(r.probability == 1 for r in records):
        return labels
    classes = probability_classes(path.parent)
    if not set(labels) <= set(classes):
        console.warn(f"{path} has the more probable class of each photo: no labels.txt beside it names the two classes")
        return labels
    return [f"{r.probability if r.label == classes[1] else 1 - r.probability:.9g}" for r in records]


def _label_studio(_: Path, photos: Sequence[Reviewed]) -> str:
    """Return Label Studio's tasks, and tell the user how its project has to be set up for them.

    The label of a photo is an annotation, and a label that is more probable is a prediction.
    """
    paths = [photo.record.path.absolute() for photo in photos]
    common = Path(os.path.commonpath([path.parent for path in paths]))
    tasks = []
    for path, photo in zip(paths, photos, strict=True):
        # Label Studio wants the folder of a local storage to lie below its document root.
        image = f"/data/local-files/?d={quote(path.relative_to(common.parent).as_posix())}"
        found = ", ".join(photo.findings)
        task: dict[str, Any] = {"data": {_OBJECT: image, "label": photo.record.label, "findings": found}}
        task["data"]["reason"] = photo.reason
        task["annotations"] = [{"result": [_choice(photo.record.label)]}]
        if photo.suggested:
            prediction = {"model_version": _AUTHOR, "score": photo.probability, "result": [_choice(photo.suggested)]}
            task["predictions"] = [prediction]
        tasks.append(task)
    labels = sorted({photo.record.label for photo in photos} | {photo.suggested for photo in photos} - {""})
    choices = "".join(f"<Choice value={quoteattr(label)}/>" for label in labels)
    console.say(
        f"Label Studio shows the photos if it runs with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true and "
        f"LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={common.parent}, and if the project has the local storage {common}"
    )
    console.say(
        f'labelling interface: <View><Image name="{_OBJECT}" value="${_OBJECT}"/>'
        f'<Choices name="{_CONTROL}" toName="{_OBJECT}">{choices}</Choices></View>'
    )
    return console.as_json(tasks)


def _choice(label: str) -> dict[str, Any]:
    return {"from_name": _CONTROL, "to_name": _OBJECT, "type": "choices", "value": {"choices": [label]}}


def _fiftyone(_: Path, photos: Sequence[Reviewed]) -> str:
    """Return the labels of a FiftyOneImageClassificationDataset, whose keys are the absolute paths of the photos."""
    classes = sorted({photo.record.label for photo in photos})
    places = {label: place for place, label in enumerate(classes)}
    labels = {}
    for photo in photos:
        facts = {"findings": ", ".join(photo.findings), "reason": photo.reason, "suggested": photo.suggested}
        attributes: dict[str, Any] = {name: value for name, value in facts.items() if value}
        if photo.probability is not None:
            attributes["probability"] = photo.probability
        labels[str(photo.record.path.absolute())] = {"label": places[photo.record.label], "attributes": attributes}
    return console.as_json({"classes": classes, "labels": labels})


def _fits(record: ImageRecord, path: Path, name: Format) -> bool:
    """Return whether a file of this format at ``path`` can name a photo."""
    if name != "manifest" and record.part is not None:
        return False
    try:
        (_relative(record.path, path) if name == "manifest" else str(record.path.absolute())).encode()
    except UnicodeEncodeError:
        return False
    return True


def _relative(path: Path, manifest: Path) -> str:
    """Return the path of a photo relative to the folder of the manifest."""
    try:
        return os.path.relpath(path.absolute(), manifest.absolute().parent)
    except ValueError:  # on Windows, where the photo is on another drive than the manifest
        return str(path.absolute())
