"""One row of a catalogue: what it must have, what it may have, and what is said when it is wrong.

Rows come from strangers' tables, so nothing is trusted: a row that cannot be used becomes a `Problem`, an
optional field that cannot be read becomes None with a note on its `Entry`. Nothing is lost in silence.
"""

import math
import os.path
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

MAX_ID_CHARS = 512
MAX_TEXT_CHARS = 131_072  # of any field: the csv module's own limit, kept for Parquet too

COLUMNS = frozenset(
    {
        "image_id",
        "file",
        "listing_id",
        "group",
        "title",
        "description",
        "price",
        "lat",
        "lon",
        "created_at",
        "colour",
        "brand",
    }
)
LEVEL = re.compile(r"level([1-9][0-9]?)")

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")  # how the tables' readers mark bytes that are not UTF-8
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Entry:
    """One image of a catalogue.

    ``photo`` is relative to the catalogue's root, with ``/``. ``group`` is the path of its level names,
    joined by ``/``, or empty. ``created_at`` is in UTC. ``notes`` tell which optional fields could not be
    read, and why.
    """

    image_id: str
    photo: str
    listing_id: str
    group: str = ""
    title: str = ""
    description: str = ""
    price: float | None = None
    lat: float | None = None
    lon: float | None = None
    created_at: datetime | None = None
    colour: str = ""
    brand: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """A row or file that is left out, and why.

    ``row`` is the line of a CSV (where the row ends; the header is line 1), the row of a Parquet table (from
    1), or None for a file of a folder. ``image_id`` and ``file`` are empty where unknown.
    """

    reason: str
    image_id: str = ""
    file: str = ""
    row: int | None = None


def photo_entry(photo: str) -> Entry | Problem:
    """Make the entry of a photo in a folder: its relative path is its id, its folders are its group."""
    reason = _bad_id(photo)
    if reason:
        return Problem(reason, file=printable(photo))
    return Entry(image_id=photo, photo=photo, listing_id=photo, group=photo.rpartition("/")[0])


def table_entry(fields: Mapping[str, str], row: int, root: Path) -> Entry | Problem:
    """Read one row of a table.

    Parameters
    ----------
    fields : Mapping
        The values by column name, "" for unknown; bytes that were no UTF-8 as lone surrogates.
    row : int
        Where the row stands, for `Problem.row`.
    root : Path
        The folder that ``file`` is relative to and must not leave; absolute and resolved.
    """
    image_id, file = fields["image_id"].strip(), fields["file"].strip()
    photo, reason = _photo(file, root)
    reason = _bad_row(fields) or _bad_id(image_id) or reason
    if reason:
        return Problem(reason, printable(image_id[:MAX_ID_CHARS]), printable(file[:MAX_ID_CHARS]), row)
    notes: list[str] = []
    lat = _number(fields, "lat", notes, -90, 90)
    lon = _number(fields, "lon", notes, -180, 180)
    if (lat is None) != (lon is None):
        notes.append("a place needs both lat and lon")
        lat = lon = None
    return Entry(
        image_id=image_id,
        photo=photo,
        listing_id=_listing_id(fields.get("listing_id", "").strip(), notes) or image_id,
        group=_group(fields),
        title=fields.get("title", "").strip(),
        description=fields.get("description", "").strip(),
        price=_number(fields, "price", notes, 0, math.inf),
        lat=lat,
        lon=lon,
        created_at=_time(fields.get("created_at", "").strip(), notes),
        colour=fields.get("colour", "").strip(),
        brand=fields.get("brand", "").strip(),
        notes=tuple(notes),
    )


def _bad_row(fields: Mapping[str, str]) -> str:
    for name, value in fields.items():
        if len(value) > MAX_TEXT_CHARS:
            return f"{name} has {len(value):,} characters; at most {MAX_TEXT_CHARS:,} are read"
        if _SURROGATE.search(value):
            return f"{name} is not UTF-8"
    return ""


def _bad_id(image_id: str) -> str:
    if not image_id:
        return "no image_id"
    if len(image_id) > MAX_ID_CHARS:
        return f"image_id has {len(image_id):,} characters; at most {MAX_ID_CHARS} are allowed"
    if _CONTROL.search(image_id):
        return "image_id holds control characters"
    if _SURROGATE.search(image_id):
        return "image_id is not UTF-8"
    return ""


def _photo(file: str, root: Path) -> tuple[str, str]:
    """Turn the ``file`` of a row into a location below the root. Returns (location, reason why not)."""
    if not file:
        return "", "no file"
    if _SCHEME.match(file):
        return "", f"{file.partition('://')[0]}:// is not supported yet: local files only"
    if _CONTROL.search(file):
        return "", "file holds control characters"
    location = os.path.relpath(root / file, root)  # purely of the text; `read_photo` looks at links
    if location == os.curdir or location == os.pardir or location.startswith("../"):
        return "", "file leads out of the catalogue's folder"
    return location, ""


def _listing_id(listing_id: str, notes: list[str]) -> str:
    if len(listing_id) > MAX_ID_CHARS or _CONTROL.search(listing_id):
        notes.append("listing_id is too long or holds control characters; image_id stands in")
        return ""
    return listing_id


def _group(fields: Mapping[str, str]) -> str:
    if "group" in fields:
        names = fields["group"].split("/")
    else:  # the columns level1, level2, ... come in order
        names = [value.replace("/", "-") for name, value in fields.items() if LEVEL.fullmatch(name)]
    return "/".join(name.strip() for name in names if name.strip())


def _number(fields: Mapping[str, str], name: str, notes: list[str], low: float, high: float) -> float | None:
    text = fields.get(name, "").strip()
    if not text:
        return None
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if math.isfinite(value) and low <= value <= high:
        return value
    limits = f"of at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
    notes.append(f"{name} {text[:40]!r} is not a number {limits} (write 12.50, without a currency)")
    return None


def _time(text: str, notes: list[str]) -> datetime | None:
    """Read an ISO 8601 date or time; without an offset it is UTC."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):  # overflow: an offset that leads out of the years 1 to 9999
        notes.append(f"created_at {text[:40]!r} is not a time (write 2026-01-31 or 2026-01-31T12:00:00Z)")
        return None


def printable(text: str) -> str:
    """Make any text safe to print and store: control characters and what is no UTF-8 become escapes."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text).encode("utf-8", "backslashreplace").decode()
