"""Search by the id of a stored image, or by a photo.

Both routes are declared to FastAPI, for the document and for every path and method that is not exactly theirs. But
solving a route's dependencies costs more CPU than the search itself, so ``SearchRoutes`` answers them before FastAPI
sees them, by the same function.
"""

from __future__ import annotations

import time
from typing import Annotated, cast
from urllib.parse import parse_qsl

from fastapi import APIRouter, Query
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import ValidationError
from ray.exceptions import RayError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from lookalike.actors.query.query import Descriptor, SearchOptions
from lookalike.cluster.coordinator.collection import ServedCollection
from lookalike.cluster.http.body import photo_alone, photo_or_json, read_all, read_parts
from lookalike.cluster.http.errors import response_to
from lookalike.cluster.http.json_body import invalid, read_json, validate
from lookalike.cluster.http.photos import from_base64
from lookalike.cluster.http.schema import AnswerView, SearchParams, SearchRequest
from lookalike.cluster.http.state import ChosenCollection, ServerState, state_of
from lookalike.cluster.http.views import answer_json
from lookalike.errors import LookalikeError

QUERY_PART = "query"
_PREFIX, _BY_ID, _BY_PHOTO = "/v1/collections/", "/search", "/search/image"

router = APIRouter(prefix="/v1/collections/{collection}")


@router.post(
    "/search", response_model=AnswerView, openapi_extra=photo_or_json(SearchRequest, QUERY_PART, SearchOptions)
)
async def search(collection: str, request: Request) -> Response:
    """Find the images most like a stored one, or like a photo: one in base64 in the JSON, or a part of its own."""
    return await _search(state_of(request), collection, request.scope, request.receive)


@router.post("/search/image", response_model=AnswerView, openapi_extra=photo_alone())
async def search_by_photo(
    collection: ChosenCollection,
    request: Request,
    options: Annotated[SearchParams, Query()],  # noqa: ARG001 - for the document
) -> Response:
    """Find the images most like the photo in the body."""
    return await _search_by_photo(state_of(request), collection.name, request.scope, request.receive)


class SearchRoutes:
    """ASGI middleware that answers the two search routes, and hands everything else on."""

    def __init__(self, app: ASGIApp, state: ServerState) -> None:
        self._app = app
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a search."""
        path: str = scope.get("path", "")
        if scope["type"] == "http" and scope["method"] == "POST" and path.startswith(_PREFIX):
            for suffix, answer in ((_BY_ID, _search), (_BY_PHOTO, _search_by_photo)):
                name = path[len(_PREFIX) : -len(suffix)]
                if path.endswith(suffix) and name and "/" not in name:
                    try:
                        response = await answer(self._state, name, scope, receive)
                    except (LookalikeError, RayError, RequestValidationError, HTTPException) as error:
                        response = await response_to(Request(scope), error)
                    await response(scope, receive, send)
                    return
        await self._app(scope, receive, send)


async def _search(state: ServerState, name: str, scope: Scope, receive: Receive) -> Response:
    started = time.perf_counter()
    parts = await read_parts(scope, receive, QUERY_PART)
    if parts.photo is not None:
        given = read_json(parts.json, QUERY_PART)
        collection = state.collection(name)
        options = validate(SearchOptions, given, QUERY_PART)
        return await _answer(collection, options, await collection.encode(parts.photo), started)
    parsed = read_json(parts.json)
    collection = state.collection(name)
    request = validate(SearchRequest, parsed)
    if request.image is not None:
        return await _answer(collection, request, await collection.encode(await from_base64(request.image)), started)
    return await _answer(collection, request, request.image_id or "", started)


async def _search_by_photo(state: ServerState, name: str, scope: Scope, receive: Receive) -> Response:
    started = time.perf_counter()
    photo = await read_all(receive)
    collection = state.collection(name)
    options = _params(scope)
    if not photo:
        raise invalid("Field required", "body", kind="missing")
    return await _answer(collection, options, await collection.encode(photo), started)


def _params(scope: Scope) -> SearchParams:
    """Read the options in the query string; of one that is given twice, the last counts."""
    given = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
    try:
        return cast(SearchParams, SearchParams.model_validate(given))
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
        raise RequestValidationError([{**one, "loc": ("query", *one["loc"])} for one in errors]) from None


async def _answer(
    collection: ServedCollection, options: SearchOptions, target: str | Descriptor, started: float
) -> Response:
    query = collection.query(options, target)
    answer = await collection.search(query)
    took_ms = (time.perf_counter() - started) * 1e3
    content = answer_json(collection.name, collection.spec, query, answer, took_ms)
    return Response(content, media_type="application/json")
