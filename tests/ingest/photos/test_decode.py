"""Photos of every kind that strangers send, and things that are no photos."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lookalike.errors import UndecodableImage
from lookalike.ingest.photos.decode import MAX_SCANS, decode
from lookalike.ingest.photos.header import MAX_BYTES, media_type

RED, WHITE = (220, 30, 40), (255, 255, 255)


def encoded(photo: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    photo.save(buffer, kind, **options)
    return buffer.getvalue()


def half_red(width: int = 64, height: int = 64) -> Image.Image:
    """Red above, white below: rotations and flips show."""
    photo = Image.new("RGB", (width, height), WHITE)
    photo.paste(RED, (0, 0, width, height // 2))
    return photo


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def bomb(width: int, height: int) -> bytes:
    """A PNG that claims its sides; decoding its rubbish would give another reason than the sides."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b"rubbish") + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def assert_close(pixel: np.ndarray, colour: tuple[int, int, int], levels: int = 8) -> None:
    assert np.abs(pixel.astype(int) - colour).max() <= levels, (pixel, colour)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_decode_gives_a_square_of_rgb_for_each_format(kind: str) -> None:
    data = encoded(half_red(90, 60), kind)
    pixels = decode(data, 32)
    assert pixels.shape == (32, 32, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert_close(pixels[0, 16], RED)
    assert_close(pixels[-1, 16], WHITE)
    assert media_type(data) == f"image/{kind.lower()}"


def test_decode_keeps_the_whole_photo_and_repeats_its_edges() -> None:
    tall = Image.new("RGB", (40, 120), (0, 0, 255))
    tall.paste(RED, (0, 0, 20, 120))  # left half red
    pixels = decode(encoded(tall, "PNG"), 60)
    assert_close(pixels[30, 0], RED)  # repeated to the left
    assert_close(pixels[30, 24], RED)
    assert_close(pixels[30, 36], (0, 0, 255))
    assert_close(pixels[30, 59], (0, 0, 255))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_decode_rotates_by_exif_as_pillow_does(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = half_red(96, 48)
    stored.paste((0, 90, 0), (0, 0, 30, 24))
    data = encoded(stored, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    with Image.open(io.BytesIO(data)) as opened:
        from PIL import ImageOps

        upright = ImageOps.exif_transpose(opened)
    expected = decode(encoded(upright.convert("RGB"), "PNG"), 32)
    assert np.abs(decode(data, 32).astype(int) - expected).max() <= 12


@pytest.mark.parametrize("order", ["<", ">"])
def test_decode_reads_exif_of_either_byte_order_and_ignores_damaged(order: str) -> None:
    head = {"<": b"II*\0", ">": b"MM\0*"}[order]
    block = head + struct.pack(order + "IHHHIHH", 8, 1, 0x0112, 3, 1, 6, 0)
    turned = decode(encoded(half_red(), "JPEG", exif=b"Exif\0\0" + block), 32)
    assert_close(turned[16, -1], RED)  # turned clockwise
    upright = decode(encoded(half_red(), "JPEG", exif=b"Exif\0\0" + block[:14]), 32)
    assert_close(upright[0, 16], RED)


def test_decode_of_cmyk_as_adobe_writes_it() -> None:
    photo = Image.new("CMYK", (32, 32), (0, 255, 255, 0))  # magenta and yellow: red
    data = encoded(photo, "JPEG")
    assert b"Adobe" in data  # stored inverted, as Photoshop does
    assert_close(decode(data, 16)[8, 8], (255, 0, 0))


def test_decode_of_grey_palette_one_bit_and_sixteen_bit() -> None:
    for photo in (
        Image.new("L", (32, 32), 100),
        Image.new("RGB", (32, 32), (100, 100, 100)).quantize(4),
        Image.fromarray(np.full((32, 32), 100 * 256 + 77, np.uint16)),
    ):
        assert_close(decode(encoded(photo, "PNG"), 16)[8, 8], (100, 100, 100), levels=1)
    assert_close(decode(encoded(Image.new("1", (32, 32), 1), "PNG"), 16)[8, 8], WHITE)


def test_decode_lays_transparency_over_white() -> None:
    clear_black = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    clear_black.paste((*RED, 255), (0, 0, 32, 16))
    grey_alpha = Image.new("LA", (32, 32), (0, 0))
    palette = Image.new("P", (32, 32), 0)
    palette.putpalette([0, 0, 0, *RED])
    for photo, options in ((clear_black, {}), (grey_alpha, {}), (palette, {"transparency": 0})):
        pixels = decode(encoded(photo, "PNG", **options), 16)
        assert_close(pixels[-2, 8], WHITE)
    webp = decode(encoded(clear_black, "WEBP", lossless=True), 16)
    assert_close(webp[2, 8], RED)
    assert_close(webp[-2, 8], WHITE)
    # The black under the clear half must not darken the border: red over white is never darker than red.
    assert decode(encoded(clear_black, "PNG"), 9)[..., 1].min() >= RED[1] - 3


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_decode_of_an_animation_gives_its_first_frame(kind: str) -> None:
    second = Image.new("RGB", (64, 64), (0, 0, 0))
    data = encoded(half_red(), kind, save_all=True, append_images=[second], duration=100)
    assert_close(decode(data, 16)[2, 8], RED)


def test_decode_of_a_large_jpeg_is_that_of_its_pixels() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    large = Image.fromarray(noise).resize((1600, 1200), Image.Resampling.BICUBIC)
    by_dct = decode(encoded(large, "JPEG", quality=95), 64).astype(int)
    by_pixels = decode(encoded(large, "PNG"), 64)
    assert np.abs(by_dct - by_pixels).mean() < 2


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"Dear sir or madam,\nmy photo is attached.\n", "text, not a photo"),
        (b"<!DOCTYPE html><html>404</html>", "an HTML page"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"%PDF-1.7\n", "a PDF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC"),
        (b"PK\x03\x04\x14\0", "a ZIP"),
        (bytes(4096), "zeros"),
        (bytes(range(256)), "unknown bytes"),
        (encoded(Image.new("RGB", (20, 20)), "GIF"), "a GIF"),
        (b"\xff\xd8\xff\xe0", "truncated"),
        (b"\xff\xd8\xff\xd9" + bytes(100), "truncated"),
        (bomb(30_000, 30_000), "too many pixels: 30,000 x 30,000"),
        (bomb(10_001, 5_000), "too many pixels"),
        (bomb(2**31 - 1, 2**31 - 1), "too many pixels"),
        (bomb(0, 100), "describes no photo"),
        (bomb(1, 1), "too small"),
        (bomb(5_000, 10), "a strip"),
        (bomb(100, 100), "damaged"),
        (b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff" * 6, "too many pixels: 16,777,216 x"),
    ],
)
def test_decode_refuses_what_is_no_photo_with_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(UndecodableImage, match=reason):
        decode(data, 32)


def test_decode_refuses_too_many_bytes_and_too_many_scans() -> None:
    with pytest.raises(UndecodableImage, match="too many bytes"):
        decode(encoded(half_red(), "PNG") + bytes(MAX_BYTES), 32)
    progressive = encoded(half_red(), "JPEG", progressive=True)
    last_scan = progressive[progressive.rindex(b"\xff\xda") : -2]
    with pytest.raises(UndecodableImage, match="scans"):
        decode(progressive[:-2] + last_scan * MAX_SCANS + b"\xff\xd9", 32)
    decode(progressive, 32)


def test_decode_of_a_side_below_one_is_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="side_px"):
        decode(encoded(half_red(), "PNG"), 0)


def test_decode_warns_of_nothing_whatever_the_metadata_holds() -> None:
    rotten_exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0" + b"\x1a\x01\x05\0\xff\xff\xff\x7f\xff\xff\xff\x7f" * 5
    bad_animation = encoded(half_red(), "PNG")
    at = bad_animation.index(b"IDAT") - 4
    bad_animation = bad_animation[:at] + png_chunk(b"acTL", bytes(8)) + bad_animation[at:]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decode(encoded(half_red(), "JPEG", exif=rotten_exif), 32)
        decode(bad_animation, 32)
        with pytest.raises(UndecodableImage, match="too many pixels"):
            decode(bomb(10_000, 10_000), 32)  # Pillow itself would only warn


def test_decode_gives_the_same_pixels_in_threads() -> None:
    photos = [encoded(half_red(60 + i, 50), kind) for i in range(8) for kind in ("JPEG", "PNG", "WEBP")]
    alone = [decode(photo, 48) for photo in photos]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda photo: decode(photo, 48), photos * 4))
    np.testing.assert_array_equal(together, alone * 4)


SIDE_PX = 24


def noisy_photo(kind: str, **options: object) -> bytes:
    noise = np.random.default_rng(7).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, kind, exif=exif, **options)
    return buffer.getvalue()


PHOTOS = {
    "jpeg": noisy_photo("JPEG"),
    "progressive": noisy_photo("JPEG", progressive=True),
    "png": noisy_photo("PNG"),
    "webp": noisy_photo("WEBP"),
    "lossless webp": noisy_photo("WEBP", lossless=True),
}
WHOLE = {name: decode(photo, SIDE_PX) for name, photo in PHOTOS.items()}


@pytest.mark.parametrize("name", PHOTOS)
@settings(deadline=None)
@given(data=st.data())
def test_decode_of_a_cut_off_file_is_an_error_or_the_whole_photo(name: str, data: st.DataObject) -> None:
    photo = PHOTOS[name]
    length = data.draw(st.integers(0, len(photo) - 1) | st.integers(len(photo) - 40, len(photo) - 1))
    try:
        pixels = decode(photo[:length], SIDE_PX)
    except UndecodableImage:
        return
    # Only the end marker, or bits that no pixel needs, may be missing.
    assert length >= len(photo) - 8
    np.testing.assert_array_equal(pixels, WHOLE[name])


@pytest.mark.parametrize("name", PHOTOS)
@settings(deadline=None)
@given(data=st.data())
def test_decode_of_damage_gives_pixels_or_a_reason(name: str, data: st.DataObject) -> None:
    photo = bytearray(PHOTOS[name])
    early = st.integers(0, min(len(photo), 400) - 1)  # headers, where damage does most
    for _ in range(data.draw(st.integers(1, 8))):
        photo[data.draw(early | st.integers(0, len(photo) - 1))] = data.draw(st.integers(0, 255))
    with suppress(UndecodableImage):
        assert decode(bytes(photo), SIDE_PX).shape == (SIDE_PX, SIDE_PX, 3)


@settings(deadline=None)
@given(width=st.integers(8, 90), height=st.integers(8, 90), side_px=st.integers(1, 70))
def test_decode_of_a_plain_photo_stays_plain_at_any_size(width: int, height: int, side_px: int) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (10, 200, 90)).save(buffer, "PNG")
    pixels = decode(buffer.getvalue(), side_px)
    np.testing.assert_array_equal(pixels, np.full((side_px, side_px, 3), (10, 200, 90), np.uint8))
