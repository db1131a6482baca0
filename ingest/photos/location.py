"""Where a catalogue says that a photo is: a path below the catalogue's folder, ``s3://bucket/key`` or ``https://``.

The text comes from strangers' tables and, once stored, from the store: every way in goes through `normal_photo`, and
whatever is printed or stored of a refused one through `shown_photo`, since URLs may hold passwords and signatures.
"""

from __future__ import annotations

import re

from lookalike.ingest.attributes import CONTROL_CHARACTER, SURROGATE
from lookalike.storage.location import Location

MAX_PHOTO_CHARS = 4096  # of a path on Linux; of a URL, most servers take 8,192

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/")
# What is looked at closely; a path without any of it is normal as it is, and most are.
_UNUSUAL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]|:/|//|\A/|/\Z|(?:\A|/)\.")
_CREDENTIAL = re.compile(r"(?<=:/)/*[^/?#]*@")


def normal_photo(photo: str) -> str:
    """Check where a photo is said to be. Nothing is opened, so a link may still lead out of the folder.

    Returns
    -------
    str
        A path with neither empty parts nor ``.`` or ``..``, or the URL as `Location` writes it.

    Raises
    ------
    ValueError
        Its message goes on from the name of the field: ``is an absolute path; ...``.
    """
    if not photo:
        raise ValueError("is empty")
    if len(photo) > MAX_PHOTO_CHARS:
        raise ValueError(f"has {len(photo):,} characters; at most {MAX_PHOTO_CHARS:,} are allowed")
    if not _UNUSUAL.search(photo):
        return photo
    if CONTROL_CHARACTER.search(photo):
        raise ValueError("holds control characters")
    if SURROGATE.search(photo):
        raise ValueError("is not UTF-8")
    if is_url(photo):
        return str(_parsed(photo))
    if photo.startswith("/"):
        raise ValueError("is an absolute path; write it relative to the catalogue's folder")
    parts = photo.split("/")
    if ".." in parts:
        raise ValueError("has '..' in its path; all photos are below the catalogue's folder")
    normal = "/".join(part for part in parts if part not in ("", "."))
    if not normal:
        raise ValueError("is the catalogue's folder itself")
    if is_url(normal):  # ./s3:/a.jpg, and normal locations must be read back as what they are
        raise ValueError("is a path that reads like a URL; rename its first folder")
    return normal


def is_url(photo: str) -> bool:
    """Tell a URL from a path; what lost one of its two slashes counts as a URL, and is refused as such."""
    return _SCHEME.match(photo) is not None


def shown_photo(photo: str) -> str:
    """Leave a URL's password and query string out, so that the text may be logged, stored and answered."""
    return _CREDENTIAL.sub("/", photo).partition("?")[0] if is_url(photo) else photo


def printable(text: str) -> str:
    """Make any text safe to print and store: control characters and what is no UTF-8 become escapes."""
    return CONTROL_CHARACTER.sub(lambda found: repr(found[0])[1:-1], text).encode("utf-8", "backslashreplace").decode()


def _parsed(photo: str) -> Location:
    scheme = photo.partition(":")[0]
    if not photo.startswith("://", len(scheme)):
        raise ValueError(f"lost a slash: write {scheme}://")
    if scheme.lower() not in ("s3", "https"):
        raise ValueError(f"is at {scheme}://, which is not read: write a path, s3://bucket/key or https://host/path")
    try:
        location = Location.parse(photo)
    except ValueError as error:
        raise ValueError(f"cannot be read as a URL: {error}") from None
    if not location.key:
        raise ValueError("names no photo, only where it is")
    return location
