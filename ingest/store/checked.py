"""Small JSON objects that carry a checksum: a flipped bit in one must never pass for another value."""

from __future__ import annotations

import json
import re
import zlib
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from lookalike.errors import StoreUnavailable
from lookalike.storage import Location

T = TypeVar("T", bound=BaseModel)

_CHECKSUM = re.compile(rb',"crc32":"([0-9a-f]{8})"\}\s*\Z')
_RESTORE = "put it back from a copy of the store"


def encode(value: BaseModel) -> bytes:
    """Give a value as JSON whose last member is the CRC-32 of what comes before it."""
    content = value.model_dump_json().encode()
    return content[:-1] + b',"crc32":"%08x"}' % zlib.crc32(content[:-1])


def decode(content: bytes, kind: type[T], location: Location, newest_format: int, *, restore: str = _RESTORE) -> T:
    """Read a value that ``encode`` wrote.

    Parameters
    ----------
    kind : type
        A model with a field ``format``.
    newest_format : int
        What this version can read.
    restore : str
        What to do when it is damaged.

    Raises
    ------
    StoreUnavailable
        It is damaged, or of a newer format; the message names it and says what to do.
    """
    checksum = _CHECKSUM.search(content)
    if checksum is None or int(checksum[1], 16) != zlib.crc32(content[: checksum.start()]):
        reason = "its checksum does not fit its content" if content else "it is empty"
        raise StoreUnavailable(f"{location.shown} is damaged: {reason}; {restore}")
    try:
        value = kind.model_validate_json(content[: checksum.start()] + b"}")
        written = value.model_dump(include={"format"})["format"]
    except ValidationError as error:  # a newer format may look like anything
        written = format_of(content)
        if written is None or written <= newest_format:
            raise StoreUnavailable(f"{location.shown} is damaged: {error.errors()[0]['msg']}; {restore}") from error
    else:
        if written <= newest_format:
            return value
    raise StoreUnavailable(
        f"{location.shown} has format {written}, but this lookalike reads formats up to {newest_format}; update it"
    )


def format_of(content: bytes) -> int | None:
    """The format that a JSON object says it has; None if it says nothing that can be read."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    written = value.get("format") if isinstance(value, dict) else None
    return written if isinstance(written, int) else None
