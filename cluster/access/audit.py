"""A line of JSON for each write: who changed which image, and what came of it.

The lines go to the logger ``lookalike.audit``, which prints them on the standard error of the process that answers
requests, and to a file if there is one. JSON in ASCII escapes whatever could end a line or fake one.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from io import TextIOWrapper
from typing import cast

from starlette.types import Message, Receive, Scope, Send

from lookalike.cluster.access.roles import image_of
from lookalike.errors import LookalikeError
from lookalike.storage import Location, private

logger = logging.getLogger("lookalike.audit")

Forward = Callable[[Scope, Receive, Send], Awaitable[None]]


class _AuditFile(logging.handlers.WatchedFileHandler):
    """Appends to a file that only its owner may read; opens it anew after it was moved, as log rotation does."""

    def __init__(self, file: Location) -> None:
        self._location = file
        super().__init__(file.path, encoding="utf-8", delay=True)

    def _open(self) -> TextIOWrapper:
        return cast(TextIOWrapper, private.open_to_append(self._location))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except LookalikeError:  # it cannot be opened
            self.handleError(record)


def start_audit(file: Location | None) -> None:
    """Print the lines of this process, and append them to ``file``."""
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if file is not None:
        handlers.append(_AuditFile(file))
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


async def audited(forward: Forward, scope: Scope, receive: Receive, send: Send, key: str | None) -> None:
    """Let a write be answered, and record it before the client hears of it.

    ``status`` is null where no answer was begun: the client went away, and the write may be done or not. A line that
    cannot be written is reported by ``logging`` on the standard error, and the write stands.
    """
    body_bytes = 0
    recorded = False

    async def counting() -> Message:
        nonlocal body_bytes
        message = await receive()
        body_bytes += len(message.get("body", b""))
        return message

    async def noting(message: Message) -> None:
        nonlocal recorded
        if message["type"] == "http.response.start":
            recorded = True
            _record(scope, key, message["status"], body_bytes)
        await send(message)

    try:
        await forward(scope, counting, noting)
    finally:
        if not recorded:
            _record(scope, key, None, body_bytes)


def _record(scope: Scope, key: str | None, status: int | None, body_bytes: int) -> None:
    collection, image_id = image_of(scope["path"]) or (None, None)
    line = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "key": key,
        "method": scope["method"],
        "collection": collection,
        "image_id": image_id,
        "status": status,
        "bytes": body_bytes,
    }
    logger.info("%s", json.dumps(line))
