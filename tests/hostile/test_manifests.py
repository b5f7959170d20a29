"""Tables and shards by people who wish us ill: one line, or the photos and what was wrong with the other rows."""

from __future__ import annotations

import base64
import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from regraft.foundation.tfrecord import example, frame
from tests.conftest import sampled
from tests.hostile.conftest import Hostile
from tests.hostile.making import END, header, member, pax, photo
from tests.hostile.test_archives import LIST


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """No graphs are needed here: nothing gets as far as that."""
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three photos that rows may name."""
    for i in range(3):
        (tmp_path / f"{i}.jpg").write_bytes(photo(i))
    return tmp_path


def table(columns: dict[str, Any], **more: Any) -> bytes:
    """A Parquet file."""
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.table(columns), sink, compression="zstd", **more)
    return bytes(sink.getvalue())


LYING_PAGE = (
    "c-pJD_4e*YZ>K<!;~ziI+djQH;Pl=v2Oj9!$!syv=!lA1w8(Kz%zPz@h*?pVQU4vHon4CmGV-qNy?EhD+Fx$LUe{Ptr;MDxeDk@V7u0{B_y2*&wXRCtU!P"
    "vREDO5-HCb|P&dW@FO{JH!f1ba0?8@Jtr&>KuZk2u7v36JAo?6}gyVm)XGcphleynGn7;{~4;wI&L*K+P$T*SQhL;CYPgIXP<sO{D}WO@15{<-Qp^W&|lQK"
    "i?z771&XyO}Qb(^b9Q{9=P)VE?JBzx<DD*uPA7@_f}Y|I-oq*z25&&pggtul{VWJon?-p1=2Igom9ynZUo{{m+FO((>GW^JLYo`)dAqar{`&EAzy2>)tZEwHA"
    "K<ATzn-LQm9h_N#u|F6E>x4qII)A`=$<cJ8sb4I50R&p!QI()xMA74g*@!p_t)uUsB}1_1SNr<?"
)
"""A Parquet file of 30 kB, packed: its page of path holds 10^9 times x, and its footer says that it has 1,000 bytes."""


def lying_page() -> bytes:
    return zlib.decompress(zlib.decompress(base64.b85decode(LYING_PAGE)))


def shared_text() -> bytes:
    """4 kB: 50,000 rows share one path of 20 MB."""
    paths = pa.DictionaryArray.from_arrays(pa.array([0] * 50_000, pa.int32()), pa.array(["x" * 20_000_000]))
    return table({"path": paths, "label": ["a"] * 50_000}, store_schema=False)


def million_rows() -> bytes:
    count = 1_500_001
    paths = pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array(["0.jpg"]))
    return table({"path": paths, "label": paths})


def framed_length(length: int) -> bytes:
    """A record that says how long it is, with the right checksum of that."""
    from regraft.foundation.tfrecord import _masked

    data = struct.pack("<Q", length)
    return data + struct.pack("<I", _masked(data))


HEAD = b"path,label\n"
GOOD = HEAD + b"0.jpg,a\n1.jpg,b\n"
LINE = b'{"path": "0.jpg", "label": "a"}\n'
REFUSED: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "no bytes": ("x.csv", lambda: b"", "has columns of no name; wanted columns path and label"),
    "nothing but a byte order mark": ("x.csv", lambda: b"\xef\xbb\xbf", "has columns of no name"),
    "nothing but columns": ("x.csv", lambda: HEAD, "no photo was found in x.csv"),
    "other columns": ("x.csv", lambda: b"file,class\n0.jpg,a\n", "x.csv has columns file, class; wanted"),
    "columns of controls": ("x.csv", lambda: b"\x1b[2J,\x07\n1,2\n", r"has columns \\x1b\[2j, \\x07; wanted"),
    "100,000 columns": (
        "x.csv", lambda: b",".join(b"c%d" % i for i in range(10**5)) + b"\n", "columns c0, c1, .*, …; wanted"),
    "a comma table called .tsv": ("x.tsv", lambda: GOOD, "x.tsv has columns path,label; wanted"),
    "random bytes": ("x.csv", lambda: os.urandom(5000) + b"\xff", "x.csv is not UTF-8 text"),
    "a photo": ("x.csv", lambda: photo(), "x.csv is not UTF-8 text .* at byte 0"),
    "a zip": ("x.csv", lambda: b"PK\3\4" + bytes(1000), "x.csv has columns pk.*; wanted"),
    "UTF-16 with a mark": ("x.csv", lambda: GOOD.decode().encode("utf-16"), "not UTF-8 text .*; save it as UTF-8"),
    "UTF-16 without a mark": ("x.csv", lambda: GOOD.decode().encode("utf-16-le"), "has columns p"),
    "UTF-32": ("x.csv", lambda: GOOD.decode().encode("utf-32"), "not UTF-8 text"),
    "EUC-KR": ("x.csv", lambda: HEAD + "0.jpg,꽃\n".encode("euc-kr"), "not UTF-8 text .* at byte 17"),
    "a surrogate in UTF-8": ("x.csv", lambda: HEAD + b"0.jpg,\xed\xa0\x80\n", "not UTF-8 text"),
    "a line of 5 MB": ("x.csv", lambda: HEAD + b"a" * 5_000_000, "a line of more than 1,048,576 characters"),
    "a field of 200,000 characters": (
        "x.csv", lambda: HEAD + b"a" * 200_000 + b",a\n", "damaged in line 2: field larger"),
    "a quote that never ends": ("x.csv", lambda: HEAD + b'"' + b"0.jpg,a\n" * 10**5, "damaged in line .*field larger"),
    "1,500,001 rows": ("x.csv", lambda: HEAD + b"0.jpg,a\n" * 1_500_001, "x.csv has more than 1,500,000 rows"),
    "no JSON": ("x.jsonl", lambda: LINE + b"{nonsense\n", "x.jsonl is no JSON in line 2"),
    "no object": ("x.jsonl", lambda: LINE + b"[1]\n", "x.jsonl holds no object in line 2"),
    "a number": ("x.jsonl", lambda: b"1\n", "x.jsonl holds no object in line 1"),
    "JSON 400,000 deep": ("x.jsonl", lambda: LINE + b"[" * 400_000, "x.jsonl is no JSON in line 2: maximum recursion"),
    "objects 100,000 deep": ("x.jsonl", lambda: b'{"path":' * 100_000, "x.jsonl is no JSON in line 1"),
    "a number of 10,000 digits": (
        "x.jsonl", lambda: b'{"path": ' + b"9" * 10_000 + b"}", "is no JSON in line 1: Exceeds"),
    "JSON of other columns": ("x.jsonl", lambda: b'{"a": 1, "b": 2}\n', "x.jsonl has columns a, b; wanted"),
    "a JSON line of 5 MB": ("x.jsonl", lambda: b'{"path": "' + b"a" * 5_000_000, "a line of more than 1,048,576"),
    "a JSON array over lines": ("x.jsonl", lambda: b"[\n" + LINE + b"]\n", "x.jsonl is no JSON in line 1"),
    "no Parquet": ("x.parquet", lambda: b"hello", "x.parquet is no Parquet file"),
    "no bytes of Parquet": ("x.parquet", lambda: b"", "x.parquet is no Parquet file"),
    "half a Parquet file": (
        "x.parquet", lambda: table({"path": ["a"], "label": ["b"]})[:100], "x.parquet is no Parquet file"),
    "Parquet of other columns": ("x.parquet", lambda: table({"a": ["x"]}), "x.parquet has columns a; wanted"),
    "Parquet whose footer is noise": (
        "x.parquet", lambda: b"PAR1" + b"\xaa" * 500 + b"\xf4\1\0\0PAR1", "no Parquet file"),
    "Parquet of a damaged page": ("x.parquet", lambda: damaged_page(), "x.parquet is no Parquet file that can be read"),
    "Parquet with a page that lies": (
        "x.parquet", lying_page, "x.parquet is no Parquet file that can be read: .*malloc"),
    "Parquet of 1,500,001 rows": ("x.parquet", million_rows, "has 1,500,001 rows, more than the 1,500,000"),
    "Parquet whose rows share 20 MB": ("x.parquet", shared_text, "no photo was found in x.parquet"),
    "an empty shard": ("x.tfrecord", lambda: b"", "is no list of photos"),
    "a record longer than the file": ("x.tfrecord", lambda: framed_length(2**63), "cut off within a record"),
    "a record of 10^19 bytes": ("x.tfrecord", lambda: framed_length(2**64 - 1), "cut off within a record"),
    "a record of 100,000 fields": (
        "x.tfrecord", lambda: frame(b"\x12\x00" * 10**5), "a record of more than 10,000 fields"),
    "a record that is no message": ("x.tfrecord", lambda: frame(b"\xff" * 100), "a number is cut off"),
    "100,000 empty records": ("x.tfrecord", lambda: frame(b"") * 10**5, "holds no record with image/encoded"),
}  # fmt: skip


def damaged_page() -> bytes:
    data = bytearray(table({"path": ["0.jpg"] * 1000, "label": ["a", "b"] * 500}))
    data[30:60] = bytes(30)
    return bytes(data)


@pytest.mark.parametrize("case", sampled(REFUSED, 3))
def test_a_table_is_refused_in_one_line(case: str, hostile: Hostile, folder: Path) -> None:
    name, make, says = REFUSED[case]
    (folder / name).write_bytes(make())
    hostile("check", name, says=says)


def rows(*extra: bytes) -> bytes:
    return GOOD + b"".join(row + b"\n" for row in extra)


def objects(*extra: dict[str, Any] | bytes) -> bytes:
    lines = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in extra]
    return b"\n".join([*GOOD_LINES, *lines])


GOOD_LINES = (b'{"path": "0.jpg", "label": "a"}', b'{"path": "1.jpg", "label": "b"}')
WRONG: dict[str, tuple[str, bytes, str]] = {
    "a path of NUL": ("x.csv", rows(b"a\0b,a"), "row 3 has a path that no file can have"),
    "a path of 10,000 characters": ("x.csv", rows(b"a" * 10_000 + b",a"), "row 3 has a path that no file can have"),
    "a name of 300 characters": ("x.csv", rows(b"a" * 300 + b",a"), "cannot be read: file name too long"),
    "a label of 10,000 characters": ("x.csv", rows(b"2.jpg," + b"a" * 10_000), "a label of more than 1,000 characters"),
    "a file that is no photo": ("x.csv", rows(b"/etc/passwd,a"), "not an image"),
    "a folder": ("x.csv", rows(b".,a"), "a folder, not a file"),
    "a device": ("x.csv", rows(b"/dev/zero,a"), "not a regular file"),
    "a pipe": ("x.csv", rows(b"pipe.jpg,a"), "not a regular file"),
    "a file that is not there": ("x.csv", rows(b"gone.jpg,a"), "there is no such file"),
    "a split that is none": (
        "x.csv", b"path,label,split\n0.jpg,a,\n1.jpg,b,\n2.jpg,a," + b"z" * 999, "gives it the split 'z"),
    "a row too short": ("x.csv", rows(b"2.jpg"), "gives it no label"),
    "the table itself": ("x.csv", rows(b"x.csv#1,a"), "there is no such file"),
    "an archive": ("x.csv", rows(b"bomb.tgz#a,a"), "there is no such file"),
    "a shard that is damaged": ("x.csv", rows(b"bad.tfrecord#1,a"), "holds no record with"),
    "a name with # too long for a file": ("x.csv", rows(b"a" * 300 + b"#1,a"), "File name too long"),
    "a label that is a list": ("x.jsonl", objects({"path": "2.jpg", "label": ["a"]}), "gives it no label"),
    "a label that is an object": ("x.jsonl", objects({"path": "2.jpg", "label": {"a": {}}}), "gives it no label"),
    "a label that is deep": (
        "x.jsonl", objects(b'{"path":"2.jpg","label":' + b"[" * 500 + b"]" * 500 + b"}"), "gives it no label"),
    "a label that is NaN": ("x.jsonl", objects(b'{"path": "2.jpg", "label": NaN}'), "gives it no label"),
    "a label that is nothing": ("x.jsonl", objects({"path": "2.jpg", "label": None}), "gives it no label"),
    "a path that is a list": ("x.jsonl", objects({"path": ["2.jpg"], "label": "a"}), "has no path"),
    "a path that is a number": ("x.jsonl", objects({"path": 7, "label": "a"}), "there is no such file"),
    "a path of half a surrogate": (
        "x.jsonl", objects(b'{"path": "\\ud800.jpg", "label": "a"}'), "there is no such file"),
    "a path without end": ("x.jsonl", objects(b'{"path": 1e999, "label": "a"}'), "there is no such file"),
    "a row of other columns": ("x.jsonl", objects({"a": 1}), "has no path"),
    "bytes in Parquet": ("x.parquet", table({"path": ["0.jpg", "1.jpg", "2.jpg"], "label": [b"a", b"b", b"\xff"]}), ""),
    "lists in Parquet": ("x.parquet", table({"path": ["0.jpg"], "label": [["a", "b"]]}), "gives it no label"),
    "nulls in Parquet": (
        "x.parquet", table({"path": ["0.jpg", "1.jpg", None], "label": ["a", "b", "c"]}), "has no path"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_row_is_left_out_by_name(case: str, hostile: Hostile, folder: Path) -> None:
    name, data, reason = WRONG[case]
    (folder / name).write_bytes(data)
    os.mkfifo(folder / "pipe.jpg")
    (folder / "bad.tfrecord").write_bytes(frame(b"\x12\x00" * 20_000))
    (folder / "bomb.tgz").write_bytes(b"\x1f\x8b\x08" + bytes(100))
    if case in ("bytes in Parquet", "lists in Parquet"):  # no row of them is good
        hostile(name, program=("-c", LIST), says=reason or "gives it no label")
        return
    found, problems = json.loads(hostile(name, program=("-c", LIST), code=0).stdout)
    assert [path.rpartition("/")[2] for path in found] == ["0.jpg", "1.jpg"]
    (told,) = problems.values()
    assert reason in told


GOOD_TABLES: dict[str, tuple[str, bytes]] = {
    "line ends of old Macs": ("x.csv", GOOD.replace(b"\n", b"\r")),
    "line ends of Windows and a mark": ("x.csv", b"\xef\xbb\xbf" + GOOD.replace(b"\n", b"\r\n")),
    "empty lines": ("x.csv", GOOD.replace(b"\n", b"\n\n\n")),
    "columns in capitals and twice": ("x.CSV", b" Label ,PATH,path\nx,no.jpg,0.jpg\nb,no.jpg,1.jpg\n"),
    "100,000 columns, short rows": (
        "x.csv",
        b"path,label," + b",".join(b"c%d" % i for i in range(10**5)) + b"\n0.jpg,a\n" * 20_000 + b"1.jpg,b\n",
    ),
    "a key twice": ("x.jsonl", objects(b'{"path": "no", "path": "1.jpg", "label": "b"}')),
    "Parquet in another order": (
        "x.parquet",
        table({"split": [None, "test"], "label": ["a", "b"], "more": [1, 2], "path": ["0.jpg", "1.jpg"]}),
    ),
    "a label of half a surrogate in a key": ("x.jsonl", objects(b'{"path": "1.jpg", "label": "b", "\\ud800": 1}')),
}


@pytest.mark.parametrize("case", GOOD_TABLES)
def test_a_table_that_is_odd_is_read(case: str, hostile: Hostile, folder: Path) -> None:
    name, data = GOOD_TABLES[case]
    (folder / name).write_bytes(data)
    found, problems = json.loads(hostile(name, program=("-c", LIST), code=0).stdout)
    assert [path.rpartition("/")[2] for path in found] == ["0.jpg", "1.jpg"]
    assert problems == {}


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.parquet", "x.tfrecord", "x-000.tar"])
def test_a_pipe_is_no_table_and_no_shard(name: str, hostile: Hostile, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    hostile("check", name, says=f"{name} is a pipe, a device or a socket, not a regular file")


def test_a_table_of_a_gigabyte_is_refused_unread(hostile: Hostile, tmp_path: Path) -> None:
    with (tmp_path / "x.csv").open("wb") as file:
        file.truncate(2**30)
    hostile("check", "x.csv", says="x.csv has 1,024 MiB, more than the 512 of a table")


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("a" * 5000, r"a{200} can be no file or folder: file name too long"),
        ("~nosuchuser/photos", "~nosuchuser/photos can be no file or folder"),
        ("shards/{0..99999999}{0..99999999}.tar", "there is no shards/"),
        ("{0..9}{0..9}{0..9}{0..9}{0..9}{0..9}{0..9}{0..9}.tar", "there is no {0"),
        ("x-{" + "0" * 5000 + "..1}.tar", "can be no file or folder|there is no"),
        ("**/**/**", "there is no"),
        ("\udcff\udcfe", "there is no"),
        ("\x1b[2J", r"there is no \\x1b\[2J"),
        ("https://h.example/" + "x" * 400 + "#sha256=1", "a SHA-256 of 1 characters"),
    ],
)
def test_a_name_that_is_none_is_told(spec: str, says: str, hostile: Hostile) -> None:
    hostile("check", spec, says=says)


@pytest.mark.parametrize(
    ("data", "says"),
    [(b"\xff\xfe", "labels.txt cannot be read as UTF-8 text"), (b"a\n" * 2**24, "labels.txt has more than 16 MiB")],
)
def test_labels_that_are_none_are_told(data: bytes, says: str, hostile: Hostile, folder: Path) -> None:
    (folder / "x.csv").write_bytes(GOOD)
    (folder / "labels.txt").write_bytes(data)
    hostile("check", "x.csv", says=says)


def test_numbers_of_classes_that_are_none_are_labels(hostile: Hostile, folder: Path) -> None:
    (folder / "labels.txt").write_text("zero\none\n")
    (folder / "x.csv").write_text(f"path,label\n0.jpg,1\n1.jpg,{'9' * 900}\n2.jpg,\u0661\n")
    program = LIST.replace("sorted(photos)", "[r.label for r in found.records]")
    labels, _ = json.loads(hostile("x.csv", program=("-c", program), code=0).stdout)
    assert labels == ["one", "9" * 900, "\u0661"]


def web(*members: bytes) -> bytes:
    good = b"".join(member(f"{i}.jpg", photo(i)) + member(f"{i}.cls", b"ab"[i : i + 1]) for i in range(2))
    return good + b"".join(members) + END


WEB: dict[str, tuple[bytes, int, str]] = {
    "JSON 100,000 deep": (web(member("2.jpg", photo(2)), member("2.json", b"[" * 10**5)), 2, "gives a label"),
    "a label that is a list": (web(member("2.jpg", photo(2)), member("2.json", b'{"label": [1]}')), 2, "gives a label"),
    "a label of 100,000 characters": (
        web(member("2.jpg", photo(2)), member("2.cls", b"a" * 10**5)), 2, "gives a label"),
    "a label of 2 MB": (web(member("2.jpg", photo(2)), member("2.cls", b"a" * 2**21)), 2, "gives a label"),
    "a label of 5,000 digits, then another": (
        web(member("2.jpg", photo(2)), member("2.cls", b"9" * 5000), member("2.txt", b"c")), 3, ""),
    "a size that goes back": (web(header("2.jpg", raw_size=b"\xff" * 11 + b"\0")), 2, "a size of -"),
    "a name of 1.5 GB": (web(header("L", 3 * 2**29, b"L")), 2, "a header of 1,610,612,736 bytes"),
    "a photo longer than the shard": (web(header("2.jpg", 10**9)), 2, "cut off"),
    "a damaged header": (web(b"x" * 512), 2, "a header is damaged"),
    "a link": (web(header("2.jpg", kind=b"2", linkname=b"/etc/passwd")), 2, "a symbolic link within a shard"),
    "a sparse file": (web(pax(b"GNU.sparse.major=1"), member("2.jpg", photo(2))), 2, "a sparse file within a shard"),
    "no photo": (web(member("2.jpg", b"no photo"), member("2.cls", b"a")), 2, "not an image"),
}  # fmt: skip


@pytest.mark.parametrize("case", WEB)
def test_a_shard_of_webdataset_is_read_as_far_as_it_goes(case: str, hostile: Hostile, tmp_path: Path) -> None:
    data, good, reason = WEB[case]
    (tmp_path / "x-000.tar").write_bytes(data)
    found, problems = json.loads(hostile("x-000.tar", program=("-c", LIST), code=0).stdout)
    assert len(found) == good
    assert any(reason in told for told in problems.values()) or not reason


def record(i: int, **more: bytes | str | int) -> bytes:
    return frame(example({"image/encoded": photo(i), "image/class/text": "ab"[i % 2], **more}))


def integers(count: int) -> bytes:
    """A record whose class is a list of so many numbers."""
    from regraft.foundation.tfrecord import _field

    photos = _field(1, _field(1, b"image") + _field(2, _field(1, _field(1, photo(2)))))
    labels = _field(1, _field(1, b"label") + _field(2, _field(3, _field(1, b"\1" * count))))
    return frame(_field(1, photos + labels))


SHARDS: dict[str, tuple[bytes, int, str]] = {
    "a record longer than the file": (framed_length(2**62), 2, "cut off within a record; what comes after it is lost"),
    "a wrong checksum of a length": (bytes(12), 2, "a record's length has a wrong checksum"),
    "a record of tiny fields": (frame(b"\x0a\x02\x0a\x00" * 20_000), 2, "a record of more than 10,000 fields"),
    "100,000 integers": (integers(10**5), 3, ""),
    "a label of 100,000 bytes": (record(2, **{"image/class/text": "a" * 10**5}), 2, "a record without a label"),
    "a name of 100,000 bytes": (record(2, **{"n" * 10**5: "x"}), 3, ""),
    "5,000 records without a photo": (frame(b"") * 5000, 2, "more than 1,000 records without a photo or a label"),
    "a label that is no UTF-8": (record(2, **{"image/class/text": b"\xff\xfe"}), 3, ""),
    "half a record": (record(2)[:100], 2, "cut off within a record"),
}  # fmt: skip


@pytest.mark.parametrize("case", SHARDS)
def test_a_shard_of_records_is_read_as_far_as_it_goes(case: str, hostile: Hostile, tmp_path: Path) -> None:
    data, good, reason = SHARDS[case]
    (tmp_path / "x.tfrecord").write_bytes(record(0) + record(1) + data)
    found, problems = json.loads(hostile("x.tfrecord", program=("-c", LIST), code=0).stdout)
    assert len(found) == good
    assert any(reason in told for told in problems.values()) or not reason


def test_a_folder_of_shards_with_a_pipe_among_them(hostile: Hostile, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "x-0").write_bytes(record(0) + record(1))
    os.mkfifo(tmp_path / "s" / "a-pipe")
    found, _ = json.loads(hostile("s", program=("-c", LIST), code=0).stdout)
    assert len(found) == 2
