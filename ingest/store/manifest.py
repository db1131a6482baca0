"""What a collection's codes are: one small file that never changes after the collection is made."""

from __future__ import annotations

import re

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from lookalike import storage
from lookalike.errors import BadModel, NotFound, StoreUnavailable
from lookalike.ingest.store import checked
from lookalike.ingest.store.checked import format_of
from lookalike.model.spec import ModelSpec
from lookalike.storage import Location

FORMAT = 2
DEFAULT_BUCKETS = 16
MAX_BUCKETS = 4096
_COLLECTION_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class Manifest(BaseModel):
    """The shape of the codes, the model that made them, and how many buckets there are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: PositiveInt = FORMAT
    model: str
    model_digest: str
    buckets: int = Field(ge=1, le=MAX_BUCKETS)
    short_words: PositiveInt
    long_words: PositiveInt


def version_of(spec: ModelSpec) -> str:
    """The model version that names a collection's folder; models of other codes never share one."""
    return f"{spec.name}-{spec.version}-{spec.digest()[:8]}"


def check_name(collection: str) -> None:
    """Raise ``ValueError`` for a name that cannot be a collection's: it becomes a folder's name."""
    if not _COLLECTION_NAME.fullmatch(collection):
        raise ValueError(
            f"a collection is named by 1 to 63 of a-z, 0-9, '-' and '_', beginning with a letter or digit; "
            f"not {collection!r}"
        )


def read_spec(model: Location) -> ModelSpec:
    """Read the spec of a model, wherever it is.

    Raises
    ------
    BadModel
        It is missing or does not validate.
    """
    location = model / "model.json"
    try:
        return ModelSpec.model_validate_json(storage.read(location))
    except NotFound:
        raise BadModel(f"{location} is missing: {model} is not a model's folder") from None
    except ValidationError as error:
        raise BadModel(f"{location} is damaged: {error.errors()[0]['msg']}") from error


def read_manifest(folder: Location) -> Manifest:
    """Read the manifest of a version's folder.

    Raises
    ------
    StoreUnavailable
        It is missing, damaged, or of a format that this version cannot read; the message says which can.
    """
    location = folder / "manifest.json"
    try:
        content = storage.read(location)
    except NotFound:
        raise StoreUnavailable(f"{location} is missing: {folder} holds no model version of a collection") from None
    if format_of(content) == 1:
        raise StoreUnavailable(
            f"{folder} was written by lookalike 0.1; run `lookalike store upgrade` on its store once"
        )
    return checked.decode(content, Manifest, location, FORMAT)
