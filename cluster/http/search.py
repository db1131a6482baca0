"""Search by the id of a stored image, or by a photo."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response

from lookalike.actors.query.query import Descriptor, SearchOptions
from lookalike.cluster.coordinator.collection import ServedCollection
from lookalike.cluster.http.photos import PhotoBody, from_base64
from lookalike.cluster.http.schema import AnswerView, SearchParams, SearchRequest
from lookalike.cluster.http.state import ChosenCollection
from lookalike.cluster.http.views import answer_json

router = APIRouter(prefix="/v1/collections/{collection}")


@router.post("/search", response_model=AnswerView)
async def search(collection: ChosenCollection, body: SearchRequest) -> Response:
    """Find the images most like a stored one, or like a photo given in base64."""
    started = time.perf_counter()
    if body.image is not None:
        return await _answer(collection, body, await collection.encode(await from_base64(body.image)), started)
    return await _answer(collection, body, body.image_id or "", started)


@router.post("/search/image", response_model=AnswerView)
async def search_by_photo(
    collection: ChosenCollection, photo: PhotoBody, options: Annotated[SearchParams, Query()]
) -> Response:
    """Find the images most like the photo in the body."""
    started = time.perf_counter()
    return await _answer(collection, options, await collection.encode(photo), started)


async def _answer(
    collection: ServedCollection, options: SearchOptions, target: str | Descriptor, started: float
) -> Response:
    query = collection.query(options, target)
    answer = await collection.search(query)
    took_ms = (time.perf_counter() - started) * 1e3
    content = answer_json(collection.name, collection.spec, query, answer, took_ms)
    return Response(content, media_type="application/json")
