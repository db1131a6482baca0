"""The HTTP server: the routes of every resource, put together over the collections that they serve."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Literal

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.middleware import Middleware

from lookalike import __version__
from lookalike.cluster.http import encode, images, search, status
from lookalike.cluster.http.access import describe_access
from lookalike.cluster.http.errors import ERROR_RESPONSES, HANDLERS
from lookalike.cluster.http.limits import Limits
from lookalike.cluster.http.schema import BODIES
from lookalike.cluster.http.state import ServerState
from lookalike.cluster.page import routes as page


class App(FastAPI):
    """The app. Its document has the keys of access control, and the models of bodies that routes read themselves."""

    def openapi(self) -> dict[str, Any]:
        """Make the OpenAPI document, once."""
        if self.openapi_schema is None:
            bodies: list[tuple[type[BaseModel], Literal["validation"]]] = [(model, "validation") for model in BODIES]
            _, definitions = models_json_schema(bodies, ref_template="#/components/schemas/{model}")
            document = super().openapi()
            document["components"]["schemas"] |= definitions["$defs"]
            describe_access(document)
        return super().openapi()


def create_app(state: ServerState) -> FastAPI:
    """Put the routes together over the collections that they serve."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        warming = asyncio.create_task(state.warm_up.run())
        yield
        warming.cancel()

    app = App(
        title="lookalike",
        version=__version__,
        description="Finds the catalogue images that look like yours.",
        exception_handlers=HANDLERS,
        responses=ERROR_RESPONSES,
        middleware=[Middleware(Limits), Middleware(search.SearchRoutes, state=state)],
        docs_url=None,  # the page has them, without files from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.server = state
    for module in (page, search, encode, images, status):
        app.include_router(module.router)
    return app
