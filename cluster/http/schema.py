"""What HTTP clients send and see. Field names, limits and defaults are the contract; unknown fields are errors.

A model named ``...View`` describes an answer. Answers are rendered without it, since a model costs CPU for every hit;
a test compares every answer with the OpenAPI document that is made of these models.
"""

from __future__ import annotations

from typing import Annotated, Any, Self, get_origin

from pydantic import BaseModel, ConfigDict, Field, Json, create_model, model_validator
from pydantic.fields import FieldInfo
from pydantic.types import Strict

from lookalike.actors.query.query import SearchOptions
from lookalike.ingest.attributes import Attributes, ImageId

Base64Photo = Annotated[str, Field(description="A JPEG, PNG or WebP, in base64.")]


class SearchRequest(SearchOptions):
    """A search by the id of a stored image, or by a photo."""

    image_id: ImageId | None = None
    image: Base64Photo | None = None

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if (self.image_id is None) == (self.image is None):
            raise ValueError("give either image_id or image")
        return self


def _as_parameter(field: FieldInfo) -> Any:
    """Derive a query parameter: in a query string a number is text, and lists and objects are written as JSON."""
    metadata = [item for item in field.metadata if not isinstance(item, Strict)]
    value: Any = Annotated[(field.annotation, *metadata)] if metadata else field.annotation
    description = field.description
    if get_origin(field.annotation) in (tuple, dict):
        value = Json[value]  # type: ignore[misc]  # a type that is made at run time
        description = f"JSON, as in the body of a search. {description}"
    return value, Field(default=field.get_default(call_default_factory=True), description=description)


_PARAMETERS: dict[str, Any] = {name: _as_parameter(field) for name, field in SearchOptions.model_fields.items()}


class SearchParams(create_model("SearchParams", __base__=SearchOptions, **_PARAMETERS)):  # type: ignore[misc]
    """How to search by the photo in the body: every search option, as a query parameter."""


class ImageFields(Attributes):
    """One image of a listing, to be stored with its photo."""

    image: Base64Photo


class _View(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HitView(_View):
    """A hit."""

    image_id: str
    listing_id: str
    group: str
    group_name: str = Field(description="The last node of the group's path.")
    distance: float = Field(
        ge=0,
        description="Weighted Hamming distance of the long codes in bits, with two decimals at most: 0 is the same "
        "descriptor.",
    )
    similarity: float = Field(
        ge=0, le=1, description="1 - distance / the largest distance possible under these weights, to four decimals."
    )
    photo: str = Field(description="Where the photo is, relative to this server.")
    components: dict[str, int] | None = Field(None, description="Hamming distance per component, in bits.")


class AnswerView(_View):
    """The answer to a search. When `shards_answered` is less than `shards_total`, some images were not searched."""

    query_id: str
    count: int
    took_ms: float
    shards_answered: int
    shards_total: int
    hits: list[HitView]


class CodesView(_View):
    """The codes of a photo, in hexadecimal: words of 64 bits, each most significant digit first."""

    model: str
    short: str
    long: str


class StoredImage(Attributes):
    """A stored image."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    image_id: str
    group_name: str
    photo: str
    short: str
    long: str


class WriteView(_View):
    """What a write did; it is durable, and searchable within a second."""

    image_id: str
    status: str


class ErrorBody(_View):
    """What went wrong, for a program (`code`), for a person (`message`), and where (`field`)."""

    code: str
    message: str
    field: str | None


class ErrorView(_View):
    """An error."""

    error: ErrorBody


class DamagedView(_View):
    """What could not be read from the store and is left out; the rest is served."""

    rows: int
    segments: int


class ShardView(_View):
    """One shard: its replicas that answer, and what the first of them says; ages and errors are of the worst."""

    rows: int
    replicas_answering: int
    replicas: int
    code_bytes: int = Field(description="Codes and keys, counted from the arrays.")
    held_bytes: int = Field(description="All that is held of the rows, counted from the arrays.")
    rss_bytes: list[int] = Field(
        description="Memory of each answering replica's process as the system counts it, as `pids`."
    )
    lag_s: float | None = Field(description="How long ago a replica last knew itself up to date with the store.")
    kernel_variant: str | None = Field(description="The instruction set that the kernels run.")
    threads: int | None = Field(description="How many threads a search has in a replica.")
    huge_pages: bool | None
    pids: list[int]
    last_error: str = Field(description="What keeps a replica from following the store; empty: nothing.")
    last_error_age_s: float | None
    damaged: DamagedView


class ComponentView(_View):
    """A component of the long code."""

    bits: int
    weight: float = Field(description="What a differing bit counts unless a search says otherwise.")


class CollectionView(_View):
    """One collection."""

    name: str
    model: str
    short_bits: int
    components: dict[str, ComponentView]
    rows: int
    shards: list[ShardView]


class StatusView(_View):
    """The whole server."""

    version: str
    ready: bool
    collections: list[CollectionView]
    unavailable: dict[str, str] = Field(description="Collections that are not served, and why.")


class HealthView(_View):
    """Whether the process lives, or every shard answers."""

    status: str
