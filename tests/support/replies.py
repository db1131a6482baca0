"""A web server that answers as a test sets it to: what a proxy or a broken connection does cannot be had from ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass(frozen=True)
class Received:
    """A request as it came in; ``path`` is still quoted."""

    method: str
    path: str
    media_type: str | None
    body: bytes
    authorization: str | None = None


@dataclass
class Replies:
    """What to answer to every request, and what was received."""

    url: str = ""
    status: int = 200
    body: bytes = b"{}"
    location: str = ""
    cut_bytes: int = 0  # how much of the body is announced, but never sent
    received: list[Received] = field(default_factory=list)

    def answer(self, value: object, status: int = 200) -> None:
        """Answer with JSON from now on."""
        self.status, self.body, self.cut_bytes = status, json.dumps(value).encode(), 0


@contextmanager
def replying() -> Iterator[Replies]:
    """Run such a server on a free port."""
    replies = Replies()

    class Handler(BaseHTTPRequestHandler):
        def _reply(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = self.headers
            received = Received(
                self.command, self.path, headers.get("Content-Type"), body, headers.get("Authorization")
            )
            replies.received.append(received)
            self.send_response(replies.status)
            if replies.location:
                self.send_header("Location", replies.location)
            self.send_header("Content-Length", str(len(replies.body) + replies.cut_bytes))
            self.end_headers()
            self.wfile.write(replies.body)

        do_GET = do_POST = do_PUT = do_DELETE = _reply  # noqa: N815 - the names that http.server looks for

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that it has there
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        replies.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield replies
        finally:
            server.shutdown()
            thread.join()
