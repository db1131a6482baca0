"""The encoder as Serve runs it for queries: one model. The only actor that imports TensorFlow."""

from __future__ import annotations

import asyncio

import numpy as np
from numpy.typing import NDArray

from lookalike import storage
from lookalike.model.encoder import Encoder
from lookalike.storage import Location


class EncoderActor:
    """Hold one model and encode photos with it."""

    def __init__(self, model: Location) -> None:
        with storage.local_folder(model) as folder:
            self._encoder = Encoder(folder)

    async def encode(self, photos: NDArray[np.uint8]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Encode photos, uint8 (n, side, side, 3), to short and long codes, uint64 (n, words).

        The callers gather photos to batches; the codes do not depend on the batch.
        """
        made = await asyncio.to_thread(self._encoder.encode, photos)
        return made.short, made.long
