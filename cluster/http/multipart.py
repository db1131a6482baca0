"""The parts of a ``multipart/form-data`` body, in memory, as they come.

The parser is the package ``multipart``: it searches for the boundary with ``bytearray.find``, so that no content makes
it slow, where parsers with a state per byte need seconds for 25 MB of line feeds.
"""

from __future__ import annotations

from collections.abc import Collection

from fastapi.exceptions import RequestValidationError
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from lookalike.cluster.http.json_body import invalid

MAX_HEADER_BYTES = 1024  # of a part: its name, file name and type
MAX_HEADERS = 4


class PartsReader:
    """Reads the parts with known names, each at most once; the largest size is the caller's affair.

    Raises ``RequestValidationError`` where the body is not such a form.
    """

    def __init__(self, content_type: str, names: Collection[str]) -> None:
        _, options = parse_options_header(content_type)
        boundary = options.get("boundary", "")
        if not 1 <= len(boundary) <= 70 or not boundary.isascii():
            raise _malformed("its Content-Type has no boundary of 1 to 70 characters")
        self._names = names
        self._parts: dict[str, list[bytes | bytearray]] = {}
        self._current: list[bytes | bytearray] = []
        self._parser = PushMultipartParser(
            boundary,
            max_header_size=MAX_HEADER_BYTES,
            max_header_count=MAX_HEADERS,
            max_segment_count=len(names) + 1,  # so that one too many is named
        )

    def feed(self, chunk: bytes) -> None:
        """Take the next piece of the body."""
        try:
            for event in self._parser.parse(chunk):
                if isinstance(event, MultipartSegment):
                    self._begin(event.name or "")
                elif event:
                    self._current.append(event)
        except MultipartError as error:
            raise _malformed(str(error)) from None

    def finish(self) -> dict[str, bytes]:
        """End the body, and give the content of its parts by name."""
        try:
            self._parser.close()
        except MultipartError as error:
            raise _malformed(str(error)) from None
        return {name: b"".join(pieces) for name, pieces in self._parts.items()}

    def _begin(self, name: str) -> None:
        if name not in self._names:
            raise invalid(f"there is no part {name!r}", "body", name, kind="extra_forbidden")
        if name in self._parts:
            raise invalid("is given twice", "body", name)
        self._current = self._parts[name] = []


def _malformed(reason: str) -> RequestValidationError:
    return invalid(f"the body is not multipart/form-data: {reason}", "body")
