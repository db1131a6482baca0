"""The HTTP server: the routes of every resource, put together over the collections that they serve."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from starlette.middleware import Middleware

from lookalike import __version__
from lookalike.cluster.http import encode, images, search, status
from lookalike.cluster.http.access import describe_access
from lookalike.cluster.http.errors import ERROR_RESPONSES, HANDLERS
from lookalike.cluster.http.limits import BodyLimit
from lookalike.cluster.http.state import ServerState
from lookalike.cluster.page import routes as page
from lookalike.cluster.settings import MAX_BODY_BYTES

MAX_BODY_BYTES_TOGETHER = 8 * MAX_BODY_BYTES


class _Api(FastAPI):
    """FastAPI, with the keys of access control in its document."""

    def openapi(self) -> dict[str, Any]:
        """Give the document."""
        if self.openapi_schema is None:
            describe_access(super().openapi())
        document: dict[str, Any] = super().openapi()
        return document


def create_app(state: ServerState) -> FastAPI:
    """Put the routes together over the collections that they serve."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        warming = asyncio.create_task(state.warm_up.run())
        yield
        warming.cancel()

    app = _Api(
        title="lookalike",
        version=__version__,
        description="Finds the catalogue images that look like yours.",
        exception_handlers=HANDLERS,
        responses=ERROR_RESPONSES,
        middleware=[Middleware(BodyLimit, max_bytes=MAX_BODY_BYTES, max_bytes_together=MAX_BODY_BYTES_TOGETHER)],
        docs_url=None,  # the page has them, without files from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.server = state
    for module in (page, search, encode, images, status):
        app.include_router(module.router)
    return app
