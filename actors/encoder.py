"""The encoder as Serve runs it for queries: one model. The only actor that imports TensorFlow."""

from __future__ import annotations

import asyncio

import numpy as np
from numpy.typing import NDArray

from lookalike import storage
from lookalike.model.encoder import Encoder
from lookalike.storage import Location

# Batches as they come from the callers, several times: each of TensorFlow's threads sets its own buffers up.
WARM_UP = (1, 8, 16, 16, 8, 1, 1)


class EncoderActor:
    """Hold one model and encode photos with it."""

    def __init__(self, model: Location) -> None:
        with storage.local_folder(model) as folder:
            self._encoder = Encoder(folder)
        side_px = self._encoder.spec.input_px
        for size in WARM_UP:
            self._encoder.encode(np.zeros((size, side_px, side_px, 3), np.uint8))

    @property
    def compilations(self) -> int:
        """How often the network was compiled."""
        return self._encoder.compilations

    async def encode(self, photos: NDArray[np.uint8]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Encode photos, uint8 (n, side, side, 3), to short and long codes, uint64 (n, words).

        The callers gather photos to batches; the codes do not depend on the batch.
        """
        made = await asyncio.to_thread(self._encoder.encode, photos)
        return made.short, made.long
