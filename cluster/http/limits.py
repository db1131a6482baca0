"""What a client may cost, held at the door: ASGI middleware around everything that answers.

- A body has a largest size, a longest silence and a least rate; so has the taking of a large answer (``lanes``).
- Each kind of request has a lane, bounded in number and in bytes. A refusal is sent at once, before the body is read.
- A client that goes away cancels its request.

Serve would watch for clients that go away, but its watch takes in all of a body as fast as it comes, wanted or not, and
keeps it. ``deploy/haproxy`` tells it not to, so that what nobody has asked for stays in the sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from typing import cast

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lookalike.cluster.http.errors import response_to
from lookalike.cluster.http.json_body import MAX_JSON_BYTES, BodyTooLargeError
from lookalike.cluster.http.lanes import Lane, LaneFullError, Transfer, TransferTooSlowError
from lookalike.errors import LookalikeError
from lookalike.ingest.photos.header import MAX_BYTES as MAX_PHOTO_BYTES

MAX_UPLOAD_BYTES = MAX_PHOTO_BYTES + MAX_JSON_BYTES
# Nobody sends a body with a GET or a DELETE; some libraries send `{}`.
MAX_OTHER_BYTES = 64 * 2**10
# An answer is handed over in pieces of this size: what is not taken yet is not copied into the socket's buffer.
PIECE_BYTES = 64 * 2**10

# Most searches take milliseconds: a task that watches for a client that goes away would cost more than it saves.
WATCH_AFTER_S = 0.05
# A client that was refused while it sends may read its answer only when it has sent all: for so long and so much the
# rest is thrown away, for so many at once. Then the connection is cut.
DRAIN_S = 5.0
MAX_DRAINED_BYTES = 256 * 2**20
MAX_DRAINING = 256

STATUS_PATHS = frozenset(("/healthz", "/readyz", "/v1/status"))


class _Cut(Exception):
    """End the connection: the answer has begun, so that there is no other way to say it."""


class Limits:
    """ASGI middleware that holds every request to the limits of its kind."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.status = Lane("requests for the status", 256, 2**20)
        self.searches = Lane("searches", 1024, 64 * 2**20)
        self.uploads = Lane("photos", 128, 256 * 2**20)
        self.writes = Lane("writes", 256, 128 * 2**20)
        self.reads = Lane("requests", 256, 256 * 2**20, small_bytes=2**20)  # most photos are smaller
        self.draining = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        lane, max_bytes = self._kind(scope, headers)
        exchange = _Exchange(self, lane, max_bytes, scope, receive, send)
        try:
            refusal = exchange.begin(headers)
            if refusal is None:
                await self._app(scope, exchange.receive, exchange.send)
            else:
                await exchange.refuse(refusal)
        except asyncio.CancelledError:
            if not exchange.client_gone:
                raise
            exchange.task.uncancel()
        except (_Cut, ClientDisconnect):
            pass  # a server that is left without the end of an answer closes the connection
        finally:
            exchange.end()

    def _kind(self, scope: Scope, headers: dict[bytes, bytes]) -> tuple[Lane, int]:
        """The lane of a request, and the largest body it may have."""
        method: str = scope["method"]
        path: str = scope["path"]
        multipart = headers.get(b"content-type", b"").lower().startswith(b"multipart/")
        if method == "POST" and path.endswith("/search") and not multipart:
            return self.searches, MAX_JSON_BYTES
        if method == "POST":
            return self.uploads, MAX_UPLOAD_BYTES
        if method in ("PUT", "PATCH"):
            return self.writes, MAX_UPLOAD_BYTES if multipart else MAX_JSON_BYTES
        if method == "DELETE":
            return self.writes, MAX_OTHER_BYTES
        return self.status if path in STATUS_PATHS else self.reads, MAX_OTHER_BYTES


class _Exchange:
    """One request and its answer, with what has been received and sent of them."""

    def __init__(self, limits: Limits, lane: Lane, max_bytes: int, scope: Scope, receive: Receive, send: Send) -> None:
        self._limits = limits
        self._lane = lane
        self._max_bytes = max_bytes
        self._scope = scope
        self._receive = receive
        self._send = send
        self._transfer = Transfer(lane)
        self._body_ended = False
        self._received_bytes = 0
        self._start: Message | None = None
        self._refused = False
        self._watch: asyncio.TimerHandle | asyncio.Task[None] | None = None
        self.task = cast("asyncio.Task[object]", asyncio.current_task())
        self.client_gone = False

    def begin(self, headers: dict[bytes, bytes]) -> LookalikeError | None:
        """Begin to wait for the body, or to work; or say why the request is refused, without its body."""
        declared = headers.get(b"content-length", b"0")
        self._body_ended = declared == b"0" and b"transfer-encoding" not in headers
        if declared.isdigit() and int(declared[:20]) > self._max_bytes:
            return BodyTooLargeError(self._max_bytes)
        try:
            if self._body_ended:
                self._transfer.work()
                self._watch_client()
            else:
                self._lane.check()  # now rather than when all of the body has come
                self._transfer.wait()
        except LaneFullError as error:
            return error
        return None

    def end(self) -> None:
        """Give everything back."""
        if self._watch is not None:
            self._watch.cancel()
        self._transfer.leave()

    async def receive(self) -> Message:
        """Receive the next part of the body, or that the client has gone."""
        if self._body_ended:
            return await self._receive()
        message = await self._transfer.move(self._receive)
        size = len(message.get("body", b""))
        self._received_bytes += size
        self._transfer.moved(size)
        self._body_ended = not message.get("more_body", False)
        if self._received_bytes > self._max_bytes:
            raise BodyTooLargeError(self._max_bytes)
        self._transfer.hold(size)
        if self._body_ended:
            self._transfer.work()
            self._watch_client()
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the answer; a large one as fast as the client takes it, but no slower than it may."""
        if self._refused:
            return
        if message["type"] == "http.response.start":
            self._start = message  # it may have to become a refusal
            return
        start, self._start = self._start, None
        body: bytes = message.get("body", b"")
        try:
            if len(body) > PIECE_BYTES:
                self._transfer.hold(len(body))
        except LaneFullError as error:
            if start is None:
                raise _Cut from error
            await self.refuse(error)
            return
        if start is not None:
            await self._send(start)
        if len(body) > PIECE_BYTES:
            body = await self._send_pieces(body)
        if message.get("more_body", False):
            await self._send({"type": "http.response.body", "body": body, "more_body": True})
        else:
            await self._finish(body)

    async def refuse(self, error: LookalikeError) -> None:
        """Send an error in place of the answer."""
        response = await response_to(Request(self._scope), error)
        self._refused = True
        await self._send(
            {"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers}
        )
        with contextlib.suppress(_Cut):
            await self._finish(bytes(response.body))

    async def _send_pieces(self, body: bytes) -> bytes:
        """Send all of a body but its last piece, and wait until most of that is taken."""
        last = (len(body) - 1) // PIECE_BYTES * PIECE_BYTES
        self._transfer.wait()
        try:
            for first in range(0, last + 1, PIECE_BYTES):
                piece = body[first : min(first + PIECE_BYTES, last)]  # an empty one at the end: it waits for the others
                message = {"type": "http.response.body", "body": piece, "more_body": True}
                await self._transfer.move(functools.partial(self._send, message))
                self._transfer.moved(len(piece))
        except TransferTooSlowError as error:
            raise _Cut from error
        return body[last:]

    async def _finish(self, body: bytes) -> None:
        """Send the last of the answer, after what is left of the body was thrown away; or cut the connection."""
        if self._watch is not None:
            self._watch.cancel()  # a server also says of a request that is answered that its client has gone
        if self._body_ended:
            await self._send({"type": "http.response.body", "body": body})
            return
        await self._send({"type": "http.response.body", "body": body, "more_body": True})
        self.end()
        if self._limits.draining >= MAX_DRAINING:
            raise _Cut
        self._limits.draining += 1
        try:
            async with asyncio.timeout(DRAIN_S):
                await self._drain()
        except TimeoutError:
            raise _Cut from None
        finally:
            self._limits.draining -= 1
        await self._send({"type": "http.response.body"})

    async def _drain(self) -> None:
        while not self._body_ended:
            message = await self._receive()
            self._received_bytes += len(message.get("body", b""))
            self._body_ended = not message.get("more_body", False)
            if self._received_bytes > MAX_DRAINED_BYTES:
                raise _Cut

    def _watch_client(self) -> None:
        self._watch = asyncio.get_running_loop().call_later(WATCH_AFTER_S, self._begin_watch)

    def _begin_watch(self) -> None:
        self._watch = asyncio.create_task(self._cancel_when_gone())

    async def _cancel_when_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.client_gone = True
        self.task.cancel()
