"""An HTTP client of an app in the same process: real requests, no socket."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from fastapi import FastAPI
from starlette.types import ASGIApp

from support.contract import Contract


class AsgiClient:
    """Sends requests to an app one after the other, in one event loop. Every answer is compared with its contract."""

    def __init__(self, app: FastAPI, runner: asyncio.Runner, entry: ASGIApp, base_url: str) -> None:
        self.contract = Contract(app.openapi())
        transport = httpx.ASGITransport(entry, raise_app_exceptions=False)
        self._client = httpx.AsyncClient(transport=transport, base_url=base_url)
        self._runner = runner

    def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        """Send a request; see ``httpx.AsyncClient.request``."""
        response = self._runner.run(self._client.request(method, url, **options))
        self.contract.check(response)
        return response

    def get(self, url: str, **options: Any) -> httpx.Response:
        return self.request("GET", url, **options)

    def post(self, url: str, **options: Any) -> httpx.Response:
        return self.request("POST", url, **options)

    def put(self, url: str, **options: Any) -> httpx.Response:
        return self.request("PUT", url, **options)

    def delete(self, url: str, **options: Any) -> httpx.Response:
        return self.request("DELETE", url, **options)


@contextmanager
def client_of(app: FastAPI, entry: ASGIApp | None = None, base_url: str = "http://app") -> Iterator[AsgiClient]:
    """A client of the app, until the block ends; ``entry``: of what is around the app."""
    with asyncio.Runner() as runner:
        yield AsgiClient(app, runner, entry or app, base_url)
