"""The source ``labelstudio:FILE[:FOLDER]``: an export of Label Studio in its formats JSON, JSON-MIN or CSV."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from regraft.errors import DataError
from regraft.foundation.documents import Fields
from regraft.foundation.tables import Columns, rows_of
from regraft.label_tools.label_files import LabelFile, refused, require_few
from regraft.photos.images import Problem
from regraft.photos.sources.base import Entry, Listing
from regraft.photos.sources.shards import listing_of

_PREFIX = "labelstudio:"
_COLUMNS = Columns((), (), "wanted the CSV that Label Studio exports")
# The columns of JSON-MIN and CSV that are neither data of the task nor answers of the annotator.
_FACTS = ("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time")
_LOCAL = "/data/local-files/"
_UPLOADED = "/data/upload/"
_IMAGE = re.compile(r"\.(jpe?g|png|webp|gif|bmp|tiff?|avif|hei[cf])$", re.IGNORECASE)
_MARK = re.compile(r"^[0-9a-f]{8}-")  # what Label Studio writes before the name of an uploaded file


class LabelStudio:
    """An export of a project in which each photo is given one choice.

    Photos that were uploaded are looked for under the path that Label Studio gave them, and under their own name. Those
    of local storage are looked for below the folder that the spec names, Label Studio's document root.
    """

    def accepts(self, spec: str) -> bool:
        """Return whether ``spec`` begins with ``labelstudio:``."""
        return spec.startswith(_PREFIX)

    def list(self, spec: str) -> Listing:
        """List the photos. A photo with no choice, with several choices, or at a URL becomes a problem.

        Raises:
            DataError: there is no such file, it is no export of Label Studio, the project has several fields of
                choices, or no photo has one choice.
        """
        file = LabelFile.of(spec, spec.removeprefix(_PREFIX))
        tasks = list(_tasks(file))
        controls = sorted({name for task in tasks for name, _ in task.choices})
        if len(controls) > 1:
            raise DataError(f"{file.path} has several fields of choices: {', '.join(controls)}; export one of them")
        found: dict[str, list[str]] = {}  # two tasks may be about the same file
        problems: list[Entry | Problem] = []
        for task in tasks:
            place = _place(file, task.image)
            if isinstance(place, Problem):
                problems.append(place)
            else:
                found.setdefault(place, []).extend(choice for _, choice in task.choices)
        photos = [file.photo(name, labels) for name, labels in found.items()]
        return listing_of([*photos, *problems], f"{file.path} has no photo with one choice")


@dataclass(frozen=True, slots=True)
class _Task:
    """One task: its image as Label Studio names it, and the choices, each with the name of its field."""

    image: str
    choices: tuple[tuple[str, str], ...]


def _tasks(file: LabelFile) -> Iterator[_Task]:
    """Yield the tasks of an export. Raises DataError if the file is none."""
    if file.path.suffix.lower() == ".csv":
        for row in rows_of(file.path, _COLUMNS):
            yield _task_of_row(row, file)
        return
    with refused("wanted the list of tasks that Label Studio exports as JSON"):
        tasks = Fields({"tasks": file.read_json()}, file.path).each("tasks")
        require_few(len(tasks), file.path)
        for task in tasks:
            if not task.has("data"):
                yield _task_of_row(task.values, file)
                continue
            data = task.fields("data")
            key = _image_key(data.values)
            if key is None:
                raise task.wrong("data", "the path of an image")
            yield _Task(str(data.values[key]), tuple(_choices(task)))


def _choices(task: Fields) -> Iterator[tuple[str, str]]:
    """Yield the choices of the annotations of a task that count.

    Those that an annotator cancelled do not count, and if one is the ground truth, only the ground truth does.
    """
    given = [one for one in task.each("annotations") if not one.values.get("was_cancelled")]
    truth = [one for one in given if one.values.get("ground_truth")]
    for annotation in truth or given:
        for result in annotation.each("result"):
            if result.values.get("type") == "choices":
                name = result.text("from_name")
                for choice in result.fields("value").texts("choices"):
                    yield name, choice


def _task_of_row(row: Mapping[str, Any], file: LabelFile) -> _Task:
    """Return the task of a row of JSON-MIN or CSV, in which one column is the image and one the choice.

    Raises:
        DataError: the row has no image, or several columns that may be the choice.
    """
    key = _image_key(row)
    if key is None:
        raise DataError(f"{file.path} has columns {', '.join(list(row)[:10])}; wanted one with paths of images")
    others = [name for name in row if name != key and name not in _FACTS]
    columns = [name for name in others if name == "choice"] or others
    if len(columns) > 1:
        raise DataError(f"{file.path} has columns {', '.join(columns[:10])} beside {key}; wanted one: export as JSON")
    return _Task(str(row[key]), tuple((name, choice) for name in columns for choice in _texts(row[name])))


def _texts(value: Any) -> Iterable[str]:
    """Return the choices in a cell: a text, or ``{"choices": […]}`` for several, which is text in a CSV file."""
    if isinstance(value, str) and value.startswith('{"choices"'):
        with suppress(ValueError, RecursionError):
            value = json.loads(value)
    several = value.get("choices") if isinstance(value, dict) else None
    if isinstance(several, list) and all(isinstance(choice, str) for choice in several):
        return several
    return (value if isinstance(value, str) else "",)


def _image_key(data: Mapping[str, Any]) -> str | None:
    """Return the key of a task's image: ``image``, or else the first one whose value looks like the path of one."""
    texts = {key: value for key, value in data.items() if isinstance(value, str)}
    if "image" in texts:
        return "image"
    return next((k for k, v in texts.items() if v.startswith((_LOCAL, _UPLOADED)) or _IMAGE.search(v)), None)


def _place(file: LabelFile, image: str) -> str | Problem:
    """Return the name of a photo relative to the folder of photos, or the problem that it is not on this machine."""
    try:
        parts = urlsplit(image)
    except ValueError:  # such as an address with a bracket
        return file.existing([image])
    if parts.path.startswith(_LOCAL):  # with or without the address of the server before it
        decoded = next(iter(parse_qs(parts.query).get("d", ())), "")  # "+" may be a space or itself
        return file.existing([decoded, unquote(parts.query.removeprefix("d="))])
    if parts.path.startswith(_UPLOADED):
        name = unquote(parts.path)
        last = name.rpartition("/")[2]
        return file.existing([last, name.removeprefix("/data/"), _MARK.sub("", last)])
    if (parts.scheme and parts.netloc) or parts.scheme == "data":
        return Problem(file.folder / image[:200], f"{file.path.name} gives it as a URL; wanted a photo on this machine")
    return file.existing([image, unquote(image)])
