"""The body of a request: JSON, a photo as it is, or both as the parts of ``multipart/form-data``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from pydantic import BaseModel
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from lookalike.cluster.http.json_body import invalid
from lookalike.cluster.http.multipart import PartsReader

JSON = "application/json"
MULTIPART = "multipart/form-data"
PHOTO = "image/*"
IMAGE_PART = "image"


class Parts(NamedTuple):
    """What a request carries: its JSON, and the photo where that is a part of its own."""

    json: bytes
    photo: bytes | None


async def chunks(receive: Receive) -> AsyncIterator[bytes]:
    """Give the body as it comes.

    Raises
    ------
    ClientDisconnect
        The client went away before it had sent all.
    """
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        more = message.get("more_body", False)
        if body := message.get("body", b""):
            yield body


async def read_all(receive: Receive) -> bytes:
    """Read the whole body."""
    return b"".join([chunk async for chunk in chunks(receive)])


async def read_parts(scope: Scope, receive: Receive, json_part: str) -> Parts:
    """Read a body that is JSON, or a form with a photo and, in the part of this name, JSON.

    Raises
    ------
    RequestValidationError
        It is neither.
    """
    content_type = dict(scope["headers"]).get(b"content-type", b"").decode("latin-1")
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == MULTIPART:
        reader = PartsReader(content_type, (IMAGE_PART, json_part))
        async for chunk in chunks(receive):
            reader.feed(chunk)
        parts = reader.finish()
        if not parts.get(IMAGE_PART):
            raise invalid("Field required", "body", IMAGE_PART, kind="missing")
        return Parts(parts.get(json_part, b"{}"), parts[IMAGE_PART])
    content = await read_all(receive)
    if content and not _is_json(media_type):
        raise invalid(f"the body's Content-Type is {content_type!r}, neither {JSON} nor {MULTIPART}", "body")
    return Parts(content, None)


def _is_json(media_type: str) -> bool:
    return media_type.startswith("application/") and media_type.endswith(("/json", "+json"))


def photo_or_json(model: type[BaseModel], json_part: str, part_model: type[BaseModel]) -> dict[str, Any]:
    """Describe a body that ``read_parts`` reads, for the OpenAPI document."""
    form = {
        "type": "object",
        "required": [IMAGE_PART],
        "additionalProperties": False,
        "properties": {IMAGE_PART: _photo_schema(), json_part: _reference(part_model)},
    }
    content = {
        JSON: {"schema": _reference(model)},
        MULTIPART: {
            "schema": form,
            "encoding": {IMAGE_PART: {"contentType": PHOTO}, json_part: {"contentType": JSON}},
        },
    }
    return {"requestBody": {"required": True, "content": content}}


def photo_alone() -> dict[str, Any]:
    """Describe a body that is a photo, for the OpenAPI document."""
    return {"requestBody": {"required": True, "content": {PHOTO: {"schema": _photo_schema()}}}}


def _photo_schema() -> dict[str, Any]:
    return {"type": "string", "format": "binary", "description": "A JPEG, PNG or WebP, as it is; 25 MB at most."}


def _reference(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}
