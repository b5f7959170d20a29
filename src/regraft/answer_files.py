"""Predictions → a file of answers: CSV, JSON lines or Parquet.

In: a predictor, photos, a path. Out: the file, whole, or what was answered so far beside it.
Why: a million photos take hours, and hours end in a power cut.
Surprise: while answers come, they go to a log beside the file, a chunk a line: what a kill tears is the last line, and
that is never read. The file itself appears at the end, at once.
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

from regraft import _console
from regraft._files import atomic_file, digest_file, digest_json
from regraft.errors import ConfigError
from regraft.evaluation import Predictor
from regraft.prediction import CHUNK, Prediction, answer_chunks
from regraft.run_folder import LAYOUT
from regraft.unlabelled import Found, path_of

_SCHEMA = 1
_ROWS = 2**16  # of a row group
_KEPT = "; what was answered is kept, and the same command goes on from there"

Answer = Mapping[str, Any]
"""A `Prediction` as JSON values."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What a file of answers holds.

    Attributes:
        out: the file.
        photos: how many photos were asked about.
        rejected: how many of them were answered with none of these.
        unreadable: how many could not be read.
        before: how many were answered by an earlier command that was stopped.
    """

    out: Path
    photos: int
    rejected: int
    unreadable: int
    before: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        counts = {"photos": self.photos, "rejected": self.rejected, "unreadable": self.unreadable}
        return {"out": str(self.out), **counts, "before": self.before}


def require_free(out: Path) -> None:
    """Raise ConfigError where answers cannot go to ``out``, before anything is computed."""
    if out.suffix.lower() not in _WRITERS:
        raise ConfigError(f"--out {out} tells no format; wanted a file that ends in {', '.join(_WRITERS)}")
    with _writing(out):
        if out.is_dir():
            raise ConfigError(f"--out {out} is a folder; wanted a file")
        if out.exists() and not _log_of(out).exists():
            raise ConfigError(f"{out} is there already; delete it, or type another --out")


def keep_answers(
    predictor: Predictor, photos: Iterable[Found], out: Path, run: str, top: int, advance: _console.Advance
) -> Kept:
    """Answer photos into a file. Where an earlier call with the same arguments was stopped, go on after its last chunk.

    The file is the same to the byte whether or not it was: chunks begin where they would have begun.

    Args:
        predictor: what answers.
        photos: what to ask about, in an order that is the same each time.
        out: the file; its suffix tells the format.
        run: the digest of what answers (`digest_of`).
        top: how many classes each answer holds.
        advance: told of each photo that is answered.

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
        with _writing(out, _KEPT):
            log.finish(min(top, len(predictor.classes)))
        return Kept(out, log.photos, log.rejected, log.unreadable, before)


def digest_of(place: Path, out: Path) -> str:
    """Return the digest of what answers: of what a run answers by, or of all files of an export but the answers."""
    if (place / LAYOUT.manifest).is_file():
        answers_by = (LAYOUT.manifest, LAYOUT.head, LAYOUT.calibration, LAYOUT.backbone)
        files = [place / name for name in answers_by if (place / name).is_file()]
    elif place.is_dir():
        ours = {out.absolute(), _log_of(out).absolute()}
        files = sorted(file for file in place.rglob("*") if file.is_file() and file.absolute() not in ours)
    else:
        files = [place, *(file for file in [place.with_suffix(".bin")] if file.is_file())]  # OpenVINO's weights
    return digest_json([[file.name, digest_file(file)] for file in files])[:16]


class _Log:
    """The answers so far, beside the file they are for: a line that says what they are of, then a chunk a line.

    Attributes:
        photos, rejected, unreadable: how many answers it holds, and of which kinds.
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
        if not _locked(self._file):
            raise ConfigError(f"another regraft predict is writing {self._out}; wait for it, or type another --out")
        self._file.seek(0)
        found = self._file.readline(len(self._head) + 2**16)
        if self._head.startswith(found) and found != self._head:  # empty, or torn by a kill
            with _writing(self._path):
                self._file.truncate(0)
                _write(self._file, self._head)
        elif found != self._head:
            raise ConfigError(f"{self._path} {self._why_other(found)}; delete it, or type another --out")
        self._begins = len(self._head)

    def _why_other(self, found: bytes) -> str:
        try:
            known, ours = json.loads(found), json.loads(self._head)
            if known["regraft predict"] != _SCHEMA:
                return "was begun by another regraft"
            return f"was begun with another {'run' if known['run'] != ours['run'] else '--top'}"
        except (ValueError, KeyError, TypeError):
            return "is there and was not written by regraft predict"

    def resume(self, photos: Iterator[Found]) -> Iterator[Found]:
        """Return the photos that come after those that were answered; a torn end is cut off.

        Raises:
            ConfigError: other photos were answered than these.
        """
        end = self._begins
        for answers, end in self._chunks():  # noqa: B007
            for number, answer in enumerate(answers, self.photos):
                photo = next(photos, None)
                if photo is None or str(path_of(photo, number)) != answer["path"]:
                    raise ConfigError(
                        f"{self._path} was begun with other photos ({answer['path']} was number {number + 1}); "
                        "delete it, or type another --out"
                    )
            self._count(answers)
        with _writing(self._path):
            self._file.truncate(end)
        return photos

    def _chunks(self) -> Iterator[tuple[list[Answer], int]]:
        """Yield the chunks that are whole, each with the byte after it."""
        with self._path.open("rb") as file:
            file.seek(self._begins)
            for line in file:
                try:
                    answers = json.loads(line) if line.endswith(b"\n") else None
                except ValueError:  # what a power cut leaves
                    return
                if not isinstance(answers, list):
                    return
                yield answers, file.tell()

    def append(self, chunk: Sequence[Prediction]) -> None:
        """Add a chunk."""
        answers = [prediction.to_dict() for prediction in chunk]
        with _writing(self._path, _KEPT):
            _write(self._file, _line(answers))
        self._count(answers)

    def _count(self, answers: Sequence[Answer]) -> None:
        self.photos += len(answers)
        self.rejected += sum(answer.get("none_of_these", False) for answer in answers)
        self.unreadable += sum("error" in answer for answer in answers)

    def finish(self, pairs: int) -> None:
        """Put the file in its place and remove the log.

        Args:
            pairs: how many classes each answer names.
        """
        write = _WRITERS[self._out.suffix.lower()]
        with atomic_file(self._out) as fresh:
            write(fresh, (answer for answers, _ in self._chunks() for answer in answers), pairs)
            # A kill between the two steps below leaves the file beside its log.
            if self._out.exists() and not filecmp.cmp(fresh, self._out, shallow=False):
                raise ConfigError(
                    f"{self._out} was put there meanwhile, and is not replaced; the answers are in {self._path}"
                )
        self._path.unlink()


def _log_of(out: Path) -> Path:
    return out.with_name(f"{out.name}.partial")


def _line(value: Any) -> bytes:
    return json.dumps(value).encode("ascii") + b"\n"


def _write(file: BinaryIO, data: bytes) -> None:
    """Write all of ``data`` to an unbuffered file."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _locked(file: BinaryIO) -> bool:
    """Lock a file until it is closed, also by a kill; False where another process has it. Always True on Windows."""
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
    """Turn the system's refusal to write ``path`` into a ConfigError that says ``more``."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {(error.strerror or str(error)).lower()}{more}") from error


def _columns(pairs: int) -> list[str]:
    more = [f"{name}{i}" for i in range(2, pairs + 1) for name in ("label", "probability")]
    return ["path", "label", "probability", "rejected", "error", *more]


def _cells(answer: Answer, pairs: int) -> list[Any]:
    """Return the values of an answer in the order of `_columns`; None for what it does not have."""
    path = answer["path"].encode("utf-8", "backslashreplace").decode("utf-8")
    if "error" in answer:
        return [path, None, None, None, answer["error"], *[None] * (2 * pairs - 2)]
    found = [value for pair in answer["top"] for value in (pair["label"], pair["probability"])]
    return [path, *found[:2], answer["none_of_these"], None, *found[2:]]


def _write_csv(path: Path, answers: Iterable[Answer], pairs: int) -> None:
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_columns(pairs))
        for answer in answers:
            writer.writerow([_as_text(value) for value in _cells(answer, pairs)])


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.6f}" if isinstance(value, float) else str(value)


def _write_json_lines(path: Path, answers: Iterable[Answer], _: int) -> None:
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        for answer in answers:
            file.write(json.dumps(answer, ensure_ascii=False) + "\n")


def _write_parquet(path: Path, answers: Iterable[Answer], pairs: int) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    kinds = {"probability": pa.float32(), "rejected": pa.bool_()}
    schema = pa.schema([(name, kinds.get(name.rstrip("0123456789"), pa.string())) for name in _columns(pairs)])
    rows = (_cells(answer, pairs) for answer in answers)
    with parquet.ParquetWriter(path, schema) as writer:
        while group := list(islice(rows, _ROWS)):
            columns = [
                pa.array(column, field.type) for column, field in zip(zip(*group, strict=True), schema, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


_WRITERS: Mapping[str, Callable[[Path, Iterable[Answer], int], None]] = {
    ".csv": _write_csv,
    ".jsonl": _write_json_lines,
    ".parquet": _write_parquet,
}
