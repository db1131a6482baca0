"""A photo to its codes."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from starlette.requests import Request

from lookalike.cluster.http.body import photo_alone, read_all
from lookalike.cluster.http.json_body import invalid
from lookalike.cluster.http.schema import CodesView
from lookalike.cluster.http.state import ChosenCollection
from lookalike.cluster.http.views import hex_code
from lookalike.ingest.store.manifest import version_of

router = APIRouter(prefix="/v1/collections/{collection}")


@router.post("/encode", response_model=CodesView, openapi_extra=photo_alone())
async def encode(collection: ChosenCollection, request: Request) -> Response:
    """Turn a photo into its codes."""
    photo = await read_all(request.receive)
    if not photo:
        raise invalid("Field required", "body", kind="missing")
    codes = await collection.encode(photo)
    return JSONResponse(
        {"model": version_of(collection.spec), "short": hex_code(codes.short), "long": hex_code(codes.long)}
    )
