"""How a photo comes in a request: as the body, or in base64 within JSON."""

from __future__ import annotations

import asyncio
import base64
from typing import Annotated

from fastapi import Body

from lookalike.errors import UndecodableImage

PhotoBody = Annotated[bytes, Body(media_type="image/*", description="A JPEG, PNG or WebP.")]


async def from_base64(text: str) -> bytes:
    """Decode base64, in a thread: the largest photo takes 0.3 s, and nobody else should wait for it.

    Raises
    ------
    UndecodableImage
        It is not base64.
    """
    try:
        return await asyncio.to_thread(base64.b64decode, text, validate=True)
    except ValueError as error:
        raise UndecodableImage("the photo is not base64") from error
