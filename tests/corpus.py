"""Unusual and malformed files, each with what must come of it: the picture, or a reason.

The picture is red on the left and blue on the right; a file that decodes must show that.
"""

from __future__ import annotations

import base64
import io
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

RED, BLUE, WHITE = (200, 40, 40), (30, 60, 200), (255, 255, 255)


@dataclass(frozen=True)
class Case:
    """One file.

    Attributes:
        name: its name.
        data: its bytes; None where `make` does something else than write them.
        reason: what regraft must say, as a regular expression; None where it must decode.
        left, right: the colours of a picture that decodes.
    """

    name: str
    data: bytes | None = None
    reason: str | None = None
    left: tuple[int, int, int] = RED
    right: tuple[int, int, int] = BLUE


def picture(width: int = 96, height: int = 64) -> Image.Image:
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (width // 2, 0, width, height))
    return image


def encode(image: Image.Image, kind: str, more: Sequence[Image.Image] = (), **options: object) -> bytes:
    file = io.BytesIO()
    if more:
        options |= {"save_all": True, "append_images": [other.copy() for other in more]}
    image.copy().save(file, kind, **options)  # copies, as Pillow leaves an encoder's settings on the image
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def raw_png(width: int, height: int, depth: int, colour: int, rows: bytes, extra: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(rows)) if rows else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + body + chunk(b"IEND", b"")


def deep_rgb_png() -> bytes:
    row = b"\0" + b"".join(struct.pack(">HHH", *(257 * c for c in (RED if x < 48 else BLUE))) for x in range(96))
    return raw_png(96, 64, 16, 2, row * 64)


def swapped_profile() -> bytes:
    """sRGB with red and blue changed over, under another name."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for i in range(struct.unpack(">I", data[128:132])[0]):
        entry = 132 + 12 * i
        tag = bytes(data[entry : entry + 4])
        data[entry : entry + 4] = {b"rXYZ": b"bXYZ", b"bXYZ": b"rXYZ"}.get(tag, tag)
    return bytes(data).replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))


def turned(orientation: int) -> bytes:
    """The picture stored as a camera held otherwise would store it."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(picture().transpose(undo), "JPEG", quality=95, exif=exif)


def good() -> Iterator[Case]:
    image = picture()
    jpeg = encode(image, "JPEG", quality=95)
    grey = image.convert("L")
    dark, light = (decode_grey(grey, x) for x in (0, 95))
    half = image.convert("RGBA")
    half.putalpha(Image.composite(Image.new("L", (96, 64), 255), Image.new("L", (96, 64), 0), left_half()))
    more = [Image.new("RGB", (96, 64), "green")]
    yield Case("baseline.jpg", jpeg)
    yield Case("progressive.jpg", encode(image, "JPEG", quality=95, progressive=True))
    yield Case("subsampled.jpg", encode(image, "JPEG", quality=95, subsampling=2))
    yield Case("restart markers.jpg", encode(image, "JPEG", quality=95, restart_marker_blocks=2))
    yield Case("grey.jpg", encode(grey, "JPEG", quality=95), left=dark, right=light)
    yield Case("cmyk.jpg", encode(image.convert("CMYK"), "JPEG", quality=95))
    yield Case("trailing bytes.jpg", jpeg + b"more" * 100)
    yield Case("12 megapixels.jpg", encode(picture(4032, 3024), "JPEG", quality=80))
    yield Case("two in one.mpo", encode(image, "MPO", more, quality=95))
    for orientation in range(2, 9):
        yield Case(f"turned {orientation}.jpg", turned(orientation))
    profiled = encode(image, "JPEG", quality=95, icc_profile=swapped_profile())
    yield Case("profile.jpg", profiled, left=(40, 40, 200), right=(200, 60, 30))
    yield Case("broken profile.jpg", encode(image, "JPEG", quality=95, icc_profile=b"no profile" * 20))
    yield Case("profile of another space.png", encode(image, "PNG", icc_profile=lab_profile()))
    yield Case("1 bit.png", encode(left_half(), "PNG"), left=WHITE, right=(0, 0, 0))
    yield Case("2 bits.png", encode(image.quantize(4), "PNG", bits=2))
    yield Case("palette.png", encode(image.quantize(256), "PNG"))
    yield Case("palette with a hole.png", encode(image.quantize(2), "PNG", transparency=hole(image)), right=WHITE)
    yield Case("grey and alpha.png", encode(half.convert("LA"), "PNG"), left=dark, right=WHITE)
    yield Case("alpha.png", encode(half, "PNG"), right=WHITE)
    yield Case("16 bits.png", encode(deep_grey(), "PNG"), left=(64,) * 3, right=(192,) * 3)
    yield Case("16 bits of colour.png", deep_rgb_png())
    yield Case("lossy.webp", encode(image, "WEBP", quality=90))
    yield Case("lossless.webp", encode(half, "WEBP", lossless=True), right=WHITE)
    yield Case("animated.webp", encode(image, "WEBP", more, lossless=True))
    yield Case("still.gif", encode(image, "GIF"))
    yield Case("animated.gif", encode(image, "GIF", more))
    yield Case("24 bits.bmp", encode(image, "BMP"))
    yield Case("8 bits.bmp", encode(image.quantize(16), "BMP"))
    yield Case("raw.tif", encode(image, "TIFF"))
    yield Case("lzw.tif", encode(image, "TIFF", compression="tiff_lzw"))
    yield Case("jpeg inside.tif", encode(image, "TIFF", compression="jpeg", quality=95))
    yield Case("fax.tif", encode(left_half(), "TIFF", compression="group4"), left=WHITE, right=(0, 0, 0))
    yield Case("pages.tif", encode(image, "TIFF", more))
    yield Case("cmyk.tif", encode(image.convert("CMYK"), "TIFF"))
    yield Case("16 bits.tif", encode(deep_grey(), "TIFF"), left=(64,) * 3, right=(192,) * 3)
    yield Case("floats.tif", encode(float_grey(), "TIFF"), left=(64,) * 3, right=(191,) * 3)
    yield Case("photo.avif", encode(image, "AVIF", quality=90))
    yield Case("photo.heic", HEIC)
    yield Case("really a png.jpg", encode(image, "PNG"))
    yield Case("really a jpeg.png", jpeg)
    yield Case("no extension", jpeg)
    yield Case("SHOUTED.JPEG", encode(image, "JPEG", quality=94))
    yield Case("one pixel.png", encode(Image.new("RGB", (1, 1), RED), "PNG"), right=RED)
    yield Case("a line.png", encode(picture(5000, 1), "PNG"))
    yield Case("사진 🌻.jpg", encode(image, "JPEG", quality=93))
    yield Case("a\nnew line.jpg", encode(image, "JPEG", quality=92))
    yield Case("--json 'quoted' $HOME %s \\ ;.jpg", encode(image, "JPEG", quality=91))
    yield Case("가" * 80 + "0123456.jpg", encode(image, "JPEG", quality=90))  # 251 bytes
    yield Case(os.fsdecode(b"not utf-8 \xff\xfe.jpg"), encode(image, "JPEG", quality=89))


def bad() -> Iterator[Case]:
    image = noise()
    whole = {
        "baseline.jpg": encode(image, "JPEG"),
        "progressive.jpg": encode(image, "JPEG", progressive=True),
        "photo.png": encode(image, "PNG"),
        "photo.webp": encode(image, "WEBP"),
        "photo.gif": encode(image, "GIF"),
        "photo.bmp": encode(image, "BMP"),
        "photo.tif": encode(image, "TIFF", compression="tiff_lzw"),
        "photo.avif": encode(image, "AVIF"),
        "photo.heic": HEIC,
    }
    for name, data in whole.items():
        yield Case(f"half {name}", data[: len(data) // 2], "damaged|not an image")
    yield Case("no end.jpg", whole["baseline.jpg"][:-60], "damaged")
    yield Case("only a head.jpg", whole["baseline.jpg"][:300], "damaged|not an image")
    yield Case("two bytes.jpg", b"\xff\xd8", "not an image")
    yield Case("empty.jpg", b"", "empty file")
    yield Case("text.jpg", b"this is no photo", "not an image")
    yield Case("page.png", b"<!doctype html><title>404</title>", "not an image")
    yield Case("zeros.jpg", bytes(5000), "not an image")
    yield Case("random.jpg", np.random.default_rng(0).bytes(5000), "not an image")
    yield Case("vector.svg.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image")
    yield Case("paper.pdf.jpg", b"%PDF-1.7\n", "not an image")
    yield Case("film.jpg", b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + bytes(500), "not an image")
    yield Case("layers.psd.jpg", b"8BPS\0\1" + bytes(500), "not an image")
    yield Case("archive.jpg", zip_bytes(), "not an image")
    flipped = bytearray(whole["photo.png"])
    flipped[len(flipped) // 2] ^= 0xFF
    yield Case("flipped bit.png", bytes(flipped), "damaged")
    yield Case("no data.png", raw_png(10, 10, 8, 2, b""), "damaged|not an image")
    yield Case("too little data.png", raw_png(10, 10, 8, 2, bytes(40)), "damaged")
    yield Case("no pixels.png", raw_png(0, 10, 8, 2, b"x"), "damaged|not an image")
    yield Case("bomb.png", raw_png(30000, 30000, 8, 2, bytes(10)), "bomb|pixels, more than")
    yield Case("large and grey.png", raw_png(9000, 9000, 16, 0, bytes(10)), "pixels, more than")
    text = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(2**27)))
    yield Case("bomb in text.png", raw_png(9, 9, 8, 0, bytes(90), text), "damaged")
    bomb = "bomb|pixels, more than"
    size = struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 99, 0, 0, 54, 40, 60000, 60000, 1, 24, 0, 0, 0, 0, 0, 0)
    yield Case("bomb.gif", b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\2\2L\1\0;", bomb)
    yield Case("bomb.bmp", size, bomb)
    yield Case("bomb.jpg", jpeg_of_size(whole["progressive.jpg"], 65000), bomb)
    yield Case("round and round.tif", b"II*\0\x08\0\0\0\0\0\x08\0\0\0", "damaged|not an image")
    yield Case("a folder.jpg", None, "a folder")
    yield Case("broken link.jpg", None, "broken link")
    yield Case("looping link.jpg", None, "cannot be read|broken link")
    yield Case("pipe.jpg", None, "not a regular file")
    yield Case("300 MB.jpg", None, "more than the 256 MiB")


def make(folder: Path) -> list[Case]:
    """Write all of them into ``folder``; those that this file system cannot hold are left out."""
    made = []
    folder.mkdir(parents=True, exist_ok=True)
    for case in [*good(), *bad()]:
        path = folder / case.name
        try:
            if case.data is not None:
                path.write_bytes(case.data)
            elif case.name == "a folder.jpg":
                path.mkdir()
            elif case.name == "broken link.jpg":
                path.symlink_to(folder / "nowhere")
            elif case.name == "looping link.jpg":
                path.symlink_to(path)
            elif case.name == "pipe.jpg":
                os.mkfifo(path)
            else:
                with path.open("wb") as file:
                    file.truncate(300 * 2**20)
        except (OSError, AttributeError):  # Windows has no pipes, and not all names
            continue
        made.append(case)
    return made


def left_half() -> Image.Image:
    image = Image.new("1", (96, 64), 0)
    image.paste(1, (0, 0, 48, 64))
    return image


def deep_grey() -> Image.Image:
    values = np.full((64, 96), 64 * 257, np.uint16)
    values[:, 48:] = 192 * 257
    return Image.fromarray(values)


def float_grey() -> Image.Image:
    values = np.full((64, 96), 0.25, np.float32)
    values[:, 48:] = 0.75
    return Image.fromarray(values)


def decode_grey(image: Image.Image, x: int) -> tuple[int, int, int]:
    value = image.getpixel((x, 0))
    assert isinstance(value, int)
    return value, value, value


def hole(image: Image.Image) -> int:
    """The palette's number for the right half."""
    found = image.quantize(2).getpixel((95, 0))
    assert isinstance(found, int)
    return found


def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 96, 3)).astype(np.uint8))


def lab_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


def zip_bytes() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.txt", "a")
    return file.getvalue()


def jpeg_of_size(data: bytes, side: int) -> bytes:
    """A JPEG that claims another size."""
    place = data.index(b"\xff\xc2") + 5
    return data[:place] + struct.pack(">HH", side, side) + data[place + 4 :]


HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAX1tZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAACJpbG9jAAAA"
    "AERAAAEAAQAAAAABoQABAAAAAAAAAFAAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRtAAAAAAABAAAA/WlwcnAAAADd"
    "aXBjbwAAAHZodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQAqQgEBA3AAAAMAkAAAAwAA"
    "AwAeoCCBBZbq5Ka5uAhoMCAAAAMDIAAAAwAhYgABAAZEAcFzwIkAAAATY29scm5jbHgAAQANAAaAAAAAFGlzcGUAAAAAAAAAQAAAAEAAAAAoY2xh"
    "cAAAAEAAAAABAAAAMAAAAAEAAAAAAAAAAv////AAAAACAAAAEHBpeGkAAAAAAwgICAAAABhpcG1hAAAAAAAAAAEAAQWBAgMFhAAAAFhtZGF0AAAA"
    "TCgBrxOA9SeBP//lnUV/5SOr/mMrMSreewf/5kc4v5CWrqBmkhmbjqXkRq4rxFMQgbpHFPVrz9vl+lBLITK0+85oxPl8X49zVz78mRg="
)
"""64×48 pixels, blue on the left and red on the right: encoding HEIC takes a library under the GPL."""
