"""Archives by people who wish us ill: one line, or a good set of photos with what was left out by name."""

from __future__ import annotations

import bz2
import io
import json
import lzma
import os
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import sampled
from tests.hostile.conftest import Hostile
from tests.hostile.making import (
    BLOCK,
    END,
    Deflated,
    directory,
    good_zip,
    header,
    member,
    patch,
    pax,
    photo,
    photos,
    record,
    tgz,
    zipped,
)

MEBIBYTES = 300
"""The most memory that an archive may cost."""

LIST = """
import json, sys
from regraft.photos.dataset import Dataset
from regraft.errors import RegraftError
try:
    found = Dataset.open(sys.argv[1])
except RegraftError as error:
    sys.exit("regraft: " + " ".join(str(error).split()))
photos = ["/".join(record.path.parts[-2:]) for record in found.records]
print(json.dumps([sorted(photos), {str(p.path): p.reason for p in found.problems}]))
"""


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """No graphs are needed here: nothing gets as far as that."""
    return tmp_path / "cache"


def gzip_check(data: bytes) -> bytes:
    return struct.pack("<LL", zlib.crc32(data), len(data) & 0xFFFFFFFF)


def flipped(data: bytes, place: int) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 0xFF
    return bytes(changed)


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def long_name() -> bytes:
    """7 MB that hold a name of 1.5 GB."""
    size = 1536 * 2**20
    return Deflated().add(photos() + header("././@LongLink", size, b"L")).add(b"a" * 2**20, 1536).file()


def pax_path() -> bytes:
    size = 300 * 2**20
    return Deflated().add(photos() + header("pax", size + 16, b"x") + b"%d path=" % size).add(b"b" * 2**20, 300).file()


def many_folders() -> bytes:
    return Deflated().add(photos()).add(header("d/", kind=b"5") * 2048, 300).file()


def many_long_names() -> bytes:
    return Deflated().add(photos()).add(header("././@LongLink", 0, b"L") * 2048, 300).file()


def folders_of_files() -> bytes:
    """Each file brings 30 folders that no header names."""
    return tgz(b"".join(member(f"{i}/" + "d/" * 29 + "x.jpg", b"x") for i in range(2000)) + END)


def bomb(count: int = 2) -> bytes:
    made = Deflated().add(photos())
    for i in range(count):
        made.add(header(f"a/{i}.jpg", 200 * 2**20)).add(bytes(2**20), 200)
    return made.file()


def solid_bomb(compress: Callable[[bytes], bytes]) -> bytes:
    """The same by streams that follow each other, each a part of the tar."""
    block = compress(bytes(2**24))
    return compress(photos() + header("a/x.jpg", 2**33)) + block * 20


def great_dictionary() -> bytes:
    """An .xz that asks for 1.5 GiB before it gives anything."""
    data = bytearray(lzma.compress(photos() + END, filters=[{"id": lzma.FILTER_LZMA2, "preset": 0}]))
    end = 12 + (data[12] + 1) * 4 - 4
    data[data.index(b"\x21\x01", 12) + 2] = 37
    data[end : end + 4] = struct.pack("<L", zlib.crc32(data[12:end]))
    return bytes(data)


def sized(size: bytes) -> bytes:
    return photos() + header("a/x.jpg", raw_size=size) + END


REFUSED: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "name of 1.5 GB": ("x.tgz", long_name, r"x.tgz is damaged.*a header of 1,610,612,736 bytes"),
    "pax path of 300 MB": ("x.tgz", pax_path, r"a header of 314,572,816 bytes"),
    "600,000 folders": ("x.tgz", many_folders, r"has more than \d+,\d+ files and folders.*give the folder"),
    "600,000 headers of one member": ("x.tgz", many_long_names, r"has more than \d+,\d+ files and folders"),
    "60,000 folders that no header names": ("x.tgz", folders_of_files, r"has more than \d+,\d+ files and folders"),
    "400 MB in gzip": ("x.tgz", bomb, r"unpacks to more than 256 MiB"),
    "320 MB in bzip2": ("x.tbz", lambda: solid_bomb(bz2.compress), r"unpacks to more than 256 MiB"),
    "320 MB in xz": ("x.txz", lambda: solid_bomb(lzma.compress), r"unpacks to more than 256 MiB"),
    "dictionary of 1.5 GiB": ("x.txz", great_dictionary, r"damaged.*Memory usage limit"),
    "wrong checksum of gzip": ("x.tgz", lambda: flipped(tgz(photos() + END), -5), r"damaged.*incorrect data check"),
    "wrong length of gzip": ("x.tgz", lambda: flipped(tgz(photos() + END), -1), r"damaged.*incorrect length check"),
    "damaged deflate": ("x.tgz", lambda: flipped(tgz(photos(9) + END), 900), r"x.tgz is damaged or cut off"),
    "damaged bzip2": ("x.tbz", lambda: flipped(bz2.compress(photos(9) + END), 300), r"damaged.*[Ii]nvalid data"),
    "damaged xz": ("x.txz", lambda: flipped(lzma.compress(photos(9) + END), 300), r"damaged.*[Cc]orrupt"),
    "wrong check of xz": ("x.txz", lambda: flipped(lzma.compress(photos() + END), -40), r"x.txz is damaged or cut off"),
    "gzip without its end": ("x.tgz", lambda: tgz(photos() + END)[:-8], r"compressed data are cut off"),
    "half a gzip": ("x.tgz", lambda: half(tgz(photos(9) + END)), r"compressed data are cut off"),
    "half an xz": ("x.txz", lambda: half(lzma.compress(photos(9) + END)), r"compressed data are cut off"),
    "half a bzip2": ("x.tbz", lambda: half(bz2.compress(photos(9) + END)), r"compressed data are cut off"),
    "garbage after gzip": ("x.tgz", lambda: tgz(photos() + END) + b"garbage", r"damaged.*incorrect header"),
    "nothing but gzip's first bytes": ("x.tgz", lambda: b"\x1f\x8b\x08", r"compressed data are cut off"),
    "an empty file in gzip": ("x.tgz", lambda: tgz(b""), r"holds no folders"),
    "no tar in gzip": ("x.tgz", lambda: tgz(b"hello " * 999), r"a header is damaged: invalid header"),
    "no member": ("x.tgz", lambda: tgz(END), r"holds no folders"),
    "tar cut within a photo": ("x.tar", lambda: photos()[:-700], r"cut off within a file"),
    "tar cut within a header": ("x.tar", lambda: photos() + header()[:200], r"cut off within a header"),
    "damaged header": ("x.tar", lambda: photos() + flipped(header(), 3) + END, r"a header is damaged: bad checksum"),
    "size that goes back": ("x.tar", lambda: sized(b"\xff" * 11 + b"\x00"), r"a size of -\d+ bytes"),
    "size of 10^28": ("x.tar", lambda: sized(b"\x80" + b"\x7f" * 11), r"a size of \d{25,} bytes"),
    "size that is no number": ("x.tar", lambda: sized(b"hello"), r"a header is damaged: invalid header"),
    "size of pax that is no number": (
        "x.tar",
        lambda: photos() + pax(b"size=-512") + header() + END,
        r"a size that is no number",
    ),
    "pax size of 5,000 digits": (
        "x.tar",
        lambda: photos() + pax(b"size=" + b"9" * 5000) + header() + END,
        r"a size that is no number",
    ),
    "pax without length": (
        "x.tar",
        lambda: photos() + member("x", b"path=a\n", b"x") + END,
        r"a pax header is damaged",
    ),
    "pax of digits, for quadratic time": (
        "x.tar",
        lambda: photos() + member("x", b"1" * 10**6, b"x") + END,
        r"a pax header is damaged",
    ),
    "pax of 100,000 records": (
        "x.tar",
        lambda: photos() + member("x", b"6 a=b\n" * 10**5, b"x") + END,
        r"a pax header of more than 200 records",
    ),
    "entries on top of each other": (
        "x.zip",
        lambda: directory_of_one_photo(1000),
        r"entries that lie on top of each other",
    ),
    "500,000 entries": (
        "x.zip",
        lambda: b"PK\3\4" + directory(record(b"a") * 500_000, 500_000, 4),
        r"has more than 400,000 entries.*give the folder",
    ),
    "directory of 60 MB": (
        "x.zip",
        lambda: b"PK\3\4" + directory(record(b"a" * 60_000) * 1000, 1000, 4),
        r"has a directory of 60,\d+,\d+ bytes",
    ),
    "zip64 that tells of an exabyte": ("x.zip", lambda: zip64(2**60), r"x.zip (is damaged|has a directory)"),
    "no directory": ("x.zip", lambda: bytes(good_zip()[:-60]), r"damaged.*not a zip file"),
    "directory cut in the middle": ("x.zip", lambda: cut_directory(), r"x.zip is damaged or cut off"),
    "a version that nobody has": (
        "x.zip",
        lambda: bytes(patch(good_zip(), 0, central={6: b"\xff"})),
        r"damaged.*zip file version",
    ),
    "a name that is not UTF-8": (
        "x.zip",
        lambda: bytes(patch(good_zip(), 0, central={8: b"\x00\x08", 46: b"\xff\xff"})),
        r"damaged.*utf-8",
    ),
    "300 MB in a zip": (
        "x.zip",
        lambda: bytes(zipped([(f"a/{i}.jpg", bytes(100 * 2**20)) for i in range(3)])),
        r"unpacks to more than 256 MiB",
    ),
    "an empty zip": ("x.zip", lambda: directory(b"", 0), r"holds no folders"),
    "a file of no bytes": ("x.zip", lambda: b"", r"is no list of photos"),
    "zeros called a tar": ("x.tar", lambda: bytes(10240), r"is no list of photos"),
    "a program called a zip": ("x.zip", lambda: b"MZ" + bytes(good_zip()), r"is no list of photos"),
}


def directory_of_one_photo(count: int) -> bytes:
    """A zip of one photo that its directory names many times."""
    data = photo()
    name = b"a/x.jpg"
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 0, 0, 33, zlib.crc32(data), len(data), len(data), len(name), 0)
    body = local + name + data
    return body + directory(record(name, 0, len(data)) * count, count, len(body))


def zip64(size: int) -> bytes:
    body = bytes(good_zip())
    end = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 3, 3, size, size)
    place = struct.pack("<4sLQL", b"PK\6\7", 0, len(body) - 22, 1)
    return body[:-22] + end + place + body[-22:]


def cut_directory() -> bytes:
    data = good_zip()
    (start,) = struct.unpack_from("<L", data, len(data) - 6)
    return bytes(data[:start] + data[start + 70 :])


@pytest.mark.parametrize("case", sampled(REFUSED, 3))
def test_an_archive_is_refused_in_one_line(case: str, hostile: Hostile, tmp_path: Path) -> None:
    name, make, says = REFUSED[case]
    (tmp_path / name).write_bytes(make())
    assert hostile("check", name, says=says).mebibytes < MEBIBYTES
    left = [p.name for p in (tmp_path / "cache" / "unpacked").glob("*") if p.suffix != ".lock"]
    assert left == [] or "no folders" in says, "what was refused left something behind"


GOOD = [f"good/{i}.jpg" for i in range(2)]
Damage = tuple[str, Callable[[], bytes], list[str], dict[str, str]]


def tarred(*parts: bytes) -> bytes:
    return b"".join((photos(), *parts, END))


def sparse(extended: int = 0) -> bytes:
    """An old GNU sparse file of a tebibyte; some ask for more and more blocks of holes."""
    real = b"%011o\0" % 2**20
    first = header("good/s.jpg", BLOCK, b"S", sparse=b"0" * 96 + bytes([bool(extended)]) + real)
    blocks = b"".join(bytes(504) + bytes([i < extended - 1]) + bytes(7) for i in range(extended))
    return first + blocks + bytes(BLOCK)


def large_member() -> bytes:
    noise = member("comment", random.Random(0).randbytes(7 * 2**20), b"g")  # an archive that may unpack to so much
    start = noise + photos() + header("good/big.jpg", 300 * 2**20)
    check = gzip_check(start + bytes(300 * 2**20) + END)
    return Deflated().add(start).add(bytes(2**20), 300).add(END).file(check)


def damaged_zip(method: int, place: int) -> bytes:
    data = zipped([("good/0.jpg", photo(0)), ("good/1.jpg", photo(1)), ("good/x.jpg", photo(2) * 3)], method)
    start = data.rindex(b"good/x.jpg", 0, data.index(b"PK\1\2")) + len("good/x.jpg")
    data[start + place] ^= 0xFF
    return bytes(data)


def entry_of(body: bytes, method: int, size: int = 100) -> bytes:
    """A zip with two photos and an entry whose compressed bytes are ``body``."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        for i in range(2):
            opened.writestr(f"good/{i}.jpg", photo(i))
        opened.writestr("good/x.jpg", body)
    how = struct.pack("<H", method)
    return bytes(patch(bytearray(file.getvalue()), 2, local={8: how}, central={10: how, 24: struct.pack("<L", size)}))


def lzma_entry(dictionary: int) -> bytes:
    return entry_of(b"\x09\x04\x05\x00\x5d" + struct.pack("<L", dictionary) + bytes(1000), zipfile.ZIP_LZMA)


def of_two(**more: Any) -> bytes:
    """Two photos, and a third that the directory describes as it likes."""
    data = zipped([("good/0.jpg", photo(0)), ("good/1.jpg", photo(1)), ("good/x.jpg", photo(2))])
    return bytes(patch(data, 2, **more))


LEFT_OUT: dict[str, Damage] = {
    "cache's own names": (
        "x.tar",
        lambda: tarred(
            header(".regraft.json/", kind=b"5"), member(".regraft.json/x", b"{}"), member("problems.json", b"")
        ),
        GOOD,
        {},
    ),
    "cache's own name as a file": ("x.tgz", lambda: tgz(tarred(member(".regraft.json", b"[]"))), GOOD, {}),
    "3,000 names of one file": (
        "x.tar",
        lambda: tarred(member("L", b"good/2.jpg\0", b"L") * 3000, member("x", photo(3))),
        [*GOOD, "good/2.jpg"],
        {},
    ),
    "200 folders deep": (
        "x.tar",
        lambda: tarred(pax(b"path=" + b"d/" * 200 + b"x.jpg"), member("x", photo())),
        GOOD,
        {"d/d/": "201 folders deep, more than 32"},
    ),
    "a name of 300 characters": (
        "x.tar",
        lambda: tarred(pax(b"path=good/" + b"x" * 300), member("x", photo())),
        GOOD,
        {"good/xx": "cannot be written: file name too long"},
    ),
    "a name of 100,000 characters": (
        "x.tar",
        lambda: tarred(pax(b"path=good/" + b"x" * 10**5), member("x", photo())),
        GOOD,
        {"good/xx": "its name has 100,005 characters"},
    ),
    "names that differ in case": (
        "x.tar",
        lambda: tarred(member("good/1.JPG", photo(5))),
        GOOD,
        {"good/1.JPG": "differs from one before it only in upper and lower case"},
    ),
    "names that differ in Unicode form": (
        "x.tar",
        lambda: tarred(member("good/가.jpg", photo(5)), member("good/\u1100\u1161.jpg", photo(6))),
        [*GOOD, "good/가.jpg"],
        {"good/\u1100\u1161.jpg": "or in Unicode form"},
    ),
    "one name twice": (
        "x.tar",
        lambda: tarred(member("good/1.jpg", photo(5))),
        GOOD,
        {"good/1.jpg": "an entry of this name came before"},
    ),
    "a file that is also a folder": (
        "x.tar",
        lambda: tarred(member("good/1.jpg/x.jpg", photo(5))),
        GOOD,
        {"good/1.jpg/x.jpg": "cannot be written: file exists"},
    ),
    "a name that points out": (
        "x.tar",
        lambda: tarred(member("../../out.jpg", photo(5))),
        GOOD,
        {"../../out.jpg": "points outside"},
    ),
    "a link to a folder outside, and a file through it": (
        "x.tar",
        lambda: tarred(header("out", kind=b"2", linkname=b"/tmp"), member("out/x.jpg", photo(5))),
        [*GOOD, "out/x.jpg"],
        {"out": "a link that leads nowhere"},
    ),
    "a link to itself": (
        "x.tar",
        lambda: tarred(header("good/l.jpg", kind=b"2", linkname=b"l.jpg")),
        GOOD,
        {"good/l.jpg": "a link to something that is not in the archive"},
    ),
    "a device": (
        "x.tar",
        lambda: tarred(header("good/zero", kind=b"3")),
        GOOD,
        {"good/zero": "neither a file nor a folder"},
    ),
    "an unknown kind": (
        "x.tar",
        lambda: tarred(member("good/q", b"data", b"Q")),
        GOOD,
        {"good/q": "neither a file nor a folder"},
    ),
    "a sparse file": ("x.tar", lambda: tarred(sparse()), GOOD, {"good/s.jpg": "sparse file"}),
    "a sparse file of 100,000 holes": ("x.tar", lambda: tarred(sparse(5000)), GOOD, {"good/s.jpg": "sparse file"}),
    "a sparse file of pax": (
        "x.tar",
        lambda: tarred(
            pax(
                b"GNU.sparse.major=1",
                b"GNU.sparse.minor=0",
                b"GNU.sparse.name=good/s",
                b"GNU.sparse.realsize=%d" % 2**40,
            ),
            member("x", b"9" * 5000 + b"\n"),
        ),
        GOOD,
        {"good/s": "sparse file"},
    ),
    "300 MiB in one file": (
        "x.tgz",
        large_member,
        GOOD,
        {"good/big.jpg": "300 MiB, more than the 256 MiB of one file"},
    ),
    "no end": ("x.tar", lambda: photos(), GOOD, {"": "has no end: it may be cut off"}),
    "zeros after gzip": ("x.tgz", lambda: tgz(photos() + END) + bytes(5000), GOOD, {}),
    "a tar in pieces of gzip": ("x.tgz", lambda: tgz(photos()[:3000]) + tgz(photos()[3000:] + END), GOOD, {}),
    "a tar in pieces of xz": (
        "x.txz",
        lambda: lzma.compress(photos()[:3000]) + bytes(8) + lzma.compress(photos()[3000:] + END),
        GOOD,
        {},
    ),
    "2,000 left out": (
        "x.tar",
        lambda: tarred(*(header(f"good/p{i}", kind=b"6") for i in range(2000))),
        GOOD,
        {"good/p0": "neither a file", "(1,000 more)": "left out too"},
    ),
    "names of controls": (
        "x.tar",
        lambda: tarred(member("good/\x1b[2J\n.jpg", photo(5)), header("good/\x1b]0;x\x07", kind=b"6")),
        [*GOOD, "good/\x1b[2J\n.jpg"],
        {"good/\x1b]0;x\x07": "neither a file nor a folder"},
    ),
    "names that are no UTF-8": (
        "x.tar",
        lambda: tarred(member(b"good/\xb0\xad.jpg", photo(5))),
        [*GOOD, "good/\udcb0\udcad.jpg"],
        {},
    ),
    "an entry with a password": ("x.zip", lambda: of_two(central={8: b"\x01\x00"}), GOOD, {"good/x.jpg": "a password"}),
    "an entry by an unknown method": (
        "x.zip",
        lambda: of_two(central={10: b"\x63\x00"}),
        GOOD,
        {"good/x.jpg": "method 99, which regraft does not know"},
    ),
    "damaged deflate in a zip": (
        "x.zip",
        lambda: damaged_zip(8, 5),
        GOOD,
        {"good/x.jpg": "cannot be unpacked: Error -3"},
    ),
    "damaged bzip2 in a zip": (
        "x.zip",
        lambda: damaged_zip(12, 0),
        GOOD,
        {"good/x.jpg": "cannot be unpacked: Invalid"},
    ),
    "damaged LZMA in a zip": ("x.zip", lambda: damaged_zip(14, 20), GOOD, {"good/x.jpg": "cannot be unpacked"}),
    "damaged header of LZMA in a zip": ("x.zip", lambda: damaged_zip(14, 2), GOOD, {"good/x.jpg": "no header of LZMA"}),
    "damaged photo, stored": ("x.zip", lambda: damaged_zip(0, 5), GOOD, {"good/x.jpg": "its checksum is wrong"}),
    "a directory that says too few bytes": (
        "x.zip",
        lambda: of_two(central={24: b"\x09\0\0\0"}),
        GOOD,
        {"good/x.jpg": "its checksum is wrong"},
    ),
    "a directory that says too many bytes": (
        "x.zip",
        lambda: of_two(central={24: b"\xff\xff\0\0"}),
        GOOD,
        {"good/x.jpg": "of its 65,535 bytes are missing"},
    ),
    "a directory that says 3 GB": (
        "x.zip",
        lambda: of_two(central={24: b"\xff\xff\xff\xbf"}),
        GOOD,
        {"good/x.jpg": "3,072 MiB, more than the 256 MiB of one file"},
    ),
    "a directory that says more compressed bytes than there are": (
        "x.zip",
        lambda: of_two(central={20: b"\xff\xff\xff\x0f", 10: b"\0\0", 24: b"\xff\xff\xff\x0f"}, local={8: b"\0\0"}),
        GOOD,
        {"good/x.jpg": "cannot be unpacked"},
    ),
    "a wrong checksum in the directory": (
        "x.zip",
        lambda: of_two(central={16: b"\0\0\0\0"}),
        GOOD,
        {"good/x.jpg": "its checksum is wrong"},
    ),
    "another name in the entry": (
        "x.zip",
        lambda: of_two(central={}, local={30: b"evil/x.jpg"}),
        GOOD,
        {"good/x.jpg": "cannot be unpacked: File name in directory"},
    ),
    "bzip2 that unfolds without end": (
        "x.zip",
        lambda: entry_of(bz2.compress(bytes(2**28)), zipfile.ZIP_BZIP2),
        GOOD,
        {"good/x.jpg": "its checksum is wrong"},
    ),
    "LZMA with a dictionary of 4 GiB": (
        "x.zip",
        lambda: lzma_entry(0xFFFFFFFF),
        GOOD,
        {"good/x.jpg": "Memory usage limit"},
    ),
    "a link in a zip": (
        "x.zip",
        lambda: of_two(central={38: struct.pack("<L", 0o120777 << 16)}),
        GOOD,
        {"good/x.jpg": "neither a file nor a folder"},
    ),
    "an entry without a name": (
        "x.zip",
        lambda: bytes(zipped([("good/0.jpg", photo(0)), ("good/1.jpg", photo(1)), ("/", b"x")])),
        GOOD,
        {},
    ),
    "paths of Windows in a zip": (
        "x.zip",
        lambda: bytes(zipped([("good/0.jpg", photo(0)), ("good/1.jpg", photo(1)), ("C:\\x.jpg", photo(2))])),
        GOOD,
        {"C:": "points outside"},
    ),
    "bytes between the entries": (
        "x.zip",
        lambda: bytes(b"PK\3\4" + bytes(100) + good_zip()),
        [*GOOD, "good/2.jpg"],
        {},
    ),
}


@pytest.mark.parametrize("case", LEFT_OUT)
def test_what_is_wrong_is_left_out_by_name(case: str, hostile: Hostile, tmp_path: Path) -> None:
    name, make, wanted, wrong = LEFT_OUT[case]
    (tmp_path / name).write_bytes(make())
    before = sorted(tmp_path.parent.iterdir())
    done = hostile(name, program=("-c", LIST), code=0)
    assert done.mebibytes < MEBIBYTES
    found, problems = json.loads(done.stdout)
    assert found == sorted(wanted)
    for start, reason in wrong.items():
        assert any(p.startswith(f"{name}/{start}".rstrip("/")) and reason in why for p, why in problems.items()), (
            problems
        )
    assert len(problems) == (1001 if case == "2,000 left out" else len(wrong))
    assert sorted(tmp_path.parent.iterdir()) == before


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tgz"])
def test_a_pipe_is_no_archive(name: str, hostile: Hostile, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    hostile("check", name, says=f"{name} is a pipe, a device or a socket, not a regular file")


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/dev/random"])
def test_a_device_is_no_archive(path: str, hostile: Hostile) -> None:
    hostile("check", path, says=f"{path} is a pipe, a device or a socket")


def test_a_damaged_list_of_problems_is_made_anew(hostile: Hostile, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(tarred(member("../x.jpg", b"x")))
    first = hostile("x.tar", program=("-c", LIST), code=0)
    for text in (b"[]", b"{", b"", b'{"a": 1}', b"[" * 100_000, b"\xff"):
        (written,) = (tmp_path / "cache").rglob("problems.json")
        written.write_bytes(text)
        assert hostile("x.tar", program=("-c", LIST), code=0).stdout == first.stdout


FULL = f"""
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
{LIST}"""


def test_a_disk_that_takes_no_more_is_no_fault_of_the_archive(hostile: Hostile, tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk: a member that does not fit is not left out, but an error."""
    (tmp_path / "x.tar").write_bytes(tarred(member("good/large.jpg", photo() + bytes(5000))))
    hostile("x.tar", program=("-c", FULL), says="x.tar cannot be unpacked: file too large$")
    assert not [p for p in (tmp_path / "cache" / "unpacked").iterdir() if p.is_dir()]
    assert len(json.loads(hostile("x.tar", program=("-c", LIST), code=0).stdout)[0]) == 3


def test_two_at_once_unpack_once(hostile: Hostile, tmp_path: Path) -> None:
    """The second waits, and takes what the first unpacked: no moment without the folder for those who read there."""
    import subprocess
    import sys

    (tmp_path / "x.tgz").write_bytes(
        tgz(b"".join(member(f"{c}/{i}.jpg", photo(i)) for c in "ab" for i in range(200)) + END)
    )
    command = [sys.executable, "-c", LIST, "x.tgz"]
    running = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE) for _ in range(4)]
    outputs = [process.communicate()[0] for process in running]
    assert all(process.returncode == 0 for process in running)
    assert len(set(outputs)) == 1
    assert len([p for p in (tmp_path / "cache" / "unpacked").iterdir() if p.is_dir()]) == 1
