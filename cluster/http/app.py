"""The HTTP server: the routes of every resource, put together over the collections that they serve."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.middleware import Middleware

from lookalike import __version__
from lookalike.cluster.http import encode, images, search, status
from lookalike.cluster.http.errors import ERROR_RESPONSES, HANDLERS
from lookalike.cluster.http.limits import Limits
from lookalike.cluster.http.schema import BODIES
from lookalike.cluster.http.state import ServerState
from lookalike.cluster.page import routes as page


class App(FastAPI):
    """The app, whose document has the models of the bodies that routes read by themselves, too."""

    def openapi(self) -> dict[str, Any]:
        """Make the OpenAPI document, once."""
        if self.openapi_schema is None:
            bodies: list[tuple[type[BaseModel], Literal["validation"]]] = [(model, "validation") for model in BODIES]
            _, definitions = models_json_schema(bodies, ref_template="#/components/schemas/{model}")
            document = super().openapi()
            document["components"]["schemas"] |= definitions["$defs"]
        return super().openapi()


def create_app(state: ServerState) -> FastAPI:
    """Put the routes together over the collections that they serve."""
    app = App(
        title="lookalike",
        version=__version__,
        description="Finds the catalogue images that look like yours.",
        exception_handlers=HANDLERS,
        responses=ERROR_RESPONSES,
        middleware=[Middleware(Limits), Middleware(search.SearchRoutes, state=state)],
        redoc_url=None,
    )
    app.state.server = state
    for module in (page, search, encode, images, status):
        app.include_router(module.router)
    return app
