"""The limits around the app, by raw ASGI messages and in virtual time: a client does what no HTTP library would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import orjson
import pytest
from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message
from support.virtual_time import run

from lookalike.cluster.http.errors import HANDLERS
from lookalike.cluster.http.json_body import MAX_JSON_BYTES
from lookalike.cluster.http.lanes import MAX_SILENCE_S
from lookalike.cluster.http.limits import DRAIN_S, MAX_UPLOAD_BYTES, Limits

MB = 2**20
SEARCH = ("POST", "/v1/collections/default/search")
BY_PHOTO = ("POST", "/v1/collections/default/search/image")


class Client:
    """One connection to an app: sends what ``body`` gives, and takes answers as fast as ``read`` lets it."""

    def __init__(self, app: Any, route: tuple[str, str], body: AsyncIterator[Message] | None, **headers: str) -> None:
        self.sent: list[Message] = []
        self.complete = False
        self.reading: Callable[[], Any] | None = None
        self._gone = asyncio.Event()
        self._body = body if body is not None or "content_length" in headers else pieces()
        method, path = route
        names = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        if body is not None and "content_length" not in headers:
            names.append((b"transfer-encoding", b"chunked"))
        scope = {"type": "http", "method": method, "path": path, "headers": names, "query_string": b"", "root_path": ""}
        self.task = asyncio.create_task(app(scope, self._receive, self._send))

    @property
    def status(self) -> int | None:
        return self.sent[0]["status"] if self.sent else None

    @property
    def code(self) -> str:
        content = b"".join(message.get("body", b"") for message in self.sent[1:])
        return str(orjson.loads(content)["error"]["code"])

    def leave(self) -> None:
        self._gone.set()

    async def _receive(self) -> Message:
        if self._body is not None:
            with suppress(StopAsyncIteration):
                return await anext(self._body)
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if self.reading is not None and message["type"] == "http.response.body":
            await self.reading()
        self.sent.append(message)
        self.complete = message["type"] == "http.response.body" and not message.get("more_body", False)


async def pieces(*sizes: int, pause_s: float = 0.0, then: str = "end") -> AsyncIterator[Message]:
    """A body in pieces, at once or with pauses; then it ends, or stalls for ever."""
    for size in sizes:
        await asyncio.sleep(pause_s)
        yield {"type": "http.request", "body": bytes(size), "more_body": True}
    if then == "stall":
        await asyncio.sleep(1e9)
    yield {"type": "http.request", "body": b"", "more_body": False}


async def a_moment() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


class App:
    """An app whose routes say how much they received, once ``work`` is done."""

    def __init__(self) -> None:
        self.cancelled = 0
        self.work: Callable[[], Any] = lambda: asyncio.sleep(0)
        self.answer = b"ok"
        self.limits: Limits | None = None
        self.app = FastAPI(exception_handlers=HANDLERS, middleware=[Middleware(self._make)])
        for path in ("/v1/collections/{c}/search", "/v1/collections/{c}/search/image", "/photo", "/healthz"):
            self.app.add_api_route(path, self._respond, methods=["POST", "GET"])

    def _make(self, app: Any) -> Limits:
        self.limits = Limits(app)
        return self.limits

    async def _respond(self, request: Request) -> Response:
        try:
            received = len(await request.body())
            await self.work()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return Response(self.answer, headers={"x-received": str(received)})

    def client(self, route: tuple[str, str], body: AsyncIterator[Message] | None = None, **headers: str) -> Client:
        return Client(self.app, route, body, **headers)


@pytest.mark.parametrize(
    ("route", "content_type", "max_bytes"),
    [
        (SEARCH, "application/json", MAX_JSON_BYTES),
        (SEARCH, "image/jpeg", MAX_JSON_BYTES),
        (SEARCH, "multipart/form-data; boundary=x", MAX_UPLOAD_BYTES),
        (BY_PHOTO, "application/json", MAX_UPLOAD_BYTES),
        (("GET", "/photo"), "application/json", 2**16),
    ],
)
def test_limits_take_the_largest_body_and_refuse_one_byte_more(
    route: tuple[str, str], content_type: str, max_bytes: int
) -> None:
    async def main() -> None:
        app = App()
        for size, status in ((max_bytes, 200), (max_bytes + 1, 413)):
            whole = app.client(route, pieces(size), content_type=content_type)
            in_pieces = app.client(route, pieces(size // 2, size - size // 2), content_type=content_type)
            declared = app.client(route, pieces(size), content_type=content_type, content_length=str(size))
            for client in (whole, in_pieces, declared):
                await client.task
                assert (client.status, client.complete) == (status, True)
                assert status == 200 or client.code == "too_large"

    run(main())


def test_limits_refuse_a_declared_length_before_the_body_comes() -> None:
    async def main() -> None:
        client = App().client(BY_PHOTO, pieces(then="stall"), content_length=str(60 * MB))
        await a_moment()
        assert (client.status, client.code) == (413, "too_large")
        assert not client.complete, "the rest of the body is awaited, so that the client may read its answer"
        await client.task
        assert asyncio.get_running_loop().time() == pytest.approx(DRAIN_S)
        assert not client.complete, "the server cuts the connection"

    run(main())


def test_limits_refuse_before_the_body_has_ended_and_cut_who_sends_for_ever() -> None:
    async def main() -> None:
        endless = App().client(BY_PHOTO, pieces(*[MB] * 10_000))
        await endless.task
        assert (endless.status, endless.code, endless.complete) == (413, "too_large", False)

    run(main())


@pytest.mark.parametrize("route", [SEARCH, BY_PHOTO])
@pytest.mark.parametrize("sent", [(10,), (20_000, 20_000)])
def test_limits_end_a_body_that_stalls(route: tuple[str, str], sent: tuple[int, ...]) -> None:
    async def main() -> None:
        client = App().client(route, pieces(*sent, then="stall"))
        await client.task
        assert (client.status, client.code) == (408, "too_slow")
        assert asyncio.get_running_loop().time() <= MAX_SILENCE_S + DRAIN_S + 1

    run(main())


def test_limits_let_stalled_bodies_take_nobodys_place() -> None:
    """As many as there are places, in every lane; then good clients come, and all are answered at once."""

    async def main() -> None:
        app = App()
        stalled = [app.client(SEARCH, pieces(20_000, then="stall")) for _ in range(2000)]
        stalled += [app.client(BY_PHOTO, pieces(20 * MB, then="stall")) for _ in range(12)]
        stalled += [app.client(BY_PHOTO, pieces(20_000, then="stall")) for _ in range(1000)]
        await asyncio.sleep(1.5)
        before = asyncio.get_running_loop().time()
        good = [app.client(SEARCH, pieces(200)) for _ in range(32)]
        good += [app.client(BY_PHOTO, pieces(*[MB] * 20)) for _ in range(8)]
        good += [app.client(("GET", "/healthz")) for _ in range(8)]
        await asyncio.gather(*(client.task for client in good))
        assert {client.status for client in good} == {200}
        assert asyncio.get_running_loop().time() - before < 0.1
        for client in stalled:
            client.task.cancel()

    run(main())


def test_limits_refuse_with_429_while_all_places_are_at_work() -> None:
    async def main() -> None:
        app = App()
        app.work = lambda: asyncio.sleep(1)
        clients = [app.client(SEARCH, pieces(200)) for _ in range(1100)]
        await a_moment()
        refused = [client for client in clients if client.status == 429]
        assert len(refused) == 1100 - 1024
        assert {client.code for client in refused} == {"overloaded"}
        assert dict(refused[0].sent[0]["headers"])[b"retry-after"] == b"1"
        health = app.client(("GET", "/healthz"))
        await asyncio.gather(*(client.task for client in (*clients, health)))
        assert (health.status, clients[0].status) == (200, 200)
        assert app.limits is not None
        assert (app.limits.searches.working, app.limits.searches.held_bytes, app.limits.draining) == (0, 0, 0)

    run(main())


def test_limits_cancel_the_request_of_a_client_that_goes_away() -> None:
    async def main() -> None:
        app = App()
        app.work = lambda: asyncio.sleep(1000)
        clients = [app.client(SEARCH, pieces(100)), app.client(("GET", "/photo"))]
        await asyncio.sleep(1)
        for client in clients:
            client.leave()
        await asyncio.gather(*(client.task for client in clients))
        assert app.cancelled == 2
        assert asyncio.get_running_loop().time() < 2
        gone_early = app.client(BY_PHOTO, None, content_length="100")
        gone_early.leave()
        await gone_early.task
        assert gone_early.sent == []

    run(main())


def test_limits_cut_a_client_that_takes_its_answer_too_slowly() -> None:
    async def main() -> None:
        app = App()
        app.answer = bytes(25 * MB)
        slow, quick = app.client(("GET", "/photo")), app.client(("GET", "/photo"))
        slow.reading = lambda: asyncio.sleep(5)
        quick.reading = lambda: asyncio.sleep(0.1)
        await asyncio.gather(slow.task, quick.task)
        assert (slow.complete, quick.complete) == (False, True)
        assert b"".join(message.get("body", b"") for message in quick.sent) == app.answer

    run(main())


def test_limits_bound_the_answers_that_are_held_and_let_slow_readers_go_first() -> None:
    async def main() -> None:
        app = App()
        app.answer = bytes(25 * MB)
        slow = [app.client(("GET", "/photo")) for _ in range(10)]
        for client in slow:
            client.reading = lambda: asyncio.sleep(5)
        await asyncio.sleep(1)
        assert app.limits is not None
        assert app.limits.reads.held_bytes == 250 * MB
        good = [app.client(("GET", "/photo")) for _ in range(3)]
        await asyncio.gather(*(client.task for client in good))
        assert {(client.status, client.complete) for client in good} == {(200, True)}
        assert app.limits.reads.held_bytes <= app.limits.reads.max_bytes
        for client in slow:
            client.task.cancel()

    run(main())
