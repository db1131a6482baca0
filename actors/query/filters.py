"""Conditions on a row's fields, and the rows of a shard that meet them.

    {"field": "group", "in": ["Shirts"]}            a leaf of the category tree, or any node above it
    {"field": "price", "gte": 10, "lt": 50}         also `created_at`, with ISO times
    {"field": "place", "within_km": 25, "of": [48.2, 16.4]}
    {"field": "title", "matches": "rote jacke"}     every word begins a word of the title
    {"not": {...}}, {"any": [...]}

A row without a value meets no condition on it, and so it meets the `not` of one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Protocol, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from lookalike.actors.index.columns import Categories

EARTH_RADIUS_KM = 6371.0088  # the mean radius of WGS 84 (IUGG)
MOST_VALUES = 1000
MOST_CONDITIONS = 32
MOST_DEPTH = 4

Mask = NDArray[np.bool_]
Value = Annotated[str, Field(max_length=512)]


class FilterableRows(Protocol):
    """What a condition reads of a shard's rows."""

    def __len__(self) -> int: ...
    def categories(self, field: str) -> Categories: ...
    def text(self, field: str) -> pa.ChunkedArray: ...
    def numbers(self, field: str) -> NDArray[np.float64]: ...


class _Condition(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OneOf(_Condition):
    """The field has one of these values; a group also lies below one of these nodes."""

    field: Literal["group", "colour", "brand", "listing_id", "image_id"]
    values: Annotated[tuple[Value, ...], Field(alias="in", min_length=1, max_length=MOST_VALUES)]

    def mask(self, rows: FilterableRows) -> Mask:
        """Which rows meet it: bool (n,)."""
        if self.field in ("listing_id", "image_id"):
            values = pa.array(self.values, pa.large_string())
            found: Mask = pc.is_in(rows.text(self.field), values).to_numpy()
            return found
        column = rows.categories(self.field)
        wanted = set(self.values)
        below = _below_any if self.field == "group" else set.__contains__
        return column.where([below(wanted, value) for value in column.values])


Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]


def _moment(value: object) -> datetime:
    """Read an ISO 8601 date or time; without a zone it is UTC."""
    if isinstance(value, str) and re.match(r"\d{4}-\d{2}-\d{2}", value):
        value = datetime.fromisoformat(value)
    if not isinstance(value, datetime):
        raise ValueError("a time is written 2026-01-31 or 2026-01-31T12:00:00Z")
    return value if value.tzinfo else value.replace(tzinfo=UTC)


Moment = Annotated[datetime, BeforeValidator(_moment)]


class _Range(_Condition):
    @model_validator(mode="after")
    def _some_bound(self) -> Self:
        if not self.model_dump(exclude={"field"}, exclude_none=True):
            raise ValueError("give at least one of gte, gt, lte, lt")
        return self


class PriceRange(_Range):
    """The price lies between the bounds given."""

    field: Literal["price"]
    gte: Number | None = None
    gt: Number | None = None
    lte: Number | None = None
    lt: Number | None = None

    def mask(self, rows: FilterableRows) -> Mask:
        """Which rows meet it: bool (n,)."""
        return _between(rows.numbers("price"), self.gte, self.gt, self.lte, self.lt)


class TimeRange(_Range):
    """The listing was created between the times given."""

    field: Literal["created_at"]
    gte: Moment | None = None
    gt: Moment | None = None
    lte: Moment | None = None
    lt: Moment | None = None

    def mask(self, rows: FilterableRows) -> Mask:
        """Which rows meet it: bool (n,)."""
        seconds = [None if t is None else t.timestamp() for t in (self.gte, self.gt, self.lte, self.lt)]
        return _between(rows.numbers("created_at"), *seconds)


class Near(_Condition):
    """The place lies within a distance of a point (latitude, longitude in degrees), along the surface."""

    field: Literal["place"]
    within_km: Annotated[float, Field(gt=0, le=20_100, allow_inf_nan=False)]
    of: tuple[Annotated[float, Field(ge=-90, le=90)], Annotated[float, Field(ge=-180, le=180)]]

    def mask(self, rows: FilterableRows) -> Mask:
        """Which rows meet it, by the haversine formula: bool (n,)."""
        lat, lon = np.radians(rows.numbers("lat")), np.radians(rows.numbers("lon"))
        lat0, lon0 = np.radians(self.of)
        half_chord = np.sin((lat - lat0) / 2) ** 2 + np.cos(lat) * np.cos(lat0) * np.sin((lon - lon0) / 2) ** 2
        near: Mask = half_chord <= np.sin(self.within_km / EARTH_RADIUS_KM / 2) ** 2
        return near


class Matches(_Condition):
    """Every word given begins a word of the title; case does not matter."""

    field: Literal["title"]
    words: Annotated[str, Field(alias="matches", min_length=1, max_length=200, pattern=r"\w")]

    def mask(self, rows: FilterableRows) -> Mask:
        """Which rows meet it: bool (n,)."""
        titles = rows.text("title")
        met = np.ones(len(rows), bool)
        for word in re.findall(r"\w+", self.words):
            # RE2's \b knows ASCII letters only, and would find "ber" in "über".
            beginning = rf"(?:^|[^\pL\pN_]){re.escape(word)}"
            met &= pc.match_substring_regex(titles, beginning, ignore_case=True).to_numpy()
        return met


class Not(_Condition):
    """The condition is not met; a row without a value meets this."""

    condition: Annotated[Filter, Field(alias="not")]

    def mask(self, rows: FilterableRows) -> Mask:
        """Which rows meet it: bool (n,)."""
        return ~self.condition.mask(rows)


class AnyOf(_Condition):
    """At least one of the conditions is met."""

    conditions: Annotated[tuple[Filter, ...], Field(alias="any", min_length=1, max_length=MOST_CONDITIONS)]

    def mask(self, rows: FilterableRows) -> Mask:
        """Which rows meet it: bool (n,)."""
        met: Mask = np.logical_or.reduce([condition.mask(rows) for condition in self.conditions])
        return met


def _kind(condition: Any) -> str | None:
    given = set(condition) if isinstance(condition, Mapping) else set()
    if given & {"gte", "gt", "lte", "lt"}:
        return "time" if condition.get("field") == "created_at" else "price"
    for operators, kind in (
        ({"in"}, "in"),
        ({"within_km", "of"}, "near"),
        ({"matches"}, "matches"),
        ({"not"}, "not"),
        ({"any"}, "any"),
    ):
        if given & operators:
            return kind
    return None


Filter = Annotated[
    Annotated[OneOf, Tag("in")]
    | Annotated[PriceRange, Tag("price")]
    | Annotated[TimeRange, Tag("time")]
    | Annotated[Near, Tag("near")]
    | Annotated[Matches, Tag("matches")]
    | Annotated[Not, Tag("not")]
    | Annotated[AnyOf, Tag("any")],
    Discriminator(
        _kind,
        custom_error_type="unknown_condition",
        custom_error_message="a filter has one of: in; gte, gt, lte, lt; within_km and of; matches; not; any",
    ),
]
Not.model_rebuild()
AnyOf.model_rebuild()


def allowed(filters: Sequence[Filter], rows: FilterableRows) -> Mask:
    """Which rows meet all of the filters: bool (n,)."""
    met = np.ones(len(rows), bool)
    for condition in filters:
        met &= condition.mask(rows)
    return met


def check_size(filters: Sequence[Filter], depth: int = 1) -> int:
    """Count conditions, those inside others too; each is a pass over a shard's rows.

    Raises
    ------
    ValueError
        There are more than ``MOST_CONDITIONS``, or they are nested deeper than ``MOST_DEPTH``.
    """
    if depth > MOST_DEPTH:
        raise ValueError(f"filters may be nested {MOST_DEPTH} deep")
    inner = [part for f in filters for part in ((f.condition,) if isinstance(f, Not) else getattr(f, "conditions", ()))]
    total = len(filters) + (check_size(inner, depth + 1) if inner else 0)
    if total > MOST_CONDITIONS:
        raise ValueError(f"there may be at most {MOST_CONDITIONS} conditions in all")
    return total


def bitmap(mask: Mask) -> NDArray[np.uint64]:
    """Pack a mask, bool (n,), as the kernels take it: row i is bit i % 64 of word i // 64."""
    packed = np.packbits(mask, bitorder="little")
    words = np.zeros(-(-len(mask) // 64) * 8, np.uint8)
    words[: len(packed)] = packed
    return words.view("<u8").astype(np.uint64, copy=False)


def _below_any(nodes: set[str], group: str) -> bool:
    """Whether a group (``Apparel/Topwear/Shirts``) is one of the nodes or below it, by path or by a bare name."""
    names = group.split("/")
    paths = {"/".join(names[: depth + 1]) for depth in range(len(names))}
    return bool(nodes & paths or nodes & set(names))


def _between(
    values: NDArray[np.float64], gte: float | None, gt: float | None, lte: float | None, lt: float | None
) -> Mask:
    met = ~np.isnan(values)
    for bound, compare in ((gte, np.greater_equal), (gt, np.greater), (lte, np.less_equal), (lt, np.less)):
        if bound is not None:
            met &= compare(values, bound)
    return met
