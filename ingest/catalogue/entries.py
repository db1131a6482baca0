"""One row of a catalogue: what it must have, what it may have, and what is said when it is wrong.

Rows come from strangers' tables, so nothing is trusted: a row that cannot be used becomes a `Problem`, an attribute
that cannot be read stays unknown, with a note on its `Entry`. Nothing is lost in silence. Which attributes there are,
their types and their limits come from `attributes.Attributes` alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from lookalike.ingest.attributes import MAX_ID_CHARS, Attributes, FilterKind, bad_id, columns, names_filtered
from lookalike.ingest.photos.location import normal_photo, printable, shown_photo

MAX_TEXT_CHARS = 131_072  # of any field: the csv module's own limit, kept for Parquet too
COLUMNS = frozenset({"image_id", "file", *columns()})
LEVEL = re.compile(r"level([1-9][0-9]?)")

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_SHOWN_CHARS = 40  # of a value that could not be read
_PLACE = names_filtered(FilterKind.PLACE)


@dataclass(frozen=True, slots=True)
class Entry:
    """One image of a catalogue.

    ``photo`` is a path relative to the catalogue's root, with ``/``, or a URL (``s3://``, ``https://``). ``notes`` tell
    which attributes could not be read, and why.
    """

    image_id: str
    photo: str
    attributes: Attributes
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
    reason = _bad_image_id(photo)
    if reason:
        return Problem(reason, file=printable(photo))
    try:
        normal = normal_photo(photo)
    except ValueError as error:
        return Problem(f"file {error}", file=printable(photo))
    if normal != photo:  # an object's key may be a//b.jpg, which no path is
        return Problem("file has an empty part in its path", file=printable(photo))
    return _entry(photo, photo, {"group": photo.rpartition("/")[0]}, {}, [])


def table_entry(fields: Mapping[str, str], row: int) -> Entry | Problem:
    """Read one row of a table.

    Parameters
    ----------
    fields : Mapping
        The values by column name, "" for unknown; bytes that were no UTF-8 as lone surrogates.
    row : int
        The row's position, for `Problem.row`.
    """
    image_id, file, photo = fields["image_id"].strip(), fields["file"].strip(), ""
    reason = _bad_image_id(image_id) or _too_long(fields)
    if not reason:
        try:
            photo = normal_photo(file)
        except ValueError as error:
            reason = f"file {error}"
    if reason:
        return Problem(reason, printable(image_id[:MAX_ID_CHARS]), printable(shown_photo(file)[:MAX_ID_CHARS]), row)
    notes: list[str] = []
    return _entry(image_id, photo, _values(fields, notes), fields, notes)


def _bad_image_id(image_id: str) -> str:
    reason = bad_id(image_id)
    return reason and f"image_id {reason}"


def _too_long(fields: Mapping[str, str]) -> str:
    if max(map(len, fields.values())) <= MAX_TEXT_CHARS:
        return ""
    name, text = max(fields.items(), key=lambda item: len(item[1]))
    return f"{name} has {len(text):,} characters; at most {MAX_TEXT_CHARS:,} are read"


def _values(fields: Mapping[str, str], notes: list[str]) -> dict[str, Any]:
    """Read what a row says of each attribute. What is empty or cannot be read is left out of the answer."""
    values: dict[str, Any] = {}
    levels: list[str] = []
    for name, text in fields.items():
        text = text.strip()
        if text and (read := _READERS.get(name)):
            try:
                values[name] = read(text)
            except ValueError:
                notes.append(_unread(name, text))
        elif text and LEVEL.fullmatch(name):  # level1, level2, ... come in order, and only without a group
            levels.append(text.replace("/", "-"))
    if levels:
        values["group"] = "/".join(levels)
    return values


def _entry(image_id: str, photo: str, values: dict[str, Any], fields: Mapping[str, str], notes: list[str]) -> Entry:
    """Check the attributes by their own rules; what breaks one becomes unknown, with a note."""
    while True:
        values.setdefault("listing_id", image_id)
        try:
            return Entry(image_id, photo, Attributes(**values), tuple(notes))
        except ValidationError as error:
            bad: set[str] = set()
            for detail in error.errors(include_url=False):
                bad.update((str(detail["loc"][0]),) if detail["loc"] else _PLACE)
                notes.append(_broken(detail, fields))
            if not bad & values.keys():
                raise  # a new rule over several attributes: say above which of them it makes unknown
            values = {name: value for name, value in values.items() if name not in bad}


def _broken(detail: ErrorDetails, fields: Mapping[str, str]) -> str:
    """Say which rule of `Attributes` is broken."""
    reason = str(detail.get("ctx", {}).get("error", "")) or detail["msg"]
    if not detail["loc"]:
        return reason
    name, value = str(detail["loc"][0]), detail["input"]
    if not isinstance(value, str):
        return _unread(name, fields[name].strip())
    if detail["type"] == "string_unicode":
        reason = "is not UTF-8"
    elif detail["type"] == "string_too_long":
        reason = f"has {len(value):,} characters; at most {detail['ctx']['max_length']:,} are allowed"
    return f"{name} {reason}" + ("; image_id stands in" if name == "listing_id" else "")


def _unread(name: str, text: str) -> str:
    """Say what should have stood in the place of a number or a time."""
    shown = f"{name} {text[:_SHOWN_CHARS]!r} is not"
    if _READERS[name] is _time:
        return f"{shown} a time of the years 1 to 9999 in UTC (write 2026-01-31 or 2026-01-31T12:00:00Z)"
    low, high = (_bound(name, side) for side in ("ge", "le"))
    limits = f" from {low:,.16g} to {high:,.16g}" if low is not None and high is not None else ""
    return f"{shown} a number{limits} (write 12.50, without a unit or a currency)"


def _bound(name: str, side: str) -> float | None:
    metadata = Attributes.model_fields[name].metadata
    return next((getattr(item, side) for item in metadata if hasattr(item, side)), None)


def _number(text: str) -> float:
    if not _NUMBER.fullmatch(text):  # float() also takes nan and 1_000
        raise ValueError
    return float(text)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _reader(kind: pa.DataType) -> Callable[[str], object]:
    """Choose what turns a table's text into a value of an attribute, or raises ValueError."""
    if pa.types.is_string(kind):
        return str
    if pa.types.is_floating(kind):
        return _number
    if pa.types.is_timestamp(kind):
        return _time
    raise TypeError(f"no text of a table can be read as {kind}")


_READERS = {name: _reader(column.arrow) for name, column in columns().items()}
