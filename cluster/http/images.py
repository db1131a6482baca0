"""Stored images: read one, see its photo, add or replace one, remove one."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from fastapi import APIRouter, Depends
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request

from lookalike.cluster.coordinator.collection import PhotoUrl
from lookalike.cluster.http.body import photo_or_json, read_parts
from lookalike.cluster.http.json_body import read_json, validate
from lookalike.cluster.http.photos import from_base64
from lookalike.cluster.http.schema import ImageFields, StoredImage, WriteView
from lookalike.cluster.http.state import ChosenCollection
from lookalike.cluster.http.views import stored_view
from lookalike.ingest.attributes import Attributes, ImageId

FIELDS_PART = "fields"
PHOTO_HEADERS = {"Cache-Control": "private, max-age=60", "X-Content-Type-Options": "nosniff"}


async def _check_path(request: Request) -> None:
    """Refuse a path that is not UTF-8. Decoded, %E9 and %E8 are the same replacement character: one image's id."""
    try:
        unquote_to_bytes(request.scope.get("raw_path", b"")).decode()
    except UnicodeDecodeError:
        error = {"type": "value_error", "loc": ("path", "image_id"), "msg": "the path is not UTF-8"}
        raise RequestValidationError([error]) from None


router = APIRouter(prefix="/v1/collections/{collection}/images", dependencies=[Depends(_check_path)])


class _Id(Convertor[str]):
    """The rest of a path, whatever it holds. Starlette's ``path`` drops a line feed at the end: another image's id."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("id", _Id())


# Ids may hold slashes (220232453/1), so this route must come before that of the image itself.
@router.get(
    "/{image_id:id}/photo",
    response_class=Response,
    responses={200: {"content": {"image/*": {}}}, 307: {"description": "The photo's own URL."}},
)
async def photo(collection: ChosenCollection, image_id: ImageId) -> Response:
    """Send the photo of a stored image, or where to fetch it."""
    found = await collection.photo(image_id)
    if isinstance(found, PhotoUrl):
        return RedirectResponse(found.url, headers={"Cache-Control": "private, max-age=60"})
    return Response(found.content, media_type=found.media_type, headers=PHOTO_HEADERS)


@router.get("/{image_id:id}", response_model=StoredImage)
async def image(collection: ChosenCollection, image_id: ImageId) -> Response:
    """Show a stored image."""
    return JSONResponse(stored_view(collection.name, await collection.image(image_id)))


@router.put(
    "/{image_id:id}", response_model=WriteView, openapi_extra=photo_or_json(ImageFields, FIELDS_PART, Attributes)
)
async def put(collection: ChosenCollection, image_id: ImageId, request: Request) -> Response:
    """Add an image or replace it; it is durable when this returns, and searchable within a second."""
    parts = await read_parts(request.scope, request.receive, FIELDS_PART)
    if parts.photo is not None:
        fields = validate(Attributes, read_json(parts.json, FIELDS_PART), FIELDS_PART)
        await collection.put(image_id, fields, parts.photo)
    else:
        given = validate(ImageFields, read_json(parts.json))
        await collection.put(image_id, given, await from_base64(given.image))
    return JSONResponse({"image_id": image_id, "status": "stored"})


@router.delete("/{image_id:id}", response_model=WriteView)
async def delete(collection: ChosenCollection, image_id: ImageId) -> Response:
    """Remove an image."""
    await collection.delete(image_id)
    return JSONResponse({"image_id": image_id, "status": "deleted"})
