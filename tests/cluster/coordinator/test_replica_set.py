"""The replica set: each in turn, another where one is lost or late, and an error only where all are."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookalike.cluster.coordinator.replica_set import ReplicaLostError, ReplicaSet, ShardUnavailableError


class Replica:
    """A replica that is well, lost, or never answers; it counts its calls."""

    def __init__(self, name: str, state: str = "well") -> None:
        self.name = name
        self.state = state
        self.calls = 0

    async def __call__(self, batch: Sequence[str]) -> Sequence[str]:
        self.calls += 1
        if self.state == "lost":
            raise ReplicaLostError(f"{self.name} is dead")
        if self.state == "late":
            await asyncio.Event().wait()
        if self.state == "faulty":
            raise ValueError(f"{self.name} has a fault")
        return [f"{request} from {self.name}" for request in batch]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from(["well", "lost", "late"]), min_size=1, max_size=4), st.integers(1, 6))
def test_replica_set_answers_as_long_as_one_replica_does(states: list[str], calls: int) -> None:
    async def run() -> None:
        replicas = [Replica(str(number), state) for number, state in enumerate(states)]
        replica_set = ReplicaSet(replicas, timeout_s=0.002)
        for _ in range(calls):
            if "well" in states:
                assert [reply[:7] for reply in await replica_set(["a", "b"])] == ["a from ", "b from "]
            else:
                with pytest.raises(ShardUnavailableError) as unavailable:
                    await replica_set(["a"])
                assert str(unavailable.value).count("dead") == states.count("lost")
                assert str(unavailable.value).count("no answer within 0.002 s") == states.count("late")

    asyncio.run(run())


@given(st.integers(1, 4), st.integers(0, 12))
def test_replica_set_takes_each_replica_in_turn(count: int, calls: int) -> None:
    async def run() -> None:
        replicas = [Replica(str(number)) for number in range(count)]
        replica_set = ReplicaSet(replicas, timeout_s=1)
        for _ in range(calls):
            await replica_set(["a"])
        assert sum(replica.calls for replica in replicas) == calls
        assert max(replica.calls for replica in replicas) - min(replica.calls for replica in replicas) <= 1

    asyncio.run(run())


def test_replica_set_does_not_repeat_an_error_of_the_batch_itself() -> None:
    async def run() -> None:
        replicas = [Replica("0", "faulty"), Replica("1", "faulty")]
        with pytest.raises(ValueError, match="fault"):
            await ReplicaSet(replicas, timeout_s=1)(["a"])
        assert sum(replica.calls for replica in replicas) == 1

    asyncio.run(run())
