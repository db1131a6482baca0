"""Limits on bodies: one by one, and all together."""

from __future__ import annotations

import asyncio

import httpx
from fastapi import FastAPI, Request
from starlette.middleware import Middleware

from lookalike.cluster.http.errors import HANDLERS
from lookalike.cluster.http.limits import BodyLimit

MB = 2**20


def app_with_limits(together: asyncio.Barrier, arrived: asyncio.Event) -> FastAPI:
    """An app that answers once so many requests have arrived."""
    app = FastAPI(
        exception_handlers=HANDLERS,
        middleware=[Middleware(BodyLimit, max_bytes=2 * MB, max_bytes_together=3 * MB)],
    )

    @app.post("/size")
    async def size(request: Request) -> int:
        received = len(await request.body())
        arrived.set()
        await together.wait()
        return received

    return app


def test_body_limit_refuses_one_body_over_its_limit_and_all_together_over_theirs() -> None:
    async def run() -> None:
        transport = httpx.ASGITransport(app_with_limits(asyncio.Barrier(1), asyncio.Event()))
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            for _ in range(3):  # what was held is given back
                assert (await client.post("/size", content=bytes(2 * MB))).json() == 2 * MB
                too_large = await client.post("/size", content=bytes(2 * MB + 1))
                assert (too_large.status_code, too_large.json()["error"]["code"]) == (413, "too_large")

    asyncio.run(run())


def test_body_limit_counts_the_bodies_of_all_requests_in_flight() -> None:
    async def run() -> None:
        arrived = asyncio.Event()
        transport = httpx.ASGITransport(app_with_limits(asyncio.Barrier(2), arrived))
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            first = asyncio.create_task(client.post("/size", content=bytes(2 * MB)))
            await arrived.wait()
            second = await client.post("/size", content=bytes(2 * MB))
            assert (second.status_code, second.json()["error"]["code"]) == (503, "overloaded")
            third = await client.post("/size", content=bytes(MB))
            assert ((await first).json(), third.json()) == (2 * MB, MB)

    asyncio.run(run())
