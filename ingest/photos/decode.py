"""A photo's bytes to the pixels that the model sees: one square of RGB.

Photos come from strangers. Whatever can be refused is refused from the header, before a decoder allocates
anything, and of a JPEG or PNG only what makes pixels reaches Pillow: metadata is cut off first. That leaves
Pillow nothing to warn about (its warnings are process-wide, so no thread could silence them for itself) and
no ICC, XMP or text chunk to parse. The price: **ICC profiles are ignored**; every photo is read as sRGB.

The same bytes give the same pixels everywhere: there is one path and it has no options but the side.
"""

import io
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from lookalike.errors import UndecodableImage
from lookalike.ingest.photos.header import (
    PNG_SIGNATURE,
    START_OF_SCAN,
    check_sides,
    jpeg_segments,
    png_chunks,
    read_header,
    reason,
)

MAX_SCANS = 50  # of a progressive JPEG (usual: 10); each may cost 30 ms of decoding for 17 bytes of file

_PNG_PIXEL_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
# Frames, tables, the restart interval, and APP0 and APP14, which tell the colours; all else is metadata.
_JPEG_PIXEL_MARKERS = frozenset({*range(0xC0, 0xD0), 0xDB, 0xDC, 0xDD, 0xE0, 0xEE} - {0xC8})
_EXIF_ORIENTATION = 0x0112
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# What Pillow's Python halves raise on damaged files; each means that the file is at fault, none that we are.
_DECODER_ERRORS = (
    ArithmeticError,
    AssertionError,
    EOFError,
    LookupError,
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


def decode(data: bytes, side_px: int) -> NDArray[np.uint8]:
    """Decode a JPEG, PNG or WebP to a square of RGB that shows the whole photo.

    The photo keeps its proportions; its longer side becomes ``side_px`` and the rest of the square repeats
    the edge pixels, so a plain studio background simply goes on. EXIF rotation is applied; transparency is
    laid over white; grey, palette, 16-bit and CMYK photos become RGB; of an animation the first frame is
    taken. ICC profiles are ignored. Safe in threads: nothing global is touched and Pillow releases the GIL.

    Parameters
    ----------
    data : bytes
        A whole file.
    side_px : int
        At least 1.

    Returns
    -------
    ndarray of uint8, shape (side_px, side_px, 3), C-contiguous

    Raises
    ------
    UndecodableImage
        With a short reason: empty, over `MAX_BYTES`, not a photo, truncated or damaged, over `MAX_PIXELS`, a
        side under `MIN_SIDE_PX`, or one side over `MAX_ASPECT` times the other. A cut-off file is never half
        a photo.
    ValueError
        ``side_px < 1``.
    """
    if side_px < 1:
        raise ValueError(f"side_px is {side_px}, but must be at least 1")
    photo, exif = _open(data)
    orientation = _orientation(exif)
    size = _fitted(photo.size, side_px)
    # libjpeg scales by 2, 4 or 8 while it decodes (12 megapixels: 25 ms). Left at twice the wanted size or
    # more, the last step still filters: at most 5 levels of 255 from the full decode, 0.8 on average.
    photo.draft(None, (2 * size[0], 2 * size[1]))
    try:
        photo.load()
        small = _rgb(_resizable(photo).resize(size, Image.Resampling.BICUBIC))
    except _DECODER_ERRORS as error:
        raise UndecodableImage(reason(error)) from error
    if orientation in _TRANSPOSE:
        small = small.transpose(_TRANSPOSE[orientation])
    return _squared(np.asarray(small), side_px)


def _open(data: bytes) -> tuple[ImageFile.ImageFile, bytes]:
    """Check the header and open the file without decoding it. Returns (photo, EXIF block)."""
    kind = read_header(data).media_type  # first: opening a WebP allocates its canvas
    photo: ImageFile.ImageFile
    try:
        if kind == "image/jpeg":
            pixels, exif = _jpeg_parts(data)
            photo = JpegImagePlugin.JpegImageFile(io.BytesIO(pixels))
        elif kind == "image/png":
            pixels, exif = _png_parts(data)
            photo = PngImagePlugin.PngImageFile(io.BytesIO(pixels))
        else:
            photo = WebPImagePlugin.WebPImageFile(io.BytesIO(data))
            exif = photo.info.get("exif", b"")
    except _DECODER_ERRORS as error:
        raise UndecodableImage(reason(error)) from error
    check_sides(*photo.size)  # of several frames or headers Pillow may take another one
    return photo, exif


def _jpeg_parts(data: bytes) -> tuple[bytes, bytes]:
    """Cut a JPEG's metadata off; what is left decodes to the same pixels. Returns (rest, EXIF block)."""
    kept, exif = [data[:2]], b""
    for marker, at, end in jpeg_segments(data):
        if marker == 0xE1 and not exif and data.startswith(b"Exif\0\0", at + 4):
            exif = data[at + 4 : end]
        if marker == START_OF_SCAN and data.count(b"\xff\xda", at) > MAX_SCANS:
            raise SyntaxError(f"more than {MAX_SCANS} scans")
        if marker == START_OF_SCAN or marker in _JPEG_PIXEL_MARKERS:
            kept.append(data[at:end])
    return b"".join(kept), exif


def _png_parts(data: bytes) -> tuple[bytes, bytes]:
    """Keep the chunks of a PNG that make its first frame. Returns (rest, EXIF block)."""
    kept, exif = [PNG_SIGNATURE], b""
    for kind, at, end in png_chunks(data):
        if kind in _PNG_PIXEL_CHUNKS:
            kept.append(data[at:end])
        elif kind == b"eXIf":
            exif = data[at + 8 : end - 4]
    return b"".join(kept), exif


def _orientation(exif: bytes) -> int:
    """Find the orientation (1 to 8) in an EXIF block; 1, upright, if it is empty or damaged."""
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, start)
        for at in range(start + 2, start + 2 + 12 * entries, 12):
            tag, field_type, _, value = struct.unpack_from(order + "HHIH", tiff, at)
            if tag == _EXIF_ORIENTATION and field_type == 3:  # 3: a 16-bit number
                return int(value)
    except struct.error:
        pass  # a block that ends early says nothing of the pixels
    return 1


def _fitted(size: tuple[int, int], side_px: int) -> tuple[int, int]:
    longer = max(size)
    width, height = (max(1, (side * side_px + longer // 2) // longer) for side in size)
    return width, height


def _resizable(photo: Image.Image) -> Image.Image:
    """Bring any mode to one that resizes well; RGBA does, with its colours weighted by alpha."""
    if photo.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion differs between its versions
        return Image.fromarray((np.asarray(photo) >> 8).astype(np.uint8))
    if photo.mode in ("LA", "PA") or "transparency" in photo.info:
        return photo.convert("RGBA")
    if photo.mode in ("L", "RGB", "RGBA", "CMYK"):
        return photo
    return photo.convert("RGB")


def _rgb(photo: Image.Image) -> Image.Image:
    if photo.mode == "RGBA":
        white = Image.new("RGBA", photo.size, "white")
        photo = Image.alpha_composite(white, photo)
    return photo.convert("RGB")


def _squared(pixels: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    """Centre a photo of shape (h, w, 3) in the square and repeat its edges where it does not reach."""
    missing = [side_px - length for length in pixels.shape[:2]]
    return np.pad(pixels, [*((gap // 2, gap - gap // 2) for gap in missing), (0, 0)], mode="edge")
