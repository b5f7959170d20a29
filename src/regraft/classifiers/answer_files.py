"""Predictions → a file of answers: CSV, JSON lines or Parquet.

In: a predictor, photos and the path of the file. Out: the whole file, or a log of the answers so far beside it.
Why: a million photos take hours, and a power cut in these hours must not lose the answers so far.
Surprise: the answers first go to a log beside the file, one chunk of answers on each line. When the process is killed,
only the last line of the log can be incomplete, and an incomplete line is never read. The file itself is written at the
end and appears in one step.
"""

from __future__ import annotations

import csv
import filecmp
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from regraft.classifiers.prediction import CHUNK, Prediction, answer_chunks
from regraft.classifiers.predictor import Predictor
from regraft.classifiers.run_folder import LAYOUT
from regraft.errors import ConfigError, option
from regraft.foundation import console
from regraft.foundation.files import atomic_file, digest_file, digest_json
from regraft.photos.unlabelled import Found, path_of

_SCHEMA = 2
"""The version of the log's layout. A log of another version is refused."""

_ROWS_PER_GROUP = 2**16
"""The number of rows of a Parquet row group; more rows than these are never held in memory."""

_KEPT_NOTE = "; what was answered is kept, and the same command goes on from there"

Answer = Mapping[str, Any]
"""A `Prediction` as JSON values, as `Prediction.to_dict` returns it."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The counts of the answers in a file of answers.

    Attributes:
        out: the path of the file.
        photos: the number of photos in the file, including those that could not be read.
        rejected: the number of photos that were answered with "none of these".
        unreadable: the number of photos that could not be read.
        before: the number of photos that an earlier call, which was stopped, had answered.
    """

    out: Path
    photos: int
    rejected: int
    unreadable: int
    before: int

    def to_dict(self) -> dict[str, Any]:
        """Return the path and the counts as JSON values."""
        counts = {"photos": self.photos, "rejected": self.rejected, "unreadable": self.unreadable}
        return {"out": str(self.out), **counts, "before": self.before}


def require_free(out: Path) -> None:
    """Check that answers can be written to ``out``. Call this before anything is computed.

    Raises:
        ConfigError: the suffix of ``out`` is unknown, ``out`` is a folder, or there is already a file with no log
            beside it.
    """
    if out.suffix.lower() not in _WRITERS:
        known = ", ".join(_WRITERS)
        raise ConfigError(f"{option('out')} {out} has no known suffix; wanted a file that ends in {known}")
    with _writing(out):
        if out.is_dir():
            raise ConfigError(f"{option('out')} {out} is a folder; wanted a file")
        if out.exists() and not _log_of(out).exists():
            raise ConfigError(f"{out} is there already; delete it, or type another {option('out')}")


def keep_answers(
    predictor: Predictor, photos: Iterable[Found], out: Path, run: str, top: int, advance: console.Advance
) -> Kept:
    """Answer photos and write the answers to a file.

    If an earlier call with the same arguments was stopped, this call continues after the last chunk in its log. The
    file is the same to the byte whether or not a call was stopped, because the chunks have the same boundaries.

    Args:
        predictor: the predictor that answers.
        photos: the photos, in the same order at each call.
        out: the path of the file; its suffix (.csv, .jsonl or .parquet) decides the format.
        run: the digest of the run or export that answers (`digest_of`).
        top: the number of classes in each answer, at least 1.
        advance: called with the number of photos that an earlier call answered, and then with that of each new chunk.

    Returns:
        The counts of the answers in the file.

    Raises:
        ConfigError: ``out`` cannot be written, holds something else, or was begun with another run, other photos or
            another ``top``.
    """
    require_free(out)
    with _Log(out, {"regraft predict": _SCHEMA, "run": run, "top": top}) as log:
        rest = log.resume(iter(photos))
        before = log.photos
        advance(before)
        for chunk in answer_chunks(predictor, rest, top, first=CHUNK):
            log.append(chunk)
            advance(len(chunk))
        with _writing(out, _KEPT_NOTE):
            log.finish(min(top, len(predictor.classes)))
        return Kept(out, log.photos, log.rejected, log.unreadable, before)


def digest_of(place: Path, out: Path) -> str:
    """Return the digest (16 hexadecimal digits) of the run or export that answers.

    Args:
        place: a run folder, of which only the files that decide the answers count; an export's folder, of which all
            files count; or an exported file.
        out: the file of answers; this file and its log do not count if they are in the export's folder.
    """
    if (place / LAYOUT.manifest).is_file():
        int8 = (LAYOUT.int8, str(Path(LAYOUT.int8).with_suffix(".bin")))
        answers_by = (LAYOUT.manifest, LAYOUT.head, LAYOUT.calibration, LAYOUT.backbone, *int8)
        files = [place / name for name in answers_by if (place / name).is_file()]
    elif place.is_dir():
        ours = {out.absolute(), _log_of(out).absolute()}
        files = sorted(file for file in place.rglob("*") if file.is_file() and file.absolute() not in ours)
    else:
        files = [place, *(file for file in [place.with_suffix(".bin")] if file.is_file())]  # OpenVINO's weights
    return digest_json([[file.name, digest_file(file)] for file in files])[:16]


class _Log:
    """The log of the answers so far, which is beside the file of answers.

    The first line of the log, its head, names the run and ``top``; each further line is one chunk of answers as JSON.
    The log is locked while it is open, so that two commands do not write the same file of answers.

    Attributes:
        photos: the number of answers in the log.
        rejected: the number of answers that are "none of these".
        unreadable: the number of answers that are an error.
    """

    def __init__(self, out: Path, head: Mapping[str, Any]) -> None:
        self.photos = self.rejected = self.unreadable = 0
        self._out, self._path, self._head = out, _log_of(out), _line(head)

    def __enter__(self) -> _Log:
        with _writing(self._path):
            if not self._path.parent.exists():
                self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a+b", buffering=0)
        try:
            self._begin()
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()

    def _begin(self) -> None:
        """Lock the log, and write its first line or compare the line with ours. Raises ConfigError."""
        if not _locked(self._file):
            raise ConfigError(
                f"another regraft predict is writing {self._out}; wait for it, or type another {option('out')}"
            )
        self._file.seek(0)
        found = self._file.readline(len(self._head) + 2**16)
        if self._head.startswith(found) and found != self._head:  # a new log, or one cut off when a process was killed
            with _writing(self._path):
                self._file.truncate(0)
                _write(self._file, self._head)
        elif found != self._head:
            raise ConfigError(f"{self._path} {self._why_other(found)}; delete it, or type another {option('out')}")
        self._begins = len(self._head)

    def _why_other(self, found: bytes) -> str:
        """Return the words that say why the first line ``found`` of a log is not ours."""
        try:
            known, ours = json.loads(found), json.loads(self._head)
            if known["regraft predict"] != _SCHEMA:
                return "was begun by another regraft"
            other = "run" if known["run"] != ours["run"] else option("top")
            return f"was begun with another {other}"
        except (ValueError, KeyError, TypeError):
            return "is there and was not written by regraft predict"

    def resume(self, photos: Iterator[Found]) -> Iterator[Found]:
        """Return the photos that the log does not answer yet, and cut off an incomplete last line of the log.

        Args:
            photos: all photos, in the order in which they were answered.

        Raises:
            ConfigError: the log answers other photos than ``photos``.
        """
        end = self._begins
        for answers, end in self._chunks():  # noqa: B007 (the last end is used below)
            for number, answer in enumerate(answers, self.photos):
                photo = next(photos, None)
                if photo is None or str(path_of(photo, number)) != answer["path"]:
                    raise ConfigError(
                        f"{self._path} was begun with other photos ({answer['path']} was number {number + 1}); "
                        f"delete it, or type another {option('out')}"
                    )
            self._count(answers)
        with _writing(self._path):
            self._file.truncate(end)
        return photos

    def _chunks(self) -> Iterator[tuple[list[Answer], int]]:
        """Yield the complete chunks, each with the position in bytes at which the chunk ends."""
        with self._path.open("rb") as file:
            file.seek(self._begins)
            for line in file:
                try:
                    answers = json.loads(line) if line.endswith(b"\n") else None
                except ValueError:  # a power cut can leave any bytes at the end of a file
                    return
                if not isinstance(answers, list):
                    return
                yield answers, file.tell()

    def append(self, chunk: Sequence[Prediction]) -> None:
        """Write a chunk of answers to the log as one line. Raises ConfigError where the log cannot be written."""
        answers = [prediction.to_dict() for prediction in chunk]
        with _writing(self._path, _KEPT_NOTE):
            _write(self._file, _line(answers))
        self._count(answers)

    def _count(self, answers: Sequence[Answer]) -> None:
        """Add a chunk of answers to the counts."""
        self.photos += len(answers)
        self.rejected += sum(answer.get("none_of_these", False) for answer in answers)
        self.unreadable += sum("error" in answer for answer in answers)

    def finish(self, pairs: int) -> None:
        """Write the file of answers from the log, and remove the log.

        Args:
            pairs: the number of (label, probability) pairs in each answer.

        Raises:
            ConfigError: another program wrote ``out`` meanwhile.
        """
        write = _WRITERS[self._out.suffix.lower()]
        with atomic_file(self._out) as fresh:
            write(fresh, (answer for answers, _ in self._chunks() for answer in answers), pairs)
            # A process that was killed after the file appeared and before the log was removed leaves both of them. Then
            # the file equals the fresh one and may be replaced.
            if self._out.exists() and not filecmp.cmp(fresh, self._out, shallow=False):
                raise ConfigError(
                    f"{self._out} was written by another program meanwhile, and is not replaced; the answers are in "
                    f"{self._path}"
                )
        self._path.unlink()


def _log_of(out: Path) -> Path:
    """Return the path of the log that belongs to the file of answers ``out``."""
    return out.with_name(f"{out.name}.partial")


def _line(value: Any) -> bytes:
    """Return a JSON value as one line of ASCII."""
    return json.dumps(value).encode("ascii") + b"\n"


def _write(file: BinaryIO, data: bytes) -> None:
    """Write all of ``data`` to an unbuffered file, whose ``write`` may write only a part at a time."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _locked(file: BinaryIO) -> bool:
    """Lock a file and return True, or return False if another process has locked the file.

    The lock ends when the file is closed, also when the process is killed. On Windows, and on file systems that have no
    locks, nothing is locked and the result is True.
    """
    try:
        import fcntl
    except ImportError:
        return True
    with suppress(OSError):  # some network file systems have no locks
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@contextmanager
def _writing(path: Path, more: str = "") -> Iterator[None]:
    """Turn an OSError while ``path`` is written into a ConfigError, whose message ends with ``more``."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {(error.strerror or str(error)).lower()}{more}") from error


def _columns(pairs: int) -> list[str]:
    """Return the column names of a table of answers with ``pairs`` (label, probability) pairs each."""
    more = [f"{name}{i}" for i in range(2, pairs + 1) for name in ("label", "probability")]
    return ["path", "label", "probability", "rejected", "novelty", "error", *more]


def _cells(answer: Answer, pairs: int) -> list[Any]:
    """Return the values of an answer in the order of `_columns`; a value that the answer lacks is None."""
    path = answer["path"].encode("utf-8", "backslashreplace").decode("utf-8")
    if "error" in answer:
        return [path, None, None, None, None, answer["error"], *[None] * (2 * pairs - 2)]
    found = [value for pair in answer["top"] for value in (pair["label"], pair["probability"])]
    return [path, *found[:2], answer["none_of_these"], answer["novelty"], None, *found[2:]]


def _write_csv(path: Path, answers: Iterable[Answer], pairs: int) -> None:
    """Write answers as CSV with a header line. Bytes of a file name that are not UTF-8 are escaped."""
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_columns(pairs))
        for answer in answers:
            writer.writerow([_as_text(value) for value in _cells(answer, pairs)])


def _as_text(value: Any) -> str:
    """Return a CSV cell: nothing for None, ``true`` or ``false``, and numbers with six decimals."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.6f}" if isinstance(value, float) else str(value)


def _write_json_lines(path: Path, answers: Iterable[Answer], _: int) -> None:
    """Write answers as JSON lines, one answer on each line."""
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        for answer in answers:
            file.write(json.dumps(answer, ensure_ascii=False) + "\n")


def _write_parquet(path: Path, answers: Iterable[Answer], pairs: int) -> None:
    """Write answers as Parquet, in row groups of `_ROWS_PER_GROUP` rows."""
    import pyarrow as pa
    from pyarrow import parquet

    kinds = {"probability": pa.float32(), "rejected": pa.bool_(), "novelty": pa.float32()}
    schema = pa.schema([(name, kinds.get(name.rstrip("0123456789"), pa.string())) for name in _columns(pairs)])
    rows = (_cells(answer, pairs) for answer in answers)
    with parquet.ParquetWriter(path, schema) as writer:
        while group := list(islice(rows, _ROWS_PER_GROUP)):
            columns = [
                pa.array(column, field.type) for column, field in zip(zip(*group, strict=True), schema, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


_WRITERS: Mapping[str, Callable[[Path, Iterable[Answer], int], None]] = {
    ".csv": _write_csv,
    ".jsonl": _write_json_lines,
    ".parquet": _write_parquet,
}
