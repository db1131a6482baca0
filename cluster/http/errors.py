"""Every error that a client can see: its status, and one shape. Never a stack trace."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from ray.exceptions import RayActorError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from lookalike.cluster.coordinator.batching import Overloaded
from lookalike.cluster.coordinator.collection import EncoderUnavailable, NoPhoto, UnknownComponent
from lookalike.cluster.coordinator.search import NoSuchImage, ShardUnavailable
from lookalike.cluster.http.schema import ErrorView
from lookalike.errors import LookalikeError, StoreUnavailable, UndecodableImage

logger = logging.getLogger(__name__)


class UnknownCollection(LookalikeError):
    """There is no such collection: HTTP 404. Arguments: the name asked for, the names there are."""

    def __str__(self) -> str:
        return "there is no collection {!r}; there are: {}".format(self.args[0], ", ".join(self.args[1]) or "none")


# What is not listed is our own fault: 500.
STATUSES: dict[type[LookalikeError], tuple[int, str, str | None]] = {
    UndecodableImage: (422, "undecodable_image", "image"),
    UnknownComponent: (422, "unknown_component", "weights"),
    UnknownCollection: (404, "unknown_collection", "collection"),
    NoSuchImage: (404, "unknown_image", "image_id"),
    NoPhoto: (404, "no_photo", "image_id"),
    Overloaded: (503, "overloaded", None),
    ShardUnavailable: (503, "shard_unavailable", None),
    EncoderUnavailable: (503, "encoder_unavailable", None),
    StoreUnavailable: (507, "store_unavailable", None),
}
ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorView} for status in (400, 404, 413, 422, 500, 503, 507)
}


def _render(status: int, code: str, message: str, field: str | None = None) -> JSONResponse:
    headers = {"Retry-After": "1"} if status == 503 else None
    body = {"error": {"code": code, "message": message, "field": field}}
    return JSONResponse(body, status, headers)


async def _expected(request: Request, error: Exception) -> JSONResponse:
    status, code, field = STATUSES.get(type(error), (500, "internal", None))  # type: ignore[arg-type]
    if status == 500:
        return await _unexpected(request, error)
    message = f"no image has the id {error}" if isinstance(error, NoSuchImage) else str(error)
    return _render(status, code, message, field)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    """Say the first thing that is wrong with a request, and where."""
    if not isinstance(error, RequestValidationError):
        raise error
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path")) or None
    kind = first["type"]
    if kind == "json_invalid":
        return _render(400, "malformed_json", f"the body is not JSON: {first.get('ctx', {}).get('error', '')}")
    if kind == "extra_forbidden":
        return _render(422, "unknown_field", f"there is no field {field!r}", field)
    message = first["msg"].removeprefix("Value error, ")
    return _render(422, "invalid_field", f"{field}: {message}" if field else message, field)


async def _http(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    codes = {400: "malformed_json", 404: "unknown_path", 405: "wrong_method", 413: "too_large", 503: "overloaded"}
    return _render(error.status_code, codes.get(error.status_code, "http_error"), str(error.detail))


async def _ray(request: Request, error: Exception) -> JSONResponse:
    logger.warning("%s %s: %s", request.method, request.url.path, error)
    return _render(503, "unavailable", "a part of the server is starting again; try again in a moment")


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _render(500, "internal", "something went wrong on the server; its log says what")


HANDLERS: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
    LookalikeError: _expected,
    RequestValidationError: _invalid,
    RayActorError: _ray,
    HTTPException: _http,
    Exception: _unexpected,
}
