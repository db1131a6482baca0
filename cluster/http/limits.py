"""A limit on the size of a request's body, held while it arrives.

FastAPI has one too (``max_body_size``), but it answers in plain text and breaks off a client that is still sending.
"""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# A client that is still sending does not read, and would see a broken connection in place of the answer. So a body
# that is too large is received to its end and thrown away, up to this size.
MAX_DRAINED_BYTES = 256 * 2**20


class BodyTooLarge(HTTPException):
    """The body exceeds the limit: HTTP 413."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(413, f"the body is larger than {max_bytes // 2**20} MB")


class TooManyBodies(HTTPException):
    """The bodies of all requests in flight exceed the limit: HTTP 503."""

    def __init__(self) -> None:
        super().__init__(503, "too many large requests at once; try again in a moment", {"Retry-After": "1"})


class BodyLimit:
    """ASGI middleware that limits each body to ``max_bytes``, and those of all requests in flight together.

    Raises ``BodyTooLarge`` or ``TooManyBodies`` where the body is read.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, max_bytes_together: int) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._max_bytes_together = max_bytes_together
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a ``receive`` that counts."""
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            size = len(message.get("body", b""))
            received += size
            self._held += size
            if received > self._max_bytes:
                await _drain(message, receive, received)
                raise BodyTooLarge(self._max_bytes)
            if self._held > self._max_bytes_together:
                await _drain(message, receive, received)
                raise TooManyBodies
            return message

        try:
            await self._app(scope, limited if scope["type"] == "http" else receive, send)
        finally:
            self._held -= received


async def _drain(message: Message, receive: Receive, received: int) -> None:
    while message.get("more_body", False) and received <= MAX_DRAINED_BYTES:
        message = await receive()
        received += len(message.get("body", b""))
