"""The encoder as Serve runs it for queries: one model, dynamic batches. The only actor that imports TensorFlow."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from ray import serve

from lookalike.model.encoder import Encoder

# The codes do not depend on the batch, so a batch is only whatever waits: an idle encoder adds no delay.
MOST_PHOTOS = 16

Codes = tuple[NDArray[np.uint64], NDArray[np.uint64]]


class EncoderActor:
    """Hold one model and encode photos with it."""

    def __init__(self, model_folder: Path) -> None:
        self._encoder = Encoder(model_folder)
        side = self._encoder.spec.input_px
        self._encoder.encode(np.zeros((1, side, side, 3), np.uint8))  # the first call compiles

    @serve.batch(max_batch_size=MOST_PHOTOS, batch_wait_timeout_s=0)  # type: ignore[untyped-decorator]
    async def encode(self, photos: list[NDArray[np.uint8]]) -> list[Codes]:
        """Encode photos, each uint8 (side, side, 3), to short and long codes, uint64 (words,).

        Serve gathers the calls: each gives one photo and gets one pair.
        """
        made = await asyncio.to_thread(self._encoder.encode, np.stack(photos))
        return list(zip(made.short, made.long, strict=True))
