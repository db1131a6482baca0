"""Settings: read once, at the top, and passed down as values."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, field_validator

from lookalike.storage import Location

# A photo of 25 MB is 34 MB in base64; the rest is room for the other fields.
MAX_BODY_BYTES = 36 * 2**20


class Settings(BaseModel):
    """How to serve a store."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: str = Field(description="The store's root: a folder, or s3://bucket/prefix.")
    host: str = Field("127.0.0.1", description="Address to listen on. Beyond loopback, put your own proxy before it.")
    port: int = Field(8000, ge=1, le=65535)
    shards: PositiveInt | None = Field(None, description="Per collection; one per node if not given.")
    replicas: PositiveInt | None = Field(None, description="Copies of each shard; 1 if not given.")
    candidates_per_hit: PositiveInt = Field(256, description="Phase one keeps this many images per hit of `count`.")
    shard_timeout_s: PositiveFloat = Field(2.0, description="How long an answer waits for one replica of a shard.")
    search_timeout_s: PositiveFloat = Field(
        10.0, description="A search that has not begun in a shard after this time is dropped, and answered with 503."
    )
    photo_redirects: bool = Field(
        False, description="Send clients to a photo's own URL where it has one, rather than read and send the photo."
    )

    @field_validator("store", mode="before")
    @classmethod
    def _known_location(cls, store: object) -> str:
        return str(Location.parse(str(store)))

    @property
    def root(self) -> Location:
        """The store's root."""
        return Location.parse(self.store)
