"""Writes one by one become groups, in their order; what was sent belongs to the writer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.actors.writer import NewImage
from lookalike.cluster.coordinator.writes import MAX_WRITES_PER_COMMIT, WriteQueue
from lookalike.ingest.attributes import Attributes


def image(image_id: str, title: str = "") -> NewImage:
    return NewImage(image_id, Attributes(title=title), b"", ".jpg", np.zeros(1, np.uint64), np.zeros(2, np.uint64))


class Memory:
    """A writer that keeps titles; each call takes a few turns of the event loop."""

    def __init__(self) -> None:
        self.titles: dict[str, str] = {}
        self.calls: list[int] = []
        self.in_flight = 0
        self.error: Exception | None = None

    async def _call(self, count: int) -> None:
        assert self.in_flight == 0, "two calls at once could overtake each other"
        self.in_flight += 1
        for _ in range(3):
            await asyncio.sleep(0)
        self.in_flight -= 1
        self.calls.append(count)
        if self.error is not None:
            raise self.error

    async def put(self, images: Sequence[NewImage]) -> None:
        await self._call(len(images))
        self.titles |= {one.image_id: one.attributes.title or "" for one in images}

    async def delete(self, image_ids: Sequence[str]) -> Sequence[bool]:
        await self._call(len(image_ids))
        return [self.titles.pop(image_id, None) is not None for image_id in image_ids]


writes = st.lists(st.tuples(st.sampled_from(["put", "delete"]), st.sampled_from("abc"), st.integers(0, 5)), max_size=30)


@given(writes)
def test_write_queue_gives_what_one_write_after_the_other_gives(asked: list[tuple[str, str, int]]) -> None:
    """All sent at once, with pauses of some turns between them."""
    memory = Memory()
    expected: dict[str, str] = {}
    outcomes: list[bool | None] = []
    for number, (kind, image_id, _) in enumerate(asked):
        if kind == "put":
            expected[image_id] = f"{number}"
            outcomes.append(None)
        else:
            outcomes.append(expected.pop(image_id, None) is not None)

    async def send() -> list[bool | None]:
        queue = WriteQueue(memory)
        tasks: list[asyncio.Task[bool | None]] = []
        for number, (kind, image_id, turns) in enumerate(asked):
            call = queue.put(image(image_id, f"{number}")) if kind == "put" else queue.delete(image_id)
            tasks.append(asyncio.create_task(call))
            for _ in range(turns):
                await asyncio.sleep(0)
        return list(await asyncio.gather(*tasks))

    assert asyncio.run(send()) == outcomes
    assert memory.titles == expected
    assert sum(memory.calls) == len(asked)


def test_write_queue_sends_what_gathered_meanwhile_in_one_group() -> None:
    memory = Memory()

    async def send() -> None:
        queue = WriteQueue(memory)
        await asyncio.gather(*(queue.put(image(f"{n}")) for n in range(2 * MAX_WRITES_PER_COMMIT)))

    asyncio.run(send())
    assert len(memory.titles) == 2 * MAX_WRITES_PER_COMMIT
    assert len(memory.calls) <= 3
    assert max(memory.calls) <= MAX_WRITES_PER_COMMIT


def test_write_queue_goes_on_with_a_write_whose_client_has_gone() -> None:
    memory = Memory()

    async def send() -> None:
        queue = WriteQueue(memory)
        gone = asyncio.create_task(queue.put(image("a", "kept")))
        for _ in range(2):
            await asyncio.sleep(0)
        assert memory.in_flight == 1
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        await queue.put(image("b"))

    asyncio.run(send())
    assert memory.titles == {"a": "kept", "b": ""}


def test_write_queue_never_sends_a_failed_write_again() -> None:
    """Whether it is stored is unknown: the client is told, and decides."""
    memory = Memory()

    async def send() -> list[object]:
        queue = WriteQueue(memory)
        memory.error = OSError("as the test wants")
        failed = await asyncio.gather(*(queue.put(image(f"{n}")) for n in range(3)), return_exceptions=True)
        memory.error = None
        await queue.put(image("later"))
        return list(failed)

    failed = asyncio.run(send())
    assert [str(error) for error in failed] == ["as the test wants"] * 3
    assert memory.titles == {"later": ""}
