"""The process that decodes, over its socket: its protocol, its limits and its end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
from support.photos import HOSTILE, animation, noisy, plain_png

from lookalike.ingest.photos import decoder
from lookalike.ingest.photos.decode import decode
from lookalike.ingest.photos.decoder import CPU_SIGNAL, REPLY, REQUEST, Status

SIDE_PX = 48


@contextmanager
def running(cpu_s: float = 5, memory_bytes: int = 2**30) -> Iterator[tuple[socket.socket, subprocess.Popen[bytes]]]:
    """A process that is ready, and the socket to it."""
    ours, its = socket.socketpair()
    command = [sys.executable, "-m", decoder.__name__, *map(str, (its.fileno(), cpu_s, memory_bytes, 3))]
    process = subprocess.Popen(command, pass_fds=[its.fileno()])
    its.close()
    ours.settimeout(60)
    try:
        assert REPLY.unpack(received(ours, REPLY.size)) == (Status.READY, 0)
        yield ours, process
    finally:
        ours.close()
        process.kill()
        process.wait()


def received(connection: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        more = connection.recv(size - len(content))
        if not more:
            raise EOFError
        content += more
    return content


def ask(connection: socket.socket, photo: bytes, side_px: int = SIDE_PX) -> tuple[int, bytes]:
    connection.sendall(REQUEST.pack(side_px, len(photo)) + photo)
    status, size = REPLY.unpack(received(connection, REPLY.size))
    return status, received(connection, size)


def test_decoder_gives_the_pixels_of_decode_bit_for_bit() -> None:
    photos = [noisy(kind, 300, 200, seed) for seed, kind in enumerate(["JPEG", "PNG", "WEBP"] * 3)]
    photos += [noisy("JPEG", 1600, 1200, progressive=True), animation("WEBP", 20), animation("PNG", 20)]
    with running() as (connection, _):
        for photo in photos:
            for side_px in (1, SIDE_PX, 224):
                status, content = ask(connection, photo, side_px)
                assert status == Status.PIXELS
                assert content == decode(photo, side_px).tobytes()


def test_decoder_says_why_there_are_no_pixels_and_goes_on() -> None:
    with running() as (connection, _):
        for make, reason in HOSTILE.values():
            status, content = ask(connection, make())
            assert status == Status.UNDECODABLE
            assert reason in content.decode()
        assert ask(connection, noisy("PNG", 50, 50))[0] == Status.PIXELS


def test_decoder_ends_by_its_signal_over_its_cpu_time() -> None:
    with running(cpu_s=0.05) as (connection, process):
        assert ask(connection, noisy("PNG", 50, 50))[0] == Status.PIXELS
        with pytest.raises((EOFError, ConnectionError)):
            ask(connection, plain_png(6000, 5000))
        assert process.wait(60) == -CPU_SIGNAL


def test_decoder_counts_cpu_time_for_each_photo_anew() -> None:
    photo = noisy("PNG", 400, 400)
    with running(cpu_s=0.5) as (connection, process):
        while sum(psutil.Process(process.pid).cpu_times()[:2]) < 1.5:
            assert ask(connection, photo)[0] == Status.PIXELS


def test_decoder_refuses_what_takes_too_much_memory_and_goes_on() -> None:
    photo = plain_png(6000, 5000)  # 90 MB of pixels
    with running(memory_bytes=150 * 2**20) as (connection, _):
        for _ in range(3):
            assert ask(connection, photo) == (Status.TOO_MUCH_MEMORY, b"it takes too much memory to decode")
            assert ask(connection, noisy("PNG", 50, 50))[0] == Status.PIXELS


def test_decoder_ends_when_nobody_is_left_to_ask() -> None:
    with running() as (connection, process):
        connection.close()
        assert process.wait(60) == 0
    with running() as (connection, process):
        connection.sendall(REQUEST.pack(SIDE_PX, 1000) + b"half a photo")
        connection.close()
        assert process.wait(60) == 0
    with running() as (connection, process):  # the answer meets a closed socket
        connection.sendall(REQUEST.pack(SIDE_PX, 4) + b"none")
        connection.close()
        assert process.wait(60) == 0


def test_decoder_ignores_the_interrupt_that_is_meant_for_the_server() -> None:
    with running() as (connection, process):
        os.kill(process.pid, signal.SIGINT)
        assert ask(connection, noisy("PNG", 50, 50))[0] == Status.PIXELS


def test_decoder_imports_no_more_than_it_needs() -> None:
    with running() as (_, process):
        mapped = {Path(file.path).name for file in psutil.Process(process.pid).memory_maps()}
        assert any("_imaging" in name for name in mapped)
        assert not [name for name in mapped if any(part in name for part in ("_raylet", "arrow", "tensorflow"))]
        assert psutil.Process(process.pid).nice() == 3 + os.nice(0)
    script = "import lookalike.cluster.coordinator.decoding, sys; assert 'PIL' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_plain_png_of_fifty_megapixels_is_small_and_decodes() -> None:
    photo = plain_png(10_000, 5_000)
    assert len(photo) < 300_000
    np.testing.assert_array_equal(decode(photo, 16), np.full((16, 16, 3), 128, np.uint8))
