"""What HTTP clients send and see. Field names, limits and defaults are the contract; unknown fields are errors."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Json, model_validator

from lookalike.actors.query.filters import MOST_CONDITIONS, Filter, check_size

MOST_HITS = 1000
DEFAULT_HITS = 20
MOST_WEIGHT = 1000

Count = Annotated[
    int, Field(ge=1, le=MOST_HITS, strict=True, description=f"How many hits at the most, 1 to {MOST_HITS}.")
]


def _not_too_many(filters: tuple[Filter, ...]) -> tuple[Filter, ...]:
    check_size(filters)
    return filters


Filters = Annotated[
    tuple[Filter, ...],
    AfterValidator(_not_too_many),
    Field(max_length=MOST_CONDITIONS, description="Conditions on the hits; all must hold, before phase one."),
]
Weight = Annotated[int, Field(ge=0, le=MOST_WEIGHT, strict=True)]
Weights = Annotated[
    dict[str, Weight],
    Field(max_length=64, description="Weight per component, 0 to 1000, in place of the model's own."),
]
ImageId = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]


def _no_photo_path(image_id: str) -> str:
    if image_id.endswith("/photo"):
        raise ValueError("an image id may not end in /photo: that path is the photo of another")
    return image_id


NewImageId = Annotated[ImageId, AfterValidator(_no_photo_path)]
# Decoding base64 takes 0.3 s for the largest photo, so it is left to a thread of its own.
Photo = Annotated[str, Field(description="A JPEG, PNG or WebP, in base64.")]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SearchOptions(_Body):
    """How to search."""

    count: Count = DEFAULT_HITS
    filters: Filters = ()
    weights: Weights = Field(default_factory=dict)
    two_phase: bool = Field(True, description="false: rank every image by its long code, exactly and slower.")
    collapse: bool = Field(False, description="Only the best image of each listing.")
    verbose: bool = Field(False, description="Add the distance per component.")
    require_all: bool = Field(False, description="Fail with 503 rather than answer from some of the shards.")


class SearchRequest(SearchOptions):
    """A search by the id of a stored image, or by a photo."""

    image_id: ImageId | None = None
    image: Photo | None = None

    @model_validator(mode="after")
    def _one_question(self) -> Self:
        if (self.image_id is None) == (self.image is None):
            raise ValueError("give either image_id or image")
        return self


class ImageSearchParams(_Body):
    """How to search by a photo in the body: the same options, as query parameters."""

    count: Annotated[int, Field(ge=1, le=MOST_HITS)] = DEFAULT_HITS
    filters: Json[Filters] = Field((), description="JSON, as in the body of a search.")
    weights: Json[Weights] = Field(default_factory=dict, description='JSON: {"colour": 200}')
    two_phase: bool = True
    collapse: bool = False
    verbose: bool = False
    require_all: bool = False

    def options(self) -> SearchOptions:
        """The same options as a search by id has."""
        return SearchOptions.model_construct(**dict(self))


class ImageFields(_Body):
    """One image of a listing, to be stored with its photo."""

    image: Photo
    listing_id: ImageId | None = Field(None, description="The image id where it is not given.")
    group: str = Field("", max_length=1024, description="The path in the category tree: Apparel/Topwear/Shirts.")
    title: str = Field("", max_length=4096)
    description: str = Field("", max_length=65536)
    price: float | None = Field(None, ge=0, allow_inf_nan=False)
    lat: float | None = Field(None, ge=-90, le=90)
    lon: float | None = Field(None, ge=-180, le=180)
    created_at: datetime | None = None
    colour: str = Field("", max_length=256)
    brand: str = Field("", max_length=256)


class HitView(_Body):
    """A hit."""

    image_id: str
    listing_id: str
    group: str
    group_name: str
    distance: int = Field(description="Weighted Hamming distance of the long codes; 0 is the same descriptor.")
    photo: str = Field(description="Where the photo is, relative to this server.")
    components: dict[str, int] | None = Field(None, description="Hamming distance per component, in bits.")


class AnswerView(_Body):
    """The answer to a search. When `shards_answered` is less than `shards_total`, some images were not searched."""

    query_id: str
    count: int
    took_ms: float
    shards_answered: int
    shards_total: int
    hits: list[HitView]


class CodesView(_Body):
    """The codes of a photo, in hexadecimal: words of 64 bits, each most significant digit first."""

    model: str
    short: str
    long: str


class StoredImage(_Body):
    """A stored image."""

    image_id: str
    listing_id: str
    group: str
    group_name: str
    title: str
    description: str
    price: float | None
    lat: float | None
    lon: float | None
    created_at: datetime | None
    colour: str
    brand: str
    photo: str
    short: str
    long: str


class WriteView(_Body):
    """What a write did; it is durable, and searchable within a second."""

    image_id: str
    status: str


class ErrorBody(_Body):
    """What went wrong, for a program (`code`), for a person (`message`), and where (`field`)."""

    code: str
    message: str
    field: str | None = None


class ErrorView(_Body):
    """An error."""

    error: ErrorBody


class ShardView(_Body):
    """One shard: its replicas that answer, and what the first of them says."""

    rows: int
    replicas_answering: int
    replicas: int
    code_bytes: int
    lag_s: float | None
    kernel: str | None
    huge_pages: bool | None
    pids: list[int]
    trouble: str


class CollectionView(_Body):
    """One collection."""

    name: str
    model: str
    short_bits: int
    components: dict[str, dict[str, int]]
    rows: int
    bytes_per_million: float | None = Field(description="Codes and keys, counted from the arrays.")
    shards: list[ShardView]


class StatusView(_Body):
    """The whole server."""

    version: str
    ready: bool
    collections: list[CollectionView]
