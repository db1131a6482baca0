"""A Ray of one machine for the tests of a module."""

from __future__ import annotations

import importlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import ray


@contextmanager
def ray_cluster(constants: dict[str, float]) -> Iterator[None]:
    """Run Ray until the block ends; in its processes, constants such as ``lookalike.actors.shard.POLL_S`` differ."""

    def set_up() -> None:
        for name, value in constants.items():
            module, _, constant = name.rpartition(".")
            imported = importlib.import_module(module)
            assert hasattr(imported, constant), name
            setattr(imported, constant, value)

    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
        runtime_env={"worker_process_setup_hook": set_up},
    )
    try:
        yield
    finally:
        ray.shutdown()


def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def pid_of(actor: ray.actor.ActorHandle) -> int:
    """The process of an actor."""
    pid: int = ray.get(actor.__ray_call__.remote(lambda _: os.getpid()))
    return pid


def kill(pid: int) -> None:
    """Kill -9, and wait until it is gone."""
    process = psutil.Process(pid)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
