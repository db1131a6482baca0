"""The Serve ingress: it parses, asks, renders. What a request does stands in ``service.py``."""

# No `from __future__ import annotations` here: Serve ships the routes by value, and cloudpickle takes along only
# the names that the code uses, so annotations that are strings could not be resolved in the replica.

import time
from collections.abc import Mapping
from typing import Annotated

import ray
from fastapi import Body, FastAPI, Query
from fastapi.responses import JSONResponse, Response
from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.middleware import Middleware

from lookalike import __version__
from lookalike.actors.encoder import EncoderActor
from lookalike.actors.supervisor import find_supervisor
from lookalike.cluster.coordinator.collection import Codes, Collection
from lookalike.cluster.coordinator.search import ShardUnavailable
from lookalike.cluster.http.errors import ERROR_RESPONSES, HANDLERS, UnknownCollection
from lookalike.cluster.http.limits import BodyLimit
from lookalike.cluster.http.schema import (
    AnswerView,
    CodesView,
    ImageFields,
    ImageId,
    ImageSearchParams,
    NewImageId,
    SearchOptions,
    SearchRequest,
    StatusView,
    StoredImage,
    WriteView,
)
from lookalike.cluster.http.status import status_view
from lookalike.cluster.http.views import answer_view, hex_code, stored_view
from lookalike.cluster.page import routes as page
from lookalike.cluster.settings import MOST_BODY_BYTES, Settings
from lookalike.ingest.store.collection import Store, version_of

# More requests than this wait in the proxy: each may hold a photo in memory.
MOST_ONGOING = 256

app = FastAPI(
    title="lookalike",
    version=__version__,
    description="Finds the catalogue images that look like yours.",
    exception_handlers=HANDLERS,
    responses=ERROR_RESPONSES,
    middleware=[Middleware(BodyLimit, most_bytes=MOST_BODY_BYTES, most_bytes_together=8 * MOST_BODY_BYTES)],
    redoc_url=None,
)
app.include_router(page.router)

PHOTO_HEADERS = {"Cache-Control": "private, max-age=60", "X-Content-Type-Options": "nosniff"}
PhotoBody = Annotated[bytes, Body(media_type="image/*", description="A JPEG, PNG or WebP.")]


@serve.deployment(max_ongoing_requests=MOST_ONGOING, ray_actor_options={"num_cpus": 0})
@serve.ingress(app)
class Ingress:
    """Answer HTTP requests."""

    def __init__(
        self, settings: Settings, versions: Mapping[str, str], encoders: Mapping[str, DeploymentHandle]
    ) -> None:
        self._supervisor = find_supervisor()
        routes = ray.get(self._supervisor.routes.remote())
        self._collections = {
            name: Collection.connect(Store.open(settings.store, name, versions[name]), settings, shards, encoders[name])
            for name, shards in routes.items()
        }

    @app.post("/v1/collections/{collection}/search", response_model=AnswerView)
    async def search(self, collection: str, asked: SearchRequest) -> Response:
        """Find the images most like a stored one, or like a photo given in base64."""
        return await self._answer(collection, asked, asked.image_id, asked.image)

    @app.post("/v1/collections/{collection}/search/image", response_model=AnswerView)
    async def search_by_photo(
        self, collection: str, photo: PhotoBody, params: Annotated[ImageSearchParams, Query()]
    ) -> Response:
        """Find the images most like the photo in the body."""
        return await self._answer(collection, params.options(), None, photo)

    @app.post("/v1/collections/{collection}/encode", response_model=CodesView)
    async def encode(self, collection: str, photo: PhotoBody) -> Response:
        """Turn a photo into its codes."""
        chosen = self._collection(collection)
        short, long = await chosen.encode(photo)
        return JSONResponse({"model": version_of(chosen.spec), "short": hex_code(short), "long": hex_code(long)})

    # The ids of images may hold slashes (220232453/1), so this route must come before the next.
    @app.get("/v1/collections/{collection}/images/{image_id:path}/photo", response_class=Response)
    async def photo(self, collection: str, image_id: ImageId) -> Response:
        """Send the photo of a stored image."""
        content, media_type = await self._collection(collection).photo(image_id)
        return Response(content, media_type=media_type, headers=PHOTO_HEADERS)

    @app.get("/v1/collections/{collection}/images/{image_id:path}", response_model=StoredImage)
    async def image(self, collection: str, image_id: ImageId) -> Response:
        """Show a stored image."""
        row = await self._collection(collection).image(image_id)
        return JSONResponse(stored_view(collection, row))

    @app.put("/v1/collections/{collection}/images/{image_id:path}", response_model=WriteView)
    async def put(self, collection: str, image_id: NewImageId, fields: ImageFields) -> Response:
        """Add an image or replace it; it is durable when this returns, and searchable within a second."""
        await self._collection(collection).put(image_id, fields)
        return JSONResponse({"image_id": image_id, "status": "stored"})

    @app.delete("/v1/collections/{collection}/images/{image_id:path}", response_model=WriteView)
    async def delete(self, collection: str, image_id: ImageId) -> Response:
        """Remove an image."""
        await self._collection(collection).delete(image_id)
        return JSONResponse({"image_id": image_id, "status": "deleted"})

    @app.get("/v1/status", response_model=StatusView)
    async def status(self) -> StatusView:
        """Show collections, models, shards, lag, kernels and memory."""
        answers = await self._supervisor.status.remote()
        return status_view(__version__, self._collections, answers)

    @app.get("/healthz")
    async def healthz(self) -> dict[str, str]:
        """Say that this process lives."""
        return {"status": "alive"}

    @app.get("/readyz")
    async def readyz(self) -> Response:
        """Say whether every shard answers: 200, or 503."""
        ready = (await self.status()).ready
        return JSONResponse({"status": "ready" if ready else "not ready"}, 200 if ready else 503)

    async def _answer(
        self, collection: str, options: SearchOptions, image_id: str | None, photo: bytes | str | None
    ) -> Response:
        started = time.perf_counter()
        chosen = self._collection(collection)
        codes: Codes | None = None if photo is None else await chosen.encode(photo)
        answer = await chosen.search(options, image_id, codes)
        if options.require_all and answer.shards_answered < answer.shards_total:
            raise ShardUnavailable(f"only {answer.shards_answered} of {answer.shards_total} shards answered")
        took_ms = (time.perf_counter() - started) * 1e3
        return JSONResponse(answer_view(collection, chosen.spec, answer, took_ms))

    def _collection(self, name: str) -> Collection:
        if name not in self._collections:
            raise UnknownCollection(name, sorted(self._collections))
        return self._collections[name]


def serve_app(settings: Settings, stores: Mapping[str, Store]) -> serve.Application:
    """Bind the ingress and an encoder for each collection."""
    encoder = serve.deployment(EncoderActor, max_ongoing_requests=64, ray_actor_options={"num_cpus": 0})
    encoders = {
        name: encoder.options(name=f"encoder-{name}").bind(store.model_folder) for name, store in stores.items()
    }
    versions = {name: store.version for name, store in stores.items()}
    bound: serve.Application = Ingress.bind(settings, versions, encoders)  # type: ignore[attr-defined]
    return bound
