"""Lanes: who comes in, who is refused, and who has to go."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.virtual_time import run

from lookalike.cluster.http.lanes import (
    MAX_SILENCE_S,
    MIN_BYTES_PER_S,
    MIN_WAIT_S,
    SMALL_BYTES,
    Lane,
    LaneFullError,
    Transfer,
    TransferTooSlowError,
)

MB = 2**20


def started(lane: Lane, size_bytes: int = 0) -> Transfer:
    lane.check()
    transfer = Transfer(lane)
    transfer.wait()
    transfer.moved(size_bytes)
    transfer.hold(size_bytes)
    return transfer


async def silence() -> None:
    await asyncio.sleep(1e6)


Waiting = tuple[Transfer, "asyncio.Task[None]"]


async def stalled(lane: Lane, size_bytes: int = 0) -> Waiting:
    """A transfer whose client sent so much, and then nothing."""
    transfer = started(lane, size_bytes)
    task = asyncio.create_task(transfer.move(silence))
    await asyncio.sleep(0)
    return transfer, task


def working(lane: Lane) -> Transfer:
    """A transfer whose body has come."""
    transfer = started(lane)
    transfer.work()
    return transfer


def test_lane_refuses_at_once_while_as_many_are_worked_on_as_may_be() -> None:
    async def main() -> None:
        lane = Lane("searches", 2, MB)
        last = started(lane)
        first, _ = working(lane), working(lane)
        await asyncio.sleep(60)
        with pytest.raises(LaneFullError, match="too many searches"):
            lane.check()
        with pytest.raises(LaneFullError, match="too many searches"):
            last.work()
        first.leave()
        last.work()

    run(main())


def test_lane_counts_nobody_whose_client_is_waited_for() -> None:
    async def main() -> None:
        lane = Lane("searches", 1, MB)
        for _ in range(100):
            await stalled(lane)
        working(lane).wait()  # its answer is being taken
        working(lane)

    run(main())


def test_lane_ends_the_transfer_that_was_slow_for_longest() -> None:
    async def main() -> None:
        lane = Lane("photos", 3, 15 * MB)
        (_, first), (_, second) = await stalled(lane, MB), await stalled(lane, MB)
        await asyncio.sleep(3 * MIN_WAIT_S)
        _, quick = await stalled(lane, 13 * MB)
        started(lane, MB)
        with pytest.raises(TransferTooSlowError):
            await first
        await asyncio.sleep(MIN_WAIT_S)
        assert not second.done()
        assert not quick.done()
        started(lane, MB)
        with pytest.raises(TransferTooSlowError):
            await second
        with pytest.raises(LaneFullError):  # the quick one stays
            started(lane, MB)
        await asyncio.sleep(1)
        started(lane, MB)
        with pytest.raises(TransferTooSlowError):  # it was quick once
            await quick

    run(main())


def test_lane_ends_nobody_whom_it_does_not_wait_for() -> None:
    """Its body may be in the sockets: the request works, and has not asked for it yet."""

    async def main() -> None:
        lane = Lane("writes", 9, MB)
        started(lane, MB)
        await asyncio.sleep(5)
        with pytest.raises(LaneFullError):
            started(lane, MB)

    run(main())


def test_lane_makes_room_for_bytes_and_never_refuses_a_small_request_for_them() -> None:
    async def main() -> None:
        lane = Lane("photos", 100, 4 * MB)
        small = [await stalled(lane, 1000) for _ in range(20)]
        large, _ = await stalled(lane, 3 * MB)
        await asyncio.sleep(5)
        started(lane, 3 * MB)
        assert [transfer.held_bytes for transfer, _ in small] == [1000] * 20, "small ones hold nothing worth having"
        assert large.held_bytes == 0
        with pytest.raises(LaneFullError):
            started(lane, 3 * MB)
        started(lane, SMALL_BYTES)

    run(main())


@pytest.mark.parametrize(
    ("pieces", "pause_s", "passes"),
    [
        (50, 0.9 * MAX_SILENCE_S, False),  # never silent for long, but far too slow
        (3, 1.1 * MAX_SILENCE_S, False),
        (1000, 0.9, True),
    ],
)
def test_transfer_fails_when_silent_for_long_or_slower_than_the_least_rate(
    pieces: int, pause_s: float, passes: bool
) -> None:
    async def main() -> None:
        transfer = started(Lane("photos", 1, 1000 * MB))
        for _ in range(pieces):
            await transfer.move(lambda: asyncio.sleep(pause_s))
            transfer.moved(MIN_BYTES_PER_S)

    if passes:
        run(main())
    else:
        with pytest.raises(TransferTooSlowError):
            run(main())


def test_transfer_that_gave_way_takes_no_further_step() -> None:
    async def main() -> None:
        lane = Lane("photos", 1, MB)
        transfer, task = await stalled(lane, MB)
        await asyncio.sleep(1.5)
        started(lane, MB)
        for step in (task, transfer.move(lambda: asyncio.sleep(0))):
            with pytest.raises(TransferTooSlowError):
                await step
        assert (lane.held_bytes, transfer.held_bytes) == (MB, 0)

    run(main())


@given(
    st.lists(
        st.tuples(st.sampled_from(["enter", "hold", "work", "wait", "leave", "sleep"]), st.integers(0, 9)), max_size=60
    )
)
def test_lane_counts_what_is_in_it(steps: list[tuple[str, int]]) -> None:
    async def main() -> None:
        lane = Lane("photos", 4, 3 * MB)
        inside: list[Transfer] = []
        for step, number in steps:
            try:
                if step == "enter":
                    inside.append(started(lane))
                elif step == "sleep":
                    await asyncio.sleep(number / 5)
                elif inside and step == "hold":
                    inside[number % len(inside)].hold(number * MB // 4)
                elif inside:
                    {"work": Transfer.work, "wait": Transfer.wait, "leave": Transfer.leave}[step](
                        inside[number % len(inside)]
                    )
            except LaneFullError:
                pass
            assert 0 <= lane.working <= lane.max_working
            assert lane.held_bytes == sum(transfer.held_bytes for transfer in inside)
        for transfer in inside:
            transfer.leave()
        assert (lane.working, lane.held_bytes, lane.waiting) == (0, 0, {})

    run(main())
