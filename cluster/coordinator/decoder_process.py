"""One process that decodes photos, seen from the process that asks it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike.ingest.photos import decoder
from lookalike.ingest.photos.decoder import REPLY, REQUEST, Status

START_S = 60.0  # it takes 0.2 s; on a machine that swaps much longer
# The longest reason that a reply may hold, with room to spare.
MAX_REASON_BYTES = 4096
# Smaller photos are copied, to be sent together with their request.
MAX_COPIED_BYTES = 2**18
# Signals of a process that a photo ended, and that would end the next one: it is the photo's fault.
CRASHES = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT})
CPU_SIGNAL = decoder.CPU_SIGNAL
# Of the environment a decoder sees nothing else: no credential.
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL")


@dataclass(frozen=True, slots=True)
class Limits:
    """What decoding one photo may take.

    Attributes
    ----------
    cpu_s : float
        CPU time.
    wall_s : float
        Time until the answer. A process that exceeds it is stopped, or starved by others.
    memory_bytes : int
        Of the process, NumPy and Pillow included.
    niceness : int
        Added to that of this process.
    """

    cpu_s: float
    wall_s: float
    memory_bytes: int
    niceness: int = 0


class DecoderProcess:
    """A process, or room for one: ``start`` makes it, whatever became of the one before.

    It answers one photo at a time. One that ended, or does not answer, is an ``OSError``.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._killed = False

    @property
    def pid(self) -> int | None:
        """Its number, if there is one."""
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Start the process unless it runs, and return when it is ready."""
        if self._connection is not None and not self._killed and not _is_closed(self._connection):
            return
        await self.end()
        self._spawn()
        async with asyncio.timeout(START_S):
            await self._receive(memoryview(bytearray(REPLY.size)), 0, REPLY.size)

    async def ask(self, photo: bytes, side_px: int) -> NDArray[np.uint8] | str:
        """Have a photo decoded: its pixels, uint8 (side_px, side_px, 3), or the reason why there are none."""
        connection = self._connected()
        loop = asyncio.get_running_loop()
        # One buffer for the whole reply, and one message for a request: each step more wakes a process once more.
        reply = np.empty(REPLY.size + max(3 * side_px**2, MAX_REASON_BYTES), np.uint8)
        request = REQUEST.pack(side_px, len(photo))
        async with asyncio.timeout(self.limits.wall_s):
            if len(photo) <= MAX_COPIED_BYTES:
                await loop.sock_sendall(connection, request + photo)
            else:
                await loop.sock_sendall(connection, request)
                await loop.sock_sendall(connection, photo)
            received = await self._receive(reply.data, 0, REPLY.size)
            status, size = REPLY.unpack_from(reply.data)
            if size != 3 * side_px**2 if status == Status.PIXELS else size > MAX_REASON_BYTES:
                raise ConnectionError(f"a reply of {size:,} bytes was not to be expected")
            await self._receive(reply.data, received, REPLY.size + size)
        content = reply[REPLY.size : REPLY.size + size]
        if status == Status.PIXELS:
            return content.reshape(side_px, side_px, 3)
        return content.tobytes().decode(errors="replace")

    def kill(self) -> None:
        """End the process; whoever waits for its answer is told."""
        if self._process is not None:
            self._process.kill()
            self._killed = True

    async def end(self) -> int:
        """End the process, and return its exit status: minus the signal that ended it first."""
        process = self._process
        self.close()
        return await asyncio.to_thread(process.wait) if process is not None else 0

    def close(self) -> None:
        """End the process without waiting for it."""
        self.kill()
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None

    def _spawn(self) -> None:
        limits = self.limits
        ours, its = socket.socketpair()
        ours.setblocking(False)
        self._connection, self._killed = ours, False
        with its:
            arguments = (its.fileno(), limits.cpu_s, limits.memory_bytes, limits.niceness)
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-P", "-m", decoder.__name__, *map(str, arguments)],
                pass_fds=[its.fileno()],
                stdin=subprocess.DEVNULL,
                env=_environment(),
            )

    def _connected(self) -> socket.socket:
        if self._connection is None:
            raise ConnectionError("the process has ended")
        return self._connection

    async def _receive(self, buffer: memoryview, received: int, needed: int) -> int:
        """Receive until there are ``needed`` bytes in the buffer, or more. Returns how many there are."""
        loop, connection = asyncio.get_running_loop(), self._connected()
        while received < needed:
            count = await loop.sock_recv_into(connection, buffer[received:])
            if not count:
                raise ConnectionError("the process has ended")
            received += count
        return received


def _is_closed(connection: socket.socket) -> bool:
    """Whether the process at the other end is gone. It says nothing unless it is asked."""
    try:
        return not connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _environment() -> dict[str, str]:
    """What a decoder's environment holds: how to import what this process imports, and one thread for NumPy."""
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    path = os.pathsep.join(folder or str(Path.cwd()) for folder in sys.path)
    return {**kept, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}
