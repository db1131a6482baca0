"""Every error that a client can see: its status, and one shape. Never a stack trace.

An error's status is that of its class, or else of the nearest class that it derives from.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, NamedTuple

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from ray.exceptions import RayActorError, RayError, RayTaskError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from lookalike.actors.query.deadline import DeadlineExceeded
from lookalike.actors.query.message import WireError
from lookalike.actors.writer import CollectionMovedError
from lookalike.cluster.coordinator.batching import OverloadedError
from lookalike.cluster.coordinator.collection import EncoderUnavailableError, PhotoGoneError, UnknownComponentError
from lookalike.cluster.coordinator.replica_set import ReplicaLostError, ShardUnavailableError
from lookalike.cluster.coordinator.search import UnknownImageError
from lookalike.cluster.coordinator.writes import WriterUnavailableError
from lookalike.cluster.http.schema import ErrorView
from lookalike.cluster.http.state import CollectionUnavailableError, UnknownCollectionError
from lookalike.errors import (
    Conflict,
    DiskFull,
    LookalikeError,
    NotFound,
    StorageUnavailable,
    StoreUnavailable,
    TooLarge,
    UndecodableImage,
)

logger = logging.getLogger(__name__)


class Meaning(NamedTuple):
    """What an error means to a client. ``message`` stands in for the error's own, where that is not for clients."""

    status: int
    code: str
    field: str | None = None
    message: str | None = None


INTERNAL = Meaning(500, "internal", message="something went wrong on the server; its log says what")
RESTARTING = Meaning(503, "unavailable", message="a part of the server is starting again; try again in a moment")
# The messages of storage name files, buckets and what an operator must do: they go to the log.
_STORE_DOWN = "the store cannot be read or written now; the server's log says why"

# By class, subclasses included; what is not listed is our own fault.
MEANINGS: Mapping[type[Exception], Meaning] = {
    UndecodableImage: Meaning(422, "undecodable_image", "image"),
    UnknownComponentError: Meaning(422, "unknown_component", "weights"),
    UnknownCollectionError: Meaning(404, "unknown_collection", "collection"),
    UnknownImageError: Meaning(404, "unknown_image", "image_id"),
    PhotoGoneError: Meaning(404, "no_photo", "image_id"),
    OverloadedError: Meaning(503, "overloaded"),
    DeadlineExceeded: Meaning(503, "deadline_exceeded"),
    ShardUnavailableError: Meaning(503, "shard_unavailable"),
    ReplicaLostError: Meaning(503, "shard_unavailable"),
    WireError: Meaning(503, "shard_unavailable", message="a shard is of another version; the server's log says more"),
    EncoderUnavailableError: Meaning(503, "encoder_unavailable"),
    WriterUnavailableError: Meaning(503, "writer_unavailable"),
    CollectionMovedError: Meaning(503, "collection_moved", "collection"),
    CollectionUnavailableError: Meaning(503, "collection_unavailable", "collection"),
    StorageUnavailable: Meaning(503, "storage_unavailable", message=_STORE_DOWN),
    StoreUnavailable: Meaning(503, "store_unavailable", message=_STORE_DOWN),
    DiskFull: Meaning(507, "disk_full", message="the store is full; the server's log says where"),
    NotFound: Meaning(503, "store_unavailable", message=_STORE_DOWN),  # a file of the store, not what was asked for
    Conflict: Meaning(409, "conflict", message="others wrote the same at the same time; try again"),
    TooLarge: Meaning(503, "store_unavailable", message=_STORE_DOWN),
    RayActorError: RESTARTING,
}
HTTP_CODES = {400: "malformed_json", 404: "unknown_path", 405: "wrong_method", 413: "too_large", 503: "overloaded"}
ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorView} for status in (400, 404, 409, 413, 422, 500, 503, 507)
}


def meaning_of(error: BaseException) -> Meaning:
    """Find what an error means, by its class and those that it derives from."""
    return next((MEANINGS[cls] for cls in type(error).__mro__ if cls in MEANINGS), INTERNAL)


def root_of(error: BaseException) -> BaseException:
    """Unwrap what an actor raised: Ray hands it over in an error of its own, whose message is a stack trace."""
    while isinstance(error, RayTaskError) and isinstance(error.cause, BaseException):
        error = error.cause
    return error


def _render(status: int, code: str, message: str, field: str | None = None) -> JSONResponse:
    headers = {"Retry-After": "1"} if status == 503 else None
    return JSONResponse({"error": {"code": code, "message": message, "field": field}}, status, headers)


async def _failed(request: Request, error: Exception) -> JSONResponse:
    """Render an error of ours, of Ray, or one that nobody expected."""
    root = root_of(error)
    meaning = meaning_of(root)
    if meaning.status == 500:
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    elif meaning.status > 500:
        logger.warning("%s %s: %s", request.method, request.url.path, root)
    return _render(meaning.status, meaning.code, meaning.message or str(root), meaning.field)


async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
    """Say the first thing that is wrong with a request, and where."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path")) or None
    kind = first["type"]
    if kind == "json_invalid" and first["loc"][0] == "body":
        return _render(400, "malformed_json", f"the body is not JSON: {first.get('ctx', {}).get('error', '')}")
    if kind == "extra_forbidden":
        return _render(422, "unknown_field", f"there is no field {field!r}", field)
    message = first["msg"].removeprefix("Value error, ")
    return _render(422, "invalid_field", f"{field}: {message}" if field else message, field)


async def _http(_: Request, error: HTTPException) -> JSONResponse:
    return _render(error.status_code, HTTP_CODES.get(error.status_code, "http_error"), str(error.detail))


HANDLERS: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
    LookalikeError: _failed,
    RayError: _failed,
    RequestValidationError: _invalid,
    HTTPException: _http,
    Exception: _failed,
}
