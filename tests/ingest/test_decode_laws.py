"""Laws of decoding: a cut-off file never gives half a photo; damage gives pixels or a reason."""

import io
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lookalike.errors import UndecodableImage
from lookalike.ingest.photos.decode import decode

SIDE_PX = 24


def _photo(kind: str, **options: object) -> bytes:
    noise = np.random.default_rng(7).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, kind, exif=exif, **options)
    return buffer.getvalue()


PHOTOS = {
    "jpeg": _photo("JPEG"),
    "progressive": _photo("JPEG", progressive=True),
    "png": _photo("PNG"),
    "webp": _photo("WEBP"),
    "lossless webp": _photo("WEBP", lossless=True),
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
