"""The command line and the server, run as a user would run them."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_S = 180


@dataclass(frozen=True)
class Server:
    """A running server and what it serves."""

    url: str
    photos: Path
    ids: list[str]
    store: Path
    process: subprocess.Popen[str]

    @property
    def collection(self) -> str:
        return f"{self.url}/v1/collections/default"


def lookalike(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    command = [sys.executable, "-m", "lookalike.cluster.cli.main", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=START_S)
    assert not check or done.returncode == 0, done.stderr
    return done


def free_port() -> int:
    """A port that is free now, and that no outgoing connection is given until a server listens on it.

    The system gives those ports from 32,768 on, and servers take ports from 20,000 on for themselves.
    """
    while True:
        port = random.randrange(10_000, 20_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def running(store: Path | str, *options: str, log: Path | None = None) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Serve a store as a user would, and stop it with Ctrl-C; ``log`` keeps what the server printed."""
    port = free_port()
    command = [sys.executable, "-m", "lookalike.cluster.cli.main", "serve", "--store", str(store), "--port", str(port)]
    with tempfile.TemporaryDirectory() as folder:
        log = log or Path(folder, "log")
        with log.open("w") as out:
            process = subprocess.Popen([*command, *options], stdout=out, stderr=out, text=True, start_new_session=True)
        try:
            deadline = time.monotonic() + START_S
            while " is ready;" not in log.read_text():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}", process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise
