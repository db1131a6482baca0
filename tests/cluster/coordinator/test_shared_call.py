"""One call for all who ask at once."""

from __future__ import annotations

import asyncio

import pytest

from lookalike.cluster.coordinator.shared_call import SharedCall


def test_shared_call_gives_everybody_a_reply_that_is_no_older_than_the_question() -> None:
    async def main() -> None:
        begun = 0

        async def call() -> int:
            nonlocal begun
            begun += 1
            mine = begun
            await asyncio.sleep(0.01)
            return mine

        shared = SharedCall(call)
        first = asyncio.create_task(shared())
        await asyncio.sleep(0.001)
        crowd = [asyncio.create_task(shared()) for _ in range(100)]
        crowd[3].cancel()
        assert await first == 1
        others = await asyncio.gather(*crowd, return_exceptions=True)
        assert isinstance(others.pop(3), asyncio.CancelledError)
        assert set(others) == {2}, "they came while the first was in flight, and share the second"
        assert await shared() == 3

    asyncio.run(main())


def test_shared_call_raises_for_those_who_asked_and_for_nobody_else() -> None:
    async def main() -> None:
        errors = iter([OSError("gone"), None])

        async def call() -> str:
            await asyncio.sleep(0)
            if (error := next(errors)) is not None:
                raise error
            return "here"

        shared = SharedCall(call)
        first = asyncio.create_task(shared())
        await asyncio.sleep(0)
        second = asyncio.create_task(shared())
        with pytest.raises(OSError, match="gone"):
            await first
        assert await second == "here"

    asyncio.run(main())
