"""The one table of row fields: every other declaration of a field is derived from this class.

An image has an id, a photo, two codes, and these attributes. Each is declared once: its type and limits (HTTP and
catalogues are checked by this class before a row is written), its column in the store, how a shard holds it in memory,
and which filter it takes. To add a field, add a line here.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Self

import pyarrow as pa
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

MAX_ID_CHARS = 512
MAX_GROUP_DEPTH = 32  # every shard holds each node of the tree
CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
SURROGATE = re.compile(r"[\ud800-\udfff]")


class Held(enum.Enum):
    """How a shard holds an attribute in memory."""

    ID = "beside the image id, as text: almost every row has another value"
    CATEGORY = "a number per row into a table of distinct values"
    NUMBER = "float64, NaN where there is none"
    TIME = "int64 microseconds since 1970, the smallest int64 where there is none"
    DEGREES = "int32 in units of 1e-7 degrees (1 cm), the smallest int32 where there is none"
    WORDS = "its words in an index in scratch files"
    NO = "in the store alone"


class FilterKind(enum.Enum):
    """Which condition a filter may put on an attribute."""

    VALUES = "in"
    TREE = "in, or below a node of the category tree"
    RANGE = "gte, gt, lte, lt"
    WORDS = "matches"
    PLACE = "within_km of: latitude and longitude together"


@dataclass(frozen=True, slots=True)
class Column:
    """What the store, a shard and the filters know of an attribute."""

    arrow: pa.DataType
    held: Held
    filter: FilterKind | None = None


def bad_id(image_id: str) -> str:
    """Say why a text cannot be an id, or nothing: the one rule for every way in."""
    if not image_id:
        return "is empty"
    if len(image_id) > MAX_ID_CHARS:
        return f"has {len(image_id):,} characters; at most {MAX_ID_CHARS} are allowed"
    if CONTROL_CHARACTER.search(image_id):
        return "holds control characters"
    if SURROGATE.search(image_id):
        return "is not UTF-8"
    if image_id.endswith("/photo"):
        return "ends in /photo: that path is the photo of another image"
    if any(part in (".", "..") for part in image_id.split("/")):
        return "has '.' or '..' between slashes: no client can request that path"
    return ""


def _check_id(image_id: str) -> str:
    reason = bad_id(image_id)
    if reason:
        raise ValueError(reason)
    return image_id


def _check_text(text: str) -> str:
    if SURROGATE.search(text):
        raise ValueError("is not UTF-8")
    return text


def _check_optional_id(text: str) -> str:
    return _check_id(text) if text else text


def _normalised_group(path: str) -> str:
    names = [name.strip() for name in _check_text(path).split("/") if name.strip()]
    if len(names) > MAX_GROUP_DEPTH:
        raise ValueError(f"has {len(names)} names; a path in the category tree has at most {MAX_GROUP_DEPTH}")
    return "/".join(names)


def _parse_time(value: object) -> datetime:
    """Take a date or time only as ISO 8601 text: a bare number would be read as seconds since 1970."""
    if isinstance(value, str) and re.match(r"\d{4}-?\d{2}-?\d{2}", value):
        return datetime.fromisoformat(value)
    if not isinstance(value, datetime):
        raise ValueError("a time is written 2026-01-31 or 2026-01-31T12:00:00Z")
    return value


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("lies outside the years 1 to 9999 in UTC") from None


ImageId = Annotated[str, Field(min_length=1, max_length=MAX_ID_CHARS), AfterValidator(_check_id)]
Text = AfterValidator(_check_text)
Moment = Annotated[datetime, BeforeValidator(_parse_time), AfterValidator(_in_utc)]
"""A time in UTC, given in ISO 8601; without an offset it is UTC."""


class Attributes(BaseModel):
    """What a listing says of an image. An empty text or None: unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    listing_id: Annotated[
        str,
        Field(max_length=MAX_ID_CHARS, description="The listing that the image belongs to; the image id if not given."),
        AfterValidator(_check_optional_id),
        Column(pa.string(), Held.ID, FilterKind.VALUES),
    ] = ""
    group: Annotated[
        str,
        Field(max_length=1024, description="The path in the category tree: Apparel/Topwear/Shirts."),
        AfterValidator(_normalised_group),
        Column(pa.string(), Held.CATEGORY, FilterKind.TREE),
    ] = ""
    title: Annotated[str, Field(max_length=4096), Text, Column(pa.string(), Held.WORDS, FilterKind.WORDS)] = ""
    description: Annotated[str, Field(max_length=65_536), Text, Column(pa.string(), Held.WORDS, FilterKind.WORDS)] = ""
    price: Annotated[
        float | None,
        Field(ge=0, le=1e15, allow_inf_nan=False, strict=True),
        Column(pa.float64(), Held.NUMBER, FilterKind.RANGE),
    ] = None
    lat: Annotated[
        float | None,
        Field(ge=-90, le=90, strict=True, description="Degrees north."),
        Column(pa.float64(), Held.DEGREES, FilterKind.PLACE),
    ] = None
    lon: Annotated[
        float | None,
        Field(ge=-180, le=180, strict=True, description="Degrees east."),
        Column(pa.float64(), Held.DEGREES, FilterKind.PLACE),
    ] = None
    created_at: Annotated[
        Moment | None,
        Field(description="ISO 8601; without an offset it is UTC."),
        Column(pa.timestamp("us", tz="UTC"), Held.TIME, FilterKind.RANGE),
    ] = None
    colour: Annotated[str, Field(max_length=256), Text, Column(pa.string(), Held.CATEGORY, FilterKind.VALUES)] = ""
    brand: Annotated[str, Field(max_length=256), Text, Column(pa.string(), Held.CATEGORY, FilterKind.VALUES)] = ""

    @model_validator(mode="after")
    def _whole_place(self) -> Self:
        if (self.lat is None) != (self.lon is None):
            raise ValueError("a place needs both lat and lon")
        return self


@cache
def columns() -> dict[str, Column]:
    """Every attribute's column, by name, in the order of declaration."""
    return {
        name: next(item for item in field.metadata if isinstance(item, Column))
        for name, field in Attributes.model_fields.items()
    }


def names_held(*held: Held) -> tuple[str, ...]:
    """The attributes that a shard holds in one of these ways."""
    return tuple(name for name, column in columns().items() if column.held in held)


def max_chars(names: Collection[str]) -> int:
    """The length of the longest text that one of these attributes can hold."""
    metadata = (item for name in names for item in Attributes.model_fields[name].metadata)
    return max(int(item.max_length) for item in metadata if hasattr(item, "max_length"))


def names_filtered(*kinds: FilterKind) -> tuple[str, ...]:
    """The attributes that take one of these filters."""
    return tuple(name for name, column in columns().items() if column.filter in kinds)
