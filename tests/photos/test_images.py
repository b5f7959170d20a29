from __future__ import annotations

import contextlib
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from regraft.errors import ImageError
from regraft.photos import images
from regraft.photos.images import Transform, decode

PLAIN = Transform(64, 1.0, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def gradient(width: int = 96, height: int = 64) -> Image.Image:
    yy, xx = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([xx * 255 // width, yy * 255 // height, 0 * xx + 90], -1).astype(np.uint8))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF"])
def test_every_format_decodes_to_the_same_picture(kind: str) -> None:
    image = gradient()
    found = decode(encode(image, kind))
    assert found.mode == "RGB"
    assert np.abs(np.asarray(found, int) - np.asarray(image, int)).mean() < 8


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    upright = gradient()
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = upright if undo is None else upright.transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decode(encode(stored, "PNG", exif=exif))
    assert np.array_equal(np.asarray(found), np.asarray(upright))


def test_transparency_shows_white() -> None:
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    image.putpixel((0, 0), (255, 0, 0, 255))
    found = decode(encode(image, "PNG"))
    assert found.getpixel((3, 3)) == (255, 255, 255)
    assert found.getpixel((0, 0)) == (255, 0, 0)


def test_a_palette_with_transparency_shows_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 0, 0])
    image.putpixel((1, 0), 1)
    found = decode(encode(image, "PNG", transparency=0))
    assert found.getpixel((0, 0)) == (255, 255, 255)
    assert found.getpixel((1, 0)) == (200, 0, 0)


def test_grey_and_cmyk_become_rgb() -> None:
    grey = gradient().convert("L")
    assert np.array_equal(np.asarray(decode(encode(grey, "PNG")))[:, :, 0], np.asarray(grey))
    cmyk = Image.new("RGB", (32, 32), (200, 30, 40)).convert("CMYK")
    red, green, blue = decode(encode(cmyk, "JPEG", quality=95)).getpixel((16, 16))  # type: ignore[misc]
    assert red > 150 > 90 > green
    assert blue < 90


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    deep = np.array([[0, 256 * 64, 256 * 128, 65535]], np.uint16)
    found = np.asarray(decode(encode(Image.fromarray(deep), "PNG")))[0, :, 0]
    assert found.tolist() == [0, 64, 128, 255]


def test_sixteen_bit_tiff_is_scaled_too() -> None:
    deep = np.array([[0, 65535]], np.uint16)
    assert np.asarray(decode(encode(Image.fromarray(deep), "TIFF")))[0, :, 0].tolist() == [0, 255]


def test_floats_in_0_to_1_are_scaled() -> None:
    values = np.array([[0.0, 0.5, 1.0]], np.float32)
    assert np.asarray(decode(encode(Image.fromarray(values), "TIFF")))[0, :, 0].tolist() == [0, 128, 255]


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(data).getpixel((0, 0)) == (255, 0, 0)


def test_a_large_jpeg_is_decoded_scaled_down_and_never_too_small() -> None:
    data = encode(gradient(1600, 1200), "JPEG")
    assert decode(data).size == (1600, 1200)
    assert decode(data, at_least=288).size == (400, 300)
    assert decode(data, at_least=1000).size == (1600, 1200)


def test_scaled_decoding_gives_nearly_the_same_pixels() -> None:
    data = encode(gradient(1600, 1200), "JPEG", quality=95)
    exact = PLAIN.pixels(decode(data))
    assert np.abs(PLAIN.load(data).astype(int) - exact).mean() < 2


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"hello, I am text", "not an image"),
        (encode(gradient(), "JPEG")[:-400], "damaged"),
        (encode(gradient(), "PNG")[:60], "damaged"),
        (b"\xff\xd8\xff\xe0", "not an image"),
    ],
)
def test_bad_bytes_say_why(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        decode(data)


def test_too_many_pixels_are_refused_before_they_are_decoded() -> None:
    header = struct.pack(">IIBBBBB", 12000, 10000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    data = (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + struct.pack(">I", 0)
        + b"IDAT"
        + struct.pack(">I", zlib.crc32(b"IDAT"))
    )
    with pytest.raises(ImageError, match="12000×10000 pixels"):
        decode(data)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_bytes_never_raise_anything_else(data: st.DataObject) -> None:
    whole = bytearray(
        encode(gradient(24, 16), data.draw(st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF"])))
    )
    for _ in range(data.draw(st.integers(1, 5))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ImageError):
        assert decode(bytes(whole)).mode == "RGB"


def test_the_centre_crop_keeps_the_centre_and_squashing_keeps_all() -> None:
    image = Image.new("RGB", (300, 100), "blue")
    image.paste("red", (100, 0, 200, 100))
    assert (PLAIN.pixels(image)[:, 2:-2] == (255, 0, 0)).all()  # the filter reaches a little over the edge
    squashed = Transform(64, None, "bilinear", PLAIN.mean, PLAIN.std).pixels(image)
    assert squashed[32, 2].tolist() == [0, 0, 255]
    assert squashed[32, 32].tolist() == [255, 0, 0]


def test_a_transform_survives_json() -> None:
    import json

    assert Transform.from_dict(json.loads(json.dumps(PLAIN.to_dict()))) == PLAIN


def test_what_is_no_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    for name, reason in (("folder.jpg", "a folder"), ("gone.jpg", "broken link"), ("none.jpg", "no such file")):
        with pytest.raises(ImageError, match=reason):
            images.read(tmp_path / name)


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "big.jpg").open("wb") as file:
        file.truncate(images.MAX_BYTES + 1)
    with pytest.raises(ImageError, match="256 MiB a photo may have"):
        images.read(tmp_path / "big.jpg")


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="the superuser may read everything")
def test_what_may_not_be_read_says_so(tmp_path: Path) -> None:
    (tmp_path / "mine.jpg").write_bytes(b"x")
    (tmp_path / "mine.jpg").chmod(0)
    with pytest.raises(ImageError, match="permission denied"):
        images.read(tmp_path / "mine.jpg")
