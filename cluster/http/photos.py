"""A photo in base64 within JSON: small ones only, see ``json_body``."""

from __future__ import annotations

import asyncio
import base64

from lookalike.errors import UndecodableImage

# A thread costs 0.1 ms, and so does the decoding of this many characters.
FEW_CHARS = 64 * 2**10


async def from_base64(text: str) -> bytes:
    """Decode base64; what takes longer than a moment in a thread, since nobody else should wait for it.

    Raises
    ------
    UndecodableImage
        It is not base64.
    """
    try:
        if len(text) <= FEW_CHARS:
            return base64.b64decode(text, validate=True)
        return await asyncio.to_thread(base64.b64decode, text, validate=True)
    except ValueError as error:
        raise UndecodableImage("the photo is not base64") from error
