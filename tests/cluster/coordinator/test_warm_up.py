"""Warming up: done when every collection succeeded, or was tried often enough."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from support.collections import Served

from lookalike.cluster.coordinator import warm_up
from lookalike.cluster.coordinator.warm_up import WarmUp


def test_warm_up_ends_when_every_shard_and_the_encoder_answered(tmp_path: Path) -> None:
    served = Served(tmp_path, ["a", "b"])
    served.lost.update({0, 1})

    async def run() -> None:
        warming = WarmUp([served.collection], pause_s=0.01)
        task = asyncio.create_task(warming.run())
        await asyncio.sleep(0.1)
        assert not warming.is_done
        served.lost.clear()
        await warming.wait()
        await task
        assert warming.is_done
        assert len(served.decoders.pids) == 2
        served.decoders.close()

    asyncio.run(run())


def test_warm_up_gives_up_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(warm_up, "MAX_TRIES", 3)
    served = Served(tmp_path, ["a", "b"])
    served.lost.update({0, 1})

    async def run() -> None:
        warming = WarmUp([served.collection], pause_s=0)
        await warming.run()
        assert warming.is_done
        served.decoders.close()

    asyncio.run(run())
    assert "default is served, but" in caplog.text


def test_warm_up_of_nothing_is_done() -> None:
    assert WarmUp().is_done
