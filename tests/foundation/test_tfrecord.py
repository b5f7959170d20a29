from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regraft.foundation.tfrecord import DamagedError, Span, example, frame, looks_like_records, records


def test_what_is_written_is_found_again(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(frame(example({"n": -3, "text": "강아지", "bytes": b"\0" * 300})) + frame(example({})))
    assert looks_like_records(file.read_bytes()[:12])
    data = file.read_bytes()
    (_, features, _), (_, none, _) = records(file)
    assert none == {}
    assert features["n"] == [-3]
    for name, value in (("text", "강아지".encode()), ("bytes", b"\0" * 300)):
        (span,) = features[name]
        assert isinstance(span, Span)
        assert data[span.start : span.stop] == value


def test_tensorboards_reader_takes_our_records(tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.compat.tensorflow_stub.pywrap_tensorflow")
    (tmp_path / "x").write_bytes(frame(b"one") + frame(b""))
    opened = reader.PyRecordReader_New(str(tmp_path / "x"))
    opened.GetNext()
    assert opened.record() == b"one"


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 5))
def test_hostile_bytes_are_damaged_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, n: int
) -> None:
    file = tmp_path_factory.mktemp("hostile") / "x"
    file.write_bytes(frame(example({"a": b"b"})) * n + frame(data))
    with contextlib.suppress(DamagedError):
        for _, features, _ in records(file):
            for values in features.values():
                assert all(isinstance(v, int) or 0 <= v.start <= v.stop <= file.stat().st_size for v in values)
