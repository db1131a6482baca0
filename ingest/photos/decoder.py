"""A process that decodes photos for another one, so that a photo can hurt no more than itself.

    python -m lookalike.ingest.photos.decoder SOCKET CPU_S MEMORY_BYTES NICENESS

SOCKET is the number of a connected stream socket. Over it comes a photo after the other, each answered before the next
(``REQUEST`` and ``REPLY`` below, each followed by as many bytes as it says). The process ends when the socket is
closed; a photo that takes more than CPU_S of CPU time ends it by SIGPROF.

NumPy and Pillow are all that it imports, and it does so in ``main``: who starts such a process imports the protocol
from here.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import resource
import signal
import socket
import struct
import sys
import traceback
from enum import IntEnum

from lookalike.errors import UndecodableImage

REQUEST = struct.Struct("<II")  # the side of the square, bytes of the photo
REPLY = struct.Struct("<BI")  # a Status, bytes of what follows
CPU_SIGNAL = signal.SIGPROF
"""What ends a process whose photo takes too long."""


class Status(IntEnum):
    """What a reply is: pixels, or the reason why there are none, in UTF-8."""

    PIXELS = 0
    UNDECODABLE = 1
    TOO_MUCH_MEMORY = 2
    READY = 3


def main(connection: socket.socket, cpu_s: float) -> None:
    """Answer photos until the socket is closed. The first reply, before any request, says that the process is ready."""
    from PIL import Image

    from lookalike.ingest.photos.decode import decode

    for kind in ("JPEG", "PNG", "WEBP"):  # the first photo of each kind sets its decoder up
        file = io.BytesIO()
        Image.new("RGB", (64, 64)).save(file, kind)
        decode(file.getvalue(), 32)
    connection.sendall(REPLY.pack(Status.READY, 0))
    while request := _received(connection, REQUEST.size):
        side_px, size = REQUEST.unpack(request)
        photo = _received(connection, size)
        signal.setitimer(signal.ITIMER_PROF, cpu_s)
        status, content = _answer(photo, side_px)
        signal.setitimer(signal.ITIMER_PROF, 0)
        connection.sendall(REPLY.pack(status, len(content)) + content)


def limit(memory_bytes: int, niceness: int) -> None:
    """Limit what this process may take. Memory is what it writes to: code and libraries do not count (Linux)."""
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(CPU_SIGNAL, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which ends this process
    os.nice(niceness)


def _answer(photo: bytearray, side_px: int) -> tuple[Status, bytes]:
    from lookalike.ingest.photos.decode import decode

    try:
        return Status.PIXELS, decode(bytes(photo), side_px).tobytes()
    except UndecodableImage as error:
        return Status.UNDECODABLE, str(error).encode()
    except MemoryError:
        return Status.TOO_MUCH_MEMORY, b"it takes too much memory to decode"
    except Exception:  # noqa: BLE001 - whatever a stranger's bytes lead to, they are at fault; the log tells us
        traceback.print_exc()
        return Status.UNDECODABLE, b"damaged: it cannot be decoded"


def _received(connection: socket.socket, size: int) -> bytearray:
    """Receive so many bytes; none if the socket is closed."""
    received = bytearray(size)
    view, at = memoryview(received), 0
    while at < size:
        count = connection.recv_into(view[at:])
        if not count:
            return bytearray()
        at += count
    return received


if __name__ == "__main__":
    descriptor, cpu_s, memory_bytes, niceness = sys.argv[1:]
    logging.disable()
    limit(int(memory_bytes), int(niceness))
    with contextlib.suppress(ConnectionError):  # whoever asked is gone
        main(socket.socket(fileno=int(descriptor)), float(cpu_s))
