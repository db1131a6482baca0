"""The time that the encoder takes for one photo by itself: what a search by photo is compared with."""

from __future__ import annotations

import contextlib
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from worker import Worker

PHOTOS = 100


class EncoderProcess(Worker):
    """A model in a process of its own."""

    def __init__(self, model: Path) -> None:
        super().__init__(_encode, model)

    def one_photo(self) -> dict[str, float]:
        """Milliseconds and CPU milliseconds to encode one photo that is decoded: medians of a hundred."""
        taken: dict[str, float] = self.ask(PHOTOS)
        return taken


def _encode(pipe: Connection, model: Path) -> None:
    from lookalike.model.encoder import Encoder

    encoder = Encoder(model)
    pixels = np.random.default_rng(0).integers(0, 256, (1, *[encoder.spec.input_px] * 2, 3), np.uint8)
    with contextlib.suppress(EOFError):
        while True:
            photos = pipe.recv()
            encoder.encode(pixels)
            wall_ms, cpu_ms = [], []
            for _ in range(photos):
                begun, cpu = time.perf_counter(), time.process_time()
                encoder.encode(pixels)
                wall_ms.append(1e3 * (time.perf_counter() - begun))
                cpu_ms.append(1e3 * (time.process_time() - cpu))
            pipe.send({"p50_ms": round(float(np.median(wall_ms)), 3), "cpu_ms": round(float(np.median(cpu_ms)), 3)})
