"""A photo to its codes."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from lookalike.cluster.http.photos import PhotoBody
from lookalike.cluster.http.schema import CodesView
from lookalike.cluster.http.state import ChosenCollection
from lookalike.cluster.http.views import hex_code
from lookalike.ingest.store.manifest import version_of

router = APIRouter(prefix="/v1/collections/{collection}")


@router.post("/encode", response_model=CodesView)
async def encode(collection: ChosenCollection, photo: PhotoBody) -> Response:
    """Turn a photo into its codes."""
    codes = await collection.encode(photo)
    return JSONResponse(
        {"model": version_of(collection.spec), "short": hex_code(codes.short), "long": hex_code(codes.long)}
    )
