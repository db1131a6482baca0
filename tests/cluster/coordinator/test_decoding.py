"""Photos decoded in processes: the same pixels, and a photo or a kill that costs one request alone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator

import numpy as np
import psutil
import pytest
from support.photos import HOSTILE, animation, noisy, plain_png

from lookalike.cluster.coordinator import decoding
from lookalike.cluster.coordinator.batching import OverloadedError
from lookalike.cluster.coordinator.decoder_process import Limits
from lookalike.cluster.coordinator.decoding import LARGE, SMALL, DecoderLostError, Decoders, Pixels, estimated_s
from lookalike.errors import UndecodableImage
from lookalike.ingest.photos.decode import decode
from lookalike.ingest.photos.header import read_header

SIDE_PX = 64
PHOTO = noisy("JPEG", 200, 300)
PIXELS = decode(PHOTO, SIDE_PX)
QUICK = Limits(cpu_s=0.5, wall_s=1.0, memory_bytes=SMALL.memory_bytes)
LARGE_PHOTO = plain_png(6000, 5000)


@contextlib.asynccontextmanager
async def decoders(
    small: int = 2, small_limits: Limits = SMALL, large_limits: Limits = LARGE
) -> AsyncIterator[Decoders]:
    started = Decoders(small, small_limits=small_limits, large_limits=large_limits)
    await started.start()
    try:
        yield started
    finally:
        started.close()


def is_large(photo: bytes) -> bool:
    return estimated_s(read_header(photo), len(photo)) > decoding.SMALL_S


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 30
    while not gone(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_decoders_give_the_pixels_of_decode_bit_for_bit_from_both_lanes() -> None:
    photos = [noisy(kind, 30 + 70 * n, 200, n) for n in range(6) for kind in ("JPEG", "PNG", "WEBP")]
    photos += [noisy("JPEG", 3000, 2000, progressive=True), noisy("PNG", 2000, 1500), animation("WEBP", 12)]
    assert {is_large(photo) for photo in photos} == {False, True}

    async def run() -> list[Pixels]:
        async with decoders() as all_of_them:
            return await asyncio.gather(*(all_of_them.decode(photo, SIDE_PX) for photo in photos))

    for photo, pixels in zip(photos, asyncio.run(run()), strict=True):
        np.testing.assert_array_equal(pixels, decode(photo, SIDE_PX))
        assert pixels.dtype == np.uint8
        assert pixels.flags.c_contiguous


def test_decoders_refuse_every_bad_photo_and_no_good_one_beside_it() -> None:
    sent = [*HOSTILE.values(), *[(lambda: PHOTO, "")] * 40]
    random.Random(0).shuffle(sent)

    async def run() -> list[Pixels | BaseException]:
        async with decoders() as all_of_them:
            photos = (all_of_them.decode(make(), SIDE_PX) for make, _ in sent)
            return await asyncio.gather(*photos, return_exceptions=True)

    for (_, reason), answer in zip(sent, asyncio.run(run()), strict=True):
        if reason:
            assert isinstance(answer, UndecodableImage)
            assert reason in str(answer)
        else:
            np.testing.assert_array_equal(answer, PIXELS)


def test_decoders_end_a_photo_over_its_cpu_time_and_replace_the_process() -> None:
    limits = Limits(cpu_s=0.3, wall_s=60, memory_bytes=LARGE.memory_bytes)

    async def run() -> None:
        async with decoders(large_limits=limits) as all_of_them:
            before = all_of_them.pids
            for _ in range(2):
                with pytest.raises(UndecodableImage, match=r"more than 0\.3 s of CPU time"):
                    await all_of_them.decode(plain_png(10_000, 5_000), SIDE_PX)
            np.testing.assert_array_equal(await all_of_them.decode(PHOTO, SIDE_PX), PIXELS)
            within = plain_png(2000, 1600)
            assert is_large(within)
            np.testing.assert_array_equal(await all_of_them.decode(within, SIDE_PX), decode(within, SIDE_PX))
            assert len(set(before) & set(all_of_them.pids)) == 2

    asyncio.run(run())


def test_decoders_refuse_a_photo_over_its_memory_and_go_on() -> None:
    limits = Limits(cpu_s=10, wall_s=30, memory_bytes=150 * 2**20)

    async def run() -> None:
        async with decoders(large_limits=limits) as all_of_them:
            with pytest.raises(UndecodableImage, match="too much memory"):
                await all_of_them.decode(LARGE_PHOTO, SIDE_PX)
            np.testing.assert_array_equal(await all_of_them.decode(PHOTO, SIDE_PX), PIXELS)

    asyncio.run(run())


def test_decoders_replace_a_process_that_hangs() -> None:
    async def run() -> None:
        async with decoders(1, QUICK) as all_of_them:
            hanging = all_of_them.pids[0]
            os.kill(hanging, signal.SIGSTOP)
            with pytest.raises(DecoderLostError, match="within 1 s"):
                await all_of_them.decode(PHOTO, SIDE_PX)
            np.testing.assert_array_equal(await all_of_them.decode(PHOTO, SIDE_PX), PIXELS)
            assert gone(hanging)

    asyncio.run(run())


def test_decoders_lose_no_request_to_an_idle_process_that_was_killed() -> None:
    async def run() -> None:
        async with decoders(1) as all_of_them:
            for _ in range(3):
                psutil.Process(all_of_them.pids[0]).kill()
                await asyncio.to_thread(wait_until_gone, all_of_them.pids[0])
                np.testing.assert_array_equal(await all_of_them.decode(PHOTO, SIDE_PX), PIXELS)

    asyncio.run(run())


def test_decoders_lose_one_request_at_most_to_each_kill_under_load() -> None:
    rng = random.Random(0)
    photo = noisy("PNG", 1000, 900)
    pixels = decode(photo, SIDE_PX)

    async def ask(all_of_them: Decoders, until: float) -> tuple[int, int]:
        answered = lost = 0
        while time.monotonic() < until:
            try:
                np.testing.assert_array_equal(await all_of_them.decode(photo, SIDE_PX), pixels)
                answered += 1
            except DecoderLostError:
                lost += 1
        return answered, lost

    async def run() -> None:
        async with decoders(2) as all_of_them:
            asking = [asyncio.create_task(ask(all_of_them, time.monotonic() + 3)) for _ in range(6)]
            kills = 0
            while not all(task.done() for task in asking):
                await asyncio.sleep(0.2)
                with contextlib.suppress(ProcessLookupError, IndexError):
                    os.kill(rng.choice(all_of_them.pids), signal.SIGKILL)
                    kills += 1
            outcomes = await asyncio.gather(*asking)
            assert sum(answered for answered, _ in outcomes) > 10
            assert 0 < sum(lost for _, lost in outcomes) <= kills
            np.testing.assert_array_equal(await all_of_them.decode(PHOTO, SIDE_PX), PIXELS)

    asyncio.run(run())


def test_decoders_answer_small_photos_while_a_large_one_hangs() -> None:
    async def run() -> None:
        async with decoders(1) as all_of_them:
            os.kill(all_of_them.pids[1], signal.SIGSTOP)
            large = asyncio.create_task(all_of_them.decode(LARGE_PHOTO, SIDE_PX))
            for _ in range(5):
                np.testing.assert_array_equal(await all_of_them.decode(PHOTO, SIDE_PX), PIXELS)
            assert not large.done()
            os.kill(all_of_them.pids[1], signal.SIGCONT)
            np.testing.assert_array_equal(await large, decode(LARGE_PHOTO, SIDE_PX))

    asyncio.run(run())


def test_decoders_refuse_at_once_what_would_wait_too_long_and_forget_who_went_away() -> None:
    async def run() -> None:
        async with decoders(1) as all_of_them:
            os.kill(all_of_them.pids[1], signal.SIGSTOP)
            needed_s = estimated_s(read_header(LARGE_PHOTO), len(LARGE_PHOTO))
            room = 1 + int(decoding.MAX_WAITING_S / needed_s)
            for _ in range(3):  # each time the queue is empty again
                waiting = [asyncio.create_task(all_of_them.decode(LARGE_PHOTO, SIDE_PX)) for _ in range(room)]
                await asyncio.sleep(0.01)
                with pytest.raises(OverloadedError, match="wait to be decoded"):
                    await all_of_them.decode(LARGE_PHOTO, SIDE_PX)
                for task in waiting[1:]:
                    task.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await task
                assert not waiting[0].done()
                waiting[0].cancel()  # its process is ended soon, since it does not come to an end itself
                np.testing.assert_array_equal(await all_of_them.decode(PHOTO, SIDE_PX), PIXELS)
                np.testing.assert_array_equal(
                    await all_of_them.decode(LARGE_PHOTO, SIDE_PX), decode(LARGE_PHOTO, SIDE_PX)
                )
                os.kill(all_of_them.pids[1], signal.SIGSTOP)

    asyncio.run(run())


def test_decoders_answer_in_the_order_of_arrival_whatever_leaves_the_queue() -> None:
    order: list[int] = []

    async def ask(all_of_them: Decoders, number: int) -> None:
        await all_of_them.decode(PHOTO, SIDE_PX)
        order.append(number)

    async def run() -> None:
        async with decoders(1) as all_of_them:
            tasks = [asyncio.create_task(ask(all_of_them, number)) for number in range(30)]
            await asyncio.sleep(0)
            left = random.Random(1).sample(range(1, 30), 12)
            for number in left:
                tasks[number].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert order == [number for number in range(30) if number not in left]

    asyncio.run(run())


def test_decoders_end_with_the_process_that_started_them_even_if_it_is_killed() -> None:
    script = """
import asyncio, time
from lookalike.cluster.coordinator.decoding import Decoders
async def run():
    decoders = Decoders(2)
    await decoders.start()
    print(*decoders.pids, flush=True)
    time.sleep(600)
asyncio.run(run())
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 3
        assert not any(gone(pid) for pid in pids)
        parent.kill()
        for pid in pids:
            wait_until_gone(pid)


def test_decoders_start_with_the_first_photo_if_nobody_started_them_before() -> None:
    async def run() -> None:
        lazy = Decoders(2)
        assert lazy.pids == []
        try:
            np.testing.assert_array_equal(await lazy.decode(PHOTO, SIDE_PX), PIXELS)
            assert len(lazy.pids) == 1
        finally:
            lazy.close()

    asyncio.run(run())


def test_decoders_pass_no_credential_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")

    async def run() -> None:
        async with decoders(1) as all_of_them:
            for pid in all_of_them.pids:
                assert "AWS_SECRET_ACCESS_KEY" not in psutil.Process(pid).environ()

    asyncio.run(run())
