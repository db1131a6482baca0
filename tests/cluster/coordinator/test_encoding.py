"""A photo to its codes: once for all who ask within a minute, and a failure for nobody but those who waited for it."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import numpy as np
import pytest
from support.collections import encode as hash_codes
from support.photos import noisy

from lookalike.actors.query.query import Descriptor
from lookalike.cluster.coordinator import encoding
from lookalike.cluster.coordinator.decoding import Decoders, Pixels
from lookalike.cluster.coordinator.encoding import MAX_PHOTOS_PER_CALL, EncoderUnavailableError, PhotoEncoder
from lookalike.errors import UndecodableImage
from lookalike.ingest.photos.decode import decode

SIDE_PX = 32
PHOTO, OTHER = noisy("JPEG", 90, 60, 1), noisy("PNG", 60, 90, 2)
CALLER = contextvars.ContextVar("CALLER", default="nobody")


class Encoder:
    """Makes codes when it is let, and remembers the sizes of its batches. ``error`` is raised in place of codes."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.callers: list[str] = []
        self.called = asyncio.Event()
        self.free = asyncio.Event()
        self.free.set()
        self.error: Exception | None = None

    async def __call__(self, photos: Sequence[Pixels]) -> Sequence[Descriptor]:
        self.sizes.append(len(photos))
        self.callers.append(CALLER.get())
        self.called.set()
        await self.free.wait()
        if self.error is not None:
            raise self.error
        return await hash_codes(photos)


@asynccontextmanager
async def encoding_with(encoder: Encoder) -> AsyncIterator[PhotoEncoder]:
    decoders = Decoders(1)
    try:
        yield PhotoEncoder(decoders, encoder, SIDE_PX)
    finally:
        decoders.close()


async def assert_codes_of(photo: bytes, made: Descriptor) -> None:
    (expected,) = await hash_codes([decode(photo, SIDE_PX)])
    np.testing.assert_array_equal(made.short, expected.short)
    np.testing.assert_array_equal(made.long, expected.long)


def test_photo_encoder_computes_a_photo_once_for_all_who_ask_within_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        encoder = Encoder()
        async with encoding_with(encoder) as encode:
            together = await asyncio.gather(*(encode(PHOTO) for _ in range(20)), encode(OTHER))
            assert sum(encoder.sizes) == 2
            for made in (*together[:20], await encode(bytes(bytearray(PHOTO)))):
                await assert_codes_of(PHOTO, made)
            await assert_codes_of(OTHER, together[20])
            assert sum(encoder.sizes) == 2
            monkeypatch.setattr(encoding, "KEPT_S", -1.0)
            await encode(noisy("PNG", 50, 50))
            await encode(noisy("PNG", 50, 50))  # its minute is over
            assert sum(encoder.sizes) == 4

    asyncio.run(run())


def test_photo_encoder_keeps_no_failure() -> None:
    async def run() -> None:
        encoder = Encoder()
        async with encoding_with(encoder) as encode:
            for _ in range(2):
                with pytest.raises(UndecodableImage):
                    await encode(PHOTO[: len(PHOTO) // 2])
            encoder.error = EncoderUnavailableError("restarting")
            for outcome in await asyncio.gather(*(encode(PHOTO) for _ in range(3)), return_exceptions=True):
                assert isinstance(outcome, EncoderUnavailableError)
            encoder.error = None
            await assert_codes_of(PHOTO, await encode(PHOTO))

    asyncio.run(run())


def test_photo_encoder_goes_on_for_those_who_wait_when_others_go_away() -> None:
    async def run() -> None:
        encoder = Encoder()
        encoder.free.clear()
        async with encoding_with(encoder) as encode:
            first, second, third = (asyncio.create_task(encode(PHOTO)) for _ in range(3))
            await encoder.called.wait()
            first.cancel()
            third.cancel()
            await asyncio.sleep(0)
            encoder.free.set()
            await assert_codes_of(PHOTO, await second)
            assert first.cancelled()
            assert third.cancelled()
            assert encoder.sizes == [1]

    asyncio.run(run())


def test_photo_encoder_gives_up_what_nobody_waits_for() -> None:
    async def run() -> None:
        encoder = Encoder()
        encoder.free.clear()
        async with encoding_with(encoder) as encode:
            alone = asyncio.create_task(encode(PHOTO))
            await encoder.called.wait()
            alone.cancel()
            with pytest.raises(asyncio.CancelledError):
                await alone
            encoder.free.set()
            await assert_codes_of(PHOTO, await encode(PHOTO))
            assert encoder.sizes == [1, 1]

    asyncio.run(run())


def test_photo_encoder_calls_in_nobodys_context() -> None:
    """Serve cancels the calls that were made in the context of a request when its client goes away."""

    async def ask(encode: PhotoEncoder, name: str, photo: bytes) -> None:
        CALLER.set(name)
        await encode(photo)

    async def run() -> None:
        encoder = Encoder()
        async with encoding_with(encoder) as encode:
            await asyncio.gather(ask(encode, "one", PHOTO), ask(encode, "two", OTHER))
            assert set(encoder.callers) == {"nobody"}

    asyncio.run(run())


def test_photo_encoder_keeps_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "MAX_KEPT", 3)
    photos = [noisy("PNG", 20, 20, seed) for seed in range(6)]

    async def run() -> None:
        encoder = Encoder()
        async with encoding_with(encoder) as encode:
            for photo in photos:
                await encode(photo)
            for photo in photos[3:]:
                await encode(photo)
            assert sum(encoder.sizes) == 6
            await encode(photos[0])
            assert sum(encoder.sizes) == 7

    asyncio.run(run())


def test_photo_encoder_is_warm_when_decoders_run_and_batches_were_encoded() -> None:
    async def run() -> None:
        encoder = Encoder()
        decoders = Decoders(2)
        try:
            await PhotoEncoder(decoders, encoder, SIDE_PX).warm()
            before = decoders.pids
            assert len(before) == 3
            assert {1, MAX_PHOTOS_PER_CALL} <= set(encoder.sizes)
            await decoders.decode(PHOTO, SIDE_PX)
            assert decoders.pids == before
        finally:
            decoders.close()

    asyncio.run(run())
